"""What the start of a process costs, from a bare fork to a worker that says it is ready."""

import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator

from harness import Request, Took

import asyncpool


@contextlib.asynccontextmanager
async def fork() -> AsyncIterator[Request]:
    """Of this process, with what it has imported: the child ends at once."""

    async def request(_: int) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)  # noqa: ASYNC222 (nothing else runs here)

    yield request


def _interpreter(code: str) -> Request:
    """From the spawn to the end, which is there at once."""
    program = [sys.executable, "-c", code]

    async def request(_: int) -> None:
        pid = os.posix_spawn(sys.executable, program, os.environ)  # noqa: ASYNC221 (nothing else runs here)
        os.waitpid(pid, 0)  # noqa: ASYNC222

    return request


@contextlib.asynccontextmanager
async def python() -> AsyncIterator[Request]:
    yield _interpreter("pass")


@contextlib.asynccontextmanager
async def python_with_msgspec() -> AsyncIterator[Request]:
    yield _interpreter("import msgspec")


@contextlib.asynccontextmanager
async def msgspec_imported() -> AsyncIterator[Request]:
    """Until it has imported it, and says so: its end, which takes its time too, is not waited for."""
    program = [sys.executable, "-c", "import msgspec, os\nos.write(1, b'.')"]

    async def request(_: int) -> Took:
        ours, theirs = os.pipe()
        start = time.perf_counter()
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 1)]
        pid = os.posix_spawn(sys.executable, program, os.environ, file_actions=actions)  # noqa: ASYNC221
        os.close(theirs)
        assert os.read(ours, 1), "it ended before it had imported it"
        elapsed = time.perf_counter() - start
        os.waitpid(pid, 0)  # noqa: ASYNC222
        os.close(ours)
        return Took(elapsed)

    yield request


@contextlib.asynccontextmanager
async def worker() -> AsyncIterator[Request]:
    """A pool of one worker and no module, without its end."""

    async def request(_: int) -> Took:
        start = time.perf_counter()
        async with asyncpool.Pool(min_size=1, max_size=1):
            return Took(time.perf_counter() - start)

    yield request
