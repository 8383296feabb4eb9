"""The reader of frames: any frames, cut anywhere, are the same frames; anything else is refused before it costs."""

import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncpool.protocol import messages
from asyncpool.protocol.wire import Frame, FrameError, FrameReader
from tests.support.often import often

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

LIMIT = 128 * 2**20

sizes = st.one_of(st.integers(1, 40), st.integers(65_500, 65_560), st.integers(65_536, 200_000))


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a body and its buffers; the bytes tell their own place, so that a shifted copy shows."""
    body, buffers = draw(sizes), draw(st.one_of(st.just(0), sizes))
    start = draw(st.integers(0, 250))
    pattern = bytes((start + number) % 251 for number in range(251))
    content = pattern * ((body + buffers) // 251 + 1)
    return content[:body], content[body : body + buffers]


def received(reader: FrameReader, data: bytes, cuts: list[int]) -> list[Frame]:
    """Hand *data* over in pieces that end at *cuts*, or where the reader has no more room."""
    found: list[Frame] = []
    at = 0
    for end in [*sorted(cuts), len(data)]:
        while at < end:
            room = reader.get_buffer()
            assert len(room) > 0
            count = min(len(room), end - at)
            room[:count] = data[at : at + count]
            at += count
            body = reader.lone(count)  # changes nothing, taken or not
            if body is None or len(found) % 2:
                found += reader.received(count)
            else:
                found.append((body, ()))
    return found


def feed(reader: FrameReader, data: bytes, cuts: list[int]) -> list[tuple[bytes, bytes]]:
    """Do the same, and return plain bytes."""
    found = received(reader, data, cuts)
    return [(bytes(body), b"".join(each.getvalue() for each in buffers)) for body, buffers in found]


def packed(body: bytes, buffers: bytes) -> bytes:
    return struct.pack("<II", len(body) + len(buffers), len(body)) + body + buffers


@settings(
    deadline=None, max_examples=often(150), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.lists(frames(), max_size=6), st.data())
def test_any_frames_cut_anywhere_are_the_same_frames(sent: list[tuple[bytes, bytes]], data: st.DataObject):
    """Where a stream is cut changes nothing of what comes out of it, nor of its order."""
    stream = b"".join(packed(*each) for each in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=30))
    reader = FrameReader(LIMIT)
    assert sent == feed(reader, stream, cuts)
    assert not reader.partial


@settings(deadline=None, max_examples=often(100))
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.binary(max_size=30)), min_size=1, max_size=8))
def test_byte_by_byte_is_as_good_as_at_once(sent: list[tuple[bytes, bytes]]):
    """One byte at a time, and all in one piece, are the same frames."""
    stream = b"".join(packed(*each) for each in sent)
    assert feed(FrameReader(LIMIT), stream, []) == feed(FrameReader(LIMIT), stream, list(range(len(stream)))) == sent


@settings(deadline=None, max_examples=often(100), suppress_health_check=SLOW)
@given(st.lists(st.lists(sizes, max_size=4), min_size=1, max_size=4), st.data())
def test_each_buffer_comes_out_by_itself_wherever_the_stream_is_cut(lengths: list[list[int]], data: st.DataObject):
    """As many as the message lists, each of its own length, with its own bytes."""
    sent = [[bytes([number % 251]) * size for number, size in enumerate(each)] for each in lengths]
    bodies = [messages.encode(messages.Result(1, messages.NOTHING, each)) for each in lengths]
    stream = b"".join(packed(body, b"".join(each)) for body, each in zip(bodies, sent, strict=True))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=30))
    reader = FrameReader(LIMIT, messages.lengths)
    found = received(reader, stream, cuts)
    assert [bytes(body) for body, _ in found] == bodies
    assert [[each.getvalue() for each in behind] for _, behind in found] == sent
    assert not reader.partial


@settings(deadline=None, max_examples=often(100))
@given(frames(), st.data())
def test_a_truncated_frame_never_comes_out(sent: tuple[bytes, bytes], data: st.DataObject):
    """A stream that ends early gives nothing, and is known to be cut."""
    stream = packed(*sent)
    end = data.draw(st.integers(1, len(stream) - 1))
    reader = FrameReader(LIMIT)
    assert feed(reader, stream[:end], []) == []
    assert reader.partial


@settings(deadline=None, max_examples=often(300))
@given(st.binary(min_size=8, max_size=200), st.integers(1, 10_000), st.integers(0, 200))
def test_garbage_is_frames_within_the_limit_or_refused(garbage: bytes, limit: int, cut: int):
    """Arbitrary bytes raise nothing but FrameError; and whatever comes out obeys the limit."""
    reader = FrameReader(limit)
    try:
        found = feed(reader, garbage, [min(cut, len(garbage))])
    except FrameError:
        return
    assert all(len(body) > 0 and len(body) + len(buffers) <= limit for body, buffers in found)


@settings(deadline=None, max_examples=often(100))
@given(st.integers(1_000_001, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_a_length_above_the_limit_allocates_nothing(total: int, body: int, more: int):
    """The header alone is judged: no memory is taken for what it claims."""
    reader = FrameReader(1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            feed(reader, struct.pack("<II", total, body) + b"\0" * more, [])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@settings(deadline=None, max_examples=often(200))
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("\t\n\r"), min_size=8))
def test_printed_text_is_always_refused_at_the_default_limit(text: str):
    """No text is the start of a frame: four printed characters are a length above 128 MiB."""
    with pytest.raises(FrameError, match="print"):
        feed(FrameReader(LIMIT), text.encode(), [])
