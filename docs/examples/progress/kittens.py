"""What the workers do."""

import hashlib

import asyncpool


@asyncpool.command
def pet_kitten(name: str) -> str:
    """Keep one processor busy for some milliseconds."""
    mood = name.encode()
    for _ in range(10_000):
        mood = hashlib.sha256(mood).digest()
    return f"{name} purrs at {20 + mood[0] % 10} Hz"
