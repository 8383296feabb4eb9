"""Values on the wire: what travels, as what it arrives, and what is said when it cannot."""

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pytest

from asyncpool.protocol import payload

BIG = 2**70
AWARE = datetime(2020, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
NAIVE = AWARE.replace(tzinfo=None)
IDENTITY = UUID("12345678-1234-5678-1234-567812345678")


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Cat:
    age: int
    home: Path | None = None
    toys: list[int] = field(default_factory=list)


class Dog(msgspec.Struct):
    age: int
    home: Path | None = None


class Bird(msgspec.Struct, array_like=True):
    age: int


class Pair(NamedTuple):
    left: int
    right: Path


class Table(TypedDict):
    rows: int


def typed(value: Any, annotation: Any) -> Any:
    return payload.decoder(annotation).decode(payload.encode(value))


def untyped(value: Any) -> Any:
    return payload.decode(payload.encode(value))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (None, None),
        (True, bool),
        (7, int),
        (7.5, float),
        (math.inf, float),
        ("purr", str),
        ("\U0001f63a", str),
        (b"\xff\x00", bytes),
        (bytearray(b"\xff"), bytearray),
        ([1, 2], list[int]),
        ((1, "a"), tuple[int, str]),
        ((1, 2, 3), tuple[int, ...]),
        ({1, 2}, set[int]),
        (frozenset({1, 2}), frozenset[int]),
        ({"a": 1}, dict[str, int]),
        ({1: "a"}, dict[int, str]),
        ({(1, 2): "a"}, dict[tuple[int, int], str]),
        (AWARE, datetime),
        (AWARE.astimezone(timezone(timedelta(hours=2))), datetime),
        (NAIVE, datetime),
        (date(2020, 1, 2), date),
        (timedelta(days=1, microseconds=1), timedelta),
        (Decimal("1.10"), Decimal),
        (IDENTITY, UUID),
        (Colour.RED, Colour),
        (Level.HIGH, Level),
        (Access.READ | Access.WRITE, Access),
        (Cat(3, Path("/home"), [1]), Cat),
        (Dog(3, Path("home")), Dog),
        (Bird(3), Bird),
        (Pair(1, Path("/x")), Pair),
        ({"rows": 3}, Table),
        ([Cat(1), Cat(2)], list[Cat]),
        ({"a": Dog(1)}, dict[str, Dog]),
        (Path("/a/b"), Path),
        (Path("\udcff"), Path),  # a name that is not UTF-8
        ({Path("/a")}, set[Path]),
        ({Path("/a"): 1}, dict[Path, int]),
        (1 + 2j, complex),
        ([1j, 2j], list[complex]),
        (None, int | None),
        (3, int | None),
        ("three", int | str),
        (Path("/a"), Path | None),
        (Cat(1), Cat | None),
        ("x", Literal["x", "y"]),
        (5, Annotated[int, msgspec.Meta(ge=0)]),
        (Path("/a"), Any),
        ([1, "a", None], list[Any]),
    ],
    ids=repr,
)
def test_a_value_arrives_as_its_annotation_says(value, annotation):
    """What is annotated comes out equal, and of the same type."""
    arrived = typed(value, annotation)
    assert value == arrived
    assert type(value) is type(arrived)


@pytest.mark.parametrize("number", [2**64 - 1, 2**64, -(2**63), -(2**63) - 1, BIG, -BIG, 10**1000, -(10**1000)])
def test_integers_have_no_bound(number):
    """Integers beyond the 64 bits of MessagePack travel, annotated or not."""
    assert number == typed(number, int)
    assert number == untyped(number)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ([BIG], list[int]),
        ({"a": [BIG]}, dict[str, list[int]]),
        ((BIG, Path("/a")), tuple[int, Path]),
        ({BIG}, set[int]),
        (Cat(BIG, Path("/a"), [BIG]), Cat),
        (Dog(BIG), Dog),
        (Bird(BIG), Bird),
        (Pair(BIG, Path("/x")), Pair),
        ({"rows": BIG}, Table),
        (BIG, int | None),
        (BIG, int | str),
        (BIG, Annotated[int, msgspec.Meta(ge=0)]),
        ((AWARE, BIG), tuple[datetime, int]),
        ((NAIVE, BIG), tuple[datetime, int]),
        ((IDENTITY, BIG), tuple[UUID, int]),
        ((timedelta(1), BIG), tuple[timedelta, int]),
        ((Decimal("1.10"), BIG), tuple[Decimal, int]),
        ((b"\xff", BIG), tuple[bytes, int]),
        ((Colour.RED, BIG), tuple[Colour, int]),
        ((1j, BIG), tuple[complex, int]),
        ([None, {"deep": [BIG]}], Any),
    ],
    ids=repr,
)
def test_a_large_integer_may_stand_anywhere(value, annotation):
    """A large integer changes nothing for what travels beside it."""
    arrived = typed(value, annotation)
    assert value == arrived
    assert type(value) is type(arrived)


