"""Commands that send updates: generators, and those that emit. Without asyncio."""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec

import asyncpool
from tests.support.typed import Point


class Step(msgspec.Struct):
    number: int
    at: Point


def trace(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text + "\n")


@asyncpool.command
def count(to: int) -> Generator[int, None, str]:
    for number in range(to):  # noqa: UP028
        yield number
    return f"counted to {to}"


@asyncpool.command
def only_items(to: int) -> Iterator[int]:
    yield from range(to)


@asyncpool.command
def points(to: int) -> Generator[Point, None, Point]:
    for number in range(to):
        yield Point(number)
    return Point(to, to)


@asyncpool.command
def steps(to: int) -> Iterator[Step]:
    for number in range(to):
        yield Step(number, Point(number))


@asyncpool.command
def wrong_updates() -> Iterator[Point]:
    yield Point(1)
    yield "no point"  # type: ignore[misc]
    yield Point(2)


@asyncpool.command
def traced(path: str, to: int, size: int = 1) -> Generator[bytes, None, int]:
    """Leave a trace of each update, before it is yielded, and of the end."""
    try:
        for number in range(to):
            trace(path, str(number))
            yield b"x" * size
    finally:
        trace(path, "finally")
    return to


@asyncpool.command
def of_sizes(sizes: list[int]) -> Generator[bytes, None, int]:
    for size in sizes:
        yield b"x" * size
    return len(sizes)


@asyncpool.command
def without_end(size: int) -> Iterator[bytes]:
    while True:
        yield os.urandom(size)


@asyncpool.command
def then(to: int, end: str) -> Generator[Any, None, int]:
    """Yield *to* numbers, then go wrong as *end* says."""
    yield from range(to)
    match end:
        case "raise":
            raise ValueError("after all")
        case "exit":
            sys.exit(3)
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "lambda":
            yield lambda: None
        case "large":
            yield b"x" * 3_000_000
    return to


@asyncpool.command
def stubborn(path: str, how: str) -> Generator[int, None, None]:
    """Do not heed that the generator is closed."""
    number = 0
    while True:
        try:
            yield number
        except GeneratorExit:
            trace(path, "closed")
            match how:
                case "yields on":
                    pass
                case "raises":
                    raise ValueError("in the clean-up") from None
                case "sleeps":
                    time.sleep(60)
                case "returns":
                    return
        number += 1


@asyncpool.command
def untravelling_and_stubborn() -> Generator[Any, None, None]:
    try:
        yield lambda: None
    finally:
        raise ValueError("in the clean-up")


@asyncpool.command
def slowly(seconds: float, to: int) -> Generator[int, None, int]:
    for number in range(to):
        time.sleep(seconds)
        yield number
    return to


@asyncpool.command
def stuck_after(to: int) -> Generator[int, None, None]:
    yield from range(to)
    time.sleep(60)


@asyncpool.command(retries=2)
def crashes_first(path: str, crash_at: int, to: int) -> Generator[str, None, str]:
    """In its first run, crash before the update of that number."""
    trace(path, "run")
    run = len(Path(path).read_text().split())
    for number in range(to):
        if run == 1 and number == crash_at:
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        yield f"{run}.{number}"
    return f"run {run}"


# --- emit ------------------------------------------------------------------------------------------------------------


def helper(number: int) -> None:
    asyncpool.emit(number)


@asyncpool.command
def emits(to: int) -> int:
    for number in range(to):
        helper(number)
    return to


@asyncpool.command
def emits_slowly(seconds: float, to: int) -> int:
    for number in range(to):
        time.sleep(seconds)
        asyncpool.emit(number)
    return to


def in_threads(threads: int, act: Callable[[int], None]) -> None:
    started = [threading.Thread(target=act, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


@asyncpool.command
def emits_from_threads(threads: int, each: int, size: int) -> int:
    def work(thread: int) -> None:
        for number in range(each):
            asyncpool.emit([thread, number, b"x" * size])

    in_threads(threads, work)
    return threads * each


@asyncpool.command
def leaves_a_thread() -> int:
    """Return while a thread still emits."""

    def work() -> None:
        with contextlib.suppress(BaseException):
            for number in range(100_000):
                asyncpool.emit(number)

    threading.Thread(target=work, daemon=True).start()
    asyncpool.emit(-1)
    time.sleep(0.005)
    return threading.active_count()


@asyncpool.command
def emits_what_cannot_travel() -> str:
    try:
        asyncpool.emit(lambda: None)
    except TypeError as error:
        return str(error)
    return "it went"


# --- cooperative -----------------------------------------------------------------------------------------------------


@asyncpool.command(cooperative=True)
def looks(path: str) -> str:
    """Run until it hears that it shall stop."""
    trace(path, "begun")
    context = asyncpool.call_context()
    while not context.cancelled():
        time.sleep(0.001)
    trace(path, "heard")
    return "stopped"


@asyncpool.command(cooperative=True)
def emits_until_stopped(path: str, seconds: float) -> None:
    try:
        for number in range(1_000_000):
            asyncpool.emit(number)
            time.sleep(seconds)
    finally:
        trace(path, "finally")


@asyncpool.command(cooperative=True, cancel_grace=0.1)
def deaf_to_cancel(path: str) -> None:
    trace(path, "begun")
    time.sleep(60)


@asyncpool.command(cooperative=True)
def thread_waits_for_credit(path: str) -> int:
    """Look for Cancel while a thread of it waits for credit; return how many looks there were."""

    def work() -> None:
        with contextlib.suppress(BaseException):
            for number in range(1000):
                asyncpool.emit(number)

    thread = threading.Thread(target=work)
    thread.start()
    looks = 0
    while not asyncpool.call_context().cancelled():
        looks += 1
        if looks == 50:
            trace(path, "looked")
        time.sleep(0.001)
    thread.join()
    return looks


@asyncpool.command(on_cancel="finish")
def finishes(path: str, gate: str) -> str:
    trace(path, "begun")
    while not os.path.exists(gate):
        time.sleep(0.002)
    trace(path, "finished")
    return "done"


@dataclasses.dataclass
class Seen:
    id: int
    deadline: float | None
    meta: dict[str, str]
    slot: int
    cancelled: bool


@asyncpool.command
def context() -> Seen:
    here = asyncpool.call_context()
    return Seen(here.id, here.deadline, here.meta, here.slot, here.cancelled())


@asyncpool.command
def deadlines(seconds: float) -> list[float | None]:
    first = asyncpool.call_context().deadline
    time.sleep(seconds)
    return [first, asyncpool.call_context().deadline]


@asyncpool.command
def starved_deadline(to: int) -> Generator[int, None, float | None]:
    yield from range(to)
    return asyncpool.call_context().deadline


@asyncpool.command
def has(module: str) -> bool:
    return module in sys.modules
