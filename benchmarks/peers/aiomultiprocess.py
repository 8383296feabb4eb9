"""aiomultiprocess: coroutines in other processes."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiomultiprocess
from cold_worker import trivial
from harness import Request

from peers import WORKERS, Command


async def call(command: Command, argument: Any) -> Any:
    return command(argument)


@contextlib.asynccontextmanager
async def opened(command: Command = trivial) -> AsyncIterator[Request]:
    async with aiomultiprocess.Pool(WORKERS) as pool:
        yield lambda argument: pool.apply(call, (command, argument))
