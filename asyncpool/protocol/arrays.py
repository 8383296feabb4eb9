"""numpy's scalars and arrays <-> the data of an ext value.

numpy is imported by whoever uses it, never by this file alone: what is not in ``sys.modules`` has no arrays to send.
A worker may import it for what it is sent; the parent imports nothing because of what a worker says.
"""

from __future__ import annotations

import math
import sys
from typing import Any, get_args, get_origin

import msgspec

from asyncpool.protocol.received import Received

CODE = 4  # of the ext value that is an array
_KINDS = "biufcmMSU"  # of numpy.dtype.kind: what is nothing but its bytes
_NUMBERS = "biufcSU"  # what has a built-in counterpart that loses nothing

_encode = msgspec.msgpack.Encoder().encode
_array = msgspec.msgpack.Decoder(tuple[str, list[int], str, memoryview]).decode
_scalar = msgspec.msgpack.Decoder(tuple[str, memoryview]).decode


def loaded() -> Any:
    """Return the module numpy if it is imported already, whole; else None."""
    numpy = sys.modules.get("numpy")
    return numpy if numpy is not None and "ndarray" in vars(numpy) and "generic" in vars(numpy) else None


def is_scalar(value: Any) -> bool:
    """Return whether *value* is one of numpy's scalars."""
    numpy = loaded()
    return numpy is not None and isinstance(value, numpy.generic)


def is_array(value: Any) -> bool:
    """Return whether *value* is an array."""
    numpy = loaded()
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_plain_array(value: Any) -> bool:
    """Return whether *value* is an array that can travel: of no subclass, and of nothing but bytes."""
    return is_array(value) and type(value) is loaded().ndarray and _travels(value.dtype)


def memory(array: Any) -> tuple[memoryview, str]:
    """Return the items of an array as bytes, and their order; what is not contiguous is copied in C order."""
    order = _order(array)
    flat = array.ravel(order=order)
    return flat.view(loaded().uint8).data.toreadonly(), order


def over(data: bytearray | Received, name: str, shape: list[int], order: str, *, imports: bool) -> Any:
    """Return an array whose items are *data*, which it keeps.

    Raises:
        ValueError: They are not, or numpy is not imported.
    """
    numpy = _numpy(imports)
    dtype = _dtype(numpy, name)
    size = len(data) if isinstance(data, bytearray) else data.size
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size or order not in ("C", "F"):
        raise ValueError(f"an array of {name}, shape {shape} and order {order!r} has not {size} bytes")
    if isinstance(data, bytearray):
        return numpy.ndarray(shape, dtype, data, order=order)
    # Only now is there a view that stays: a traceback must not keep one. frombuffer keeps the memoryview, and so the
    # memory counts as used. numpy.ndarray(buffer=view) would drop it and keep view.obj, and the memory would count as
    # free; so it would for a user who makes an array with buffer=array.base.base.
    return numpy.frombuffer(data.getbuffer(), dtype).reshape(shape, order=order)


def can_decode(cls: Any) -> bool:
    """Return whether *cls* is the class of arrays or of a scalar."""
    numpy = loaded()
    return numpy is not None and isinstance(cls, type) and (cls is numpy.ndarray or issubclass(cls, numpy.generic))


def encode_scalar(value: Any) -> bytes:
    """Return dtype and bytes.

    Raises:
        TypeError: It holds a Python object, or fields.
    """
    _check(value.dtype)
    if not value.dtype.itemsize:
        value = loaded().asarray(value)  # an empty text, which takes a character's place all the same
    return _encode((value.dtype.str, value.tobytes()))


def encode_array(array: Any) -> bytes:
    """Return dtype, shape, order and items; what is not contiguous is copied in C order.

    Raises:
        TypeError: It is of a subclass, of objects, or has fields.
    """
    if type(array) is not loaded().ndarray:
        name = f"{type(array).__module__}.{type(array).__qualname__}"
        raise TypeError(f"a '{name}' cannot travel: it would arrive as a plain array. Send numpy.asarray(it)")
    _check(array.dtype)
    order = _order(array)
    return _encode((array.dtype.str, array.shape, order, array.tobytes(order)))


def decode_array(data: memoryview, *, imports: bool) -> Any:
    """Return a new array, which may be written to.

    Raises:
        ValueError: The data are no array, or numpy is not imported.
    """
    _numpy(imports)
    name, shape, order, items = _array(data)
    return over(bytearray(items), name, shape, order, imports=imports)


def decode_scalar(data: memoryview, *, imports: bool) -> Any:
    """Return the scalar.

    Raises:
        ValueError: The data are no scalar, or numpy is not imported.
    """
    numpy = _numpy(imports)
    name, item = _scalar(data)
    dtype = _dtype(numpy, name)
    if dtype.itemsize != len(item):
        raise ValueError(f"a {name} has not {len(item)} bytes")
    return numpy.ndarray((), dtype, bytes(item))[()]


def as_builtin(scalar: Any) -> Any:
    """Return the built-in number or text that a scalar stands for, or itself where there is none."""
    return scalar.item() if scalar.dtype.kind in _NUMBERS else scalar


def fit(annotation: Any, value: Any) -> Any:
    """Return *value* as the array or scalar that *annotation* asks for.

    Raises:
        TypeError: It is something else.
        ValueError: It is out of the scalar's range.
    """
    cls = get_origin(annotation) or annotation
    if isinstance(value, cls):
        _check_items(annotation, value)
        return value
    numpy = loaded()
    if issubclass(cls, numpy.generic):
        widened = (numpy.floating, int, float), (numpy.complexfloating, int, float, complex), (numpy.integer, int)
        if issubclass(cls, numpy.bool_) and type(value) is bool:
            return cls(value)
        for kind, *builtin in widened:
            if issubclass(cls, kind) and type(value) in builtin:
                return _narrowed(cls, value)
    raise TypeError(f"Expected `{cls.__qualname__}`, got `{type(value).__qualname__}`")


def _narrowed(cls: Any, value: Any) -> Any:
    try:
        return cls(value)
    except OverflowError:
        raise ValueError(f"Expected `{cls.__qualname__}`, got {value}") from None


def _check_items(annotation: Any, value: Any) -> None:
    """Check the items of an array against ``NDArray[item]``."""
    generic = loaded().generic
    for argument in get_args(annotation)[1:]:
        for item in get_args(argument):
            if isinstance(item, type) and issubclass(item, generic) and not issubclass(value.dtype.type, item):
                raise TypeError(f"Expected an array of `{item.__qualname__}`, got one of `{value.dtype}`")


def _order(array: Any) -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _travels(dtype: Any) -> bool:
    return dtype.kind in _KINDS and not dtype.hasobject


def _check(dtype: Any) -> None:
    if not _travels(dtype):
        raise TypeError(
            f"a numpy value of dtype {dtype} cannot travel: only numbers, dates and text of a fixed length can. "
            "Send objects as a list, and a structured array as a dict of its columns"
        )


def _numpy(imports: bool) -> Any:
    numpy = loaded()
    if numpy is None and imports:
        import numpy
    if numpy is None:
        raise ValueError("a numpy value, and numpy is not imported in this process: import it before the call")
    return numpy


def _dtype(numpy: Any, name: str) -> Any:
    try:
        dtype = numpy.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        raise ValueError(f"numpy knows no dtype {name!r}") from None
    if not _travels(dtype):
        raise ValueError(f"a numpy value of dtype {name!r}, which does not travel")
    return dtype
