"""What floods the wire, what a worker leaves in the kernel when it ends, and what is large."""

import asyncio
import select
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw

from asyncpool.pool import connection as module
from asyncpool.pool.connection import SHARE, Connection, pair
from asyncpool.protocol import messages, wire
from tests.support.waiting import eventually, steps

FRAME = wire.frame(messages.encode(messages.Pong(1)))


class Receiver:
    """Counts the messages that it is told, and those of each step of the loop."""

    count = 0
    error: wire.FrameError | None = None
    step = 0

    def __init__(self) -> None:
        self.per_step: Counter[int] = Counter()

    def received_one(self, message: messages.ToParent) -> None:
        self.received([message], None)

    def received(self, found: list[messages.ToParent], error: wire.FrameError | None) -> None:
        self.count += len(found)
        self.per_step[self.step] += len(found)
        self.error = self.error or error

    def disconnected(self) -> None:
        pass


async def drained(frames: int) -> Receiver:
    """Return what was told of so many frames, which lay there when the worker had ended."""
    receiver = Receiver()
    connection = Connection(receiver, asyncio.get_running_loop())
    ours, theirs = pair()
    with theirs:
        theirs.setblocking(False)
        connection.open(ours)
        assert theirs.send(FRAME * frames) == frames * len(FRAME)
        connection.drain()
    return receiver


async def test_all_that_a_worker_said_last_is_taken() -> None:
    """Thousands of messages are ordinary: answers, updates and records that came while the loop was blocked."""
    receiver = await drained(15_000)
    assert (receiver.count, receiver.error) == (15_000, None)


async def test_who_floods_the_wire_and_ends_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of a flood is not looked at: it would be megabytes of small frames, in one step of the loop."""
    monkeypatch.setattr(module, "LAST_WORDS", 3_000)
    receiver = await drained(15_000)
    assert 3_000 <= receiver.count < 3_000 + wire.RING // 10


@pytest.mark.parametrize("message", [messages.Pong(1), messages.Log(Raw(b"\xd9\x40" + b"m" * 64))], ids=["11", "78"])
async def test_who_floods_the_wire_gives_others_their_turn(message: messages.ToParent) -> None:
    """One chunk is taken in a step of the loop: uvloop's own transports take 32."""
    receiver, loop, all_came = Receiver(), asyncio.get_running_loop(), asyncio.Event()
    frame = wire.frame(messages.encode(message))
    frames = 160_000 // len(frame)

    def tick() -> None:
        receiver.step += 1
        if receiver.count < frames:
            loop.call_soon(tick)
        else:
            all_came.set()

    connection = Connection(receiver, loop)
    ours, theirs = pair()
    with theirs:
        theirs.setblocking(False)
        assert theirs.send(frame * frames) == frames * len(frame)
        connection.open(ours)
        tick()
        await all_came.wait()
        connection.close()
    assert max(receiver.per_step.values()) <= wire.RING // len(frame) + 1


class Greedy:
    """A socket that takes all that it is given at once, as one does whose worker reads as fast as we send."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self.taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def send(self, data: memoryview, _flags: int) -> int:
        self.taken += len(data)
        return len(data)

    def sendmsg(self, parts: Sequence[memoryview], _ancillary: Sequence[object], flags: int) -> int:
        return sum(self.send(part, flags) for part in parts)


async def test_a_large_value_is_sent_in_shares() -> None:
    """Others get their turn between them, and all of it is sent in the end."""
    loop = asyncio.get_running_loop()
    connection = Connection(Receiver(), loop)
    ours, theirs = pair()
    greedy = Greedy(ours)
    steps: list[int] = []  # bytes that were sent so far, at each step of the loop
    all_sent = asyncio.Event()

    def tick() -> None:
        steps.append(greedy.taken)
        if connection.unsent:
            loop.call_soon(tick)
        else:
            all_sent.set()

    with theirs:
        connection.open(greedy)  # type: ignore[arg-type]
        connection.send(FRAME, [bytes(5 * SHARE), bytes(SHARE)])
        tick()
        await all_sent.wait()
        connection.close()
    assert steps[-1] == 6 * SHARE + len(FRAME)
    assert max(after - before for before, after in zip([0, *steps], steps, strict=False)) <= SHARE + len(FRAME)


async def test_what_comes_before_the_end_is_told_before_it() -> None:
    """Also what was sent to a worker that ends without having read it: unread says so, whoever meets the error."""
    told: list[object] = []

    class Teller(Receiver):
        def received_one(self, message: messages.ToParent) -> None:
            told.append(message)

        def disconnected(self) -> None:
            told.append("the end")

    loop = asyncio.get_running_loop()
    for meets in ("the reader", "drain"):
        connection = Connection(Teller(), loop)
        ours, theirs = pair()
        connection.open(ours)
        connection.send(FRAME)
        theirs.send(FRAME)
        theirs.close()
        if meets == "drain":
            connection.drain()
            assert connection.unread
        else:
            await eventually(lambda: "the end" in told)
            assert told == [messages.Pong(1), "the end"]
            assert connection.unread
        connection.close()
        assert not connection.unsent


async def test_nothing_is_sent_to_who_is_gone() -> None:
    """What was given to the connection stays unsent, and says so."""
    connection = Connection(Receiver(), asyncio.get_running_loop())
    ours, theirs = pair()
    connection.open(ours)
    with theirs:
        connection.send(FRAME, [bytes(2 * SHARE)])
        assert connection.unsent
    await eventually(lambda: connection.unread)
    assert connection.unsent
    connection.close()
    connection.send(FRAME)
    assert connection.unsent


async def test_a_connection_that_is_closed_twice_leaves_the_next_one_alone() -> None:
    """The kernel gives the number of its socket to another one at once."""
    loop, all_came = asyncio.get_running_loop(), asyncio.Event()

    class Waiting(Receiver):
        def received_one(self, message: messages.ToParent) -> None:
            all_came.set()

    first, second = Connection(Receiver(), loop), Connection(Waiting(), loop)
    ours, theirs = pair()
    number = ours.fileno()
    first.open(ours)
    theirs.close()
    first.drain()
    ours, theirs = pair()
    assert number in (ours.fileno(), theirs.fileno())
    second.open(ours)
    first.close()
    with theirs:
        theirs.send(FRAME)
        await asyncio.wait_for(all_came.wait(), 10)
        second.close()


async def test_what_follows_a_bad_frame_is_read_and_thrown_away() -> None:
    """A ring full of it leaves no room, which must not be taken for the end."""
    receiver, ends = Receiver(), list[bool]()
    receiver.disconnected = lambda: ends.append(True)  # type: ignore[method-assign]
    connection = Connection(receiver, asyncio.get_running_loop())
    ours, theirs = pair()
    with theirs:
        theirs.setblocking(False)
        theirs.send(b"purr" * wire.RING)
        connection.open(ours)
        await eventually(lambda: receiver.error)
        await steps(20)
        assert not ends
        assert not select.select([ours], [], [], 0)[0]
    await eventually(lambda: ends)
    connection.close()