def test_a_large_integer_may_be_a_key():
    """What holds for the values of a dict holds for its keys."""
    assert typed({BIG: 1}, dict[int, int]) == {BIG: 1}
    assert untyped({BIG: 1}) == {BIG: 1}


@pytest.mark.parametrize(
    "neighbour", [AWARE, NAIVE, IDENTITY, Path("/a"), 1j, b"x", 7, None, "x", [1], {"a": 1}], ids=repr
)
def test_a_neighbour_of_a_large_integer_arrives_as_it_would_alone(neighbour):
    """Untyped, too: how a value travels does not depend on the numbers in the same call."""
    assert [untyped(neighbour), BIG] == untyped([neighbour, BIG])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (bytearray(b"x"), b"x"),
        (AWARE, AWARE),
        (NAIVE, NAIVE.isoformat()),
        (IDENTITY, str(IDENTITY)),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Cat(3), {"age": 3, "home": None, "toys": []}),
        (Dog(3), {"age": 3, "home": None}),
        (Path("/a"), Path("/a")),
        (1j, 1j),
        ({(1, 2): 3}, {(1, 2): 3}),
        (True, True),
        (7.0, 7.0),
    ],
    ids=repr,
)
def test_without_annotation_plain_builtins_arrive(value, expected):
    """Untyped, what MessagePack has a word for is a built-in; paths and complex numbers stay what they are."""
    assert expected == untyped(value)
    assert type(expected) is type(untyped(value))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("7", int),
        (7.5, int),
        (True, int),
        (7, str),
        (None, int),
        (["a"], list[int]),
        ([1, 2], tuple[int, int, int]),
        ({"age": "old"}, Cat),
        ({}, Dog),
        ("blue", Colour),
        ("not a uuid", UUID),
        ("yesterday", datetime),
        (-1, Annotated[int, msgspec.Meta(ge=0)]),
        (-BIG, Annotated[int, msgspec.Meta(ge=0)]),
        (Path("/a"), int),
        (7, Path),
        ("a", complex),
        (BIG, str),
    ],
    ids=repr,
)
def test_what_does_not_fit_its_annotation_is_refused(value, annotation):
    """Nothing is guessed or converted silently: a string is no number, a bool is no int."""
    with pytest.raises((msgspec.ValidationError, TypeError, ValueError)):
        typed(value, annotation)


def test_a_refusal_says_where():
    """The error names the expected type, the one that came, and the place within the value."""
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `str` - at `\$\[1\]`"):
        typed([1, "two"], list[int])


@pytest.mark.parametrize(
    ("value", "annotation"), [(7, float), (7, complex), (7.5, complex), ("/a", Path), ("/a", PurePath)]
)
def test_what_python_itself_widens_is_taken(value, annotation):
    """An int serves as a float or complex, a string as a path: so it is for callers in other languages."""
    assert annotation(value) == typed(value, annotation)


def test_a_pure_path_arrives_as_a_path():
    """The subclass of PurePath that is annotated comes out of a string; any path serves for it."""
    assert PurePosixPath("/a") == typed("/a", PurePosixPath)
    assert isinstance(typed(PurePosixPath("/a"), PurePath), PurePath)


