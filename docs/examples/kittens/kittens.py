"""What the workers do. An ordinary module: it can be imported, tested and called without any pool."""

import hashlib
import os

import asyncpool


@asyncpool.command
def pet_kitten(name: str, strokes: int = 1) -> str:
    """Keep one processor busy for some milliseconds with each stroke."""
    mood = name.encode()
    for _ in range(20_000 * strokes):
        mood = hashlib.sha256(mood).digest()
    return f"{name} purrs at {20 + mood[0] % 10} Hz"


@asyncpool.command
def bathe_kitten(name: str, strokes: int = 1) -> str:
    """Fail as functions do: with an exception."""
    raise ValueError(f"{name} does not want to be bathed")


@asyncpool.command
def pet_tiger(name: str, strokes: int = 1) -> str:
    """Fail as programs do: the whole process is gone."""
    os._exit(1)
