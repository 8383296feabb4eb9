"""A module with async lifespans: a task that runs as long as the worker, and a cancel scope around it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import anyio

import asyncpool
from tests.support.lifespans import Plan, do, write

ticks = 0
loops: list[asyncio.AbstractEventLoop] = []


@asyncpool.lifespan
@contextlib.contextmanager
def plain(plan: Plan) -> Iterator[None]:
    write(plan, "enter plain")
    try:
        yield
    finally:
        write(plan, "leave plain")


@asyncpool.lifespan
@contextlib.asynccontextmanager
async def ticking(plan: Plan) -> AsyncIterator[None]:
    loops.append(asyncio.get_running_loop())
    if plan.enter == "hang":
        await asyncio.sleep(60)
    do(plan.enter, plan)
    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        write(plan, "enter ticking")
        yield
        group.cancel_scope.cancel()
    if plan.leave == "hang":
        write(plan, "hangs")
        await asyncio.sleep(60)
    do(plan.leave, plan)
    write(plan, "leave ticking")


async def tick() -> None:
    global ticks  # noqa: PLW0603
    while True:
        ticks += 1
        await asyncio.sleep(0.001)


@asyncpool.command
async def same_loop() -> bool:
    return loops == [asyncio.get_running_loop()]


@asyncpool.command
def ticked() -> int:
    return ticks
