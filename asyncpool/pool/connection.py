"""One full-duplex stream of frames to a worker, over the parent's end of a socketpair.

A plain asyncio.Protocol costs 45 us more a round trip than this BufferedProtocol, and pipe transports take input on a
socket for a hang-up.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from asyncpool.protocol import messages, wire

PIECE = 2**20  # bytes handed to the transport at a time: 3.11 copies what it cannot send at once
SHARE = 4 * PIECE  # bytes sent, and about as many received, after which others get their turn: a millisecond each
ASKED_BUFFER = 4 * 2**20  # bytes of socket buffer asked for; stock kernels grant 416 KiB
LAST_WORDS = 20_000  # frames that are taken of a worker which has ended, all in one step of the loop
CROWD = 1000  # frames that came in company, after which others get their turn: uvloop reads 32 chunks in one step
FIONREAD = termios.FIONREAD
SIOCOUTQ = 0x5411  # unix(7): bytes that the other side has not read


class Receiver(Protocol):
    """What a connection tells."""

    def received_one(self, message: messages.ToParent) -> None:
        """A chunk was this message and no more."""

    def received(self, found: list[messages.ToParent], error: wire.FrameError | None) -> None:
        """A chunk was parsed whole: its messages, and what is wrong with the rest of it."""

    def disconnected(self) -> None:
        """No more will come, or can be sent."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets with large buffers: the parent's, and the child's."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ASKED_BUFFER)
    ours.setblocking(False)
    return ours, theirs