@pytest.mark.parametrize("annotation", [object, list[object], dict[str, object]])
def test_object_means_any(annotation):
    """``object`` promises nothing about a value, at the top or inside a container."""
    value = {object: 7, list[object]: [7, "a", Path("/a")], dict[str, object]: {"a": None}}[annotation]
    assert value == typed(value, annotation)


class Opaque:
    """Knows no way to travel, and has a repr that fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (object(), "'object'"),
        (lambda: None, "'function'"),
        (range(3), "'range'"),
        (ValueError("x"), "'ValueError'"),
        ([1, {"a": object()}], "'object'"),
        (Opaque(), "Opaque'"),
        ([BIG, object()], "'object'"),
    ],
    ids=["object", "lambda", "range", "exception", "nested", "bad repr", "beside a large integer"],
)
def test_what_cannot_travel_is_named(value, name):
    """The TypeError names the class of what cannot travel, wherever in the value it is."""
    with pytest.raises(TypeError, match="cannot travel between processes") as caught:
        payload.encode(value)
    assert name in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("annotation", [Opaque, list[Opaque], Opaque | None, dict[str, Opaque]])
def test_an_annotation_that_cannot_travel_is_refused_at_once(annotation):
    """A decoder for a class that nothing could build is not made: the mistake shows before the first call."""
    with pytest.raises(TypeError, match="Opaque"):
        payload.decoder(annotation)


@attrs.define
class Guarded:
    name: str
    _secret: int = 0


@attrs.define
class Internal:
    name: str
    _cache: dict = attrs.field(init=False, factory=dict)


def test_a_class_of_attrs_with_a_private_attribute_is_refused():
    """It would arrive with the default in the place of what was sent; one that nobody can give is no loss."""
    for annotation in (Guarded, list[Guarded], Guarded | None):
        with pytest.raises(TypeError, match=r"Guarded' cannot travel whole: its attribute '_secret' is private"):
            payload.refuse_private_attributes(annotation)
    payload.refuse_private_attributes(dict[str, Internal])
    assert payload.decoder(Internal).decode(payload.encode(Internal("Tom"))) == Internal("Tom")


def test_lone_surrogates_are_a_value_error():
    """A string that is no Unicode text has no UTF-8."""
    with pytest.raises(ValueError, match="surrogates"):
        payload.encode("\ud800")


@pytest.mark.parametrize("start", [[], [BIG]], ids=["plain", "with a large integer"])
def test_containers_that_contain_themselves_are_a_value_error(start):
    """A cycle ends in an error that says so, never in a crash."""
    cycle: list[Any] = list(start)
    cycle.append(cycle)
    with pytest.raises(ValueError, match="nested too deeply, or contain themselves"):
        payload.encode(cycle)


def test_a_deep_value_is_refused_by_the_receiver_too():
    """What was nested by a foreign sender raises RecursionError, and nothing worse."""
    with pytest.raises(RecursionError):
        payload.decode(b"\x91" * 100_000 + b"\x90")


@pytest.mark.parametrize("data", [b"\xd4\x3f\x00", b"\xd4\x03\x00", b"\xc7\x11\x03" + bytes(17)])
def test_unknown_ext_values_are_errors(data):
    """An ext code that this version does not know, or a complex number of a wrong size, is not guessed at."""
    with pytest.raises(ValueError, match="ext value of code"):
        payload.decode(data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**64, b"\xc7\x09\x01" + bytes(8) + b"\x01"),
        (-(2**64), b"\xc7\x09\x01" + bytes(8) + b"\xff"),
        (Path("/a"), b"\xd5\x02/a"),
        (1 + 2j, b"\xd8\x03" + bytes(6) + b"\xf0\x3f" + bytes(7) + b"\x40"),
    ],
    ids=repr,
)
def test_the_bytes_of_the_ext_codes_are_the_protocol(value, expected):
    """Other languages read them: 1 integer, little-endian two's complement; 2 path; 3 two little-endian doubles."""
    assert expected == payload.encode(value)


def test_nothing_that_arrives_runs_code():
    """The bytes of a pickle are bytes; there is no ext code that imports or calls anything."""
    import pickle

    harmful = pickle.dumps(print)
    assert harmful == untyped(harmful)
