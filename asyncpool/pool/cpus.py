"""How many processors this process may really use: affinity, and the quotas of its control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of processors that this process may use, at least 1.

    ``os.cpu_count()`` counts the machine's, also in a container that may use half of one.

    Args:
        root: Where ``proc`` and ``sys`` are looked for.
    """
    try:
        count = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        count = float(os.cpu_count() or 1)
    return max(1, math.ceil(min(count, *_quotas(root), math.inf)))


def _quotas(root: Path) -> list[float]:
    """Return every quota that applies, in processors: of each control group and of all those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            top, read = root / "sys/fs/cgroup/cpu", _quota_v1
        else:
            continue
        group = top / path.lstrip("/")
        # In a container the path is the host's, and the group itself is mounted at the top.
        places = [group, *group.parents] if group.is_dir() else [top]
        found += [quota for place in places if place.is_relative_to(top) and (quota := read(place)) is not None]
    return found


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        return None if quota < 0 else quota / int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return None
