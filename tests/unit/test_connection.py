"""What a worker leaves in the kernel when it ends."""

import asyncio

import pytest

from asyncpool.pool import connection as module
from asyncpool.pool.connection import Connection, pair
from asyncpool.protocol import messages, wire


class Receiver:
    """Counts the messages that it is told."""

    count = 0
    error: wire.FrameError | None = None

    def received(self, found: list[messages.ToParent], error: wire.FrameError | None) -> None:
        self.count += len(found)
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
        frame = wire.frame(messages.encode(messages.Pong(1)))
        assert theirs.send(frame * frames) == frames * len(frame)
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
