"""deadpool-executor: an executor that a dead worker does not break."""

import contextlib
from collections.abc import AsyncIterator

import deadpool
from harness import Request

from peers import WORKERS, through


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Request]:
    with deadpool.Deadpool(max_workers=WORKERS, min_workers=WORKERS) as executor:
        yield through(executor)
