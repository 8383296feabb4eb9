"""What happens to workers, for ``Pool(on_event=...)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EventKind = Literal["spawned", "ready", "start_failed", "exited"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a worker.

    Attributes:
        kind: "spawned": a process is there; "ready": it takes calls; "start_failed": it never will;
            "exited": its process is gone.
        pool: Name of the pool.
        worker: Number of the worker; never reused.
        pid: Process id, None when nothing could be spawned.
        exit_code: For "exited": exit code, or the negative number of the signal; None when not known.
        reason: For "start_failed" and "exited": why, in words.
    """

    kind: EventKind
    pool: str
    worker: int
    pid: int | None = None
    exit_code: int | None = None
    reason: str | None = None
