"""The arithmetic of growing, pausing and deadlines."""

import math

import pytest

from asyncpool.pool.policy import (
    Crew,
    Limits,
    earliest,
    pause,
    put_off,
    spawns,
    worn_by_calls,
    worn_from,
)


def grow(limits: Limits | None = None, *, closing: bool = False, paused: bool = False, **crew: int) -> int:
    defaults = {
        "live": 0,
        "starting": 0,
        "worn": 0,
        "soon": 0,
        "processes": crew.get("live", 0),
        "waiting": 0,
        "failures": 0,
    }
    limits = limits or Limits(min_size=0, max_size=10, surge=1, starts_at_once=4)
    return spawns(limits, Crew(**{**defaults, **crew}), closing=closing, paused=paused)


def test_nobody_waits_nobody_starts():
    """With min_size workers and no queue nothing is started."""
    assert grow(Limits(min_size=2, max_size=5), live=2) == 0


def test_min_size_is_filled():
    """Workers that are missing from min_size are started."""
    assert grow(Limits(min_size=3, max_size=5, starts_at_once=9), live=1) == 2


def test_one_worker_for_each_that_waits():
    """Those that wait get a worker each, less those that are on the way to them."""
    assert grow(waiting=3) == 3
    assert grow(waiting=3, live=2, starting=2, soon=2) == 1
    assert grow(waiting=3, live=3, starting=3, soon=3) == 0


def test_queue_and_min_size_are_not_added():
    """A worker that is started for min_size serves the queue as well."""
    assert grow(Limits(min_size=3, max_size=9, starts_at_once=9), waiting=2) == 3


def test_max_size_is_never_exceeded():
    """However many wait."""
    assert grow(Limits(min_size=0, max_size=5, starts_at_once=9), waiting=100, live=3) == 2
    assert grow(waiting=100, live=10) == 0


def test_dying_workers_take_room():
    """At most max_size + surge processes exist, also while old ones are not yet gone."""
    limits = Limits(min_size=0, max_size=4, surge=1, starts_at_once=9)
    assert grow(limits, waiting=9, live=2, processes=4) == 1
    assert grow(limits, waiting=9, live=2, processes=5) == 0
    assert grow(limits, waiting=9, live=2, processes=9) == 0


def test_few_start_at_once():
    """Each start keeps a processor busy: the others wait until one is done."""
    assert grow(waiting=9) == 4
    assert grow(waiting=9, live=3, starting=3, soon=3) == 1
    assert grow(waiting=9, live=4, starting=4, soon=4) == 0


def test_after_a_failed_start_one_is_tried_at_a_time():
    """Until one has succeeded, starts are not multiplied."""
    assert grow(waiting=9, failures=1) == 1
    assert grow(waiting=9, failures=1, live=1, starting=1, soon=1) == 0


def test_nothing_starts_in_a_pause():
    """Before the next attempt is due nothing is started, whoever waits."""
    assert grow(waiting=9, paused=True, failures=1) == 0
    assert grow(Limits(min_size=3, max_size=5), paused=True, failures=1) == 0


def test_a_probe_is_started_although_nobody_waits():
    """When starts have failed and no worker is live, one is tried, so that the pool comes back by itself."""
    assert grow(failures=3) == 1
    assert grow(failures=3, live=1) == 0


def test_a_closing_pool_starts_workers_only_for_those_that_wait():
    """Neither min_size nor a probe is of use any more."""
    assert grow(Limits(min_size=3, max_size=5), closing=True) == 0
    assert grow(closing=True, failures=3) == 0
    assert grow(closing=True, waiting=2) == 2


def test_never_less_than_none():
    """Sizes that were lowered below what there is do not make the number negative."""
    assert grow(Limits(min_size=0, max_size=2, surge=0), live=5, waiting=3, starting=4, soon=4) == 0


def test_pauses_double_up_to_their_bound():
    """The first pause is a tenth of a second, the longest five seconds."""
    assert pytest.approx([pause(count, 0.0) for count in range(1, 9)]) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_pause_has_a_bound_after_any_number_of_failures():
    """A pool that cannot start for days does not overflow."""
    assert pause(1_000_000, 0.0) == 5.0


