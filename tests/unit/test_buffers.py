"""Large values: which are taken out of a body, that none is copied, and that each comes back as what it was."""

import gc
import struct
import sys
from typing import Any

import msgspec
import numpy
import pytest
from msgspec import Raw

from asyncpool.protocol import buffers, messages, payload, wire
from asyncpool.protocol.buffers import LEAST
from asyncpool.protocol.edge import Mismatch, Signature
from asyncpool.protocol.messages import Result
from asyncpool.protocol.received import room
from asyncpool.protocol.wire import FrameError, FrameReader

CODEC = payload.Codec(imports=True)
MAKE = [bytes, bytearray, lambda size: memoryview(bytes(size)), lambda size: numpy.zeros(size, numpy.uint8)]


def carried(value: Any) -> Result:
    """Send *value* as a result through frames, and return the message as it is received."""
    large: list[Any] = []
    inside = buffers.take_out(value, large)
    body = CODEC.encode(Result(1, inside, [len(each) for each in large]))
    data = struct.pack("<II", len(body) + sum(map(len, large)), len(body)) + body + b"".join(large)
    reader, at = FrameReader(2**30, messages.lengths), 0
    while True:
        room = reader.get_buffer()
        count = min(len(room), len(data) - at)
        room[:count] = data[at : at + count]
        at += count
        for received, behind in reader.received(count):
            message = messages.decode_to_parent(received)
            messages.attach(message, behind)
            assert isinstance(message, Result)
            return message


@pytest.mark.parametrize("make", MAKE, ids=["bytes", "bytearray", "memoryview", "array"])
@pytest.mark.parametrize(("size", "taken"), [(LEAST - 1, 0), (LEAST, 1)])
def test_values_of_64_kib_are_taken_out(make: Any, size: int, taken: int):
    """And nothing that is smaller, by a byte."""
    large: list[Any] = []
    assert (buffers.take_out(make(size), large) is not None, len(large)) == (True, taken)


@pytest.mark.parametrize(
    "value",
    [
        [bytes(LEAST)],
        "x" * LEAST,
        type("Own", (bytes,), {})(LEAST),
        memoryview(bytes(2 * LEAST))[::2],
        numpy.array([None] * LEAST),
        numpy.ma.masked_array(numpy.zeros(LEAST)),
        numpy.zeros(LEAST, [("a", "i4")]),
    ],
    ids=["nested", "text", "subclass", "strided view", "objects", "masked", "structured"],
)
def test_all_else_stays_in_the_body(value: Any):
    """What lies within a value; what is no bytes; and what cannot travel, whose error the encoder knows."""
    large: list[Any] = []
    assert buffers.take_out(value, large) is value
    assert large == []


def test_no_value_is_copied_on_its_way_out():
    """What is sent is the very memory of the value; of a bytearray nothing is held but itself, so that it can grow."""
    data, own, view, array = bytes(LEAST), bytearray(LEAST), memoryview(bytearray(LEAST)), numpy.zeros((256, 256))
    large: list[Any] = []
    for value in (data, own, view, array, numpy.asfortranarray(array)[:, :]):
        buffers.take_out(value, large)
    assert large[0] is data
    assert large[1] is own
    view[0] = 7
    array[0, 0] = 1.0
    assert large[2][0] == 7
    assert bytes(large[3][:8]) == array[0, :1].tobytes()
    assert large[4].nbytes == array.nbytes


def test_bytes_are_not_copied_on_their_way_in():
    """They are the memory that was received into."""
    (received,) = carried(bytes(LEAST)).buffers
    value = received.getvalue()
    assert value is received.getvalue()
    message = carried(bytes(LEAST))
    value = CODEC.untyped.decode_with(message.value, message.buffers)
    assert message.buffers == [None]
    assert value == bytes(LEAST)


@pytest.mark.parametrize(
    ("annotation", "kind"), [(Any, bytes), (bytes, bytes), (bytearray, bytearray), (memoryview, memoryview)]
)
@pytest.mark.parametrize("make", MAKE[:3], ids=["bytes", "bytearray", "memoryview"])
@pytest.mark.parametrize("size", [LEAST - 1, LEAST, 8 * 2**20])
def test_the_three_kinds_of_bytes_arrive_alike_at_any_size(make: Any, size: int, annotation: Any, kind: type):
    """As the annotation says, and as bytes without one: how they have travelled makes no difference."""
    message = carried(make(size))
    assert len(message.buffers) == (size >= LEAST)
    value = CODEC.decoder(annotation).decode_with(message.value, message.buffers)
    assert type(value) is kind
    assert value == bytes(size)


ARRAYS = {
    "C": numpy.arange(60_000, dtype=">i4").reshape(200, 300),
    "Fortran": numpy.asfortranarray(numpy.arange(60_000.0).reshape(200, 300)),
    "transposed": numpy.arange(60_000.0).reshape(200, 10, 30).transpose(1, 0, 2),
    "backwards": numpy.arange(60_000)[::-1],
    "dates": numpy.arange(60_000).astype("M8[s]"),
    "text": numpy.array(["Tom", "Fluffy"] * 6_000),
    "complex": numpy.arange(60_000) * 1j,
    "no dimension": numpy.array(b"x" * 70_000),
    "read-only": numpy.broadcast_to(numpy.arange(300.0), (200, 300)),
}


