"""A running call's credit, as the worker counts it."""

import threading

from asyncpool.protocol.messages import MOST_BYTES
from asyncpool.worker.running import Running


def running(credit: int = 3, deadline: float | None = None) -> Running:
    return Running(1, deadline, credit, {})


def test_without_credit_nobody_listens() -> None:
    """0 means: drop the updates."""
    assert not running(0).listening
    assert running(1).listening


def test_as_many_updates_as_there_is_credit() -> None:
    """Each costs one, whatever its size; what is granted may be sent."""
    call = running(3)
    assert [call.take(1) for _ in range(4)] == [True, True, True, False]
    call.grant(2)
    assert [call.take(1) for _ in range(3)] == [True, True, False]


def test_while_fewer_bytes_are_untaken_one_more_of_any_size_may_go() -> None:
    """A large one alone, or on top; never one on top of it."""
    call = running(9)
    assert call.take(MOST_BYTES - 1)
    assert call.take(50 * MOST_BYTES)
    assert not call.take(0)
    call.grant(1)
    assert not call.take(0)  # the larger one is still untaken
    call.grant(1)
    assert call.take(0)


def test_a_parent_that_grants_more_than_was_sent_is_believed() -> None:
    """It may raise the window."""
    call = running(1)
    call.grant(5)
    assert [call.take(1) for _ in range(7)] == [True] * 6 + [False]


def test_the_wait_for_credit_does_not_count() -> None:
    """The deadline moves by as much; without one there is nothing to move."""
    call = running(deadline=10)
    before = call.deadline
    call.waited(5)
    assert before is not None
    assert call.deadline is not None
    assert 14 < call.deadline <= 15
    without = running()
    without.waited(5)
    assert without.deadline is None


def test_threads_never_take_more_than_there_is() -> None:
    """Many at a time."""
    call, taken = running(1000), []

    def work() -> None:
        taken.append(sum(call.take(1) for _ in range(1000)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1000
