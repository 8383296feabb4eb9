"""What the workers of the tests give and take: values of many kinds, and types that both sides know."""

import asyncio
import dataclasses
import os
import sys
from collections.abc import AsyncGenerator, Generator
from fractions import Fraction
from typing import Any

import asyncpool


class Money:
    """A type of one's own, registered on both sides."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


asyncpool.register_type(
    Money, encode=lambda money: str(money.cents).encode(), decode=lambda data: Money(int(data)), code=64
)


class Secret:
    """A type that only the worker registers, when it is told to."""


@dataclasses.dataclass
class Cat:
    name: str
    age: int = 0


@asyncpool.command
def echo(value: Any = None) -> Any:
    return value


@asyncpool.command
def resident(_argument: Any = None) -> int:
    """Return the bytes of memory of the process that runs it."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@asyncpool.command
def double(money: Money) -> Money:
    return Money(money.cents * 2)


@asyncpool.command
def older(cat: Cat) -> Cat:
    return Cat(cat.name, cat.age + 1)


@asyncpool.command
def zeros(size: int) -> Any:
    import numpy

    return numpy.zeros(size)


_kept: list[Any] = []  # arguments, but for their first item


@asyncpool.command
def first_items(array: Any) -> list[int]:
    """Keep a part of *array*; return the first item of each that was kept."""
    _kept.append(array[1:])
    return [int(each[0]) for each in _kept]


@asyncpool.command
def kind_of(value: Any) -> str:
    return type(value).__name__


@asyncpool.command
def bytes_of(data: bytes, more: bytearray, view: memoryview) -> list[Any]:
    more += b"!"
    return [data, more, view, type(data).__name__, type(more).__name__, type(view).__name__]


@asyncpool.command
def summary(first: int, data: bytes, *more: Any, name: str = "", view: memoryview, array: Any = None) -> list[Any]:
    """Say what has come, without sending it back."""
    sizes = [getattr(each, "nbytes", None) or len(each) for each in (data, *more, view)]
    return [first, sizes, name, None if array is None else [array.dtype.str, list(array.shape), int(array.sum())]]


@asyncpool.command
def pieces(sizes: list[int]) -> Generator[Any, None, bytes]:
    """Yield bytes and arrays of so many bytes, in turn."""
    import numpy

    for number, size in enumerate(sizes):
        yield numpy.full(size, number, numpy.uint8) if number % 2 else bytes([number]) * size
    return b"r" * max(sizes)


@asyncpool.command
async def echo_soon(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


@asyncpool.command
async def pieces_soon(sizes: list[int]) -> AsyncGenerator[bytes, None]:
    for number, size in enumerate(sizes):
        yield bytes([number]) * size


@asyncpool.command(retries=1, timeout=20)
def echo_once_crashed(path: str, value: Any) -> Any:
    """Crash in the first run."""
    try:
        open(path, "x").close()
    except FileExistsError:
        return value
    os._exit(1)


@asyncpool.command
def third() -> Any:
    return Fraction(1, 3)


@asyncpool.command
def secret() -> Any:
    asyncpool.register_type(Secret, encode=lambda it: b"", decode=lambda data: Secret(), code=99)
    return Secret()


@asyncpool.command
def imported(*names: str) -> list[str]:
    return [name for name in names if name in sys.modules]