@pytest.mark.parametrize("annotation", [Any, numpy.ndarray, numpy.ndarray | None], ids=str)
@pytest.mark.parametrize("sent", ARRAYS.values(), ids=ARRAYS)
def test_arrays_arrive_bit_for_bit(sent: Any, annotation: Any):
    """Of the same dtype, shape and order, with memory of their own that may be written to."""
    message = carried(sent)
    assert message.buffers
    array = CODEC.decoder(annotation).decode_with(message.value, message.buffers)
    assert (array.dtype, array.shape, array.tobytes()) == (sent.dtype, sent.shape, sent.tobytes())
    assert array.flags.f_contiguous or not sent.flags.f_contiguous
    assert array.flags.writeable


def test_an_annotation_that_refuses_is_told_by_the_arguments_name():
    """As it would be for a value in the body."""

    def groom(name: str, data: list[int]) -> None: ...

    message = carried(bytes(LEAST))
    args = Raw(msgspec.msgpack.encode(["Tom", message.value]))
    with pytest.raises(Mismatch, match="argument 'data': Expected `array`, got `bytes`"):
        Signature(groom, strict=True).decode(args, Raw(b"\x80"), message.buffers)


def test_what_was_half_received_or_became_a_value_is_collected_in_silence():
    """In a cycle of garbage, a buffer beside a view of it would crash Python up to 3.12, and be told of later."""
    body = payload.encode(messages.call(1, "echo", [], {}, None, 0, {}, [LEAST]))
    reader = wire.Large(len(body) + LEAST, len(body), messages.lengths)
    reader.fill(body + bytes(100))
    values = []
    for sent, annotation in ((bytes(LEAST), memoryview), (numpy.zeros(LEAST), Any)):
        message = carried(sent)
        values.append(CODEC.decoder(annotation).decode_with(message.value, message.buffers))
    cycle: list[Any] = [reader, values]
    cycle.append(cycle)
    told: list[Any] = []
    del reader, values, message, cycle
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", told.append)
        gc.collect()
    assert told == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ([0], "buffer 0, which did not come or was taken: 1 came"),
        ([2], "buffer 2"),
        ([-1], "buffer -1"),
        ([1, "<f8", [2], "C"], "has not 5 bytes"),
        ([1, "<i1", [-5], "C"], "has not 5 bytes"),
        ([1, "O", [5], "C"], "does not travel"),
        (["x"], "Expected `int`"),
        ([1, 2], "of length 4, got 2"),
    ],
)
def test_a_place_where_nothing_is_is_refused(place: list[Any], words: str):
    """Whatever another program writes there: an error with the reason, and nothing is read twice."""
    came = [None, room(5)] if place != [0] else [None]
    raw = Raw(msgspec.msgpack.encode(msgspec.msgpack.Ext(7, msgspec.msgpack.encode(place))))
    with pytest.raises((ValueError, msgspec.ValidationError), match=words):
        CODEC.untyped.decode_with(raw, came)


def test_a_place_within_a_value_is_refused():
    """Only a whole one may be elsewhere."""
    with pytest.raises(ValueError, match="only a whole argument, result or update"):
        CODEC.decode(msgspec.msgpack.encode([msgspec.msgpack.Ext(7, b"\x91\x00")]))


@pytest.mark.parametrize(
    ("listed", "size"),
    [([], 5), ([4], 5), ([0, 5], 5), ([5, 1], 5), ([-1, 6], 5), ([2**70], 5), (["5"], 5), ([True, 4], 5)],
)
def test_lengths_that_are_not_those_of_the_buffers_are_no_frame(listed: list[Any], size: int):
    """Before any memory is taken for them."""
    body = payload.encode(messages.call(1, "echo", [], {}, None, 0, {}, listed))
    with pytest.raises(FrameError):
        messages.lengths(body, 5)


def test_a_message_that_may_be_skipped_may_have_buffers():
    """They are skipped with it; one that may not be is refused."""
    assert messages.lengths(msgspec.msgpack.encode([64, "new"]), 5) == [5]
    with pytest.raises(FrameError):
        messages.lengths(msgspec.msgpack.encode([50, "new"]), 5)
    with pytest.raises(FrameError, match="behind a message"):
        messages.lengths(messages.encode(messages.Ping(1)), 5)


def test_what_is_put_back_is_what_was_never_taken_out():
    """A worker that takes no buffers gets the body that it would have got."""
    args, kwargs = [1, bytes(LEAST), [2], numpy.arange(30_000.0)], {"name": bytearray(LEAST), "more": "x"}
    inside, named, large, lengths = buffers.take_all_out(args, kwargs)
    body = CODEC.encode(messages.call(7, "echo", inside, named, 1.5, 16, {"a": "b"}, lengths))
    assert len(body) < 200
    assert buffers.put_back(body, large) == CODEC.encode(
        messages.call(7, "echo", args, kwargs, 1.5, 16, {"a": "b"}, [])
    )
