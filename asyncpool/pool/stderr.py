"""What a worker writes to stderr: always drained, so that it never blocks; its end is kept for crash reports.

Law: the drain waits for nobody. What the application does not take in time is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import Literal

from asyncpool.pool.journal import Journal
from asyncpool.pool.outlet import outlet

Mode = Literal["forward", "log", "discard"]

KEPT = 8 * 1024  # bytes of the end
LAST_READS = 16  # of what the pipe can still hold: a process that escaped the kill may write to it without end
CHUNK = 64 * 1024  # bytes a pass of the event loop: one flood must not hold up the others


class Stderr:
    """The parent's end of one worker's stderr.

    Args:
        loop: The pool's loop.
        mode: "forward" writes whole lines to sys.stderr, "log" logs them at level INFO, "discard" only keeps the end.
        journal: What logs its lines in mode "log"; closed with it.

    Attributes:
        dropped: Bytes that should have been forwarded or logged and were not.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, mode: Mode, journal: Journal) -> None:
        self._loop = loop
        self._outlet = outlet(loop) if mode == "forward" else None
        self._journal = journal
        self._logs = mode == "log"
        self.dropped: int = 0
        self._kept = bytearray()
        self._line = bytearray()  # what came after the last newline
        self.child_end: int
        self._reads, self.child_end = os.pipe()
        self._abandoned = weakref.finalize(self, os.close, self._reads)  # with an event loop that was dropped
        self._abandoned.atexit = False
        os.set_blocking(self._reads, False)
        loop.add_reader(self._reads, self._read)
        if self._outlet is not None:
            self._outlet.join()

    def close_child_end(self) -> None:
        """Close the end that the child has inherited by now. Idempotent."""
        if self.child_end >= 0:
            os.close(self.child_end)
            self.child_end = -1

    def close(self) -> None:
        """Take in what still lies in the pipe, and close it. Idempotent."""
        self.close_child_end()
        if self._reads < 0:
            return
        for _ in range(LAST_READS):
            if not self._read():
                break
        self._loop.remove_reader(self._reads)
        self._abandoned()
        self._reads = -1
        if self._line:
            self._emit(bytes(self._line))
        if self._outlet is not None:
            self._outlet.leave()
        self._journal.close()

    def tail(self) -> str:
        """Return the end of what was written, at most 8 KiB."""
        return self._kept.decode(errors="replace")

    def _read(self) -> bool:
        """Take in one chunk; False when there is no more for now."""
        try:
            data = os.read(self._reads, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._reads)
            return False
        self._kept += data[-KEPT:]
        del self._kept[:-KEPT]
        if self._outlet is not None or self._logs:
            self._pass_on(data)
        return True

    def _pass_on(self, data: bytes) -> None:
        self._line += data
        end = self._line.rfind(b"\n") + 1
        if end == 0 and len(self._line) >= CHUNK:
            end = len(self._line)  # a line without end is passed on as it is
        if end:
            lines = bytes(self._line[:end])
            del self._line[:end]
            self._emit(lines)

    def _emit(self, lines: bytes) -> None:
        if self._outlet is not None:
            self.dropped += self._outlet.write(lines, self._loop)
        elif self._logs:
            self.dropped += self._journal.write(lines)
