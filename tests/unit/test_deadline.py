"""Deadlines on a fake loop: they act late rather than in error."""

import asyncio
import heapq
import itertools

from asyncpool.pool.deadline import Deadline


class Handle:
    """What call_at returns."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A clock and its timers; nothing passes but what a test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list = []
        self._order = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, act, *args) -> Handle:
        handle = Handle()
        heapq.heappush(self._timers, (when, next(self._order), handle, act, args))
        return handle

    def call_later(self, delay: float, act, *args) -> Handle:
        return self.call_at(self.now + delay, act, *args)

    def advance(self, seconds: float) -> None:
        """Let time pass; each timer rings when it is due."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            self.now = max(self.now, self._timers[0][0])
            self.ring()
        self.now = until

    def block(self, seconds: float) -> None:
        """Let time pass without a timer ringing; then one pass of the loop."""
        self.now += seconds
        due = [timer for timer in self._timers if timer[0] <= self.now]
        for _ in due:
            self.ring()

    def ring(self) -> None:
        _, _, handle, act, args = heapq.heappop(self._timers)
        if not handle.cancelled:
            act(*args)


def make(loop: Loop, delay: float, heard=None) -> list[float]:
    """Return the times at which the deadline has acted."""
    acted: list[float] = []
    more = () if heard is None else (heard,)
    Deadline(loop, delay, lambda: acted.append(loop.now), *more)
    return acted


def test_it_acts_once_soon_after_its_time():
    """On a loop that runs, a deadline of 5 s acts between 5 and 5.1 s, and never again."""
    loop = Loop()
    acted = make(loop, 5.0)
    loop.advance(4.999)
    assert acted == []
    loop.advance(0.2)
    assert len(acted) == 1
    assert 105.0 <= acted[0] < 105.1
    loop.advance(1000.0)
    assert len(acted) == 1


def test_cancelled_it_never_acts():
    """Before its time, and between its time and the moment in which it acts."""
    loop = Loop()
    acted: list[float] = []
    for wait in (1.0, 5.0):
        deadline = Deadline(loop, 5.0, lambda: acted.append(loop.now))
        loop.advance(wait)
        assert acted == []
        deadline.cancel()
        deadline.cancel()
        loop.advance(100.0)
        assert acted == []


def test_it_never_acts_in_the_pass_in_which_it_fires():
    """The loop looks for input once more: an answer that lies in the kernel is read first."""
    loop = Loop()
    acted = make(loop, 5.0)
    loop.block(5.0)
    assert acted == []


def test_a_blocked_loop_puts_it_off_by_as_long():
    """A loop that was blocked for 20 s gives a worker 15 s from then, as long as the deadline was late."""
    loop = Loop()
    acted = make(loop, 5.0)
    loop.block(20.0)
    loop.advance(14.0)
    assert acted == []
    loop.advance(2.0)
    assert len(acted) == 1


def test_a_loop_that_blocks_again_and_again_does_not_put_it_off_for_ever():
    """It gets some passes in which input is read; a loop that is always late must not disarm every limit."""
    loop = Loop()
    acted = make(loop, 1.0)
    loop.block(10.0)
    loop.block(10.0)
    assert acted == []
    for _ in range(20):
        loop.block(10.0)
    assert len(acted) == 1


def test_bytes_that_just_came_put_it_off():
    """A worker that is heard between two looks is in the middle of its answer."""
    loop = Loop()
    heard = [float("-inf")]
    acted = make(loop, 5.0, lambda: heard[0])
    loop.advance(5.0)
    heard[0] = loop.now
    loop.advance(0.0021)
    assert acted == []
    loop.advance(1.0)
    assert len(acted) == 1


def test_a_worker_that_only_chatters_is_stopped_in_the_end():
    """Being heard all the time puts a deadline off by much less than a second."""
    loop = Loop()
    acted = make(loop, 5.0, lambda: loop.now)
    loop.advance(6.0)
    assert len(acted) == 1


def test_bytes_from_before_do_not_count():
    """What was heard before the deadline's time says nothing about now."""
    loop = Loop()
    acted = make(loop, 5.0, lambda: 104.0)
    loop.advance(5.1)
    assert len(acted) == 1


def test_it_takes_a_real_loop():
    """What it asks of the loop is what asyncio's has."""
    loop = asyncio.new_event_loop()
    try:
        Deadline(loop, 1000.0, lambda: None).cancel()
    finally:
        loop.close()
