"""The control groups that this process is in, of version 1 and version 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def groups(controller: str, root: Path = ROOT) -> Iterator[tuple[int, Path]]:
    """Yield the version and the folder of each control group that this process is in, and of all those above it.

    The group itself comes before those above it. Not every folder exists, or has the files of the controller.

    Args:
        controller: "cpu", "memory", ...
        root: Where ``proc`` and ``sys`` are looked for.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            version, top = 2, root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            version, top = 1, root / "sys/fs/cgroup" / controller
        else:
            continue
        group = top / path.lstrip("/")
        # In a container the path is the host's, and the group itself is mounted at the top.
        places = [group, *group.parents] if group.is_dir() else [top]
        yield from ((version, place) for place in places if place.is_relative_to(top))
