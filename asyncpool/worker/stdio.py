"""Keeps everything that a worker prints or reads away from the frames.

Law: before any of the user's code is imported, the descriptors 0 and 1 are private ones, 0 is /dev/null and 1 is 2.
Replacing sys.stdout would not do: C code, os.write and the command's own children use the numbers.
"""

from __future__ import annotations

import os
import sys


def protect() -> tuple[int, int]:
    """Move the wire away from descriptors 0 and 1.

    Returns:
        The descriptors to read frames from and to write frames to; neither is inherited by child processes.
    """
    reads, writes = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    # A fork without exec inherits even these. Held there, the parent would not see this worker's end.
    held = [reads, writes]
    os.register_at_fork(after_in_child=lambda: _close(held))
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return reads, writes


def flush() -> None:
    """Hand on what was printed, so that it precedes the reply."""
    try:
        sys.stdout.flush()
    except Exception:
        pass  # the command closed or replaced it; that is its own affair


def _close(held: list[int]) -> None:
    """Close them once: a child that forks in its turn has given their numbers to files of its own."""
    while held:
        try:
            os.close(held.pop())
        except OSError:
            pass
