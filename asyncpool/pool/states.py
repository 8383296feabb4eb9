"""What states a worker process goes through, and what moves it: anything else is a bug of the pool."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a worker is in its life."""

    SPAWNING = "spawning"
    GREETING = "greeting"  # Hello was sent
    READY = "ready"
    STOPPING = "stopping"  # Stop was sent
    ENDING = "ending"  # killed, disconnected or exited
    GONE = "gone"  # reaped, and all descriptors closed


class Sign(Enum):
    """What moves it on."""

    SPAWNED = "spawned"
    READY = "ready"
    STOP = "stop"
    END = "end"
    REAPED = "reaped"


TRANSITIONS: dict[tuple[State, Sign], State] = {
    (State.SPAWNING, Sign.SPAWNED): State.GREETING,
    (State.SPAWNING, Sign.END): State.ENDING,
    (State.GREETING, Sign.READY): State.READY,
    (State.GREETING, Sign.END): State.ENDING,
    (State.READY, Sign.STOP): State.STOPPING,
    (State.READY, Sign.END): State.ENDING,
    (State.STOPPING, Sign.END): State.ENDING,
    (State.ENDING, Sign.REAPED): State.GONE,
}
