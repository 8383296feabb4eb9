"""The pool that this is all about."""

import contextlib
import functools
from collections.abc import AsyncIterator

from cold_worker import trivial
from harness import Request

import asyncpool
from peers import WORKERS, Command


@contextlib.asynccontextmanager
async def pool(command: Command = trivial) -> AsyncIterator[Request]:
    async with asyncpool.Pool("cold_worker", min_size=WORKERS, max_size=WORKERS) as pool:
        yield functools.partial(pool.run, command)
