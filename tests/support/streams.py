"""Commands that take part in a conversation: async ones, generators, emit."""

import os
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import asyncpool


@asyncpool.command
def count_to(number: int) -> Generator[int, None, str]:
    yield from range(1, number + 1)
    return "done"


@asyncpool.command
def count_and_tell(number: int, path: str) -> Generator[int, None, None]:
    """Leave the number that was last made."""
    try:
        for each in range(number):
            Path(path).write_text(str(each))
            yield each
    finally:
        with open(path, "a") as file:
            file.write(" closed")


@asyncpool.command
async def count_async(number: int) -> AsyncIterator[int]:
    import asyncio  # here and below: workers of other commands shall not wait for it

    for each in range(1, number + 1):
        await asyncio.sleep(0)
        yield each


@asyncpool.command
async def nap(seconds: float) -> str:
    import asyncio

    await asyncio.sleep(seconds)
    return threading.current_thread().name


@asyncpool.command
async def meet(place: str, others: int) -> int:
    """Return once so many are here at a time."""
    import asyncio

    arrived = _places.setdefault(place, asyncio.Barrier(others))
    await arrived.wait()
    return others


_places: dict[str, Any] = {}


@asyncpool.command
def emit_from(where: str) -> str:
    """Send an update from here, or from a thread."""
    if where == "here":
        asyncpool.emit(where)
    else:
        thread = threading.Thread(target=asyncpool.emit, args=[where])
        thread.start()
        thread.join()
    return asyncpool.call_context().meta.get("trace", "")


@asyncpool.command
async def emit_below() -> int:
    """Send an update from a thread of the event loop's."""
    import asyncio

    await asyncio.to_thread(asyncpool.emit, "to_thread")
    asyncpool.emit("loop")
    return asyncpool.call_context().slot


@asyncpool.command
def count_above(descriptor: int, number: int) -> Generator[int, None, None]:
    """Count while so many descriptors are open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, descriptor + 100), hard))
    held = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while held[-1] < descriptor:
            held.append(os.dup(held[0]))
        yield from range(number)
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def emit_in_a_child(path: str) -> None:
    """Fork, and do there what one does in a command, when files have taken the numbers of the wire's descriptors."""
    context = asyncpool.call_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are other threads, in a worker that is one
        child = os.fork()
    if child == 0:
        try:
            files = [os.open(f"{path}.{number}", os.O_RDWR | os.O_CREAT) for number in range(10)]
            asyncpool.emit("child")
            silent = not (context.cancelled() or asyncpool.call_context().cancelled())
            os._exit(0 if silent and not any(os.fstat(each).st_size for each in files) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


@asyncpool.command
def emit_around_a_child(path: str) -> None:
    asyncpool.emit("before")
    emit_in_a_child(path)
    asyncpool.emit("after")


@asyncpool.command
async def emit_around_a_child_later(path: str) -> None:
    emit_around_a_child(path)


@asyncpool.command
def extend(values: list[int]) -> list[int]:
    values.append(0)
    return values


@asyncpool.command
def hold_on(path: str, seconds: float) -> None:
    """Wait outside of Python code, then leave a trace."""
    time.sleep(seconds)
    Path(path).touch()


@asyncpool.command
def trace_after_nap(path: str) -> None:
    """Leave a trace when it was not stopped."""
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        time.sleep(0.005)
    Path(path).touch()


@asyncpool.command
def leave() -> None:
    sys.exit("bye")
