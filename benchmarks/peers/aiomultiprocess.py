"""aiomultiprocess: coroutines in other processes."""

import contextlib
from collections.abc import AsyncIterator

import aiomultiprocess
from cold_worker import trivial
from harness import Request

from peers import WORKERS


async def call(number: int) -> int:
    return trivial(number)


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Request]:
    async with aiomultiprocess.Pool(WORKERS) as pool:
        yield lambda number: pool.apply(call, (number,))
