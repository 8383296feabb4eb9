"""Frames: what the sender packs, what the reader takes apart, what it refuses, and how it says so."""

import struct
import tracemalloc

import pytest

from asyncpool.protocol import wire
from asyncpool.protocol.wire import FrameError, FrameReader

LIMIT = 128 * 2**20


def feed(reader: FrameReader, data: bytes, piece: int | None = None) -> list[tuple[bytes, bytes]]:
    """Hand *data* over as a transport does, at most *piece* bytes at a time."""
    frames = []
    while data:
        target = reader.get_buffer()
        assert len(target) > 0
        count = min(len(target), len(data), piece or len(data))
        target[:count] = data[:count]
        data = data[count:]
        frames += [
            (bytes(body), b"".join(each.getvalue() for each in buffers)) for body, buffers in reader.received(count)
        ]
    return frames


def packed(body: bytes, buffers: bytes = b"") -> bytes:
    """Write a frame as the design has it, independent of the code."""
    return struct.pack("<II", len(body) + len(buffers), len(body)) + body + buffers


def test_a_frame_is_two_lengths_and_its_body():
    """The header is total and body as unsigned little-endian 32-bit numbers; without buffers the two are equal."""
    assert wire.frame(b"abc") == b"\x03\x00\x00\x00\x03\x00\x00\x00abc"


def test_a_whole_frame_comes_out_once():
    """A frame that came in one piece is returned by the call that took its last byte."""
    assert feed(FrameReader(LIMIT), wire.frame(b"abc")) == [(b"abc", b"")]


def test_buffers_follow_the_body():
    """What lies between the body's end and the total is handed out apart from the body."""
    assert feed(FrameReader(LIMIT), packed(b"abc", b"12345")) == [(b"abc", b"12345")]


def test_nothing_comes_out_before_the_last_byte():
    """A frame that lacks one byte is not there yet; with that byte it is."""
    reader = FrameReader(LIMIT)
    whole = packed(b"abc", b"12")
    assert feed(reader, whole[:-1]) == []
    assert feed(reader, whole[-1:]) == [(b"abc", b"12")]


def test_frames_may_come_byte_by_byte():
    """Cuts within the header, the body and the buffers make no difference."""
    data = packed(b"first", b"x") + packed(b"second")
    assert feed(FrameReader(LIMIT), data, piece=1) == [(b"first", b"x"), (b"second", b"")]


def test_many_frames_in_one_piece_come_out_in_order():
    """One chunk may hold any number of frames and the start of a further one."""
    reader = FrameReader(LIMIT)
    bodies = [str(number).encode() for number in range(1000)]
    data = b"".join(map(packed, bodies))
    assert [(body, b"") for body in bodies] == feed(reader, data + packed(b"last")[:7])
    assert feed(reader, packed(b"last")[7:]) == [(b"last", b"")]


@pytest.mark.parametrize("size", [2**16 - 9, 2**16 - 8, 2**16 - 7, 2**16, 2**16 + 1, 3 * 2**16 + 5])
@pytest.mark.parametrize("piece", [None, 1000])
def test_frames_around_and_above_64_kib_pass(size: int, piece: int | None):
    """No size is special to who sends: frames just below, at and above the reader's ring arrive like all others."""
    body = bytes(number % 251 for number in range(size))
    data = packed(b"before") + packed(body[:10], body[10:]) + packed(b"after", b"x")
    expected = [(b"before", b""), (body[:10], body[10:]), (b"after", b"x")]
    assert expected == feed(FrameReader(LIMIT), data, piece)


def test_a_frame_outlives_what_is_received_after_it():
    """A frame that was handed out is not overwritten by later bytes, small or large."""
    reader = FrameReader(LIMIT)
    kept = []
    for letter in (b"a", b"b", b"c"):
        for size in (10, 100_000):
            data = packed(letter * size, letter * 3)
            while data:
                target = reader.get_buffer()
                assert len(target) > 0
                count = min(len(target), len(data))
                target[:count] = data[:count]
                data = data[count:]
                kept += reader.received(count)
    expected = [(letter * size, letter * 3) for letter in (b"a", b"b", b"c") for size in (10, 100_000)]
    assert expected == [(bytes(body), b"".join(each.getvalue() for each in buffers)) for body, buffers in kept]


