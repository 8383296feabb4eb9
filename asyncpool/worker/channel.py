"""Frames over two blocking descriptors.

Law: exactly one frame is read at a time, never a byte more. Whatever the parent sent after it stays in the kernel,
where it proves to the parent, when this process dies, that it was never begun.
"""

from __future__ import annotations

import os
import select

from asyncpool.protocol import wire

PIECE = 2**20  # bytes per write of a large frame


class Channel:
    """Reads and writes whole frames.

    Args:
        reads: Descriptor that frames come from.
        writes: Descriptor that frames go to.
        limit: The largest total of a received frame, in bytes.
    """

    __slots__ = ("_reads", "_writes", "limit")

    def __init__(self, reads: int, writes: int, limit: int) -> None:
        self._reads = reads
        self._writes = writes
        self.limit: int = limit

    def receive(self) -> wire.Buffer | None:
        """Return the body of the next frame, or None at the end of input.

        Raises:
            wire.FrameError: What came is not a frame.
        """
        header = self._exactly(wire.HEADER.size)
        if header is None:
            return None
        total, body = wire.HEADER.unpack(header)
        if not 0 < body <= total <= self.limit:
            wire.check(total, body, self.limit, header)
        content = self._exactly(total)
        return content if content is None or body == total else content[:body]

    @property
    def descriptor(self) -> int:
        """What frames are read from."""
        return self._reads

    @property
    def writes(self) -> int:
        """What frames are written to."""
        return self._writes

    def ready(self) -> bool:
        """Say whether the next frame, or the end of input, has begun to come."""
        return bool(select.select([self._reads], [], [], 0)[0])

    def send(self, body: bytes) -> None:
        """Write *body* as one frame.

        Raises:
            OSError: The parent is gone.
        """
        frame = wire.frame(body)
        written = os.write(self._writes, frame)
        if written < len(frame):
            rest = memoryview(frame)[written:]
            while rest:
                rest = rest[os.write(self._writes, rest[:PIECE]) :]

    def close(self) -> None:
        """Hang up. The numbers of the descriptors stay taken: whoever forks closes them in the child."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (self._reads, self._writes):
            os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)

    def _exactly(self, size: int) -> wire.Buffer | None:
        start = os.read(self._reads, size)
        if len(start) == size:
            return start
        if not start:
            return None
        whole = memoryview(bytearray(size))
        whole[: len(start)] = start
        rest = whole[len(start) :]
        while rest:
            count = os.readv(self._reads, [rest])
            if not count:
                return None
            rest = rest[count:]
        return whole
