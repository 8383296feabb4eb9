"""One full-duplex stream of frames to a worker, over the parent's end of a socketpair.

Law 1: the loop only tells that there is something to be read, or room to write; reading and writing are done here. So
       both loops behave alike, nothing that came is lost to a write that fails, and the one error which proves that a
       worker did not read what it was sent, and which the kernel tells once, is not met by somebody else. A transport
       would also take three functions of Python more for each call.
Law 2: a step of the loop reads one chunk, and sends one share: then others get their turn.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
import weakref
from collections import deque
from collections.abc import Sequence
from socket import MSG_NOSIGNAL  # a program may have given SIGPIPE its default back, which ends it
from typing import Protocol

from asyncpool.pool.watch import Watch
from asyncpool.protocol import messages, wire
from asyncpool.protocol.received import Caretaker

SHARE = 2**22  # bytes sent in a step, if the kernel takes as many: a millisecond; wire.CHUNK is as much
ASKED_BUFFER = 2**22  # bytes of socket buffer asked for; stock kernels grant 416 KiB
SPARES_KEPT = 0.25  # seconds without a large value; longer than a usual call, or no memory would be used again
LAST_WORDS = 20_000  # frames that are taken of a worker which has ended, all in one step of the loop
FIONREAD = termios.FIONREAD
SIOCOUTQ = 0x5411  # unix(7): bytes that the other side has not read


class Receiver(Protocol):
    """What a connection tells."""

    def received_one(self, message: messages.ToParent) -> None:
        """A chunk was this message and no more."""

    def received(self, found: list[messages.ToParent], error: wire.FrameError | None) -> None:
        """A chunk was parsed whole: its messages, and what is wrong with the rest of it."""

    def disconnected(self) -> None:
        """No more will come."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets with large buffers: the parent's, and the child's."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ASKED_BUFFER)
    ours.setblocking(False)
    theirs.setblocking(True)  # a new one does not block where the application has set a default timeout
    return ours, theirs


class Connection:
    """Sends and receives frames.

    Args:
        receiver: Whom to tell.
        loop: The running event loop.
    """

    def __init__(self, receiver: Receiver, loop: asyncio.AbstractEventLoop) -> None:
        self._receiver = receiver
        self._loop = loop
        self._clock = loop.time
        self._reader = wire.FrameReader(wire.GREETING_LIMIT, messages.lengths)
        self._caretaker = Caretaker(lambda then: loop.call_later(SPARES_KEPT, then))
        self._socket: socket.socket | None = None  # until it is closed
        self._watch: Watch | None = None
        self._pieces: deque[memoryview] = deque()  # what the kernel has not taken yet
        self._dropped = False
        self._failed = False  # a bad frame came: nothing after it counts
        self.heard: float = float("-inf")  # loop time at which bytes last came
        self.unread: bool = False  # the worker ended with bytes of ours that it had not read

    def open(self, ours: socket.socket) -> None:
        """Begin to read and write; the connection owns *ours* from now on."""
        self._socket = ours
        weakref.finalize(self, ours.close).atexit = False  # with an event loop that was dropped
        self._watch = Watch(self._loop, ours.fileno(), self._read, self._send_share)

    def set_limit(self, limit: int) -> None:
        """Set the largest total of a received frame, in bytes."""
        self._reader.limit = limit

    @property
    def unsent(self) -> bool:
        """True while not everything that was sent is in the kernel's hands."""
        return self._dropped or bool(self._pieces)

    def close(self) -> None:
        """Close the socket, and let go of what was not sent. Idempotent."""
        self._dropped = self.unsent
        self._pieces.clear()
        self._caretaker.leave()
        if (end := self._take_socket()) is not None:
            end.close()

    # --- to the worker -----------------------------------------------------------------------------------------------

    def send(self, frame: bytes, buffers: Sequence[wire.Buffer] = ()) -> None:
        """Send one frame, and the buffers that belong to it; it stays unsent when the connection is lost."""
        if self._socket is None:
            self._dropped = True
            return
        sent = 0
        if not self._pieces:
            try:
                if buffers:
                    sent = self._socket.sendmsg((frame, memoryview(buffers[0])[:SHARE]), (), MSG_NOSIGNAL)
                else:
                    sent = self._socket.send(frame, MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except OSError:  # the worker is gone, as will be read
                self.unread = self._dropped = True
                return
            if sent == len(frame) and not buffers:
                return
            self._want_room(True)
        for part in (frame, *buffers):
            if sent < len(part):
                self._pieces.append(memoryview(part)[sent:])
            sent = max(0, sent - len(part))

    def _send_share(self) -> None:
        share = SHARE
        while self._pieces and share > 0 and self._socket is not None:
            piece = self._pieces[0]
            try:
                sent = self._socket.send(piece[:share], MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self.unread = self._dropped = True
                self._pieces.clear()
                break
            share -= sent
            if sent < len(piece):
                self._pieces[0] = piece[sent:]
            else:
                self._pieces.popleft()
        if not self._pieces:
            self._want_room(False)

    def _want_room(self, wanted: bool) -> None:
        if self._watch is not None:
            self._watch.want_room(wanted)

    # --- from the worker ---------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Take in a chunk, then tell what was in it."""
        if self._socket is None or self._watch is None:
            return
        try:
            count = self._socket.recv_into(self._reader.get_buffer())
        except BlockingIOError:
            return
        except OSError:
            self.unread = True
            count = 0
        if not count:
            self._watch.close()
            self._receiver.disconnected()
            return
        if not self._failed and (body := self._reader.lone(count)) is not None:
            try:
                message = messages.decode_to_parent(body)
            except wire.FrameError:
                message = None
            if message is not None and not getattr(message, "buffers", None):  # the common case, short
                self.heard = self._clock()
                self._receiver.received_one(message)
                return
        self._take_in(count)

    def _take_in(self, count: int) -> int:
        """Parse a chunk of so many bytes and tell what was in it; returns its number of frames."""
        self.heard = self._clock()
        found: list[messages.ToParent] = []
        frames: list[wire.Frame] = []
        error = None
        if not self._failed:
            try:
                frames = self._reader.received(count)
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
        self._caretaker.notice()
        if found or error is not None:
            self._receiver.received(found, error)
        return len(frames)

    def drain(self) -> None:
        """Read and process what the kernel still holds, LAST_WORDS frames at most, once the worker has ended.

        Idempotent, and the end of the connection. A worker that writes each frame by itself fills the largest buffer
        with fewer than that.
        """
        end = self._take_socket()
        if end is None:
            return
        with end:
            # No more than is there, and not all of that: a process that escaped the kill may write without end.
            left, words = _queued(end, FIONREAD), LAST_WORDS
            while left >= 0 and words > 0:
                try:
                    count = end.recv_into(self._reader.get_buffer())
                except BlockingIOError:
                    self.unread = self.unread or _queued(end, SIOCOUTQ) > 0  # somebody else holds the worker's end
                    return
                except OSError:
                    self.unread = True
                    return
                if not count:
                    return
                left -= count
                if not self._failed:
                    words -= self._take_in(count)

    def _take_socket(self) -> socket.socket | None:
        """Return the socket to whoever closes it."""
        if self._watch is not None:
            self._watch.close()
        end, self._socket = self._socket, None
        return end


def _queued(end: socket.socket, request: int) -> int:
    """Return how many bytes wait to be read, here (FIONREAD) or on the other side (SIOCOUTQ); 0 if nobody knows."""
    try:
        return int.from_bytes(fcntl.ioctl(end, request, b"\0" * 4), sys.byteorder)
    except OSError:
        return 0
