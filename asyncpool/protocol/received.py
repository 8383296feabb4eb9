"""Buffers that are received into: made, and large ones used again.

Memory that a process gets is cleared by the kernel, and that of a large array goes back when the array is deleted. In a
row of calls with arrays of one size that took two fifths of the time.

Law 1: a buffer is used again only once an array was made over it and no view of it is there any more. What comes out as
       bytes never is.
Law 2: nothing that nobody uses is kept for long: it goes soon after the last buffer was wanted, and at once when one of
       another size is. MOST bytes are kept, and never more than were in use together.
Law 3: the spare buffers are the process's, for any thread. No garbage can hold them: see ``Received``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from asyncpool.protocol import pages

if TYPE_CHECKING:
    import asyncio

MOST = 2**28  # bytes of buffers that are watched; beyond, the oldest are forgotten
NEVER = -1


class Received(io.BytesIO):
    """A buffer that was received.

    Its memory is that of a bytes object which nobody else has: filled by ``getbuffer()``, it comes out of
    ``getvalue()`` without a copy, and nothing has cleared it before.

    Never keep a view of it but in an array: a cycle of garbage that holds both crashes Python up to 3.12 (gh-111049).

    Args:
        size: Its bytes.

    Attributes:
        size: Its bytes.
        era: How often all spare buffers had been forgotten when it was handed out; NEVER where it is no large one.
    """

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))  # pages that nobody has touched, if it is large
        self.size: int = size
        self.era: int = NEVER

    def is_free(self) -> bool:
        """Say whether no view of it is there."""
        try:
            self.truncate(self.size)  # changes nothing, and is refused nevertheless as long as there is a view
        except BufferError:
            return False
        return True


class Spares:
    """The buffers of large arrays, which may be used again once nobody looks at them any more.

    Attributes:
        kept: Those that are watched; the oldest first.
        wanted: How many were wanted until now.
    """

    def __init__(self) -> None:
        self.kept: list[Received] = []
        self.wanted: int = 0
        self._era = 0  # how often all were forgotten

    def room(self, size: int) -> Received:
        """Return a buffer of so many bytes, whatever they are."""
        self.wanted += 1
        received = self._take(size)
        if received is None:
            self.forget_free()
            received = Received(size)
            pages.prefer_huge(received.getbuffer())
        received.era = self._era
        return received

    def watch(self, received: Received) -> None:
        """Keep a buffer over which an array was just made.

        Not if all were forgotten since it was handed out: no caretaker may be left who would forget it.
        """
        if received.era == NEVER or received.size > MOST:
            return
        self.kept.append(received)
        if received.era != self._era:  # looked at last: another thread may forget all just now
            self._forget(received)
        while sum(each.size for each in self.kept) > MOST:
            del self.kept[:1]  # no IndexError where another thread has emptied it

    def _take(self, size: int) -> Received | None:
        for each in self.kept[:]:
            # Another thread may have taken it, and watch its next array by now: look again once it is out of the list.
            if each.size == size and each.is_free() and self._forget(each) and each.is_free():
                return each
        return None

    def _forget(self, received: Received) -> bool:
        """Watch this one no more; returns whether it was watched."""
        try:
            self.kept.remove(received)
        except ValueError:
            return False
        return True

    def forget_free(self) -> None:
        """Keep none that nobody looks at."""
        for each in self.kept[:]:
            if each.is_free():
                self._forget(each)

    def forget_all(self) -> None:
        """Keep none: the memory of those that somebody looks at goes with their arrays."""
        self._era += 1
        self.kept = []


spares: Spares = Spares()


def room(size: int) -> Received:
    """Return a buffer to receive so many bytes into."""
    return spares.room(size) if size >= pages.LEAST else Received(size)


class Caretaker:
    """Lets all spare buffers be forgotten once no more were wanted for a while.

    Args:
        later: Calls a function after a while, on an event loop.
    """

    __slots__ = ("_later", "_timer", "_wanted")

    def __init__(self, later: Callable[[Callable[[], None]], asyncio.TimerHandle]) -> None:
        self._later = later
        self._timer: asyncio.TimerHandle | None = None
        self._wanted = 0

    def notice(self) -> None:
        """Buffers may have been wanted."""
        if spares.wanted != self._wanted and self._timer is None:
            self._wanted = spares.wanted
            self._timer = self._later(self._look)

    def _look(self) -> None:
        self._timer = None
        if spares.wanted == self._wanted:
            spares.forget_all()
        else:
            self.notice()

    def leave(self) -> None:
        """Let all be forgotten now: the loop may stop before the timer. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        spares.forget_all()