def test_there_is_always_room_for_more():
    """get_buffer() is never empty, wherever the stream was cut: a transport takes an empty buffer for an error."""
    reader = FrameReader(LIMIT)
    data = (packed(b"x" * 100) * 1500 + packed(b"y" * 200_000)) * 2
    while data:
        room = reader.get_buffer()
        assert len(room) > 0
        count = min(len(room), len(data), 4099)
        room[:count] = data[:count]
        data = data[count:]
        reader.received(count)
    assert len(reader.get_buffer()) > 0


def test_partial_tells_a_clean_end_from_a_broken_one():
    """While a frame is half received, and only then, the end of the stream cuts one."""
    reader = FrameReader(LIMIT)
    assert not reader.partial
    feed(reader, packed(b"abc")[:5])
    assert reader.partial
    feed(reader, packed(b"abc")[5:])
    assert not reader.partial
    feed(reader, packed(b"x" * 100_000)[:90_000])
    assert reader.partial
    feed(reader, packed(b"x" * 100_000)[90_000:])
    assert not reader.partial


def test_the_limit_itself_is_allowed():
    """A total equal to the limit passes; one byte more does not."""
    assert feed(FrameReader(1000), packed(b"x" * 1000)) == [(b"x" * 1000, b"")]
    with pytest.raises(FrameError, match=r"1,001 bytes, above the limit of 1,000"):
        feed(FrameReader(1000), packed(b"x" * 1001))


def test_buffers_count_toward_the_limit():
    """The limit is on the total: a small body with large buffers is refused too."""
    with pytest.raises(FrameError, match="above the limit"):
        feed(FrameReader(1000), packed(b"x", b"y" * 1000))


def test_the_limit_may_change_between_frames():
    """Once a worker is ready it may send larger frames than its greeting."""
    reader = FrameReader(10)
    feed(reader, packed(b"x" * 10))
    reader.limit = 20
    assert feed(reader, packed(b"x" * 20)) == [(b"x" * 20, b"")]


@pytest.mark.parametrize(("total", "body"), [(0, 0), (5, 0), (5, 6), (0, 5), (2**32 - 1, 0)])
def test_impossible_lengths_are_refused(total: int, body: int):
    """A body is never empty and never longer than its frame."""
    with pytest.raises(FrameError, match="impossible lengths"):
        feed(FrameReader(LIMIT), struct.pack("<II", total, body))


def test_a_huge_length_is_refused_by_its_header_alone():
    """The limit is checked before anything is allocated: eight bytes cannot make the reader take 4 GiB."""
    reader = FrameReader(LIMIT)
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="above the limit"):
            feed(reader, struct.pack("<II", 2**32 - 1, 2**32 - 1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    "text", [b"Hello, world\n", b"Traceback (most recent call last):", b"\t\t\t\t\t\t\t\t", b"\r\n\r\n\r\n\r\n"]
)
def test_printed_text_is_refused_with_a_hint(text: bytes):
    """At the default limit a length made of printed text always fails, and the error says what it looks like."""
    with pytest.raises(FrameError, match="print") as caught:
        feed(FrameReader(LIMIT), text)
    assert repr(text) in str(caught.value)


def test_binary_garbage_is_quoted_without_the_hint():
    """Bytes that do not look like text are shown, and nobody is accused of printing."""
    with pytest.raises(FrameError) as caught:
        feed(FrameReader(LIMIT), b"\xff" * 16)
    assert repr(b"\xff" * 16) in str(caught.value)
    assert "print" not in str(caught.value)


def test_a_quote_is_short():
    """However much garbage came, an error shows a line of it."""
    with pytest.raises(FrameError) as caught:
        feed(FrameReader(LIMIT), b"spam " * 10_000)
    assert len(str(caught.value)) < 500


def test_nothing_to_quote_is_not_quoted():
    """An error about no bytes at all ends with its sentence."""
    assert wire.quote(b"") == ""


def test_good_frames_before_a_bad_one_were_handed_out():
    """What came in earlier chunks counts, whatever follows."""
    reader = FrameReader(LIMIT)
    assert feed(reader, packed(b"good")) == [(b"good", b"")]
    with pytest.raises(FrameError):
        feed(reader, b"this is printed text")