@pytest.mark.parametrize("failures", [1, 3, 50])
def test_jitter_only_shortens_a_pause(failures: int):
    """By a fifth at most, so that many pools do not try in step."""
    longest = pause(failures, 0.0)
    assert longest > pause(failures, 0.5) > pause(failures, 0.999) >= 0.8 * longest


def test_a_deadline_never_acts_when_it_first_fires():
    """The answer may lie unread in the kernel: input is looked for in between."""
    more = put_off(0.0, fired=0, heard=False)
    assert more is not None
    assert more > 0


def test_a_deadline_acts_the_second_time():
    """If it is on time and nothing was heard."""
    assert None is put_off(0.0, fired=1, heard=False)


@pytest.mark.parametrize("fired", [0, 1, 2])
def test_a_late_deadline_is_put_off_by_its_lateness(fired: int):
    """A loop that was blocked for 3 s gives the worker 3 s more."""
    assert put_off(3.0, fired=fired, heard=False) == 3.0


def test_a_loop_that_is_always_late_does_not_put_a_deadline_off_for_ever():
    """Else an overloaded application, which needs its limits most, would have none."""
    fired = 0
    while put_off(3.0, fired=fired, heard=False) is not None:
        fired += 1
        assert fired < 10


def test_a_worker_that_is_heard_gets_more_time_but_not_for_ever():
    """Bytes that just came put a deadline off; a worker that only chatters is stopped in the end."""
    assert None is not put_off(0.0, fired=1, heard=True)
    fired = 0
    while put_off(0.0, fired=fired, heard=True) is not None:
        fired += 1
        assert fired < 100


def test_the_earliest_time_counts():
    """None means never."""
    assert earliest(3, None, 2) == 2
    assert None is earliest()
    assert None is earliest(None, None)
    assert earliest(-1.0, 0.0, math.inf) == -1.0


def test_a_successor_is_started_in_time():
    """A tenth of the life is left at least; more where a start takes longer; jitter only ever shortens."""
    assert worn_from(100.0, 1.0, 0.0) == 90.0
    assert worn_from(100.0, 1.0, 0.5) == 85.0
    assert worn_from(100.0, 20.0, 0.0) == 60.0
    assert worn_from(100.0, 70.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("calls", "age", "worn"),
    [
        (1, 0.0, False),  # nothing is known of how fast they come
        (49, 0.1, False),  # fast, but a worker serves half of its calls at least
        (50, 0.1, True),  # the other 50 would take 0.1 s, a start 1 s
        (50, 100.0, False),  # the other 50 take 100 s
        (89, 100.0, False),
        (90, 100.0, True),
    ],
)
def test_a_worker_is_worn_while_enough_calls_are_left(calls: int, age: float, worn: bool):
    """A tenth of its calls, or what it takes while its successor starts."""
    assert worn == worn_by_calls(calls, 100, age, 1.0, 0.0)


def test_jitter_wears_sooner():
    """So that workers which started together do not go together."""
    assert not worn_by_calls(85, 100, 1000.0, 0.1, 0.0)
    assert worn_by_calls(85, 100, 1000.0, 0.1, 0.9)


def test_with_one_call_a_worker_is_worn_by_its_first():
    """Its successor starts while it runs."""
    assert worn_by_calls(1, 1, 0.0, 1.0, 0.0)


def test_worn_workers_make_room_for_their_successors():
    """They do not count towards max_size, their processes do."""
    limits = Limits(min_size=2, max_size=2, surge=1, starts_at_once=9)
    assert grow(limits, live=2, worn=2) == 1
    assert grow(limits, live=3, starting=1, worn=1, processes=3) == 0
    assert grow(limits, live=2, worn=1, processes=3) == 0
    assert grow(limits, live=2, worn=2, closing=True) == 0
    assert grow(Limits(min_size=0, max_size=4, surge=3, starts_at_once=9), live=4, worn=2) == 2
