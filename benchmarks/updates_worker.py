"""The command of updates.py."""

from collections.abc import Iterator


def numbers(count: int) -> Iterator[int]:
    yield from range(count)
