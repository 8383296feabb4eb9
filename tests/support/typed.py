"""Commands whose annotations are of many kinds: only workers that need them import and register them."""

import dataclasses
import datetime
import enum
import uuid
from pathlib import Path
from typing import Any

import msgspec

import asyncpool


class Colour(enum.Enum):
    RED = "red"
    GREY = "grey"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Cat(msgspec.Struct):
    name: str
    born: datetime.date
    colour: Colour = Colour.GREY
    at: Point | None = None


@asyncpool.command
def same_point(value: Point) -> Point:
    return _checked(value, Point)


@asyncpool.command
def same_cat(value: Cat) -> Cat:
    assert type(value.at) in (Point, type(None))
    return _checked(value, Cat)


@asyncpool.command
def same_cats(value: list[Cat]) -> dict[str, Cat]:
    return {cat.name: _checked(cat, Cat) for cat in value}


@asyncpool.command
def same_datetime(value: datetime.datetime) -> datetime.datetime:
    return _checked(value, datetime.datetime)


@asyncpool.command
def same_timedelta(value: datetime.timedelta) -> datetime.timedelta:
    return _checked(value, datetime.timedelta)


@asyncpool.command
def same_uuid(value: uuid.UUID) -> uuid.UUID:
    return _checked(value, uuid.UUID)


@asyncpool.command
def same_enum(value: Colour) -> Colour:
    return _checked(value, Colour)


@asyncpool.command
def same_size(value: Size) -> Size:
    return _checked(value, Size)


@asyncpool.command
def same_path(value: Path) -> Path:
    assert isinstance(value, Path)
    return value


@asyncpool.command
def same_bytes(value: bytes) -> bytes:
    return _checked(value, bytes)


@asyncpool.command
def same_bytearray(value: bytearray) -> bytearray:
    return _checked(value, bytearray)


@asyncpool.command
def same_int(value: int) -> int:
    return _checked(value, int)


@asyncpool.command
def same_float(value: float) -> float:
    return _checked(value, float)


@asyncpool.command
def same_complex(value: complex) -> complex:
    return _checked(value, complex)


@asyncpool.command
def same_tuple(value: tuple[int, str]) -> tuple[int, str]:
    return _checked(value, tuple)


@asyncpool.command
def same_set(value: set[int]) -> set[int]:
    return _checked(value, set)


@asyncpool.command
def same_frozenset(value: frozenset[str]) -> frozenset[str]:
    return _checked(value, frozenset)


@asyncpool.command
def same_dict(value: dict[int, list[Path]]) -> dict[int, list[Path]]:
    return _checked(value, dict)


@asyncpool.command
def same_union(value: int | str | None) -> int | str | None:
    return value


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise AssertionError(f"arrived as {type(value)}")
    return value
