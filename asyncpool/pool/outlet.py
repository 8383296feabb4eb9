"""The application's own stderr, written to without ever waiting for whoever reads it.

Law 1: nothing here blocks the event loop: what cannot be written at once is kept, to a bound, and written later.
Law 2: O_NONBLOCK is never set on what the application shares; a pipe or terminal is opened anew.
Law 3: whole lines are dropped. After the first, all are, until what was kept is written; then their number is told.
"""

from __future__ import annotations

import asyncio
import io
import os
import select
import stat
import sys
import time
import weakref
from typing import TextIO

BACKLOG = 256 * 1024  # bytes kept while nothing can be written
PIECE = 64 * 1024  # bytes a write
PARTING = 0.1  # seconds in which the last worker's last words are written before they are dropped


class Outlet:
    """Where all workers of one event loop write to; each ``join``s and ``leave``s it."""

    def __init__(self) -> None:
        self._users = 0
        self._backlog = bytearray()
        self._dropped = 0  # bytes, since the last note
        self._way: _Way | None = None  # there is a backlog, and it will be written there
        self._loop: asyncio.AbstractEventLoop | None = None  # it watches the way

    def join(self) -> None:
        """Another worker will write."""
        self._users += 1

    def leave(self) -> None:
        """A worker writes no more. The last one hurries up what is left, and closes all."""
        self._users -= 1
        until = time.monotonic() + PARTING
        while self._users == 0 and self._way is not None:
            left = until - time.monotonic()
            if left <= 0 or not self._way.writable(left):
                self._stop()
            else:
                self._go_on()

    def write(self, lines: bytes, loop: asyncio.AbstractEventLoop) -> int:
        """Write *lines*, now or when *loop* finds that it can be done.

        Returns:
            The bytes of them that were dropped.
        """
        if self._way is not None:
            return self._keep(lines)
        stream = sys.stderr
        if stream is None:
            return len(lines)
        try:
            descriptor = _descriptor(stream)
            if descriptor is None:
                stream.write(lines.decode(errors="replace"))
                stream.flush()
                return 0
            return self._begin(_Way(descriptor), lines, loop)
        except Exception:  # closed, or an object of the application's own that raises
            return len(lines)

    def _begin(self, way: _Way, lines: bytes, loop: asyncio.AbstractEventLoop) -> int:
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[way.write(rest[:PIECE]) :]
        except BlockingIOError:
            loop.add_writer(way.descriptor, self._go_on)
            self._way, self._loop = way, loop
            return self._keep(bytes(rest))
        except OSError:
            pass  # nobody will ever read it
        finally:
            if self._way is not way:
                way.close()
        return len(rest)

    def _keep(self, lines: bytes) -> int:
        """Keep what there is room for; returns how many bytes there is none for."""
        room = 0 if self._dropped else BACKLOG - len(self._backlog)
        kept = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, max(room, 0)) + 1
        self._backlog += lines[:kept]
        if kept < len(lines) and not self._dropped and self._backlog and not self._backlog.endswith(b"\n"):
            self._backlog += b"\n"  # the note has a line of its own
        self._dropped += len(lines) - kept
        return len(lines) - kept

    def _go_on(self) -> None:
        """Write what was kept, as much as goes now."""
        assert self._way is not None
        try:
            while self._backlog:
                del self._backlog[: self._way.write(memoryview(self._backlog[:PIECE]))]
                if not self._backlog and self._dropped:
                    self._backlog += b"asyncpool: %d bytes of worker stderr were dropped\n" % self._dropped
                    self._dropped = 0
        except BlockingIOError:
            return
        except OSError:
            pass  # nobody will ever read it
        self._stop()

    def _stop(self) -> None:
        """There is no backlog any more."""
        assert self._way is not None
        assert self._loop is not None
        self._loop.remove_writer(self._way.descriptor)
        self._way.close()
        self._way = self._loop = None
        self._backlog.clear()
        self._dropped = 0


class _Way:
    """A descriptor of our own that leads where the application's stderr does.

    Args:
        shared: The application's.

    Raises:
        OSError: It is closed, or there is no descriptor left.
    """

    def __init__(self, shared: int) -> None:
        kind = os.fstat(shared).st_mode
        self._plain = stat.S_ISREG(kind)  # takes all at once, where its shared offset says
        self._polled = not self._plain
        self.descriptor: int
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            try:
                self.descriptor = os.open(f"/proc/self/fd/{shared}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
                self._polled = False
                return
            except OSError:
                pass  # no /proc, or it belongs to another user
        self.descriptor = os.dup(shared)

    def write(self, data: memoryview) -> int:
        """Write some of it; returns how much.

        Raises:
            BlockingIOError: Nothing can be written now.
        """
        if self._polled:
            # Writing would block; but to a pipe that is writable, this much goes at once.
            if not self.writable(0):
                raise BlockingIOError
            data = data[: select.PIPE_BUF]
        return os.write(self.descriptor, data)

    def writable(self, within: float) -> bool:
        """Say whether something can be written within so many seconds."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        return bool(poll.poll(within * 1000))

    def close(self) -> None:
        """Close it; the application's is left as it is."""
        os.close(self.descriptor)


_outlets: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Outlet] = weakref.WeakKeyDictionary()


def outlet(loop: asyncio.AbstractEventLoop) -> Outlet:
    """Return the one of this loop."""
    return _outlets.setdefault(loop, Outlet())


def _descriptor(stream: TextIO) -> int | None:
    """Return the stream's descriptor, None when it must be written to as an object.

    What only behaves like a file (a notebook's, a Tee) may name a descriptor that its text does not go to.
    """
    buffer = stream.buffer if isinstance(stream, io.TextIOWrapper) else None
    raw = getattr(buffer, "raw", buffer)
    return raw.fileno() if isinstance(raw, io.FileIO) else None
