"""Single decisions of the scheduler; the property test plays any sequence of them."""

import itertools

import pytest

from asyncpool.pool.actions import Assign, Probe, Reject, Retire, Spawn, Strand
from asyncpool.pool.policy import Limits
from asyncpool.pool.roster import IllegalMove
from asyncpool.pool.scheduler import Scheduler


class Ticket:
    """What waits for a worker."""

    def __init__(self, name: str, exclusive: bool = False, key: object = None) -> None:
        self.name = name
        self.exclusive = exclusive
        self.key = key

    def __repr__(self) -> str:
        return self.name


def make(workers: int = 0, *, slots: int = 1, now: float = 0.0, **limits) -> Scheduler:
    """Return a scheduler in which so many workers are ready and idle; the last one is the warmest."""
    options = {"min_size": workers, "max_size": max(workers, 1), "starts_at_once": 9}
    scheduler = Scheduler(Limits(**{**options, **limits}), chance=lambda: 0.0)
    scheduler.start(now)
    first = tickets(workers, exclusive=True)
    for ticket in first:
        scheduler.submit(ticket, now)
    for number in range(1, workers + 1):
        scheduler.ready(number, slots, now)
    for ticket in first:
        scheduler.finished(ticket, now)
    assert workers == scheduler.idle() == scheduler.live
    return scheduler


def tickets(count: int, exclusive: bool = False) -> list[Ticket]:
    return [Ticket(f"t{number}", exclusive) for number in range(count)]


def test_it_starts_min_size_workers():
    """At the start the pool has as many workers as it always has."""
    assert [Spawn(1), Spawn(2)] == Scheduler(Limits(min_size=2, max_size=5)).start(0.0)


def test_an_idle_worker_gets_the_ticket_at_once():
    """A call that finds a free worker never waits."""
    scheduler = make(1)
    (ticket,) = tickets(1)
    assert [Assign(1, ticket)] == scheduler.submit(ticket, 1.0)
    assert [ticket] == scheduler.tickets(1)
    assert scheduler.idle() == 0


def test_waiting_tickets_are_served_in_order():
    """The reply of one call hands its worker to the one that has waited longest."""
    scheduler = make(1)
    first, second, third = tickets(3)
    scheduler.submit(first, 1.0)
    assert scheduler.submit(second, 1.0) + scheduler.submit(third, 1.0) == []
    assert [Assign(1, second)] == scheduler.finished(first, 2.0)
    assert [Assign(1, third)] == scheduler.finished(second, 3.0)


def test_the_warmest_worker_is_taken():
    """Idle workers are used last in, first out, so that those that are not needed get cold and are retired."""
    scheduler = make(3)
    first, second, third = tickets(3)
    for ticket in (first, second):
        scheduler.submit(ticket, 1.0)
    served = {ticket: scheduler.serving[ticket] for ticket in (first, second)}
    scheduler.finished(first, 2.0)
    scheduler.finished(second, 3.0)
    assert [Assign(served[second], third)] == scheduler.submit(third, 4.0)


def test_a_ping_does_not_warm_a_worker():
    """A worker that only answered a ping is not preferred to one that was used since: the cold end is retired."""
    scheduler = make(2, min_size=0, idle_timeout=120.0, health_interval=30.0)
    warm, next_one = tickets(2)
    scheduler.submit(warm, 20.0)
    used = scheduler.serving[warm]
    scheduler.finished(warm, 20.0)
    (probe,) = scheduler.tick(30.0)
    assert isinstance(probe, Probe)
    assert used != probe.worker
    scheduler.checked(probe.worker, 30.1)
    assert [Assign(used, next_one)] == scheduler.submit(next_one, 31.0)


@pytest.mark.parametrize("pause", [10.0, 50.0])
def test_a_pool_with_little_to_do_shrinks(pause: float):
    """One call now and then needs one worker: the others are idle for long and are retired, pings or not."""
    scheduler = make(3, min_size=1, max_size=3, idle_timeout=120.0, health_interval=30.0)
    for step in range(100):
        now = pause * step
        for action in scheduler.tick(now):
            if isinstance(action, Probe):
                scheduler.checked(action.worker, now)
        ticket = Ticket(str(step))
        scheduler.submit(ticket, now)
        scheduler.finished(ticket, now)
    assert scheduler.live == 1


