"""Where a Python worker is when it is stopped: it writes that down itself, at a signal, and dies of it.

Law 1: nothing of it needs the GIL or the command's help: faulthandler writes from within the signal's handler.
Law 2: the worker dies of the signal once it has written all, so its exit says that the dump is whole.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile

from asyncpool.errors import CommandTimeout

SIGNAL: int = signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
LONGEST = 256 * 1024  # bytes; faulthandler itself stops at 100 threads of 100 frames

_FRAME = re.compile(r'  File "(?P<path>.*)", line (?P<line>\d+|\?\?\?),? in (?P<name>.*)')
_OURS = re.compile(r'  File "(.*/asyncpool/worker/[^/"]*|<string>)", line ')  # the last is the command line of a worker
_PYTHONS = re.compile(r"/lib(64)?/python3\.\d+/(?!(site|dist)-packages/)")
_THREAD = re.compile(r"(Current thread|Thread) 0x")


class Stack:
    """The file in memory that one worker writes its stacks to."""

    def __init__(self) -> None:
        self._descriptor = _nameless()

    @property
    def child_end(self) -> int:
        """The descriptor that the child must inherit."""
        return self._descriptor

    def read(self) -> str:
        """Return what was written: every thread's stack, the main thread's last; "" when nothing was."""
        return _without_ours(os.pread(self._descriptor, LONGEST, 0).decode(errors="replace"))

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def stack_or_none() -> Stack | None:
    """Return a new one, None where no file can be had: the worker can do all but tell where it was."""
    try:
        return Stack()
    except OSError:
        return None


def tell(error: CommandTimeout, stack: str, pid: int | None) -> None:
    """Let *error* say where the command was."""
    error.stack = stack
    if not stack:
        return
    place = innermost(stack)
    if place is not None:
        error.args = (f"{error} in {place}",)
    who = "the worker" if pid is None else f"worker {pid}"
    error.add_note(f"In {who}, when it was stopped:\n{stack}")


def innermost(stack: str) -> str | None:
    """Return the place that the command was at, as "kittens.py:12 spin"; None when it is not told.

    Args:
        stack: A dump, of which the main thread's part counts, or the traceback of a command that stopped by itself.
    """
    lines = stack.split("\n\n")[-1].splitlines()  # the threads stand in the reverse order of their beginning
    if lines and _THREAD.match(lines[0]):
        frame = _FRAME.fullmatch(lines[1]) if len(lines) > 1 else None
    else:
        frames = [frame for frame in map(_FRAME.fullmatch, reversed(lines)) if frame is not None]
        theirs = [frame for frame in frames if not _PYTHONS.search(frame["path"])]  # all that awaits ends in asyncio
        frame = next(iter(theirs or frames), None)
    if frame is None:
        return None
    folder, file = os.path.split(frame["path"])
    if file == "__init__.py":
        file = f"{os.path.basename(folder)}/{file}"
    return f"{file}:{frame['line']} {frame['name']}"


def _without_ours(dump: str) -> str:
    """Leave out the worker program's own frames at the bottom of the main thread: they say nothing of the command."""
    lines = dump.rstrip().splitlines()
    while lines and _OURS.match(lines[-1]):
        lines.pop()
    return "\n".join(lines)


def _nameless() -> int:
    """Return the descriptor of a file without a name."""
    try:
        return os.memfd_create("asyncpool-stack")
    except (AttributeError, OSError):  # not Linux, or a sandbox forbids it
        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())
