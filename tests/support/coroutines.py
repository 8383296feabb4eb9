"""Async commands."""

import asyncio
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import asyncpool
from tests.support.typed import Point
from tests.support.updates import in_threads, trace

_running: list[int] = []


@asyncpool.command
async def answer(value: Any = None, seconds: float = 0.0) -> Any:
    await asyncio.sleep(seconds)
    return value


async def unmarked(value: int) -> int:
    await asyncio.sleep(0)
    return value * 2


@asyncpool.command
async def at_gate(gate: str, value: Any = None) -> Any:
    """Say at the gate that it has come, and wait until it is open."""
    trace(f"{gate}.reached", str(os.getpid()))
    while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.002)
    return value


@asyncpool.command
async def most_at_once(seconds: float) -> int:
    """Return how many of it ran at a time, at most."""
    _running.append(1)
    most = len(_running)
    await asyncio.sleep(seconds)
    most = max(most, len(_running))
    _running.pop()
    return most


@asyncpool.command
def alone(seconds: float) -> int:
    """Return how many async ones ran meanwhile."""
    before = len(_running)
    time.sleep(seconds)
    return before + len(_running)


@asyncpool.command
def alone_and_yield(to: int) -> Generator[int, None, int]:
    for _ in range(to):
        yield len(_running)
    return int(threading.current_thread() is threading.main_thread())


@asyncpool.command
async def thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@asyncpool.command(name="async_traced")
async def traced(path: str, seconds: float = 60) -> None:
    """Leave a trace of its beginning, and of its being cancelled."""
    trace(path, f"begun {os.getpid()}")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        trace(path, "cancelled")
        raise


@asyncpool.command
async def swallows(path: str, times: int, cancel_value: str = "survived") -> str:
    """Do not heed that it is cancelled, so many times."""
    trace(path, "begun")
    for _ in range(times):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            trace(path, "swallowed")
    return cancel_value


@asyncpool.command
async def clean_up_fails(path: str) -> None:
    trace(path, "begun")
    try:
        await asyncio.sleep(60)
    finally:
        raise ValueError("in the clean-up")


@asyncpool.command
async def blocks(path: str, seconds: float) -> None:
    trace(path, "begun")
    await asyncio.sleep(0.01)
    time.sleep(seconds)  # noqa: ASYNC251 # that is the point


@asyncpool.command
async def raises(kind: str) -> None:
    await asyncio.sleep(0)
    match kind:
        case "ValueError":
            raise ValueError("bad value")
        case "SystemExit":
            sys.exit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "CancelledError":
            raise asyncio.CancelledError
        case "its own task":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)
        case "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(raises("ValueError"))
        case "GeneratorExit":
            raise GeneratorExit


@asyncpool.command
async def child_raises(kind: str) -> str:
    try:
        await asyncio.create_task(raises(kind))
    except BaseException as error:
        return type(error).__name__
    return "nothing"


