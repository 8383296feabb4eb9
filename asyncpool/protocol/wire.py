"""Bytes <-> frames.

A frame is ``u32 LE total | u32 LE body | body | buffers`` with total = body + buffers. How long each of the buffers is,
only the message in the body says.

Law 1: *total* is checked against the limit before anything is allocated for it.
Law 2: a frame comes out once its last byte is in, never before; frames come out in order.
Law 3: nothing here does I/O. Whoever has bytes writes them into ``get_buffer()`` and says how many.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from asyncpool.protocol.received import Received, room

HEADER = struct.Struct("<II")
VERSION = 1
GREETING_LIMIT = 2**20  # bytes a worker may send in one frame until it is ready
RING = 2**16  # bytes; frames that fit are parsed in place, larger ones are received straight into their own buffer
CHUNK = 2**22  # bytes of a larger frame that are received at a time: to copy them takes a millisecond
QUOTED = 120  # bytes of a bad frame that an error shows

Buffer = bytes | bytearray | memoryview
Frame = tuple[Buffer, Sequence[Received]]  # a received one: the body, and the buffers behind it
Lengths = Callable[[Buffer, int], list[int]]  # of the buffers, from the body and the bytes behind it


class FrameError(Exception):
    """What came is not a frame; says why and quotes it."""


def frame(body: bytes) -> bytes:
    """Return *body* as a whole frame without buffers."""
    size = len(body)
    return HEADER.pack(size, size) + body


def check(total: int, body: int, limit: int, start: Buffer = b"") -> None:
    """Check a frame's header.

    Args:
        total: Bytes of body and buffers.
        body: Bytes of the body.
        limit: The largest allowed total, in bytes.
        start: What was received of the frame so far, for the error.

    Raises:
        FrameError: The lengths are impossible, or above *limit*.
    """
    if not 0 < body <= total:
        raise FrameError(f"impossible lengths (total {total}, body {body}){quote(start)}")
    if total > limit:
        raise FrameError(f"a length of {total:,} bytes, above the limit of {limit:,}{quote(start)}")


def quote(start: Buffer) -> str:
    """Return ``": b'...'"`` with the first bytes of *start*, and a hint when they look like printed text."""
    shown = bytes(start[:QUOTED])
    if not shown:
        return ""
    printed = all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in shown[:4])
    hint = " (did the program print to stdout?)" if printed else ""
    return f": {shown!r}{hint}"


def _one(body: Buffer, size: int) -> list[int]:
    return [size]


class FrameReader:
    """Turns received bytes, cut anywhere, into frames.

    Args:
        limit: The largest total that a frame may have, in bytes; may be changed between frames.
        lengths: Says how long the buffers are that are behind a body; raises FrameError where the body is wrong.
    """

    __slots__ = ("_end", "_large", "_lengths", "_ring", "_start", "_view", "limit", "partial")

    def __init__(self, limit: int, lengths: Lengths = _one) -> None:
        self.limit: int = limit
        self._lengths = lengths
        self.partial: bool = False  # a frame is half received
        self._ring = bytearray(RING)
        self._view = memoryview(self._ring)
        self._start = self._end = 0  # what of the ring is received and not yet parsed
        self._large: Large | None = None  # a frame too large for the ring

    def get_buffer(self) -> memoryview:
        """Return where the next bytes go; never empty, and no more than is quickly filled."""
        if self._large is not None:
            return self._large.rest[:CHUNK]
        return self._view[self._end :] if self._end else self._view

    def lone(self, count: int) -> bytearray | None:
        """Return the body if *count* new bytes are one whole frame without buffers, as nearly all chunks are.

        Nothing was taken note of where they are not: give them to ``received``.
        """
        if self._end or self._large is not None or count <= HEADER.size:
            return None
        total, body = HEADER.unpack_from(self._ring)
        if not body == total == count - HEADER.size <= self.limit:
            return None
        return self._ring[HEADER.size : count]  # a copy: the ring is overwritten, the frame stays

    def received(self, count: int) -> list[Frame]:
        """Take note of *count* new bytes in the buffer and return the frames that are now whole.

        Look again with 0 new bytes when some came and ``partial`` is true: what follows them may be no frame.

        Raises:
            FrameError: The bytes are not a frame. The reader is of no use afterwards.
        """
        if self._large is not None:
            return self._go_on(self._large, count)
        self._end += count
        self.partial = False
        frames: list[Frame] = []
        while self._end - self._start >= HEADER.size:
            total, body = HEADER.unpack_from(self._ring, self._start)
            if not 0 < body <= total <= self.limit:
                if frames:
                    self.partial = True
                    return frames  # they are whole and count; the next look at what follows them raises
                check(total, body, self.limit, self._view[self._start : self._end])
            first = self._start + HEADER.size
            if self._end - first < total:
                self._make_room(total, body)
                return frames
            content = self._ring[first : first + total]  # a copy
            frames.append((content, ()) if body == total else self._with_buffers(content, body))
            self._start = first + total
        self._make_room(0, 0)
        return frames

    def _make_room(self, total: int, body: int) -> None:
        """Move what is half received to the front of the ring, or into a buffer of its own if it never fits."""
        self.partial = self._start < self._end
        if self._start == self._end:
            self._start = self._end = 0
            return
        pending = self._end - self._start
        if total > RING - HEADER.size:
            self._large = Large(total, body, self._lengths)
            self._large.fill(self._view[self._start + HEADER.size : self._end])
            self._start = self._end = 0
        elif self._start:
            self._ring[:pending] = self._ring[self._start : self._end]
            self._start, self._end = 0, pending

    def _go_on(self, large: Large, count: int) -> list[Frame]:
        if not large.received(count):
            return []
        self._large = None
        self.partial = False
        return [(large.body, large.buffers)]

    def _with_buffers(self, content: Buffer, body: int) -> Frame:
        large = Large(len(content), body, self._lengths)
        large.fill(content)
        return large.body, large.buffers


class Large:
    """A frame that is received straight into its own memory: first its body, then each of its buffers.

    Args:
        total: Bytes of body and buffers.
        body: Bytes of the body.
        lengths: As of ``FrameReader``.

    Attributes:
        body: The body.
        buffers: What is behind it, once the body has come.
    """

    __slots__ = ("_behind", "_filled", "_lengths", "_next", "_size", "_target", "body", "buffers")

    def __init__(self, total: int, body: int, lengths: Lengths) -> None:
        self.body: Buffer = bytearray(body)
        self.buffers: list[Received] = []
        self._target: bytearray | Received = self.body
        self._filled, self._size = 0, body
        self._behind = total - body
        self._lengths = lengths
        self._next = 0

    @property
    def rest(self) -> memoryview:
        """Where the next bytes go, made anew each time; empty when all have come."""
        target = self._target
        view = target.getbuffer() if isinstance(target, Received) else memoryview(target)
        return view[self._filled :]

    def fill(self, data: Buffer) -> None:
        """Take in what has come already: the whole, or its beginning."""
        view = memoryview(data)
        while view and (count := min(len(view), self._size - self._filled)):
            self.rest[:count] = view[:count]
            self.received(count)
            view = view[count:]

    def received(self, count: int) -> bool:
        """Take note of *count* new bytes in ``rest``; returns whether all have come."""
        self._filled += count
        if self._filled < self._size:
            return False
        if self._behind and not self.buffers:
            self.buffers = [room(size) for size in self._lengths(self.body, self._behind)]
        if self._next == len(self.buffers):
            return True
        self._target = target = self.buffers[self._next]
        self._filled, self._size = 0, target.size
        self._next += 1
        return False
