"""A pipe per worker on which the kernel itself kills the worker's process group.

The parent keeps both ends, the child inherits the read end. On the read end the parent sets O_ASYNC with SIGKILL to
the group as the signal, so that the kernel kills the group when a byte is written or when the last write end is
closed: by the parent's wish, or by its death, even by SIGKILL. It needs no cooperation of the worker, reaches code
that holds the GIL, and cannot hit a recycled process id (the kernel holds the group itself, not its number).

Where the kernel has no F_SETSIG (macOS), the group is killed by its number, and
the parent's death is only seen as end of input.
"""

from __future__ import annotations

import fcntl
import os
import signal
import weakref

_alive: weakref.WeakSet[Lifeline] = weakref.WeakSet()


class Lifeline:
    """The pipe. Make it before the child, hand ``child_end`` down, then ``attach`` it to the child's group."""

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        self._group: int | None = None  # to kill by number, where the kernel does not do it
        # Closes only: in a forked child a written byte would kill the parent's worker.
        self._close = weakref.finalize(self, _close, self._writes, self._reads)
        _alive.add(self)

    @property
    def child_end(self) -> int:
        """The descriptor that the child must inherit."""
        return self._reads

    def attach(self, group: int) -> None:
        """Make the kernel kill process group *group* when this pipe is written to or hung up."""
        setsig = getattr(fcntl, "F_SETSIG", None)
        if setsig is None:
            self._group = group
            return
        try:
            fcntl.fcntl(self._reads, setsig, signal.SIGKILL)
            fcntl.fcntl(self._reads, fcntl.F_SETOWN, -group)
            fcntl.fcntl(self._reads, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        except OSError:  # the child is gone already, or a sandbox forbids it
            self._group = group

    @property
    def holds(self) -> bool:
        """False once it is closed."""
        return self._close.alive

    def kill(self) -> None:
        """Kill the whole group, now. Does nothing once the lifeline is closed."""
        if not self.holds:
            return
        if self._group is not None:
            try:
                os.killpg(self._group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        try:
            os.write(self._writes, b"\0")
        except BlockingIOError:
            pass  # full of earlier wishes, each of which was heard

    def close(self) -> None:
        """Close both ends; on Linux this kills what is left of the group."""
        self._close()


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _let_go() -> None:
    """In a forked child: hold no end of the parent's lifelines, or its death would go unnoticed."""
    for lifeline in list(_alive):
        lifeline.close()


os.register_at_fork(after_in_child=_let_go)
