"""Bytes <-> frames.

A frame is ``u32 LE total | u32 LE body | body | buffers`` with total = body + buffers.

Law 1: *total* is checked against the limit before anything is allocated for it.
Law 2: a frame comes out once its last byte is in, never before; frames come out in order.
Law 3: nothing here does I/O. Whoever has bytes writes them into ``get_buffer()`` and says how many.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<II")
VERSION = 1
GREETING_LIMIT = 2**20  # bytes a worker may send in one frame until it is ready
RING = 2**16  # bytes; frames that fit are parsed in place, larger ones are received straight into their own buffer
QUOTED = 120  # bytes of a bad frame that an error shows

Buffer = bytes | bytearray | memoryview
Frame = tuple[Buffer, Buffer]  # a received one: the body, and the buffers behind it


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


class FrameReader:
    """Turns received bytes, cut anywhere, into frames.

    Args:
        limit: The largest total that a frame may have, in bytes; may be changed between frames.
    """

    __slots__ = ("_end", "_large", "_large_body", "_large_end", "_ring", "_start", "_view", "limit", "partial")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.partial: bool = False  # a frame is half received
        self._ring = bytearray(RING)
        self._view = memoryview(self._ring)
        self._start = self._end = 0  # what of the ring is received and not yet parsed
        self._large: memoryview | None = None  # a frame too large for the ring: its body and buffers
        self._large_body = self._large_end = 0

    def get_buffer(self) -> memoryview:
        """Return where the next bytes go; never empty."""
        if self._large is not None:
            return self._large[self._large_end :]
        return self._view[self._end :]

    def received(self, count: int) -> list[Frame]:
        """Take note of *count* new bytes in the buffer and return the frames that are now whole.

        Look again with 0 new bytes when some came and ``partial`` is true: what follows them may be no frame.

        Raises:
            FrameError: The bytes are not a frame. The reader is of no use afterwards.
        """
        if self._large is not None:
            self._large_end += count
            return self._finish_large()
        self._end += count
        self.partial = False
        if self._start == 0 and self._end > HEADER.size:
            total, body = HEADER.unpack_from(self._ring)
            if 0 < body == total <= self.limit and total + HEADER.size == self._end:
                self._end = 0  # one whole frame and no more: nearly all chunks are
                return [(self._ring[HEADER.size : HEADER.size + total], b"")]
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
            content = self._ring[first : first + total]  # a copy: the ring is overwritten, the frame stays
            frames.append((content, b"") if body == total else (content[:body], content[body:]))
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
            self._large = memoryview(bytearray(total))
            self._large_body = body
            self._large_end = pending - HEADER.size
            self._large[: self._large_end] = self._view[self._start + HEADER.size : self._end]
            self._start = self._end = 0
        elif self._start:
            self._ring[:pending] = self._ring[self._start : self._end]
            self._start, self._end = 0, pending

    def _finish_large(self) -> list[Frame]:
        large = self._large
        if large is None or self._large_end < len(large):
            return []
        self._large = None
        self.partial = False
        return [(large[: self._large_body], large[self._large_body :])]
