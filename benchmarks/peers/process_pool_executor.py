"""concurrent.futures of the standard library, the usual way to do it."""

import contextlib
import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor

from cold_worker import trivial
from harness import Request

from peers import WORKERS, Command, through


@contextlib.asynccontextmanager
async def opened(command: Command = trivial) -> AsyncIterator[Request]:
    # Not forked: a fork would copy the event loop. Once running it makes no difference.
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield through(executor, command)
