"""trio-parallel: the same idea for trio, so it is measured on trio's own loop."""

import contextlib
import functools
from collections.abc import AsyncIterator

import trio
import trio_parallel
from cold_worker import trivial
from harness import Request

from peers import WORKERS, Command

BACKEND = "trio"


@contextlib.asynccontextmanager
async def opened(command: Command = trivial) -> AsyncIterator[Request]:
    limiter = trio.CapacityLimiter(WORKERS)
    async with trio_parallel.open_worker_context() as context:
        yield functools.partial(context.run_sync, command, limiter=limiter)
