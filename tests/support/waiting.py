"""The one way in which tests wait for what no event tells: look again until it is so, with a cap."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

CAP = 5.0  # seconds
LOOK_AGAIN = 0.005  # seconds


async def eventually(condition: Callable[[], T], within: float = CAP) -> T:
    """Return the first true value of *condition*; fail when there is none within *within* seconds."""
    until = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not so within {within:g} s: {_source(condition)}")
        await asyncio.sleep(LOOK_AGAIN)
    return value


def eventually_now(condition: Callable[[], T], within: float = CAP) -> T:
    """Do as ``eventually`` without an event loop; returns the last value, true or not."""
    until = time.monotonic() + within
    while not (value := condition()) and time.monotonic() < until:
        time.sleep(LOOK_AGAIN)
    return value


async def steps(count: int) -> None:
    """Let the event loop make *count* passes."""
    for _ in range(count):
        await asyncio.sleep(0)


def _source(condition: Callable[[], object]) -> str:
    try:
        return " ".join(inspect.getsource(condition).split())
    except OSError:
        return repr(condition)
