"""How much memory a process has."""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int | None) -> int | None:
    """Return the resident memory of a process in bytes, None where it cannot be read.

    It is what the process has now; ``ru_maxrss`` would be the most that it ever had.
    """
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None
