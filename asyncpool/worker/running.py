"""One call that a worker runs, and how many updates its caller will take."""

from __future__ import annotations

import _thread
from collections import deque
from time import monotonic

from asyncpool.protocol.messages import MOST_BYTES

LATE = 1.0  # seconds; on a busy machine a worker reads its call that much after it was sent, if need be


class Running:
    """A running call.

    Args:
        number: The call's id.
        deadline: Seconds that it may run.
        credit: Updates that may be sent; 0: nobody listens.
        meta: The caller's.
    """

    # What most calls leave as it is stands in the class: a call costs less then.
    listening: bool = False  # somebody takes its updates
    quiet: bool = False  # what the command emits goes to nobody: its updates are answers of a chunk
    stop: bool = False  # Cancel has come
    settled: bool = False
    _ends: float | None = None
    _credit = 0
    _bytes = 0

    def __init__(self, number: int, deadline: float | None, credit: int, meta: dict[str, str]) -> None:
        self.id = number
        self.meta = meta
        if deadline is not None:
            self._ends = monotonic() + deadline
        if credit > 0:
            self.listening = True
            self._credit = credit
            self._untaken: deque[int] = deque()  # sizes, in bytes, of the updates that the caller has not taken
            self._lock = _thread.allocate_lock()  # threads of the command send, others read

    @property
    def deadline(self) -> float | None:
        """Seconds that are left of its timeout; None: it has none."""
        return None if self._ends is None else max(0.0, self._ends - monotonic())

    def is_late(self) -> bool:
        """Say whether its time is over, or nearly: the caller's clock began to run a little earlier."""
        return self._ends is not None and self._ends - monotonic() < LATE

    def waited(self, seconds: float) -> None:
        """It has waited so long for credit: that time does not count."""
        if self._ends is not None:
            self._ends += seconds

    def may_send(self) -> bool:
        """Say whether the caller takes one more update."""
        return self._credit > 0 and self._bytes < MOST_BYTES

    def take(self, size: int) -> bool:
        """Use credit for an update of so many bytes; False: there is none."""
        with self._lock:
            if not self.may_send():
                return False
            self._credit -= 1
            self._untaken.append(size)
            self._bytes += size
            return True

    def grant(self, count: int) -> None:
        """The caller has taken *count* updates and takes as many more."""
        if not self.listening:
            return  # there are none: nobody asked for them
        with self._lock:
            self._credit += count
            for _ in range(min(count, len(self._untaken))):
                self._bytes -= self._untaken.popleft()
