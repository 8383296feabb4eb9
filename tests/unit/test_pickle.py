"""Pickles: only where the application said so, and then in both directions."""

import pickle
from fractions import Fraction
from typing import Any

import msgspec
import numpy
import pytest
from msgspec.msgpack import Ext

from asyncpool.protocol import payload
from asyncpool.protocol.payload import Codec

pickling = Codec(pickles=True)


class Opaque:
    """Knows no other way to travel."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.inside == other.inside

    __hash__ = None

    def __repr__(self) -> str:
        return f"Opaque({self.inside!r})"


class Name(str):
    __slots__ = ()


def returned(value: Any, codec: Codec = pickling) -> Any:
    return codec.decode(codec.encode(value))


@pytest.mark.parametrize(
    "value",
    [Opaque(1), [Opaque([1])], {"a": Opaque(None)}, Fraction(1, 3), Name("Tom"), range(3), len, [2**70, Opaque(1)]],
    ids=repr,
)
def test_what_cannot_travel_otherwise_is_pickled(value):
    """Alone, in containers, and beside large integers; of the very class."""
    assert returned(value) == value
    assert type(returned(value)) is type(value)


@pytest.mark.parametrize(
    ("value", "annotation"), [(Opaque(1), Opaque), ([Opaque(1)], list[Opaque]), (None, Opaque | None)]
)
def test_any_class_is_an_annotation_then(value, annotation):
    """What arrives as itself may be asked for."""
    assert pickling.decoder(annotation).decode(pickling.encode(value)) == value


def test_an_annotation_still_holds():
    """A pickle of something else does not fit."""
    with pytest.raises(msgspec.ValidationError, match="Expected `Opaque`"):
        pickling.decoder(Opaque).decode(pickling.encode(Fraction(1, 3)))


@pytest.mark.parametrize(
    "array", [numpy.array([None, 1]), numpy.ma.masked_array([1, 2], [0, 1])], ids=["objects", "mask"]
)
def test_arrays_of_objects_are_pickled_too(array):
    """What numpy's own form refuses."""
    assert repr(returned(array)) == repr(array)


@pytest.mark.parametrize("value", [1, "a", [1.5], {"a": None}, b"x", 2**70, 1j], ids=repr)
def test_what_can_travel_otherwise_is_not_pickled(value):
    """Allowing pickle changes nothing for it."""
    assert pickling.encode(value) == payload.encode(value)


def test_what_cannot_be_pickled_either_says_so():
    """A lambda, a lock, a socket."""
    with pytest.raises(TypeError, match=r"'function' cannot travel between processes.*not even pickled"):
        pickling.encode(lambda: None)


ran: list[str] = []


def explode() -> None:
    ran.append("boom")


class Bomb:
    """Runs code where its pickle is loaded."""

    def __reduce__(self) -> Any:
        return explode, ()


def test_a_pickle_that_nobody_allowed_is_refused_unread():
    """It is not even looked at, alone or by an annotation."""
    data = pickling.encode([Bomb()])
    for decoder in (payload.UNTYPED, payload.decoder(list[int]), payload.decoder(list[complex | None])):
        with pytest.raises(ValueError, match=r"allow_pickle|got `ext`"):
            decoder.decode(data)
    assert ran == []
    with pytest.raises(ValueError, match="Expected `complex`"):
        pickling.decoder(list[complex]).decode(data)
    assert ran == ["boom"]


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps(Opaque(1))[:-3], b"cno_such_module\nx\n."])
def test_a_broken_pickle_is_an_error_of_decoding(data):
    """Whatever loading raises."""
    with pytest.raises(ValueError, match="a pickled value that cannot be loaded"):
        pickling.decode(msgspec.msgpack.encode(Ext(payload.PICKLE, data)))


def test_two_pools_do_not_share_what_they_may():
    """A codec that pickles leaves the others alone."""
    with pytest.raises(TypeError, match="cannot travel"):
        Codec().encode(Opaque(1))