@asyncpool.command
async def structured(values: list[int]) -> list[int]:
    """Use what asyncio has."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(unmarked(value)) for value in values]
    gathered = await asyncio.gather(*(unmarked(task.result()) for task in tasks))
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
    except TimeoutError:
        gathered.append(-1)
    return [*gathered, await asyncio.to_thread(sum, values)]


@asyncpool.command
def runs_its_own_loop(value: int) -> int:
    return asyncio.run(unmarked(value))


@asyncpool.command
async def crashes(gate: str) -> None:
    await at_gate(gate)
    os.kill(os.getpid(), signal.SIGKILL)


@asyncpool.command(retries=1)
async def crashes_once(path: str) -> int:
    trace(path, "run")
    run = len(Path(path).read_text().split())  # noqa: ASYNC240
    if run == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return run


@asyncpool.command
async def forgets_a_task(path: str) -> None:
    """Leave a task behind that emits."""

    async def work() -> None:
        await asyncio.sleep(0.01)
        asyncpool.emit("late")
        trace(path, "emitted")

    forgets_a_task.task = asyncio.create_task(work())  # type: ignore[attr-defined]


def wrapped(function: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., Coroutine[Any, Any, int]]:
    @functools.wraps(function)
    def inner(*args: Any) -> Coroutine[Any, Any, int]:
        return function(*args)

    return inner


@asyncpool.command
@wrapped
async def decorated(value: int) -> int:
    return await unmarked(value)


# --- updates ---------------------------------------------------------------------------------------------------------


@asyncpool.command(name="async_count")
async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


@asyncpool.command(name="async_points")
async def points(to: int) -> AsyncIterator[Point]:
    for number in range(to):
        await asyncio.sleep(0)
        yield Point(number)


@asyncpool.command(name="async_without_end")
async def without_end(size: int) -> AsyncIterator[bytes]:
    while True:
        yield os.urandom(size)


@asyncpool.command
async def traced_items(path: str, size: int = 1, seconds: float = 0.0) -> AsyncIterator[bytes]:
    number = 0
    try:
        while True:
            trace(path, str(number))
            yield b"x" * size
            await asyncio.sleep(seconds)
            number += 1
    finally:
        trace(path, "finally")


@asyncpool.command(name="async_of_sizes")
async def of_sizes(sizes: list[int]) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


@asyncpool.command
async def gate_then_count(gate: str, to: int) -> AsyncIterator[int]:
    await at_gate(gate)
    for number in range(to):
        yield number


@asyncpool.command(name="async_then")
async def then(to: int, end: str) -> AsyncIterator[Any]:
    for number in range(to):
        yield number
    match end:
        case "raise":
            raise ValueError("after all")
        case "exit":
            sys.exit(3)
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "lambda":
            yield lambda: None
        case "large":
            yield b"x" * 3_000_000


@asyncpool.command(name="async_stubborn")
async def stubborn(path: str, how: str) -> AsyncIterator[int]:
    number = 0
    while True:
        try:
            yield number
            await asyncio.sleep(0)
        except (GeneratorExit, asyncio.CancelledError):
            trace(path, "closed")
            match how:
                case "yields on":
                    pass
                case "raises":
                    raise ValueError("in the clean-up") from None
                case "sleeps":
                    await asyncio.sleep(60)
                case "returns":
                    return
        number += 1


@asyncpool.command(name="async_emits")
async def emits(to: int) -> int:
    for number in range(to):
        asyncpool.emit(number)
    return to


@asyncpool.command
async def emits_from_everywhere(each: int) -> int:
    """Emit from a task, and from a thread of asyncio.to_thread."""

    async def in_task() -> None:
        for number in range(each):
            asyncpool.emit(["task", number])
            await asyncio.sleep(0)

    def in_thread() -> None:
        for number in range(each):
            asyncpool.emit(["thread", number])

    await asyncio.gather(in_task(), asyncio.to_thread(in_thread))
    return 2 * each


@asyncpool.command
async def emits_from_executor(to: int) -> str:
    try:
        await asyncio.get_running_loop().run_in_executor(None, asyncpool.emit, to)
    except RuntimeError as error:
        return str(error)
    return "it went"


@asyncpool.command(name="async_emits_from_threads")
def emits_from_threads(threads: int, each: int) -> int:
    def work(thread: int) -> None:
        for number in range(each):
            asyncpool.emit([thread, number])

    in_threads(threads, work)
    return threads * each


@asyncpool.command(name="async_context")
async def context() -> list[Any]:
    await asyncio.sleep(0.01)
    here = asyncpool.call_context()
    there = await asyncio.to_thread(asyncpool.call_context)
    return [here.id, there.id, here.meta]


@asyncpool.command
async def never_waits(path: str, seconds: float) -> AsyncIterator[int]:
    """Compute between updates, and await nothing."""
    number = 0
    try:
        while True:
            yield number
            time.sleep(seconds)  # noqa: ASYNC251 # that is the point
            number += 1
    finally:
        trace(path, str(number))


@asyncpool.command
async def computes(path: str, seconds: float) -> None:
    """Compute, and await nothing."""
    time.sleep(seconds)  # noqa: ASYNC251
    trace(path, "computed")


@asyncpool.command
async def leaves_a_thread_behind(seconds: float) -> None:
    """Leave a thread of the loop's executor to itself."""
    asyncio.get_running_loop().run_in_executor(None, time.sleep, seconds)


@asyncpool.command
async def waits_in_a_thread(path: str, seconds: float) -> None:
    def wait() -> None:
        trace(path, "begun")
        time.sleep(seconds)

    await asyncio.to_thread(wait)


@asyncpool.command
async def emits_from_a_foreign_threads_callback(to: int) -> None:
    """A thread without this call's context, as a driver's is, has its work done on the loop."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    async def handle(number: int) -> None:
        asyncpool.emit(["task", number])

    def drive() -> None:
        for number in range(to):
            loop.call_soon_threadsafe(asyncpool.emit, ["callback", number])
            asyncio.run_coroutine_threadsafe(handle(number), loop).result()
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=drive).start()
    await done.wait()
