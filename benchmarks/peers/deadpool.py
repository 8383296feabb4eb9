"""deadpool-executor: an executor that a dead worker does not break."""

import contextlib
from collections.abc import AsyncIterator

import deadpool
from cold_worker import trivial
from harness import Request

from peers import WORKERS, Command, through


@contextlib.asynccontextmanager
async def opened(command: Command = trivial) -> AsyncIterator[Request]:
    with deadpool.Deadpool(max_workers=WORKERS, min_workers=WORKERS) as executor:
        yield through(executor, command)
