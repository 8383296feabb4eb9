"""What goes wrong with an error that cannot even be told."""

import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpool


class Unprintable(Exception):
    def __str__(self) -> str:
        raise Unprintable


@dataclasses.dataclass
class Touchy:
    """It can be made of nothing but 'good'."""

    name: str

    def __post_init__(self) -> None:
        if self.name != "good":
            raise Unprintable


class Sticky:
    """It cannot be encoded."""


def _encode(value: Sticky) -> bytes:
    raise Unprintable


asyncpool.register_type(Sticky, encode=_encode, decode=lambda _data: Sticky(), code=98)


class Unfindable:
    """Not even its attributes can be asked for."""

    def __getattribute__(self, name: str) -> Any:
        raise Unprintable

    def __call__(self) -> None: ...


unfindable = Unfindable()


@asyncpool.command
def touch(value: Touchy) -> str:
    return value.name


@asyncpool.command
def stick(to: int) -> Any:
    return Sticky() if to else "nothing"


@asyncpool.command
def stick_later() -> Iterator[Any]:
    yield Sticky()


@asyncpool.command
async def stick_at_last() -> AsyncIterator[Any]:
    yield Sticky()
