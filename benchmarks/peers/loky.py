"""loky: joblib's executor, which survives more than the standard one."""

import contextlib
from collections.abc import AsyncIterator

import loky
from cold_worker import trivial
from harness import Request

from peers import WORKERS, Command, through


@contextlib.asynccontextmanager
async def opened(command: Command = trivial) -> AsyncIterator[Request]:
    with loky.ProcessPoolExecutor(WORKERS) as executor:
        yield through(executor, command)