def test_workers_that_are_too_many_after_a_resize_are_retired_when_idle_for_long():
    """Those that min_size had kept go at the next tick, which is due at once."""
    scheduler = make(3, min_size=3, max_size=3, idle_timeout=60.0, health_interval=None)
    assert scheduler.tick(100.0) == []
    assert scheduler.resize(Limits(1, 3, idle_timeout=60.0, health_interval=None), 130.0) == []
    assert scheduler.deadline() <= 130.0
    assert [Retire, Retire] == [type(action) for action in scheduler.tick(130.0)]


def test_a_worker_is_handed_max_calls_and_no_more():
    """Where no successor becomes ready it serves all of them; it is asked to end with the last reply."""
    scheduler = make(1, max_size=1, max_calls=20)
    for number, ticket in enumerate(tickets(19), 2):  # the first call was made when it was made
        assert Assign(1, ticket) in scheduler.submit(ticket, 1.0)
        actions = scheduler.finished(ticket, 1.0)
        assert (Retire(1, "max_calls") in actions) == (number == 20)


def test_a_worker_of_many_slots_is_handed_max_calls_and_no_more():
    """Once it was handed the last of them, its free slots stay free."""
    scheduler = make(1, slots=3, max_calls=20)
    for ticket in tickets(18):
        scheduler.submit(ticket, 1.0)
        scheduler.finished(ticket, 1.0)
    last, late = tickets(2)
    assert Assign(1, last) in scheduler.submit(last, 1.0)
    assert Assign(1, late) not in scheduler.submit(late, 1.0)


CHANCES = [0.0, 0.25, 0.5, 0.75]


def crew(chances: list[float] | None = CHANCES, **limits) -> Scheduler:
    """Return a scheduler whose four workers were ready at the same moment, after a start of 1 s."""
    some = {} if chances is None else {"chance": itertools.cycle(chances).__next__}
    scheduler = Scheduler(Limits(min_size=4, max_size=4, surge=4, starts_at_once=9, **limits), **some)
    assert [Spawn(number) for number in (1, 2, 3, 4)] == scheduler.start(0.0)
    for number in (1, 2, 3, 4):
        scheduler.ready(number, 1, 1.0)
    return scheduler


def grow_old(scheduler: Scheduler) -> list[float]:
    """Return the times at which the first four are asked to end, where every successor is ready after 1 s."""
    ended: dict[int, float] = {}
    starting: list[tuple[float, int]] = []  # when each is ready
    while len(ended) < 4:
        now = min([scheduler.deadline(), *(due for due, _ in starting)])
        actions = scheduler.tick(now)
        for due, worker in list(starting):
            if due <= now:
                starting.remove((due, worker))
                actions += scheduler.ready(worker, 1, now)
        starting += [(now + 1.0, action.worker) for action in actions if isinstance(action, Spawn)]
        gone = [action.worker for action in actions if isinstance(action, Retire)]
        ended.update({worker: now for worker in gone if worker <= 4})
        for worker in gone:
            scheduler.reaped(worker, now)
    return [ended[worker] for worker in (1, 2, 3, 4)]


def test_workers_of_one_age_are_replaced_at_different_times():
    """Each by its own chance, which only ever shortens: all are asked to end before their time is up."""
    ended = grow_old(crew(max_lifetime=100.0, idle_timeout=None, health_interval=None))
    assert sorted(set(ended), reverse=True) == ended
    assert all(1.0 + 80.0 < each <= 1.0 + 100.0 for each in ended)


def test_who_says_nothing_of_chance_has_it():
    """No two workers of one age go together in a pool, either."""
    assert len(set(grow_old(crew(None, max_lifetime=100.0, idle_timeout=None, health_interval=None)))) == 4


