"""The tables of docs/reference/values.md: each row is what happens."""

import dataclasses
import math
import re
from collections import OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import numpy
import pydantic
import pytest
from numpy.typing import NDArray

from asyncpool import types
from asyncpool.protocol import payload

PAGE = Path(__file__).parents[2] / "docs/reference/values.md"


class Pile(list):
    pass


class Pair(NamedTuple):
    left: int
    right: str


@dataclasses.dataclass
class Cat:
    name: str
    age: int


@dataclasses.dataclass
class Kitten(Cat):
    blind: bool


class Dog(msgspec.Struct):
    age: int


@attrs.define
class Bird:
    wings: int


class Fish(pydantic.BaseModel):
    fins: int


class Pond(pydantic.BaseModel):
    map: pydantic.HttpUrl
    host: IPv4Address
    key: pydantic.SecretStr


class Table(TypedDict):
    rows: int


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()


class Age(int):
    pass


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


NAMES: dict[str, Any] = {
    **globals(),
    **{each.__name__: each for each in (OrderedDict, defaultdict, deque, date, datetime, time, timedelta, timezone)},
    **{each.__name__: each for each in (Decimal, Fraction, PurePosixPath, PureWindowsPath, UUID)},
    "NDArray": NDArray,
    "UTC": UTC,
}


def evaluated(cell: str) -> Any:
    assert cell.startswith("`"), f"{cell} is no code"
    return eval(cell.strip("`"), NAMES)


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its two head lines."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.replace(r"\|", "\0") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\0", "|") for cell in line.strip("|").split("|")] for line in lines[2:]]


TRAVELS, TRAVELS_NOT = rows("What travels"), rows("What does not travel")


def same(left: Any, right: Any) -> bool:
    """Say whether two values are equal and of the same types throughout, also where == is not enough."""
    if type(left) is not type(right):
        return False
    if isinstance(left, numpy.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, float):
        return (left, math.copysign(1, left)) == (right, math.copysign(1, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) in types.by_class:
        return vars(left) == vars(right)
    return left == right and getattr(left, "tzinfo", None) == getattr(right, "tzinfo", None)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the page's own example, which registers Money, for the time of a test."""
    monkeypatch.setattr(types, "by_class", {})
    monkeypatch.setattr(types, "by_code", {})
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(example, NAMES)


def test_the_page_has_its_tables():
    """The rows are found, each has its cells, and no two are about the same."""
    assert len(TRAVELS) > 50
    assert len(TRAVELS_NOT) > 15
    assert {len(row) for row in TRAVELS} == {5}
    assert {len(row) for row in TRAVELS_NOT} == {4}
    assert len({row[0] for row in TRAVELS + TRAVELS_NOT}) == len(TRAVELS + TRAVELS_NOT)


@pytest.mark.parametrize("row", TRAVELS, ids=lambda row: row[0])
def test_a_value_arrives_as_the_table_says(row: list[str]):
    """With and without annotation."""
    _, sent, untyped, annotation, typed = row
    value = evaluated(sent)
    encoded = payload.encode(value)
    for arrived, cell in (
        (payload.decode(encoded), untyped),
        (payload.decoder(evaluated(annotation)).decode(encoded), typed),
    ):
        assert same(arrived, value if cell == "itself" else evaluated(cell)), arrived


@pytest.mark.parametrize("row", TRAVELS, ids=lambda row: row[0])
def test_a_value_arrives_the_same_inside_others(row: list[str]):
    """In a list, as the value of a dict, and beside a large integer, for which everything takes another way."""
    _, sent, untyped, annotation, typed = row
    value = evaluated(sent)
    encoded = payload.encode([{"it": value}, 2**70])
    for arrived, cell in (
        (payload.decode(encoded), untyped),
        (payload.decoder(tuple[dict[str, evaluated(annotation)], int]).decode(encoded), typed),
    ):
        assert same(arrived[0]["it"], value if cell == "itself" else evaluated(cell)), arrived


@pytest.mark.parametrize("row", TRAVELS_NOT, ids=lambda row: row[0])
def test_what_does_not_travel_says_so(row: list[str]):
    """It raises, alone and within others, and is never altered silently."""
    _, sent, words, _ = row
    for value in (evaluated(sent), [{"it": evaluated(sent)}]):
        with pytest.raises((TypeError, ValueError, BufferError)) as caught:
            payload.encode(value)
        assert words.strip("`") in str(caught.value)
