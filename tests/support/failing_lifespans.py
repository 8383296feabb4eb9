"""An async lifespan whose task fails when a command says so, and asks meanwhile which call it is below."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpool

seen: list[tuple[int, int]] = []
fail = asyncio.Event()


@asyncpool.lifespan
@contextlib.asynccontextmanager
async def following() -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow())
        yield
        task.cancel()


async def follow() -> None:
    while not fail.is_set():
        context = asyncpool.call_context()
        seen.append((context.id, context.slot))
        asyncpool.emit("a stranger's")
        logging.getLogger("tests.kittens").error("of no call")
        await asyncio.sleep(0.002)
    raise ConnectionError("the feed is gone")


@asyncpool.command
async def what_was_seen() -> list[tuple[int, int]]:
    """Return what the task has seen while this and others ran."""
    seen.clear()
    while len(seen) < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return seen


@asyncpool.command
async def let_it_fail() -> None:
    fail.set()
    await asyncio.sleep(60)


@asyncpool.command
async def waits_once(path: str) -> int:
    """Wait for ever the first time; returns which time it is."""
    if os.path.exists(path):  # noqa: ASYNC240
        return 2
    Path(path).touch()  # noqa: ASYNC240
    await asyncio.sleep(60)
    return 1
