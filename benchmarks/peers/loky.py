"""loky: joblib's executor, which survives more than the standard one."""

import contextlib
from collections.abc import AsyncIterator

import loky
from harness import Request

from peers import WORKERS, through


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Request]:
    with loky.ProcessPoolExecutor(WORKERS) as executor:
        yield through(executor)
