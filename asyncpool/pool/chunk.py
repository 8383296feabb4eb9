"""A chunk from its caller's view: answers come as updates, each taken as soon as it is there.

Law: credit is given back as updates come, since the map's own window bounds what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from asyncpool.pool.call import Call, Reply
from asyncpool.pool.stream import WINDOW
from asyncpool.protocol.messages import MOST_BYTES as MOST_BYTES_UNDER_WAY
from asyncpool.protocol.messages import UNREADABLE, Failure, Result, Update

MOST_BYTES = 2**20  # of arguments in one chunk; an item that takes more goes alone

Place = TypeVar("Place")

_answer = msgspec.msgpack.Decoder(Result | Failure).decode


class Answers(Generic[Place]):
    """Takes the answers of one chunk.

    Args:
        tell: Is told the place of an item, and its answer.
        places: Those of the items, in order.
    """

    def __init__(self, tell: Callable[[Place, Reply], None], places: Sequence[Place]) -> None:
        self._tell = tell
        self._places = places
        self._credit = WINDOW
        self._count = 0  # of updates for which no credit was given back
        self._bytes = 0
        self._missing = len(places)
        self.call: Call | None = None
        self.delivered: bool = False

    @property
    def complete(self) -> bool:
        """True once every item is answered: of the call only its own end is still to come."""
        return self._missing <= 0

    def feed(self, update: Update) -> bool:
        """Take one; False: the worker had no credit for it."""
        if self._credit <= 0:
            return False
        self._credit -= 1
        self.delivered = True
        if self.call is not None and self.call.worker is not None:
            self.call.pid = self.call.worker.pid
        self._count += 1
        self._bytes += len(memoryview(update.value))
        self._give_back()
        try:
            answer = _answer(update.value)
            place = self._places[answer.id]
        except (*UNREADABLE, IndexError):
            return True  # no answer: the item will be found to have none
        self._missing -= 1
        self._tell(place, answer)
        return True

    def again(self) -> None:
        """The chunk is run again from its beginning."""
        self._credit, self._count, self._bytes = WINDOW, 0, 0
        self._missing = len(self._places)

    def _give_back(self) -> None:
        if 2 * self._count < WINDOW and 2 * self._bytes < MOST_BYTES_UNDER_WAY:
            return
        count, self._count, self._bytes = self._count, 0, 0
        self._credit += count
        if self.call is not None and self.call.worker is not None:
            self.call.worker.credit(self.call, count)

    def let_go(self) -> None:
        """Nothing is kept here."""

    def end(self) -> None:
        """No more will come."""