def test_workers_that_serve_alike_are_replaced_after_different_numbers_of_calls():
    """Each by its own chance, too, and none is handed more than max_calls."""
    scheduler = crew(max_calls=100)
    calls: dict[int, int] = {}  # by worker that was asked to end
    for number in range(1, 101):
        now = 1000.0 * number  # so rarely that a successor has all the time that it needs
        for worker in {1, 2, 3, 4} - calls.keys():
            ticket = Ticket(f"call {number} of {worker}")
            actions = scheduler.bind(ticket, worker, now)
            assert actions[0] == Assign(worker, ticket)
            actions += scheduler.finished(ticket, now)
            for action in actions:
                if isinstance(action, Spawn):
                    (gone,) = scheduler.ready(action.worker, 1, now + 1.0)
                    assert gone == Retire(worker, "max_calls")
                    calls[worker] = number
    counts = [calls[worker] for worker in (1, 2, 3, 4)]
    assert sorted(set(counts), reverse=True) == counts
    assert all(80 < each <= 100 for each in counts)


def test_a_lease_waits_for_a_whole_worker():
    """An exclusive ticket never shares a worker, neither with those before it nor with those after it."""
    scheduler = make(1, slots=2)
    call, later = tickets(2)
    lease = Ticket("lease", exclusive=True)
    scheduler.submit(call, 1.0)
    assert scheduler.submit(lease, 2.0) == []
    assert scheduler.submit(later, 3.0) == []
    assert [Assign(1, lease)] == scheduler.finished(call, 4.0)
    assert [Assign(1, later)] == scheduler.finished(lease, 5.0)


def test_a_withdrawn_ticket_is_never_assigned():
    """A caller that was cancelled while it waited is forgotten; it can be withdrawn once."""
    scheduler = make(1)
    first, second, third = tickets(3)
    for ticket in (first, second, third):
        scheduler.submit(ticket, 1.0)
    assert scheduler.withdraw(second)
    assert not scheduler.withdraw(second)
    assert not scheduler.withdraw(first)
    assert [Assign(1, third)] == scheduler.finished(first, 2.0)


def test_a_moved_ticket_goes_to_the_head():
    """A call that provably never started does not wait twice."""
    scheduler = make(2, max_size=2)
    first, second, third = tickets(3)
    for ticket in (first, second, third):
        scheduler.submit(ticket, 1.0)
    assert [Spawn(3)] == scheduler.lost(scheduler.serving[second], 2.0, moved=second)
    assert [second, third] == list(scheduler.waiting)
    assert second is scheduler.finished(first, 3.0)[0].ticket


def test_a_lost_worker_is_replaced_within_the_surge():
    """The successor is started before the old process is gone, if surge allows; if not, when it is reaped."""
    scheduler = make(1, max_size=1, surge=1)
    assert [Spawn(2)] == scheduler.lost(1, 1.0)
    assert scheduler.reaped(1, 2.0) == []
    scheduler = make(1, max_size=1, surge=0)
    assert scheduler.lost(1, 1.0) == []
    assert [Spawn(2)] == scheduler.reaped(1, 2.0)


def test_a_reply_that_crossed_the_end_of_its_worker_frees_nothing():
    """Once its worker was lost a ticket is settled: finishing it again changes nothing."""
    scheduler = make(1)
    (ticket,) = tickets(1)
    scheduler.submit(ticket, 1.0)
    scheduler.lost(1, 2.0)
    assert scheduler.finished(ticket, 3.0) == []
    assert scheduler.tickets(1) == []


def test_a_new_worker_serves_the_head_of_the_queue():
    """Not whoever had it started."""
    scheduler = make(0, max_size=2)
    first, second = tickets(2)
    assert [Spawn(1)] == scheduler.submit(first, 1.0)
    assert [Spawn(2)] == scheduler.submit(second, 1.0)
    assert [Assign(2, first)] == scheduler.ready(2, 1, 2.0)
    assert [Assign(1, second)] == scheduler.ready(1, 1, 3.0)


