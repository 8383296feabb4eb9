"""Whether the kernel killed a worker for want of memory: its control group counts such kills, but names no process.

Law: each kill that was counted explains one death at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from asyncpool.pool.cgroups import ROOT, groups

NO_LIMIT = 2**60  # bytes; version 1 has a huge number for none


@dataclass(frozen=True)
class OomKills:
    """Kills that may explain a death.

    Attributes:
        count: How many there were since the worker was started, but for those that explain other deaths.
        limit: The tightest memory limit of the control groups in bytes, None when there is none or it is not known.
    """

    count: int
    limit: int | None


class OomWatch:
    """Looks how many kills there are, from now on.

    Args:
        root: Where ``proc`` and ``sys`` are looked for.
    """

    claimed: ClassVar[int] = 0  # kills that deaths were explained by, of all workers of this process

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._before = _unclaimed(root)

    def claim(self) -> OomKills | None:
        """Return what explains a death by SIGKILL, None when nothing does."""
        now = _unclaimed(self._root)
        if now is None or self._before is None or now <= self._before:
            return None
        OomWatch.claimed += 1
        return OomKills(now - self._before, _limit(self._root))


def _unclaimed(root: Path) -> int | None:
    """Return the number of kills in this process's control group, but for those that were claimed."""
    for version, group in groups("memory", root):
        count = _kills(group / ("memory.events" if version == 2 else "memory.oom_control"))
        if count is not None:  # of groups above, it would be the kills of strangers
            return count - OomWatch.claimed
    return None


def _kills(path: Path) -> int | None:
    """Return the number behind "oom_kill"."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
        return next(int(number) for name, number in lines if name == "oom_kill")
    except (OSError, ValueError, StopIteration):
        return None


def _limit(root: Path) -> int | None:
    """Return the tightest limit that applies, in bytes."""
    found = []
    for version, group in groups("memory", root):
        try:
            limit = int((group / ("memory.max" if version == 2 else "memory.limit_in_bytes")).read_text())
        except (OSError, ValueError):  # "max" is none, too
            continue
        if limit < NO_LIMIT:
            found.append(limit)
    return min(found, default=None)
