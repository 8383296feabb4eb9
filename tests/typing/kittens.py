"""Commands as an application has them, for the type checkers."""

import contextlib
from collections.abc import AsyncIterator, Generator, Iterator

import asyncpool


@asyncpool.command
def pet_kitten(name: str, strokes: int = 1) -> str:
    return f"{name} purrs" + "!" * strokes


@asyncpool.command()
def feed(*brands: str, grams: int) -> list[int]:
    return [grams for _ in brands]


@asyncpool.command(name="nap", timeout=60, typed=False)
def sleep(seconds: float, /, *, timeout: float) -> None:
    """Has a parameter of its own that is named as an option of the pool is."""


def unmarked(acquire_timeout: int, returns: str) -> dict[str, int]:
    """Is no command by a mark, and has parameters that are named as options are."""
    return {returns: acquire_timeout}


class Basket:
    """A class can be called like a function."""

    def __init__(self, size: int) -> None:
        self.size = size


@asyncpool.command
def groom(names: list[str]) -> Generator[str, None, int]:
    yield from names
    return len(names)


@asyncpool.command
async def fetch_food(brand: str) -> bytes:
    return brand.encode()


@asyncpool.command
async def purrs(count: int) -> AsyncIterator[float]:
    for number in range(count):
        yield float(number)


@asyncpool.command
def meows(count: int) -> Iterator[str]:
    yield from "meow" * count


@asyncpool.lifespan
@contextlib.contextmanager
def model(path: str) -> Iterator[int]:
    yield 1


@asyncpool.lifespan
@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[None]:
    yield


@asyncpool.lifespan
class Cache:
    def __enter__(self) -> int:
        return 1

    def __exit__(self, *error: object) -> None: ...


@asyncpool.lifespan  # type: ignore[type-var]  # a generator: the decorator below it is missing
def forgotten() -> Iterator[None]:  # pyright: ignore[reportArgumentType]
    yield
