"""pebble: a pool whose tasks can have a time limit."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import AsyncIterator

import pebble
from cold_worker import trivial
from harness import Request

from peers import WORKERS, Command


@contextlib.asynccontextmanager
async def opened(command: Command = trivial) -> AsyncIterator[Request]:
    with pebble.ProcessPool(WORKERS, context=multiprocessing.get_context("spawn")) as pool:
        yield lambda argument: asyncio.wrap_future(pool.submit(command, None, argument))
