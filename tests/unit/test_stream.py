"""The two sides of a stream's credit, without a process: nothing is lost, too much, or stuck."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpool import PoolError, ResultError
from asyncpool.pool.stream import WINDOW, Stream
from asyncpool.protocol.messages import MOST_BYTES, Update
from asyncpool.worker.running import Running
from tests.support.often import often
from tests.support.waiting import steps

ZEROS = memoryview(bytes(3 * MOST_BYTES))
FRAME = 14  # bytes of a body beside the value, at most
SIZES = st.one_of(
    st.integers(0, 100),
    st.integers(60_000, 70_000),
    st.integers(MOST_BYTES // 2 - 2 * FRAME, MOST_BYTES // 2 + FRAME),
    st.integers(MOST_BYTES - 20 * FRAME, MOST_BYTES + FRAME),
    st.integers(MOST_BYTES, 3 * MOST_BYTES),
)


class Carrier:
    """The worker, as a call knows it."""

    def __init__(self) -> None:
        self.credits: deque[int] = deque()

    def credit(self, _call: Any, count: int) -> None:
        self.credits.append(count)


class Limit:
    """A deadline."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def go_on(self) -> None:
        self.told.append("go on")


class Call:
    title, pid, asked_to_stop = "the command", 7, False

    def __init__(self) -> None:
        self.worker: Carrier | None = Carrier()
        self.deadline: Limit | None = Limit()


class Begun:
    """A call that was submitted; it decodes an update to its size."""

    def __init__(self) -> None:
        self.call: Any = Call()
        self.updates: Any = self
        self.stopped = 0

    def decode(self, value: Any) -> int:
        if len(value) == 13:
            raise ValueError("unlucky")
        return len(value)

    async def outcome(self) -> Any:
        return "result"

    async def stop(self) -> None:
        self.stopped += 1


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it waits")


def entered() -> tuple[Stream[Any, Any], Begun]:
    begun = Begun()
    stream: Stream[Any, Any] = Stream(lambda _: begun)
    now(stream.__aenter__())
    return stream, begun


def update(size: int) -> Update:
    return Update(1, ZEROS[:size])  # type: ignore[arg-type]


@settings(max_examples=often(300), deadline=None)
@given(sizes=st.lists(SIZES, max_size=60), frame=st.integers(0, FRAME), choices=st.data())
def test_no_mix_of_sizes_and_moments_gets_stuck_or_exceeds_the_window(
    sizes: list[int], frame: int, choices: st.DataObject
) -> None:
    """Whatever is sent, received, taken and granted when: the bounds hold on both sides, and all arrives in order."""
    stream, begun = entered()
    worker = Running(1, None, WINDOW, {})
    to_send, wire, unread, taken = deque(sizes), deque[int](), deque[int](), list[int]()

    def send() -> bool:
        if not to_send or not worker.take(to_send[0] + frame):
            return False
        wire.append(to_send.popleft())
        return True

    def receive() -> bool:
        if not wire:
            return False
        unread.append(wire.popleft())
        assert stream.feed(update(unread[-1]))
        return True

    def take() -> bool:
        if not unread:
            return False
        size = unread.popleft()
        if size == 13:
            with pytest.raises(ResultError):
                now(stream.__anext__())
        else:
            assert now(stream.__anext__()) == size
        taken.append(size)
        return True

    def grant() -> bool:
        if not begun.call.worker.credits:
            return False
        worker.grant(begun.call.worker.credits.popleft())
        return True

    acts = [send, receive, take, grant]
    for choice in choices.draw(st.lists(st.integers(0, 3), max_size=100)):
        acts[choice]()
        under_way = [*unread, *wire]
        assert len(under_way) <= WINDOW
        assert sum(under_way[:-1]) < MOST_BYTES
    while any([act() for act in acts]):  # noqa: C419 # each of them
        under_way = [*unread, *wire]
        assert len(under_way) <= WINDOW
        assert sum(under_way[:-1]) < MOST_BYTES
    assert taken == sizes
    told = begun.call.deadline.told
    assert told == ["pause", "go on"] * (len(told) // 2)


def test_more_than_the_credit_is_refused() -> None:
    """A worker that does not keep to it would fill the parent's memory."""
    stream, _ = entered()
    assert all(stream.feed(update(1)) for _ in range(WINDOW))
    assert not stream.feed(update(1))
    stream, _ = entered()
    assert stream.feed(update(MOST_BYTES))
    assert not stream.feed(update(0))


@pytest.mark.parametrize("size", [1, MOST_BYTES])
def test_its_time_stands_still_while_it_has_no_credit(size: int) -> None:
    """From the update that uses it up until credit is given back."""
    stream, begun = entered()
    count = WINDOW if size == 1 else 1
    for _ in range(count - 1):
        stream.feed(update(size))
    assert begun.call.deadline.told == []
    stream.feed(update(size))
    assert begun.call.deadline.told == ["pause"]
    for _ in range(count):
        now(stream.__anext__())
    assert begun.call.deadline.told == ["pause", "go on"]
    assert sum(begun.call.worker.credits) == count


def test_another_runs_time_is_not_touched() -> None:
    """What was paused may be over by then."""
    stream, begun = entered()
    old = begun.call.deadline
    stream.feed(update(MOST_BYTES))
    begun.call.deadline = Limit()
    now(stream.__anext__())
    assert old.told == ["pause"]
    assert begun.call.deadline.told == []


def test_run_again_it_begins_anew() -> None:
    """With its whole credit, and without what nobody has seen."""
    stream, begun = entered()
    for size in (1,) * WINDOW:
        stream.feed(update(size))
    stream.again()
    assert all(stream.feed(update(2)) for _ in range(WINDOW))
    assert begun.call.deadline.told == ["pause", "pause"]
    assert [now(stream.__anext__()) for _ in range(WINDOW)] == [2] * WINDOW


def test_after_leaving_all_counts_as_taken() -> None:
    """So that a command which may finish never waits."""
    stream, begun = entered()
    for _ in range(WINDOW):
        stream.feed(update(1))
    now(stream.__aexit__(None, None, None))
    assert begun.stopped == 1
    assert sum(begun.call.worker.credits) == WINDOW
    assert all(stream.feed(update(size)) for size in [1, MOST_BYTES, 5] * WINDOW)
    assert begun.call.deadline.told.count("pause") == begun.call.deadline.told.count("go on")
    with pytest.raises(PoolError, match="was left"):
        now(stream.__anext__())


def test_updates_before_the_end_come_first() -> None:
    """Then the result, and no more."""
    stream, begun = entered()
    stream.feed(update(5))
    stream.end()
    assert now(stream.__anext__()) == 5
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            now(stream.__anext__())
    assert stream.result == "result"
    now(stream.__aexit__(None, None, None))
    assert begun.stopped == 0
    with pytest.raises(StopAsyncIteration):
        now(stream.__anext__())


async def test_a_cancelled_wait_loses_nothing() -> None:
    """The update that comes then is the next one's."""
    stream, _ = entered()
    task = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
    await steps(1)
    task.cancel()
    stream.feed(update(5))
    await asyncio.wait([task])
    assert await anext(stream) == 5
