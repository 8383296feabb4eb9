"""numpy's values: what arrives is what was sent, and nothing that a worker says makes an array of something else."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
from msgspec.msgpack import Ext
from numpy.typing import NDArray

from asyncpool.protocol import arrays, payload

ROOT = Path(__file__).parents[2]
ITEMS = ["?", "i1", "u2", "<i4", ">i4", "i8", "u8", "f2", "f4", "f8", "g", "F", "D", "U3", "S3", "M8[ns]", "m8[D]"]
SHAPES = [(), (0,), (3,), (2, 3), (0, 3), (2, 3, 4), (1, 1, 1, 1)]


def named(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)


def untyped(value: Any) -> Any:
    return payload.decode(payload.encode(value))


def equal(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dtype_and_shape_arrive(item, shape):
    """Of every kind of item that is nothing but its bytes, in any number of dimensions."""
    sent = numpy.arange(24)[: numpy.prod(shape, dtype=int)].reshape(shape).astype(item)
    assert equal(sent, untyped(sent))


@pytest.mark.parametrize("item", ITEMS)
def test_a_scalar_arrives_as_itself(item):
    """Its type is kept where nothing is annotated."""
    sent = numpy.array([7]).astype(item)[0]
    arrived = untyped(sent)
    assert type(arrived) is type(sent)
    assert arrived.dtype == sent.dtype
    assert arrived == sent


@pytest.mark.parametrize("empty", [numpy.str_(""), numpy.bytes_(b"")], ids=["str_", "bytes_"])
def test_an_empty_text_arrives(empty):
    """It has no bytes, and takes the place of a character all the same."""
    arrived = untyped(empty)
    assert type(arrived) is type(empty)
    assert arrived == empty


def test_a_bool_fits_numpys():
    """As a float fits numpy's."""
    assert payload.decoder(numpy.bool_).decode(payload.encode(True)) is numpy.True_


def test_the_order_arrives():
    """An array in Fortran's order is laid out so again."""
    sent = numpy.asfortranarray(numpy.arange(6).reshape(2, 3))
    arrived = untyped(sent)
    assert arrived.flags.f_contiguous
    assert arrived.strides == sent.strides
    assert untyped(numpy.arange(6).reshape(2, 3)).flags.c_contiguous


@pytest.mark.parametrize(
    "view",
    [
        numpy.arange(12)[::2],
        numpy.arange(12)[::-1],
        numpy.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        numpy.broadcast_to(numpy.float64(3), (2, 2)),
        numpy.arange(12).reshape(3, 4)[:, 1:3],
    ],
    ids=["steps", "reversed", "transposed", "broadcast", "window"],
)
def test_what_is_not_contiguous_is_copied(view):
    """The items that the view shows arrive, and no others."""
    arrived = untyped(view)
    assert equal(view, arrived)
    assert arrived.flags.c_contiguous


def test_an_array_arrives_writable():
    """It is the receiver's own: two decodings of one frame share nothing."""
    encoded = payload.encode(numpy.zeros(3))
    first, second = payload.decode(encoded), payload.decode(encoded)
    first[0] = 7
    assert second.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (numpy.zeros(2), NDArray[numpy.float64]),
        (numpy.zeros(2), NDArray[numpy.floating]),
        (numpy.zeros(2), NDArray[Any]),
        (numpy.zeros(2), numpy.ndarray),
        (numpy.zeros(2), numpy.ndarray | None),
        ([numpy.zeros(2)], list[NDArray[numpy.float64]]),
        (numpy.int8(3), numpy.int8),
        (numpy.int8(3), numpy.integer),
    ],
    ids=named,
)
def test_arrays_and_scalars_by_annotation(value, annotation):
    """An annotation may name the class, or the kind of the items too."""
    arrived = payload.decoder(annotation).decode(payload.encode(value))
    assert type(arrived) is type(value)
    assert numpy.array_equal(arrived, value)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (numpy.float64(1.5), float, 1.5),
        (numpy.float32(1.5), float, 1.5),
        (numpy.int8(3), int, 3),
        (numpy.bool_(True), bool, True),
        (numpy.str_("a"), str, "a"),
        (numpy.complex64(1j), complex, 1j),
        (numpy.complex128(1j), complex, 1j),
        ([numpy.float64(1)], list[float], [1.0]),
        ({"a": numpy.int64(1)}, dict[str, int], {"a": 1}),
        (numpy.float64(1.5), int | float, 1.5),
        (1.5, numpy.float32, numpy.float32(1.5)),
        (7, numpy.int8, numpy.int8(7)),
        (7, numpy.float64, numpy.float64(7)),
        (1j, numpy.complex128, numpy.complex128(1j)),
    ],
    ids=named,
)
def test_numbers_of_numpy_and_of_python_serve_for_each_other(value, annotation, expected):
    """A command that wants a float takes numpy's, and the other way round."""
    arrived = payload.decoder(annotation).decode(payload.encode(value))
    assert type(arrived) is type(expected)
    assert arrived == expected


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (numpy.float64(1.5), int),
        (numpy.int8(1), bool),
        (numpy.datetime64("2020-01-01"), int),
        (1.5, numpy.int64),
        (300, numpy.int8),
        (True, numpy.int8),
        ("a", numpy.str_),
        (numpy.float32(1), numpy.float64),
        (numpy.zeros(2, "i4"), NDArray[numpy.float64]),
        ([1.0], numpy.ndarray),
        (2**70, numpy.ndarray),
        (numpy.zeros(2), list[float]),
        (numpy.zeros(2), float),
    ],
    ids=named,
)
def test_what_does_not_fit_is_refused(value, annotation):
    """Nothing is rounded, cut or guessed."""
    with pytest.raises((msgspec.ValidationError, TypeError, ValueError)):
        payload.decoder(annotation).decode(payload.encode(value))


