"""Large values there and back, in the process of each contender: their time, and how late a ticker is."""

import functools
import os
import time
from typing import Any

import anyio
import harness
import numpy
from harness import Batch, Request, Took

TICK = 0.010  # seconds

clock = time.perf_counter  # uvloop's own time goes by whole milliseconds


@functools.cache
def made(kind: str, size: int) -> Any:
    """Random bytes, so many, or an array of them."""
    return os.urandom(size) if kind == "bytes" else numpy.frombuffer(os.urandom(size))


async def batch(
    request: Request, *, kind: str, size: int, count: int, at_a_time: int, seconds: float, ticking: bool = False
) -> Batch:
    """Send a value there and back so many times; *ticking*: how late each tick was meanwhile, instead."""
    value = made(kind, size)

    async def send(_: int) -> Took:
        start = clock()
        received: Any = await request(value)
        elapsed = clock() - start
        assert memoryview(received).cast("B") == memoryview(value).cast("B"), "it came back as something else"
        return Took(elapsed)

    await request(value)  # it was stopped until now, and may have much to catch up with
    if ticking:
        return await lateness(request, value, count)
    return await harness.batch(send, count, at_a_time, seconds)


async def lateness(request: Request, value: Any, calls: int) -> Batch:
    """How late each tick was, in seconds, while so many calls were under way, all at a time."""
    late: list[float] = []
    left = calls
    started = clock()

    async def call() -> None:
        nonlocal left
        await request(value)
        left -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(call)
        while left:
            due = clock() + TICK
            await anyio.sleep(TICK)
            late.append(clock() - due)
    return Batch(late, clock() - started)
