"""anyio.to_process: a process for as many calls as are under way."""

import contextlib
from collections.abc import AsyncIterator

import anyio
import anyio.to_process
from cold_worker import trivial
from harness import Request

from peers import WORKERS


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Request]:
    limiter = anyio.CapacityLimiter(WORKERS)

    async def call(number: int) -> object:
        return await anyio.to_process.run_sync(trivial, number, limiter=limiter)

    yield call
