"""One call that a worker runs, and how many updates its caller will take."""

from __future__ import annotations

from collections import deque
from time import monotonic

MOST_BYTES = 2**20  # of updates that the caller has not taken; while there are fewer, one more of any size may go


class Running:
    """A running call.

    Args:
        number: The call's id.
        deadline: Seconds that it may run.
        credit: Updates that may be sent; 0: nobody listens.
        meta: The caller's.
    """

    def __init__(self, number: int, deadline: float | None, credit: int, meta: dict[str, str]) -> None:
        self.id = number
        self.meta = meta
        self.listening: bool = credit > 0
        self.quiet: bool = False  # what the command emits goes to nobody: its updates are answers of a chunk
        self.stop: bool = False  # Cancel has come
        self.settled: bool = False
        self._ends = None if deadline is None else monotonic() + deadline
        self._credit = credit
        self._untaken: deque[int] = deque()  # sizes, in bytes, of the updates that the caller has not taken
        self._bytes = 0

    @property
    def deadline(self) -> float | None:
        """Seconds that are left of its timeout; None: it has none."""
        return None if self._ends is None else max(0.0, self._ends - monotonic())

    def may_send(self) -> bool:
        """Say whether the caller takes one more update."""
        return self._credit > 0 and self._bytes < MOST_BYTES

    def sent(self, size: int) -> None:
        """An update of so many bytes is on its way."""
        self._credit -= 1
        self._untaken.append(size)
        self._bytes += size

    def grant(self, count: int) -> None:
        """The caller has taken *count* updates and takes as many more."""
        self._credit += count
        for _ in range(min(count, len(self._untaken))):
            self._bytes -= self._untaken.popleft()
