"""What floods the wire, what a worker leaves in the kernel when it ends, and what is large."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec import Raw

from asyncpool.pool import connection as module
from asyncpool.pool.connection import CROWD, PIECE, SHARE, Connection, pair
from asyncpool.protocol import messages, wire

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
    connection = Connection(receiver, asyncio.get_running_loop().time)
    ours, theirs = pair()
    with theirs:
        theirs.setblocking(False)
        await connection.open(ours)
        assert theirs.send(FRAME * frames) == frames * len(FRAME)
        connection.drain()
        await connection.aclose()
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
    """Little more than CROWD frames are taken in a step of the loop, where uvloop alone would take megabytes."""
    receiver, loop, all_came = Receiver(), asyncio.get_running_loop(), asyncio.Event()
    frame = wire.frame(messages.encode(message))
    frames = 160_000 // len(frame)

    def tick() -> None:
        receiver.step += 1
        if receiver.count < frames:
            loop.call_soon(tick)
        else:
            all_came.set()

    connection = Connection(receiver, loop.time)
    ours, theirs = pair()
    with theirs:
        theirs.setblocking(False)
        assert theirs.send(frame * frames) == frames * len(frame)
        await connection.open(ours)
        tick()
        await all_came.wait()
        await connection.aclose()
    assert max(receiver.per_step.values()) <= CROWD + wire.RING // len(frame)


class Greedy:
    """A transport that takes all that it is given at once, as one does whose worker reads as fast as we send."""

    def __init__(self, transport: asyncio.BaseTransport, taken: list[int]) -> None:
        self._transport = transport
        self._taken = taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: memoryview) -> None:
        self._taken.append(len(data))


class Eager(Connection):
    """Gets such a transport."""

    taken: list[int]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.taken = []
        super().connection_made(Greedy(transport, self.taken))  # type: ignore[arg-type]


async def test_a_large_value_is_sent_in_shares() -> None:
    """Others get their turn between them, and all of it is sent in the end."""
    loop = asyncio.get_running_loop()
    connection = Eager(Receiver(), loop.time)
    ours, theirs = pair()
    steps: list[int] = []  # bytes that were sent so far, at each step of the loop
    all_sent = asyncio.Event()

    def tick() -> None:
        steps.append(sum(connection.taken))
        if connection.unsent:
            loop.call_soon(tick)
        else:
            all_sent.set()

    with theirs:
        await connection.open(ours)
        connection.send(FRAME, [bytes(5 * SHARE)])
        tick()
        await all_sent.wait()
        await connection.aclose()
    assert 4 * SHARE <= steps[-1] <= 5 * SHARE + len(FRAME)  # one share at most went to the socket itself
    assert max(after - before for before, after in zip([0, *steps], steps, strict=False)) <= SHARE + PIECE
