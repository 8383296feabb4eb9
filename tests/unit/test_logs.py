"""What a worker logs, on its way to the wire."""

import _thread
import os
import select

import pytest

from asyncpool.worker.channel import Channel
from asyncpool.worker.logs import Outbox


class Wire(Channel):
    """Takes so many records, then there is no room."""

    __slots__ = ("room", "sent")

    def __init__(self, room: int, writes: int = 1) -> None:
        super().__init__(0, writes, 1000)
        self.room = room
        self.sent: list[bytes] = []

    def send(self, body, buffers=()) -> None:
        self.room -= 1
        self.sent.append(body)


@pytest.mark.parametrize("room", [0, 1, 3])
def test_only_who_may_write_looks_for_room(monkeypatch: pytest.MonkeyPatch, room: int):
    """Two threads that poll with one object are an error, which would end the worker."""
    lock = _thread.allocate_lock()
    wire = Wire(room)

    class Poll:
        def register(self, *_args) -> None: ...

        def poll(self, _timeout: int) -> list[tuple[int, int]]:
            assert lock.locked()
            return [(1, select.POLLOUT)] if wire.room else []

    monkeypatch.setattr(select, "poll", Poll)
    outbox = Outbox(wire, lock)
    for body in (b"a", b"b"):
        assert outbox.put(body)
    assert (wire.sent, list(outbox.waiting)) == ([b"a", b"b"][:room], [b"a", b"b"][room:])
    assert not lock.locked()


def test_a_record_that_comes_while_another_is_written_follows_it():
    """Whoever has the lock sends it: the other cannot."""

    class Interrupted(Wire):
        __slots__ = ()

        def send(self, body, buffers=()) -> None:
            super().send(body)
            if body == b"a":
                assert outbox.put(b"b")
                assert self.sent == [b"a"]

    with open(os.devnull, "wb") as nothing:
        wire = Interrupted(5, nothing.fileno())
        outbox = Outbox(wire, _thread.allocate_lock())
        assert outbox.put(b"a")
    assert wire.sent == [b"a", b"b"]


def test_a_record_larger_than_a_message_may_be_is_dropped():
    """Sent, it would be a broken protocol, and the worker's end."""
    with open(os.devnull, "wb") as nothing:
        wire = Wire(5, nothing.fileno())
        outbox = Outbox(wire, _thread.allocate_lock())
        assert not outbox.put(bytes(1001))
        assert outbox.put(bytes(1000))
    assert wire.sent == [bytes(1000)]