def test_all_slots_of_a_worker_are_used():
    """A worker that takes three calls at a time gets three."""
    scheduler = make(1, slots=3)
    assert [Assign, Assign, Assign] == [type(scheduler.submit(ticket, 1.0)[0]) for ticket in tickets(3)]
    assert scheduler.submit(Ticket("fourth"), 1.0) == []


def test_idle_workers_above_min_size_are_retired():
    """After idle_timeout, and never below min_size; the deadline tells when."""
    scheduler = make(3, min_size=1, max_size=3, idle_timeout=60.0, health_interval=None)
    assert scheduler.deadline() == 60.0
    assert scheduler.tick(59.9) == []
    assert [Retire, Retire] == [type(action) for action in scheduler.tick(60.0)]
    assert scheduler.tick(scheduler.deadline()) == []


def test_a_busy_worker_is_neither_retired_nor_pinged():
    """However long its call takes."""
    scheduler = make(1, min_size=0, idle_timeout=10.0, health_interval=5.0)
    scheduler.submit(Ticket("long"), 1.0)
    assert scheduler.tick(scheduler.deadline()) == []
    assert scheduler.tick(1000.0) == []


def test_a_silent_worker_is_pinged():
    """A worker that gave no sign of life for health_interval is asked for one, and again after as long."""
    scheduler = make(1, health_interval=30.0, idle_timeout=None)
    assert scheduler.deadline() == 30.0
    assert [Probe(1)] == scheduler.tick(30.0)
    assert scheduler.tick(31.0) == []
    assert scheduler.checked(1, 32.0) == []
    assert scheduler.tick(scheduler.deadline()) == []
    assert scheduler.deadline() == 62.0


def test_an_answer_that_crossed_the_end_of_its_worker_is_ignored():
    """A pong of a worker that was lost meanwhile does not bring it back."""
    scheduler = make(1, health_interval=30.0)
    scheduler.tick(30.0)
    scheduler.lost(1, 31.0)
    assert scheduler.checked(1, 32.0) == []


def test_a_worker_that_is_checked_takes_no_calls():
    """A call that comes in during a ping waits for its answer, or for another worker."""
    scheduler = make(1, health_interval=30.0)
    (ticket,) = tickets(1)
    scheduler.tick(30.0)
    assert scheduler.submit(ticket, 31.0) == []
    assert [Assign(1, ticket)] == scheduler.checked(1, 32.0)


def test_on_request_each_idle_worker_is_pinged_before_use():
    """With check_on_acquire a call goes to a worker that has just answered, and only to such a one."""
    scheduler = make(1, check_on_acquire=True)
    first, second = tickets(2)
    assert [Probe(1)] == scheduler.submit(first, 1.0)
    assert [Assign(1, first)] == scheduler.checked(1, 1.1)
    assert scheduler.submit(second, 1.2) == []
    assert [Assign(1, second)] == scheduler.finished(first, 1.3)


def test_no_more_workers_are_pinged_than_calls_wait():
    """With check_on_acquire one call causes one ping."""
    scheduler = make(3, check_on_acquire=True)
    assert [Probe] == [type(action) for action in scheduler.submit(Ticket("one"), 1.0)]


def test_a_worker_in_use_needs_no_ping():
    """With check_on_acquire a worker that serves a call and has a free slot takes the next call at once."""
    scheduler = make(1, slots=2, check_on_acquire=True)
    first, second = tickets(2)
    scheduler.submit(first, 1.0)
    scheduler.checked(1, 1.1)
    assert [Assign(1, second)] == scheduler.submit(second, 1.2)


def test_after_a_failed_start_there_is_a_pause():
    """The next attempt is made when the deadline says, not before."""
    scheduler = make(0, max_size=3)
    (ticket,) = tickets(1)
    scheduler.submit(ticket, 1.0)
    assert scheduler.start_failed(1, 2.0) == []
    assert pytest.approx(scheduler.deadline()) == 2.1
    assert scheduler.tick(2.05) == []
    assert [Spawn(2)] == scheduler.tick(2.1001)


