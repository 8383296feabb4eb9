"""Values: whatever travels arrives, by its annotation as itself and untyped as plain built-ins."""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncpool.protocol import payload
from tests.support.often import often

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Cat:
    name: str
    age: int
    home: Path | None
    born: datetime
    scores: dict[str, int]


class Dog(msgspec.Struct):
    age: int
    weight: complex
    friends: list[int] = []


BIG = 2**200
integers = st.integers(-BIG, BIG) | st.integers()
paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(Path)
aware = st.datetimes(timezones=st.just(UTC))
naive = st.datetimes()
floats = st.floats(allow_nan=False)
SCALARS = [
    (int, integers),
    (bool, st.booleans()),
    (float, floats),
    (str, st.text()),
    (bytes, st.binary()),
    (complex, st.complex_numbers(allow_nan=False)),
    (Path, paths),
    (UUID, st.uuids()),
    (datetime, aware | naive),
    (date, st.dates()),
    (timedelta, st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000))),
    (Decimal, st.decimals(allow_nan=False)),
    (Colour, st.sampled_from(Colour)),
    (Cat, st.builds(Cat, st.text(), integers, st.none() | paths, aware, st.dictionaries(st.text(), integers))),
    (Dog, st.builds(Dog, integers, st.complex_numbers(allow_nan=False), st.lists(integers))),
]
KEYS = (int, str, bytes, Path, UUID, date)


@st.composite
def annotated(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """Draw an annotation and what generates its values."""
    shape = draw(st.sampled_from(["scalar", "list", "tuple", "dict", "optional", "set"])) if depth else "scalar"
    if shape == "scalar":
        return draw(st.sampled_from(SCALARS))
    if shape in ("dict", "set"):
        key, keys = draw(st.sampled_from([each for each in SCALARS if each[0] in KEYS]))
        if shape == "set":
            return set[key], st.sets(keys, max_size=3)
        inner, values = draw(annotated(depth - 1))
        return dict[key, inner], st.dictionaries(keys, values, max_size=3)
    inner, values = draw(annotated(depth - 1))
    if shape == "list":
        return list[inner], st.lists(values, max_size=3)
    if shape == "optional":
        return inner | None, st.none() | values
    other, others = draw(annotated(depth - 1))
    return tuple[inner, other], st.tuples(values, others)


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and left == right


@settings(
    deadline=None, max_examples=often(400), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(annotated(), st.data())
def test_a_value_arrives_as_its_annotation_says(shape: tuple[Any, Any], data: st.DataObject):
    """Whatever is annotated comes out equal and of the same type."""
    annotation, values = shape
    value = data.draw(values)
    arrived = payload.decoder(annotation).decode(payload.encode(value))
    assert same(value, arrived)


plain = st.recursive(
    st.none()
    | st.booleans()
    | integers
    | floats
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | paths
    | aware,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | integers, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=often(400))
@given(plain)
def test_what_has_an_untyped_form_arrives_as_itself(value: Any):
    """None, bools, numbers of any size, text, bytes, paths, aware datetimes, lists and dicts need no annotation."""
    assert same(value, payload.decode(payload.encode(value)))


@settings(deadline=None, max_examples=often(200))
@given(plain, integers)
def test_a_neighbour_changes_nothing(value: Any, number: int):
    """How a value travels does not depend on what travels beside it."""
    assert [payload.decode(payload.encode(value)), number] == payload.decode(payload.encode([value, number]))


@settings(deadline=None, max_examples=often(300))
@given(st.binary(max_size=80))
def test_arbitrary_bytes_raise_what_receivers_catch(data: bytes):
    """Broken bytes raise one of the errors that both receiving sides turn into one of the pool's."""
    try:
        payload.decode(data)
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError):
        pass


@settings(deadline=None)
@given(st.floats())
def test_floats_keep_their_bits(value: float):
    """NaN, infinities and negative zero included."""
    arrived = payload.decode(payload.encode(value))
    assert (math.isnan(value) and math.isnan(arrived)) or (value, math.copysign(1, value)) == (
        arrived,
        math.copysign(1, arrived),
    )
