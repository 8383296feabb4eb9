"""anyio.to_process: a process for as many calls as are under way."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_process
from cold_worker import trivial
from harness import Request

from peers import WORKERS, Command


@contextlib.asynccontextmanager
async def opened(command: Command = trivial) -> AsyncIterator[Request]:
    limiter = anyio.CapacityLimiter(WORKERS)

    async def call(argument: Any) -> object:
        return await anyio.to_process.run_sync(command, argument, limiter=limiter)

    yield call
