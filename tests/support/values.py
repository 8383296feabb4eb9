"""What the workers of the tests give and take: values of many kinds, and types that both sides know."""

import dataclasses
import sys
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
def double(money: Money) -> Money:
    return Money(money.cents * 2)


@asyncpool.command
def older(cat: Cat) -> Cat:
    return Cat(cat.name, cat.age + 1)


@asyncpool.command
def zeros(size: int) -> Any:
    import numpy

    return numpy.zeros(size)


@asyncpool.command
def kind_of(value: Any) -> str:
    return type(value).__name__


@asyncpool.command
def bytes_of(data: bytes, more: bytearray, view: memoryview) -> list[Any]:
    more += b"!"
    return [data, more, view, type(data).__name__, type(more).__name__, type(view).__name__]


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
