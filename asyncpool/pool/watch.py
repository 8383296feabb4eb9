"""Tells when a socket can be read or written, on any event loop."""

from __future__ import annotations

import asyncio
import select
import weakref
from collections.abc import Callable


class Watch:
    """Watches one socket whose other side may end with bytes unread, which is an error on this side.

    asyncio's loop tells of that as of something to be read. uvloop's ``add_reader`` ends there, and tells nobody but
    the log (libuv takes POLLERR for a bad descriptor): it is given an epoll of our own, which is readable and no more.

    Args:
        loop: The running event loop.
        descriptor: Of the socket.
        read: Called when there is something to be read: bytes, the end, or an error.
        write: Called when there is room, as long as that is wanted.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        read: Callable[[], None],
        write: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._read = read
        self._write = write
        self._writing = False
        self._closed = False
        self._epoll: select.epoll | None = None
        if isinstance(loop, asyncio.BaseEventLoop):
            loop.add_reader(descriptor, read)
            return
        self._epoll = select.epoll()
        weakref.finalize(self, self._epoll.close).atexit = False  # with an event loop that was dropped
        self._epoll.register(descriptor, select.EPOLLIN)
        loop.add_reader(self._epoll.fileno(), read)

    def want_room(self, wanted: bool) -> None:
        """From now on tell, or tell no more, when there is room."""
        if wanted is self._writing or self._closed:
            return
        self._writing = wanted
        if self._epoll is not None:
            self._loop.add_reader(self._epoll.fileno(), self._look if wanted else self._read)
            self._epoll.modify(self._descriptor, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))
        elif wanted:
            self._loop.add_writer(self._descriptor, self._write)
        else:
            self._loop.remove_writer(self._descriptor)

    def _look(self) -> None:
        self._read()
        if self._writing:
            self._write()

    def close(self) -> None:
        """Tell nothing any more. Idempotent, also once another socket has the number of this one."""
        if self._closed:
            return
        self._closed = True
        self._writing = False
        if self._epoll is None:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
        else:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
