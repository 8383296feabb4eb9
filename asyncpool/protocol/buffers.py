"""Large values, which travel as buffers behind the body of their message instead of within it.

Law 1: only a whole argument, result or update is taken out; what lies within another value stays there.
Law 2: nothing is copied on the way out: the buffer is the value's own memory, which must stay as it is until it is sent
       for the last time. Only an array that is not contiguous is copied.
Law 3: each buffer is received into memory of its own, which the value then takes over: no small array keeps the memory
       of a large neighbour, and a value of bytes is not copied again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.msgpack import Ext

from asyncpool import types
from asyncpool.protocol import arrays, messages
from asyncpool.protocol.received import Received, spares
from asyncpool.protocol.wire import Buffer

LEAST = 2**16  # bytes; what is smaller stays in the body
CODE = 7  # of the ext value that stands in the body for a value that is behind it

# No value of these is ever taken out: whether there is anything else to look at is one look at the types.
INSIDE = frozenset((type(None), bool, int, float, str, list, tuple, dict, set))

_EXTS = frozenset((*range(0xC7, 0xCA), *range(0xD4, 0xD9)))  # MessagePack's first byte of an ext value
_BYTES = b"\x91"  # how the place of bytes begins: an array of one element
_encode = msgspec.msgpack.Encoder().encode
_ext = msgspec.msgpack.Decoder(Ext).decode
_raw_list = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_raw_map = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_place = msgspec.msgpack.Decoder(tuple[int]).decode
_place_of_array = msgspec.msgpack.Decoder(tuple[int, str, list[int], str]).decode


def take_out(value: Any, buffers: list[Buffer]) -> Any:
    """Return *value*, or what stands for it in the body once its buffer is appended to *buffers*."""
    kind = type(value)
    if kind is bytes or kind is bytearray:
        if len(value) < LEAST:
            return value
        buffers.append(value)
    elif kind is memoryview:
        if value.nbytes < LEAST or not value.c_contiguous:
            return value
        buffers.append(value.cast("B"))
    elif arrays.is_plain_array(value) and value.nbytes >= LEAST and kind not in types.by_class:
        data, order = arrays.memory(value)
        buffers.append(data)
        return Ext(CODE, _encode((len(buffers) - 1, value.dtype.str, value.shape, order)))
    else:
        return value
    return Ext(CODE, _encode((len(buffers) - 1,)))


def take_all_out(
    args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any], list[Buffer], list[int]]:
    """Do the same with each argument; returns what stands in the body, the buffers, and their lengths."""
    buffers: list[Buffer] = []
    inside = [take_out(value, buffers) for value in args]
    named = {name: take_out(value, buffers) for name, value in kwargs.items()}
    return inside, named, buffers, [len(each) for each in buffers]


def find(data: Buffer | msgspec.Raw) -> bytes | None:
    """Return the place of the value that is behind the body, encoded, if *data* stands for one; else None."""
    if memoryview(data)[0] not in _EXTS:
        return None
    ext = _ext(data)
    return bytes(ext.data) if ext.code == CODE else None


def open_value(place: bytes, received: list[Received | None], *, imports: bool) -> Any:
    """Return the value at *place*: bytes, or an array.

    Raises:
        ValueError: It is no place, or the place of a value that is not there, or was taken.
    """
    if place[:1] == _BYTES:
        (number,) = _place(place)
        return _taken(number, received).getvalue()
    number, dtype, shape, order = _place_of_array(place)
    buffer = _taken(number, received)
    array = arrays.over(buffer, dtype, shape, order, imports=imports)
    spares.watch(buffer)
    return array


def put_back(body: bytes, buffers: Sequence[Buffer]) -> bytes:
    """Return an encoded Call with its large arguments within it, for a worker that takes no buffers."""

    def whole(raw: msgspec.Raw) -> Any:
        place = find(raw)
        if place is None:
            return raw
        if place[:1] == _BYTES:
            return buffers[_place(place)[0]]
        number, dtype, shape, order = _place_of_array(place)
        return Ext(arrays.CODE, _encode((dtype, shape, order, buffers[number])))

    message = messages.decode_to_worker(body)
    assert isinstance(message, messages.Call)
    args = [whole(raw) for raw in _raw_list(message.args)]
    kwargs = {name: whole(raw) for name, raw in _raw_map(message.kwargs).items()}
    return _encode(
        messages.call(message.id, message.command, args, kwargs, message.deadline, message.credit, message.meta)
    )


def _taken(number: int, received: list[Received | None]) -> Received:
    """Return the buffer of this number; nothing keeps it any more but its value."""
    buffer = received[number] if 0 <= number < len(received) else None
    if not isinstance(buffer, Received):
        raise ValueError(f"a value in buffer {number}, which did not come or was taken: {len(received)} came")
    received[number] = None
    return buffer
