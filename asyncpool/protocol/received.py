"""Buffers that are received into: made, and large ones used again.

Memory that a process gets is cleared by the kernel, and that of a large array goes back when the array is deleted. In a
row of calls with arrays of one size that took two fifths of the time.

Law 1: a buffer is used again only once an array was made over it and no view of it is there any more. What has come out
       as bytes never is.
Law 2: nothing that nobody uses is kept for long: a buffer goes DROP_AFTER seconds after the last one was wanted, and at
       once when one of another size is. Nor is it much: it was all in use at one time.
Law 3: the spare buffers are the process's, for any thread. No garbage ever holds them: see ``Received``.
"""

from __future__ import annotations

import io

from asyncpool.protocol import pages

DROP_AFTER = 0.025  # seconds; a worker is weighed 50 ms after its call, and then without them
MOST = 2**28  # bytes of buffers that are watched: of those above, the oldest are forgotten


class Received(io.BytesIO):
    """A buffer that was received.

    Its memory is that of a bytes object which nobody else has: filled by ``getbuffer()``, it comes out of
    ``getvalue()`` without a copy, and nothing has cleared it before.

    Never keep a view of it but in an array: a cycle of garbage that holds both crashes Python up to 3.12 (gh-111049).

    Args:
        size: Its bytes.

    Attributes:
        size: Its bytes.
        is_array: An array was made over it.
    """

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))  # pages that nobody has touched, if it is large
        self.size: int = size
        self.is_array: bool = False

    def is_free(self) -> bool:
        """Say whether it was an array, and no view of it is there any more."""
        if not self.is_array:
            return False
        try:
            self.truncate(self.size)  # what changes no size, and is refused nevertheless as long as there is a view
        except BufferError:
            return False
        return True


class Spares:
    """Large buffers that may be used again, once nobody uses them.

    Attributes:
        kept: All that are watched; the oldest first.
        wanted: How many were wanted until now.
    """

    def __init__(self) -> None:
        self.kept: list[Received] = []
        self.wanted: int = 0

    def room(self, size: int) -> Received:
        """Return a buffer of so many bytes, whatever they are."""
        self.wanted += 1
        received = self._take(size)
        if received is None:
            self.drop_free()
            received = Received(size)
            pages.prefer_huge(received.getbuffer())
        self.kept.append(received)
        while sum(each.size for each in self.kept) > MOST:
            del self.kept[:1]
        return received

    def _take(self, size: int) -> Received | None:
        for each in self.kept[:]:
            if each.size == size and each.is_free():
                try:
                    self.kept.remove(each)
                except ValueError:  # another thread was sooner
                    continue
                each.is_array = False
                return each
        return None

    def drop_free(self) -> None:
        """Keep none that nobody uses."""
        self.kept = [each for each in self.kept if not each.is_free()]

    def drop(self) -> None:
        """Keep none: whose view is deleted later is deleted with it."""
        self.kept = []

    def drop_unless_wanted(self, before: int) -> None:
        """Keep none, unless more were wanted than *before*, DROP_AFTER seconds ago."""
        if self.wanted == before:
            self.drop()


spares = Spares()


def room(size: int) -> Received:
    """Return a buffer to receive so many bytes into."""
    return spares.room(size) if size >= pages.LEAST else Received(size)
