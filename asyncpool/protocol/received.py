"""Buffers that are received into: made, and large ones used again.

Memory that a process gets is cleared by the kernel, and that of a large array goes back when the array is deleted. In a
row of calls with arrays of one size that took two fifths of the time.

Law 1: a buffer is used again only once an array was made over it and no view of it is there any more. What comes out as
       bytes never is.
Law 2: nothing that nobody uses is kept for long: it goes soon after the last buffer was wanted, and at once when one of
       another size is. Nor is it much: it was all in use at one time.
Law 3: the spare buffers are the process's, for any thread. No garbage ever holds them: see ``Received``.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from asyncpool.protocol import pages

MOST = 2**28  # bytes of arrays that are watched: of those above, the oldest are forgotten


class Received(io.BytesIO):
    """A buffer that was received.

    Its memory is that of a bytes object which nobody else has: filled by ``getbuffer()``, it comes out of
    ``getvalue()`` without a copy, and nothing has cleared it before.

    Never keep a view of it but in an array: a cycle of garbage that holds both crashes Python up to 3.12 (gh-111049).

    Args:
        size: Its bytes.

    Attributes:
        size: Its bytes.
        quiet: How often all spare buffers had been forgotten when it was wanted.
    """

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))  # pages that nobody has touched, if it is large
        self.size: int = size
        self.quiet: int = 0

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
        self._quiet = 0  # how often all were forgotten

    def room(self, size: int) -> Received:
        """Return a buffer of so many bytes, whatever they are."""
        self.wanted += 1
        received = self._take(size)
        if received is None:
            self.forget_free()
            received = Received(size)
            pages.prefer_huge(received.getbuffer())
        received.quiet = self._quiet
        return received

    def watch(self, received: Received) -> None:
        """An array was made over this one. Where that was not soon, nobody would forget it: it is not kept."""
        if received.size < pages.LEAST or received.quiet != self._quiet:
            return
        self.kept.append(received)
        while sum(each.size for each in self.kept) > MOST:
            del self.kept[:1]

    def _take(self, size: int) -> Received | None:
        for each in self.kept[:]:
            # Another thread may have taken it meanwhile, and watch its next array now.
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
        self._quiet += 1
        self.kept = []


spares = Spares()


def room(size: int) -> Received:
    """Return a buffer to receive so many bytes into."""
    return spares.room(size) if size >= pages.LEAST else Received(size)


class Caretaker:
    """Lets all spare buffers be forgotten once no more were wanted for a while.

    Args:
        later: Calls a function after a while, on an event loop.
    """

    __slots__ = ("_later", "_waits", "_wanted")

    def __init__(self, later: Callable[[Callable[[], None]], object]) -> None:
        self._later = later
        self._wanted = 0
        self._waits = False

    def look(self) -> None:
        """Buffers may have been wanted."""
        if spares.wanted != self._wanted and not self._waits:
            self._wanted = spares.wanted
            self._waits = True
            self._later(self._look_again)

    def _look_again(self) -> None:
        self._waits = False
        if spares.wanted == self._wanted:
            spares.forget_all()
        else:
            self.look()
