"""Frames over two blocking descriptors.

Law: a Call is begun by whoever has read it, or it is not read: what lies in the kernel when this process dies proves to
the parent that it was never begun. Who takes one call at a time may read ahead, since the parent sends no second Call
before the first is answered; who takes several reads frame by frame.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence

from asyncpool.protocol import messages, wire
from asyncpool.protocol.received import Received

HEADER_SIZE: int = wire.HEADER.size
pack: Callable[[int, int], bytes] = wire.HEADER.pack
unpack: Callable[[wire.Buffer], tuple[int, int]] = wire.HEADER.unpack_from

PIECE = 2**20  # bytes per write of a large frame
AHEAD = 2**13  # bytes asked for at a time: most frames come whole, by one system call


class Channel:
    """Reads and writes whole frames.

    Args:
        reads: Descriptor that frames come from.
        writes: Descriptor that frames go to.
        limit: The largest total of a received frame, in bytes.
    """

    __slots__ = ("_buffers", "_most", "_reads", "_writes", "ahead", "inherited", "limit")

    def __init__(self, reads: int, writes: int, limit: int) -> None:
        self._reads = reads
        self._writes = writes
        self._most = HEADER_SIZE
        self._buffers: list[Received] = []
        self.limit: int = limit
        self.ahead: wire.Buffer = b""  # what was read of the next frames
        self.inherited: bool = False  # in a process that was forked, to which it does not belong

    def receive(self) -> wire.Buffer | None:
        """Return the body of the next frame, or None at the end of input.

        Raises:
            wire.FrameError: What came is not a frame.
        """
        start = self.ahead
        if not start:
            start = os.read(self._reads, self._most)
            if not start:
                return None
        size = len(start) - HEADER_SIZE
        if size > 0:
            total, body = unpack(start)
            if total == body == size <= self.limit:
                self.ahead = b""
                return start[HEADER_SIZE:]  # one whole frame and no more: nearly all are
        return self._receive(start)

    def read_ahead(self) -> None:
        """Read what has come from now on, and not only the next frame: who takes one call at a time may."""
        self._most = AHEAD

    def read_frame_by_frame(self) -> None:
        """Read nothing ahead from now on."""
        self._most = HEADER_SIZE

    def _receive(self, start: wire.Buffer) -> wire.Buffer | None:
        """Return the body of the frame that begins with *start*; keep what follows it."""
        self.ahead = b""
        if len(start) < HEADER_SIZE and not (start := self._complete(start, HEADER_SIZE)):
            return None
        total, body = unpack(start)
        if not 0 < body <= total <= self.limit:
            wire.check(total, body, self.limit, start)
        end = HEADER_SIZE + total
        self.ahead = start[end:]
        if total == body:
            return start[HEADER_SIZE:end] if len(start) >= end else self._complete(start[HEADER_SIZE:], total) or None
        large = wire.Large(total, body, messages.lengths)
        large.fill(start[HEADER_SIZE:end])
        while large.rest:
            count = os.readv(self._reads, [large.rest])
            if not count:
                return None
            large.received(count)
        self._buffers = large.buffers
        return large.body

    def take_buffers(self) -> list[Received]:
        """Return what was behind the body of the last frame, once."""
        buffers, self._buffers = self._buffers, []
        return buffers

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
        return bool(self.ahead or readable(0, self._reads))

    def send(self, body: bytes, buffers: Sequence[wire.Buffer] = ()) -> None:
        """Write *body* as one frame, with *buffers* behind it.

        Raises:
            OSError: The parent is gone.
        """
        if buffers:
            self._send_with(body, buffers)
            return
        frame = pack(len(body), len(body)) + body
        written = os.write(self._writes, frame)
        if written < len(frame):
            self._send_rest(memoryview(frame)[written:])

    def _send_with(self, body: bytes, buffers: Sequence[wire.Buffer]) -> None:
        frame = pack(len(body) + sum(map(len, buffers)), len(body)) + body
        written = os.writev(self._writes, [frame, buffers[0]])
        for part in (frame, *buffers):
            self._send_rest(memoryview(part)[written:])
            written = max(0, written - len(part))

    def _send_rest(self, rest: memoryview) -> None:
        while rest:
            rest = rest[os.write(self._writes, rest[:PIECE]) :]

    def close(self) -> None:
        """Hang up. The numbers of the descriptors stay taken: whoever forks closes them in the child."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (self._reads, self._writes):
            os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)

    def let_go(self) -> None:
        """Read and write no more: the numbers of the descriptors are, or will be, given to others."""
        self._reads = self._writes = -1

    def _complete(self, start: wire.Buffer, size: int) -> memoryview:
        """Read on until *start* has *size* bytes; empty at the end of input."""
        whole = memoryview(bytearray(size))
        whole[: len(start)] = start
        rest = whole[len(start) :]
        while rest:
            count = os.readv(self._reads, [rest])
            if not count:
                return rest[:0]
            rest = rest[count:]
        return whole


def readable(patience: int | None, *descriptors: int) -> list[int]:
    """Return those that can be read within so many milliseconds, or without end.

    ``select.select`` takes no descriptor from 1024 on. And no ``poll`` object is kept: one in which another thread
    waits, or the code that a signal has interrupted, raises.
    """
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(patience)]
