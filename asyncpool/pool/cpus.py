"""How many processors this process may really use: affinity, and the quotas of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from asyncpool.pool.cgroups import ROOT, groups


def usable_cpus(root: Path = ROOT) -> int:
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


def _quotas(root: Path) -> Iterator[float]:
    """Yield every quota that applies, in processors."""
    for version, group in groups("cpu", root):
        quota = _quota_v2(group) if version == 2 else _quota_v1(group)
        if quota is not None:
            yield quota


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
