"""Who holds back until the pool takes one more call, instead of being refused with PoolFull.

Law: they are woken in order, one for each call that the pool would take; one that has left wakes the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Room:
    """Room for one more call.

    Args:
        loop: The pool's loop.
        full: Says whether there is none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, full: Callable[[], bool]) -> None:
        self._loop = loop
        self._full = full
        self._closed = False
        self.sought: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return when the pool would take a call, or is closed; whoever then awaits nothing can submit one."""
        while self._full() and not self._closed:
            woken = self._loop.create_future()
            self.sought.append(woken)
            try:
                await woken
            except asyncio.CancelledError:
                if woken in self.sought:
                    self.sought.remove(woken)
                elif not woken.cancelled():
                    self.look()  # it was this one's turn
                raise

    def look(self) -> None:
        """A call has left the queue, or another worker takes calls: wake the first who holds back."""
        while self.sought and (self._closed or not self._full()):
            woken = self.sought.popleft()
            if not woken.done():
                woken.set_result(None)
                if not self._closed:
                    return

    def close(self) -> None:
        """Nobody shall hold back any more: the pool takes no calls, and says so."""
        self._closed = True
        self.look()
