"""mpire: a faster multiprocessing.Pool, which calls back from a thread."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import mpire
from cold_worker import trivial
from harness import Request

from peers import WORKERS, Command


@contextlib.asynccontextmanager
async def opened(command: Command = trivial) -> AsyncIterator[Request]:
    loop = asyncio.get_running_loop()
    with mpire.WorkerPool(WORKERS, start_method="spawn", keep_alive=True) as pool:

        def call(argument: Any) -> asyncio.Future[Any]:
            future = loop.create_future()
            pool.apply_async(
                command,
                (argument,),
                callback=lambda value: loop.call_soon_threadsafe(future.set_result, value),
                error_callback=lambda error: loop.call_soon_threadsafe(future.set_exception, error),
            )
            return future

        yield call
