"""The worker's end of the wire: any frames, cut anywhere, are the same frames, whether or not it reads ahead.

Where the stream is cut is for the kernel to say, and for the test: each read finds what is left of the piece before, or
else the next piece. So nothing waits, and no thread is needed.
"""

import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncpool.protocol import messages
from asyncpool.protocol.wire import HEADER
from asyncpool.worker import channel as module
from asyncpool.worker.channel import AHEAD, Channel
from tests.support.often import often

LIMIT = 128 * 2**20
ROOM = 2**15  # bytes that a socket surely takes at once

# Around what is read ahead, and what is large: a header and some more bytes of two frames are in one read.
sizes = st.one_of(st.integers(1, 40), st.integers(AHEAD - 60, AHEAD + 60), st.integers(65_500, 100_000))


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw a body and what is behind it; the bytes tell their own place, so that a shifted copy shows."""
    lengths = draw(st.lists(sizes, max_size=3))
    start = draw(st.integers(0, 250))
    pattern = bytes((start + number) % 251 for number in range(251)) * 400
    if not lengths:
        return pattern[: draw(sizes)], []
    call = messages.call(7, "pet", [pattern[: draw(sizes)]], {}, None, 0, {}, lengths)
    return messages.encode(call), [pattern[:length] for length in lengths]


def packed(body: bytes, buffers: Sequence[bytes]) -> bytes:
    return struct.pack("<II", len(body) + sum(map(len, buffers)), len(body)) + body + b"".join(buffers)


class Feeder:
    """Stands for ``os`` in the channel, and puts the next piece into the socket when a read would find nothing."""

    def __init__(self, end: socket.socket, pieces: Sequence[bytes]) -> None:
        self._end = end
        self._left = deque(pieces)
        self._there = 0  # bytes in the socket
        self.taken = 0  # bytes that were read

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def read(self, descriptor: int, most: int) -> bytes:
        self._feed()
        data = os.read(descriptor, most)
        self._note(len(data))
        return data

    def readv(self, descriptor: int, buffers: Sequence[memoryview]) -> int:
        self._feed()
        count = os.readv(descriptor, buffers)
        self._note(count)
        return count

    def _feed(self) -> None:
        if self._there:
            return
        if self._left:
            piece = self._left.popleft()
            self._end.sendall(piece)
            self._there = len(piece)
        else:
            self._end.shutdown(socket.SHUT_WR)

    def _note(self, count: int) -> None:
        self._there -= count
        self.taken += count


def cuts(sent: Sequence[tuple[bytes, list[bytes]]]) -> st.SearchStrategy[list[int]]:
    """Draw places to cut the stream at: anywhere, or around where a frame begins."""
    begins = [0, *itertools.accumulate(len(packed(*each)) for each in sent)]
    around = st.builds(int.__add__, st.sampled_from(begins), st.integers(0, 2 * HEADER.size))
    return st.lists(st.one_of(st.integers(0, begins[-1]), around), max_size=30)


def cut(stream: bytes, ends: Sequence[int]) -> list[bytes]:
    """Return *stream* in pieces that end at *ends*, or where the socket may be full."""
    ends = sorted({*(end for end in ends if 0 < end < len(stream)), *range(ROOM, len(stream), ROOM), len(stream)} - {0})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@contextmanager
def feeding(stream: bytes, ends: Sequence[int]) -> Iterator[tuple[Channel, Feeder]]:
    """Give a channel to which *stream* comes in pieces."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        feeder = Feeder(ours, cut(stream, ends))
        with mock.patch.object(module, "os", feeder):
            yield Channel(theirs.fileno(), theirs.fileno(), LIMIT), feeder


def receive(channel: Channel) -> tuple[bytes, list[bytes]] | None:
    body = channel.receive()
    buffers = [each.getvalue() for each in channel.take_buffers()]
    return None if body is None else (bytes(body), buffers)


many = settings(deadline=None, max_examples=often(120), suppress_health_check=[HealthCheck.too_slow])


@many
@given(st.lists(frames(), max_size=6), st.data())
def test_any_frames_cut_anywhere_are_the_same_frames(sent: list[tuple[bytes, list[bytes]]], data: st.DataObject):
    """Each comes whole and in its turn, its own buffers with it, also where it begins or ends to read ahead."""
    stream = b"".join(packed(*each) for each in sent)
    ahead = data.draw(st.lists(st.sampled_from([None, True, False]), min_size=len(sent), max_size=len(sent)))
    with feeding(stream, data.draw(cuts(sent))) as (channel, feeder):
        for expected, change in zip(sent, ahead, strict=True):
            if change is not None:
                (channel.read_ahead if change else channel.read_frame_by_frame)()
            assert receive(channel) == expected
        assert feeder.taken == len(stream)
        assert receive(channel) is None


@many
@given(st.lists(frames(), min_size=1, max_size=4), st.data())
def test_who_reads_frame_by_frame_leaves_the_next_one_in_the_kernel(
    sent: list[tuple[bytes, list[bytes]]], data: st.DataObject
):
    """What lies there when the worker dies proves that it was never begun; also where it had read ahead before."""
    stream = b"".join(packed(*each) for each in sent)
    before = data.draw(st.integers(0, len(sent) - 1))  # frames that come before it is told to
    with feeding(stream, data.draw(cuts(sent))) as (channel, feeder):
        end = taken = 0
        for number, expected in enumerate(sent):
            if before and number in (0, before):
                (channel.read_frame_by_frame if number else channel.read_ahead)()
            assert receive(channel) == expected
            end += len(packed(*expected))
            taken = feeder.taken if number < before else max(taken, end)
            assert feeder.taken == taken


@many
@given(st.lists(frames(), min_size=1, max_size=3), st.booleans(), st.data())
def test_a_truncated_frame_never_comes_out(sent: list[tuple[bytes, list[bytes]]], ahead: bool, data: st.DataObject):
    """Those before it do; then it is the end of input, as if it had never begun, without its buffers."""
    whole = b"".join(packed(*each) for each in sent[:-1])
    last = packed(*sent[-1])
    stream = whole + last[: data.draw(st.integers(1, len(last) - 1))]
    with feeding(stream, data.draw(cuts(sent))) as (channel, _):
        if ahead:
            channel.read_ahead()
        for expected in sent[:-1]:
            assert receive(channel) == expected
        assert receive(channel) is None


@many
@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8), st.booleans())
def test_byte_by_byte_is_as_good_as_at_once(bodies: list[bytes], ahead: bool):
    """One byte at a time, and all in one piece, are the same frames."""
    stream = b"".join(packed(body, []) for body in bodies)
    for ends in ([], range(len(stream))):
        with feeding(stream, ends) as (channel, _):
            if ahead:
                channel.read_ahead()
            assert [receive(channel) for _ in bodies] == [(body, []) for body in bodies]
            assert receive(channel) is None
