"""What the worker logs, on its way to the parent.

Law 1: nothing waits for a record. What cannot be written at once is kept, up to a bound; more is dropped, and counted.
Law 2: a record of a call is written before the call's answer.
Law 3: `logging` is imported by the user's code or not at all: it is looked for after every import that we know of,
       before and after each call, and before each item of a chunk.
"""

from __future__ import annotations

import select
import sys
from collections import deque
from typing import Any

from asyncpool.worker.channel import Channel

MOST_WAITING = 200  # records


class Outbox:
    """Records that are to be written to the wire.

    Args:
        channel: The wire.
        lock: Held by whoever writes a frame.
    """

    def __init__(self, channel: Channel, lock: Any) -> None:
        self._channel = channel
        self._lock = lock
        self._poll = select.poll()
        self._poll.register(channel.writes, select.POLLOUT)
        self.waiting: deque[bytes] = deque()

    def put(self, body: bytes) -> bool:
        """Send a record, now or soon; False: it is dropped, since too many wait or it is larger than a message may be.

        Also from a signal handler or a finalizer that runs in the middle of our own writing: then the lock is ours,
        and whoever holds it sends the record when the frame is written.
        """
        if len(self.waiting) >= MOST_WAITING or len(body) > self._channel.limit:
            return False
        self.waiting.append(body)
        self.send()
        return True

    def send(self) -> None:
        """Send what waits, as far as the kernel takes it at once; it does where there is room for any record."""
        room = True
        while room and self.waiting and self._lock.acquire(False):
            try:
                # Only with the lock: two threads that poll with one object are an error.
                while self.waiting and (room := bool(self._poll.poll(0))):
                    self._channel.send(self.waiting.popleft())
            except OSError:  # the parent is gone
                self.waiting.clear()
            finally:
                self._lock.release()

    def flush(self) -> None:
        """Send what waits, however long it takes; the caller holds the lock and is about to write a frame."""
        while self.waiting:
            self._channel.send(self.waiting.popleft())


class Logs:
    """Sends the records of `logging`, once somebody has imported it.

    Args:
        outbox: Where they go.
        level: The least level that the parent takes; None: it takes none.
    """

    def __init__(self, outbox: Outbox, level: int | None) -> None:
        self._outbox = outbox
        self._level = level
        self._handler: Any = None

    def look(self) -> None:
        """Take a place among the root logger's handlers, if `logging` is there by now."""
        if self._handler is not None:
            self._handler.look()
        elif self._level is not None and "logging" in sys.modules:
            try:
                from asyncpool.worker.handler import Handler

                self._handler = Handler(self._outbox.put, self._level)
            except Exception:  # something else of this name, or broken: then without
                self._level = None