def test_after_three_failed_starts_calls_fail_at_once():
    """With no worker live nobody is made to wait for what does not come; one start is tried all the same."""
    scheduler = make(0, max_size=3)
    first, second = tickets(2)
    scheduler.submit(first, 1.0)
    now = 1.0
    rejected = []
    for _ in range(3):
        number = next(iter(scheduler.starting))
        rejected += scheduler.start_failed(number, now)
        assert scheduler.reaped(number, now) == []
        now = scheduler.deadline()
        scheduler.tick(now)
    assert [Reject(first)] == rejected
    assert scheduler.circuit_open
    assert [Reject(second)] == scheduler.submit(second, now)
    assert len(scheduler.starting) == 1
    scheduler.ready(next(iter(scheduler.starting)), 1, now)
    assert not scheduler.circuit_open


def test_failed_starts_do_not_touch_calls_while_a_worker_is_live():
    """A pool that has one good worker serves, however often a second one fails to start."""
    scheduler = make(1, max_size=2)
    busy, waiting = tickets(2)
    scheduler.submit(busy, 1.0)
    scheduler.submit(waiting, 1.0)
    now = 1.0
    for _ in range(5):
        number = next(iter(scheduler.starting))
        assert scheduler.start_failed(number, now) == []
        scheduler.reaped(number, now)
        now = scheduler.deadline()
        scheduler.tick(now)
    assert not scheduler.circuit_open
    assert [Assign(1, waiting)] == scheduler.finished(busy, now)


def test_what_failed_while_a_worker_was_live_fails_no_call_when_that_is_gone():
    """A successor may be unable to start beside the worker that it replaces: without it, it has its chance."""
    scheduler = make(1, max_size=2)
    busy, waiting, late = tickets(3)
    scheduler.submit(busy, 1.0)
    scheduler.submit(waiting, 1.0)
    now = 1.0
    for _ in range(5):
        number = next(iter(scheduler.starting))
        scheduler.start_failed(number, now)
        scheduler.reaped(number, now)
        now = scheduler.deadline()
        scheduler.tick(now)
    assert scheduler.lost(1, now) == []
    assert scheduler.submit(late, now) == []
    assert [Reject(waiting), Reject(late)] == scheduler.start_failed(next(iter(scheduler.starting)), now)


def test_the_only_worker_is_not_retired_while_its_successor_starts():
    """However long it was idle: one that starts serves nobody yet, and may fail."""
    scheduler = make(1, idle_timeout=5.0, health_interval=2.0)
    assert [Spawn(2)] == scheduler.restart(100.0)
    assert not [each for each in scheduler.tick(200.0) if isinstance(each, Retire)]
    scheduler.start_failed(2, 201.0)
    assert scheduler.idle() == 1


def test_of_worn_workers_the_coldest_idle_one_goes_first():
    """A successor is ready: whoever is busy goes last."""
    scheduler = make(5, surge=2, max_memory=100)
    served = tickets(3)
    busy, warm, cold = [action.worker for ticket in served for action in scheduler.submit(ticket, 1.0)]
    scheduler.finished(served[2], 2.0)
    scheduler.finished(served[1], 3.0)
    heavy = [action for worker in (busy, warm, cold) for action in scheduler.weighed(worker, 200, 4.0)]
    first, second = (action.worker for action in heavy if isinstance(action, Spawn))
    assert Retire(cold, "max_memory") in scheduler.ready(first, 1, 5.0)
    assert Retire(warm, "max_memory") in scheduler.ready(second, 1, 6.0)
    assert [served[0]] == scheduler.tickets(busy)


def test_a_failed_start_of_a_worker_that_is_wanted_no_more_holds_up_no_restart():
    """Without surge an old worker goes first, and nobody else can show that workers start."""
    scheduler = make(1, max_size=2, surge=0)
    busy, waiting = tickets(2)
    scheduler.submit(busy, 1.0)
    assert [Spawn(2)] == scheduler.submit(waiting, 1.0)
    scheduler.start_failed(2, 2.0)
    scheduler.reaped(2, 2.0)
    scheduler.withdraw(waiting)
    scheduler.finished(busy, 2.0)
    scheduler.resize(Limits(min_size=1, max_size=1, surge=0), 2.0)
    actions = scheduler.restart(2.0)
    while (due := scheduler.deadline()) is not None and due < 60.0:
        actions += scheduler.tick(due)
    assert [Retire(1, "restarted")] == actions


