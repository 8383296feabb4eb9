"""A worker's stderr as records of logging, with a bound on their number and on the time that handlers take.

Law 1: handlers run on the event loop. Those of one worker get so many lines and so much time a second, and no more.
Law 2: no handler, filter or formatter that raises keeps the next line from being logged.
"""

from __future__ import annotations

import asyncio
import logging
import time

LINES = 1000  # a second
SPENT = 0.1  # seconds a second
SECOND = 1.0

logger: logging.Logger = logging.getLogger("asyncpool.worker")


class Journal:
    """Logs the lines of one worker.

    Args:
        loop: The pool's loop.
        label: Names the worker in the records.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, label: str) -> None:
        self._loop = loop
        self._label = label
        self._until = float("-inf")  # loop time at which the current second ends
        self._lines = 0  # logged in it
        self._spent = 0.0  # seconds, in it
        self._suppressed = 0  # lines since the last record of how many
        self._timer: asyncio.TimerHandle | None = None  # for that record

    def write(self, lines: bytes) -> int:
        """Log each line; returns the bytes of those that were suppressed."""
        pieces = lines.splitlines(keepends=True)
        for at, piece in enumerate(pieces):
            if not self._allowed():
                self._suppress(len(pieces) - at)
                return sum(map(len, pieces[at:]))
            self._log(logging.INFO, piece.rstrip(b"\r\n").decode(errors="replace"))
        return 0

    def close(self) -> None:
        """Tell what was suppressed last. Idempotent."""
        self._tell()

    def _allowed(self) -> bool:
        now = self._loop.time()
        if now >= self._until:
            self._tell()
            self._until, self._lines, self._spent = now + SECOND, 0, 0.0
        return self._lines < LINES and self._spent < SPENT

    def _suppress(self, count: int) -> None:
        self._suppressed += count
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._tell)

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        count, self._suppressed = self._suppressed, 0
        if count:
            self._log(logging.WARNING, f"{count} lines suppressed (above {LINES} a second, or the handlers are slow)")

    def _log(self, level: int, text: str) -> None:
        began = time.monotonic()
        try:
            logger.log(level, "%s: %s", self._label, text, extra={"asyncpool_worker": self._label})
        except Exception:
            pass  # a handler or filter of the application's: that must not stop the drain
        self._lines += 1
        self._spent += time.monotonic() - began