@pytest.mark.parametrize("annotation", [numpy.dtype, numpy.random.Generator, numpy.ma.MaskedArray])
def test_other_classes_of_numpy_are_no_annotation(annotation):
    """What could not arrive is refused at the start."""
    with pytest.raises(TypeError, match="cannot travel"):
        payload.decoder(annotation)


def array(*parts: object, code: int = payload.ARRAY) -> bytes:
    return msgspec.msgpack.encode(Ext(code, msgspec.msgpack.encode(parts)))


@pytest.mark.parametrize(
    "data",
    [
        array("<i4", [2], "C", bytes(7)),
        array("<i4", [2], "C", bytes(9)),
        array("<i4", [-1], "C", b""),
        array("<i4", [-2, -1], "C", bytes(8)),
        array("<i4", [2**62, 4], "C", b""),
        array("<i4", [2**70 % 2**63, 0], "C", b""),
        array("<i4", [1] * 100, "C", bytes(4)),
        array("<i4", [2], "X", bytes(8)),
        array("O", [1], "C", bytes(8)),
        array("|O", [1], "C", bytes(8)),
        array("i4,i4", [1], "C", bytes(8)),
        array("|V8", [1], "C", bytes(8)),
        array("no such", [1], "C", bytes(8)),
        array("(", [1], "C", bytes(8)),
        array("<i4"),
        array("<i4", "2", "C", b""),
        array("|O", bytes(8), code=payload.SCALAR),
        array("<i4", bytes(3), code=payload.SCALAR),
        array("<i4", code=payload.SCALAR),
        msgspec.msgpack.encode(Ext(payload.ARRAY, b"")),
        msgspec.msgpack.encode(Ext(payload.SCALAR, b"\xc1")),
    ],
    ids=range(21),
)
def test_whatever_a_worker_calls_an_array_is_checked(data):
    """No object is made of bytes, and no memory is touched that did not come: it is one of the errors of decoding."""
    for decode in (payload.decode, payload.decoder(numpy.ndarray | None).decode):
        try:
            arrived = decode(data)
        except (msgspec.DecodeError, TypeError, ValueError):
            continue
        assert arrived.size == 0


def test_nobody_imports_numpy_for_its_own_sake():
    """Encoding, decoding and refusing leave it alone; only a codec that may import does, once an array arrives."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from asyncpool.protocol import payload
data = {payload.encode(numpy.zeros(2))!r}
payload.decoder(list[int]).decode(payload.encode([1]))
try:
    payload.encode(object())
except TypeError:
    pass
try:
    payload.decode(data)
except ValueError as error:
    print(error)
print("numpy" in sys.modules, payload.Codec(imports=True).decode(data).tolist(), "numpy" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env={}).stdout
    assert "numpy is not imported in this process: import it" in out
    assert out.splitlines()[-1] == "False [0.0, 0.0] True"


def test_numpy_half_imported_is_not_used(monkeypatch):
    """While another thread imports it, it counts as not there."""
    monkeypatch.setitem(sys.modules, "numpy", type(sys)("numpy"))
    assert arrays.loaded() is None