def test_full_counts_what_exceeds_the_workers():
    """max_waiting is of the calls beyond those that free, starting and startable workers will take."""
    scheduler = make(1, max_size=2, max_waiting=1)
    first, second, third, fourth = tickets(4)
    for ticket in (first, second, third):
        assert not scheduler.full
        scheduler.submit(ticket, 1.0)
    assert scheduler.full
    scheduler.ready(2, 1, 2.0)
    assert scheduler.full
    scheduler.finished(first, 3.0)
    assert not scheduler.full
    scheduler.submit(fourth, 4.0)
    assert scheduler.full


def test_full_with_no_waiting_allowed():
    """max_waiting=0 takes as many calls as there are workers, also while these still start."""
    scheduler = make(0, max_size=2, max_waiting=0)
    for ticket in tickets(2):
        assert not scheduler.full
        scheduler.submit(ticket, 1.0)
    assert scheduler.full


def test_the_queue_is_bounded_also_behind_a_lease():
    """A lease that waits for a whole worker holds up the calls behind it: those count, free slots or not."""
    scheduler = make(1, slots=2, max_waiting=1)
    scheduler.submit(Ticket("call"), 1.0)
    scheduler.submit(Ticket("lease", exclusive=True), 2.0)
    assert scheduler.full


def test_without_max_waiting_it_is_never_full():
    """None means no limit."""
    scheduler = make(1)
    for ticket in tickets(1000):
        scheduler.submit(ticket, 1.0)
    assert not scheduler.full


def test_a_closing_pool_serves_what_waits_and_replaces_nothing():
    """After close() workers are started for waiting tickets only."""
    scheduler = make(2, max_size=2, surge=2)
    scheduler.close()
    assert scheduler.lost(1, 1.0) == []
    busy, waiting = tickets(2)
    scheduler.submit(busy, 1.0)
    assert [Spawn(3)] == scheduler.submit(waiting, 1.0)


@pytest.mark.parametrize(
    "move",
    [
        lambda scheduler: scheduler.ready(1, 1, 1.0),
        lambda scheduler: scheduler.start_failed(1, 1.0),
        lambda scheduler: scheduler.reaped(1, 1.0),
        lambda scheduler: scheduler.ready(7, 1, 1.0),
        lambda scheduler: scheduler.lost(7, 1.0),
    ],
    ids=["ready twice", "fails when ready", "reaped alive", "unknown ready", "unknown lost"],
)
def test_an_illegal_move_raises_and_changes_nothing(move):
    """A worker cannot be moved out of a set that it is not in: a bug in the shell must not go unseen."""
    scheduler = make(1)
    with pytest.raises(IllegalMove):
        move(scheduler)
    (ticket,) = tickets(1)
    assert [Assign(1, ticket)] == scheduler.submit(ticket, 2.0)


def test_processes_are_counted_until_they_are_reaped():
    """Spawned is exited plus present, at any time."""
    scheduler = make(2, min_size=2, max_size=2, surge=1)
    scheduler.lost(1, 1.0)
    assert (scheduler.live, scheduler.processes, scheduler.spawned, scheduler.exited) == (2, 3, 3, 0)
    scheduler.reaped(1, 2.0)
    assert (scheduler.live, scheduler.processes, scheduler.spawned, scheduler.exited) == (2, 2, 3, 1)