class Connection(asyncio.BufferedProtocol):
    """Sends and receives frames.

    Args:
        receiver: Whom to tell.
        clock: Gives the loop's time.
    """

    def __init__(self, receiver: Receiver, clock: Callable[[], float]) -> None:
        self._receiver = receiver
        self._clock = clock
        self._reader = wire.FrameReader(wire.GREETING_LIMIT, messages.lengths)
        self._transport: asyncio.Transport | None = None
        self._spare: socket.socket | None = None  # a second descriptor: reads what the transport leaves behind
        self._pieces: deque[memoryview] = deque()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._paused = False
        self._buffered = False  # the transport was given something, and may still have it
        self._dropped = False
        self._closed = False
        self._crowd = 0  # frames that came with others since the last pause
        self._came = 0  # bytes since then, but for those of small frames that came alone
        self._turn: asyncio.Handle | None = None  # when sending goes on
        self._failed = False  # a bad frame came: nothing after it counts
        self.heard: float = float("-inf")  # loop time at which bytes last came
        self.unread: bool = False  # the worker ended with bytes of ours that it had not read

    async def open(self, ours: socket.socket) -> None:
        """Begin to read and write; the connection owns *ours* from now on."""
        self._spare = ours.dup()
        weakref.finalize(self, self._spare.close).atexit = False  # with an event loop that was dropped
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, sock=ours)
        except BaseException:
            # Cancelled: the loop closes the transport, asyncio by the socket and with a word to connection_lost,
            # uvloop by the number alone and without one.
            self._transport = None
            self._closed = True
            if not isinstance(loop, asyncio.BaseEventLoop):
                ours.detach()
            raise

    def set_limit(self, limit: int) -> None:
        """Set the largest total of a received frame, in bytes."""
        self._reader.limit = limit

    @property
    def unsent(self) -> bool:
        """True while not everything that was sent is in the kernel's hands."""
        return self._paused or self._dropped or bool(self._pieces)

    def send(self, frame: bytes, buffers: Sequence[wire.Buffer] = ()) -> None:
        """Send one frame, and the buffers that belong to it; it stays unsent when the connection is lost."""
        if self._transport is None or self._spare is None:
            self._dropped = True
            return
        sent = 0
        if not self._pieces and not (self._buffered and self._holds_back()):
            # The transport would add a microsecond under asyncio, and under uvloop wait for the end of the loop's step.
            try:
                if buffers:
                    sent = self._spare.sendmsg((frame, memoryview(buffers[0])[:SHARE]))
                else:
                    sent = self._spare.send(frame)
            except BlockingIOError:
                pass
            except OSError:  # the worker is gone, as the transport will find out by itself
                self.unread = self._dropped = True
                return
            if sent == len(frame) and not buffers:
                return
        if self._transport.is_closing():
            # It has met the end and will say so in its next step. It would drop this without a word.
            self._dropped = True
            return
        for part in (frame, *buffers):
            view = memoryview(part)[sent:]
            sent = max(0, sent - len(part))
            self._pieces.extend(view[at : at + PIECE] for at in range(0, len(view), PIECE))
        self._send_pieces()

    async def wait_lost(self, timeout: float) -> None:
        """Wait until the transport says that the connection is lost, for *timeout* seconds at most."""
        if self._transport is not None:
            await asyncio.wait([self._lost], timeout=timeout)

    async def aclose(self) -> None:
        """Close all descriptors, and let go of what was not sent. Idempotent."""
        self._pieces.clear()
        if self._spare is not None:
            self._spare.close()
            self._spare = None
        if self._transport is not None:
            self._transport.abort()
            await asyncio.wait([self._lost])

    # --- asyncio.BufferedProtocol ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        if self._closed:
            return
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._transport.set_write_buffer_limits(high=0)  # pause_writing then means: not wholly in the kernel's hands

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the transport may write."""
        return self._reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the whole chunk, then tell."""
        if not self._failed and (body := self._reader.lone(nbytes)) is not None:
            try:
                message = messages.decode_to_parent(body)
            except wire.FrameError:
                message = None
            if message is not None and not getattr(message, "buffers", None):  # the common case, short
                self.heard = self._clock()
                self._receiver.received_one(message)
                return
        self._crowd += self._take_in(nbytes)
        self._came += nbytes
        if (self._crowd > CROWD or self._came > SHARE) and self._transport is not None:
            self._crowd = self._came = 0
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on, self._transport)

    def _read_on(self, transport: asyncio.Transport) -> None:
        """Go on in the next step of the loop, if the connection was not lost meanwhile."""
        if not transport.is_closing():
            transport.resume_reading()

    def _take_in(self, nbytes: int) -> int:
        """Parse a chunk and tell what was in it; returns its number of frames."""
        self.heard = self._clock()
        found: list[messages.ToParent] = []
        frames: list[wire.Frame] = []
        error = None
        if not self._failed:
            try:
                frames = self._reader.received(nbytes)
                for body, buffers in frames:
                    message = messages.decode_to_parent(body)
                    messages.attach(message, buffers)
                    if message is not None:
                        found.append(message)
                if found and self._reader.partial:
                    self._reader.received(0)
            except wire.FrameError as bad:
                error = bad
                self._failed = True
                self._reader = wire.FrameReader(wire.GREETING_LIMIT)  # the other one may be full; nothing is read now
        if found or error is not None:
            self._receiver.received(found, error)
        return len(frames)

    def pause_writing(self) -> None:
        """Not everything was taken by the kernel."""
        self._paused = True

    def resume_writing(self) -> None:
        """Everything was."""
        self._paused = False
        self._send_pieces()

    def eof_received(self) -> bool:
        """Tell at once: until connection_lost, a step later, a call could be given to a worker that is gone."""
        self._receiver.disconnected()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell."""
        self._transport = None
        if not self._lost.done():
            self._lost.set_result(None)
        self.unread = self.unread or isinstance(exc, (ConnectionResetError, BrokenPipeError))
        self._receiver.disconnected()

    def _holds_back(self) -> bool:
        """Say whether the transport still has what it was given: that must go first."""
        self._buffered = self._transport is not None and self._transport.get_write_buffer_size() > 0
        return self._buffered

    def _send_pieces(self) -> None:
        """Send until the kernel takes no more, or a share is sent: who reads as fast would have us send all at once."""
        share = SHARE
        while self._pieces and not self._paused and self._transport is not None:
            if share <= 0:
                if self._turn is None:
                    self._turn = asyncio.get_running_loop().call_soon(self._send_on)
                return
            self._buffered = True
            piece = self._pieces.popleft()
            share -= len(piece)
            self._transport.write(piece)

    def _send_on(self) -> None:
        self._turn = None
        self._send_pieces()

    def drain(self) -> None:
        """Read and process what the kernel still holds, LAST_WORDS frames at most, once the worker has ended.

        Idempotent. A worker that writes each frame by itself fills the largest buffer with fewer than that.

        A transport whose write fails, or that is closed, forgets what it has not read: a result of 2 MB that a worker
        wrote before it died was lost in 4 to 7 of 10 tries.
        """
        spare, self._spare = self._spare, None
        if spare is None:
            return
        with spare:
            # No more than is there, and not all of that: a process that escaped the kill may write without end.
            left, words = _queued(spare, FIONREAD), LAST_WORDS
            while left >= 0 and words > 0:
                try:
                    count = spare.recv_into(self._reader.get_buffer())
                except BlockingIOError:
                    self.unread = self.unread or _queued(spare, SIOCOUTQ) > 0  # somebody else holds the worker's end
                    return
                except OSError:
                    self.unread = True
                    return
                if not count:
                    return
                left -= count
                if not self._failed:
                    words -= self._take_in(count)


def _queued(end: socket.socket, request: int) -> int:
    """Return how many bytes wait to be read, here (FIONREAD) or on the other side (SIOCOUTQ); 0 if nobody knows."""
    try:
        return int.from_bytes(fcntl.ioctl(end, request, b"\0" * 4), sys.byteorder)
    except OSError:
        return 0
