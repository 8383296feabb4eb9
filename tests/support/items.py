"""Commands that are run for many items."""

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import asyncpool
from tests.support import commands


@asyncpool.command
def double(item: int) -> int:
    return 2 * item


@asyncpool.command
async def double_later(item: int) -> int:
    import asyncio  # here: workers of other commands shall not wait for it

    await asyncio.sleep(0)
    return 2 * item


@asyncpool.command
def double_by_coroutine(item: int) -> Awaitable[int]:
    return double_later(item)


@asyncpool.command
def double_at_once(item: int) -> int:
    return 2 * item


double_at_once.__wrapped__ = double_later  # type: ignore[attr-defined] # it looks like an async command


@asyncpool.command
def double_any_way(item: int) -> Any:
    """Return a value, a coroutine, or a generator."""
    ways: list[Callable[[int], Any]] = [double, double_later, steps_of, double_later]
    return ways[item % 4](item)


@asyncpool.command
async def later_than(item: int, bound: int) -> int:
    """Fail from an item on."""
    import asyncio

    await asyncio.sleep(0)
    if item >= bound:
        raise ValueError(item)
    return item


@asyncpool.command
def fail_below(item: int, bound: int = 1) -> int:
    if item < bound:
        raise ValueError(item)
    return item


@asyncpool.command
def fail_at_gate(path: str, item: int) -> None:
    commands.wait_at(path)
    raise ValueError(item)


@asyncpool.command
def leave_a_trace(path: str, item: int) -> int:
    with open(path, "a") as trace:
        trace.write(f"{item}\n")
    return item


@asyncpool.command
def flush_slowly(seconds: float) -> None:
    """Let each end of a call come so much later than its last answer."""

    class Slow:
        def write(self, text: str) -> int:
            return len(text)

        def flush(self) -> None:
            time.sleep(seconds)

    sys.stdout = Slow()  # type: ignore[assignment]


@asyncpool.command
def steps_of(item: int) -> Generator[Any, None, int]:
    """Yield, emit, and return."""
    asyncpool.emit(["an update", item])
    yield item
    return 2 * item


@asyncpool.command
async def later_steps_of(item: int) -> AsyncIterator[int]:
    yield item


class Stubborn(Exception):
    """Has a method of the name and not of the shape that every exception has."""

    def add_note(self, severity: int, text: str) -> None:  # type: ignore[override]
        raise AssertionError("nobody calls it")


@asyncpool.command
def raises_stubborn(item: int) -> None:
    raise Stubborn(item)


@asyncpool.command
def odd_ones_fail(item: int) -> int:
    if item % 2:
        raise KeyError(item)
    return item


@asyncpool.command
def traced(path: str, item: int) -> int:
    """Leave a trace."""
    commands.append(path, str(item))
    return item


@asyncpool.command
def crash_at(bad: int, item: int) -> int:
    if item == bad:
        commands.crash()
    return item


@asyncpool.command
def wait_from(gate: str, first: int, item: int) -> int:
    """Wait at the gate from an item on."""
    if item >= first:
        commands.wait_at(gate)
    return item


@asyncpool.command
async def wait_later_at(gate: str, item: int) -> int:
    """Wait at the gate on the event loop, and say when it is stopped there."""
    import asyncio

    commands.append(f"{gate}.reached", str(os.getpid()))
    try:
        while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240 (the gate is a file)
            await asyncio.sleep(0.002)
    except asyncio.CancelledError:
        commands.append(f"{gate}.stopped", str(item))
        raise
    return item


@asyncpool.command
def big_if_odd(item: int) -> bytes:
    return b"x" * (1_000_000 if item % 2 else 1)


class Comparing:  # noqa: PLW1641 - without a hash, as that makes it
    """Says what it equals, and not its hash, as a decorator that is a class may."""

    def __init__(self) -> None:
        self.__qualname__ = "comparing"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __call__(self, number: int) -> int:
        return number


comparing = Comparing()