def test_a_key_goes_to_the_worker_that_had_it_and_waits_for_nobody():
    """Not to the warmest; but when that worker is busy, to another, which has the key from then on."""
    scheduler = make(3)
    first, second, third, fourth = (Ticket(name, key="Tom") for name in "abcd")
    assert [Assign(3, first)] == scheduler.submit(first, 1.0)
    scheduler.finished(first, 1.0)
    other = Ticket("other")
    scheduler.submit(other, 2.0)
    scheduler.submit(blocking := Ticket("blocking"), 2.0)
    scheduler.finished(other, 2.0)
    scheduler.finished(blocking, 2.0)
    assert [Assign(3, second)] == scheduler.submit(second, 3.0)
    assert [Assign(2, third)] == scheduler.submit(third, 3.0)
    scheduler.finished(third, 4.0)
    scheduler.finished(second, 4.0)
    assert [Assign(2, fourth)] == scheduler.submit(fourth, 5.0)


def test_a_waiting_key_gets_the_worker_that_comes_free():
    """The queue stays in order, whoever is warm for whom."""
    scheduler = make(2)
    about_tom, blocking = Ticket("about Tom", key="Tom"), Ticket("blocking")
    scheduler.submit(about_tom, 1.0)
    scheduler.submit(blocking, 1.0)
    waiting = Ticket("waiting", key="Tom")
    assert scheduler.submit(waiting, 1.0) == []
    assert [Assign(1, waiting)] == scheduler.finished(blocking, 2.0)


def test_a_bound_ticket_goes_first_and_nowhere_else():
    """Before those that wait; at once where its worker is idle."""
    scheduler = make(2, max_waiting=0)
    running, waiting, idle, bound = tickets(4)
    assert [Assign(1, idle)] == scheduler.bind(idle, 1, 1.0)
    scheduler.submit(running, 1.0)
    assert [] == scheduler.submit(waiting, 1.0) == scheduler.bind(bound, 2, 1.0)
    assert [Assign(1, waiting)] == scheduler.finished(idle, 2.0)
    assert [Assign(2, bound)] == scheduler.finished(running, 2.0)
    with pytest.raises(IllegalMove):
        scheduler.bind(Ticket("stranger"), 9, 3.0)


def test_slots_are_kept_for_a_bound_ticket_that_takes_all():
    """Nothing is added to its worker until it is empty; taken back, it sets the free slots free."""
    scheduler = make(1, slots=2)
    running, waiting = tickets(2)
    scheduler.submit(running, 1.0)
    bound, other = Ticket("all", exclusive=True), Ticket("all too", exclusive=True)
    assert [] == scheduler.bind(bound, 1, 1.0) == scheduler.bind(other, 1, 1.0) == scheduler.submit(waiting, 1.0)
    assert scheduler.unbind(other, 1.0) == []
    assert [Assign(1, waiting)] == scheduler.unbind(bound, 1.0)


def test_a_bound_ticket_is_stranded_with_its_worker():
    """Whether that dies, or is let go after the last call that it may have."""
    scheduler = make(2, max_calls=3)
    running, spent, first, second = tickets(4)
    scheduler.submit(running, 1.0)
    scheduler.submit(spent, 1.0)
    scheduler.bind(first, 2, 1.0)
    scheduler.bind(second, 1, 1.0)
    assert Strand(2, first) in scheduler.lost(2, 2.0)
    actions = scheduler.finished(spent, 2.0, calls=3)
    assert actions[:2] == [Strand(1, second), Retire(1, "max_calls")]
    assert not scheduler.bound


def test_the_worker_that_had_the_key_is_checked_first():
    """With check_on_acquire it is the one that is pinged, though another is warmer; once it answers, it is used."""
    scheduler = make(2)
    about_tom, warm = Ticket("about Tom", key="Tom"), Ticket("warm")
    scheduler.submit(about_tom, 1.0)
    scheduler.submit(warm, 1.0)
    scheduler.finished(about_tom, 2.0)
    scheduler.finished(warm, 3.0)
    scheduler.limits = Limits(min_size=2, max_size=2, check_on_acquire=True)
    again = Ticket("again", key="Tom")
    assert scheduler.submit(again, 4.0) == [Probe(2)]
    assert scheduler.checked(2, 5.0) == [Assign(2, again)]
