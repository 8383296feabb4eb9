"""What is waited for while workers come and go: a start, a restart, another size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Milestones:
    """Conditions that hold some time after workers have come or gone.

    Args:
        loop: The pool's loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._closed: Callable[[], Exception] | None = None
        self._awaited: dict[asyncio.Future[None], Callable[[], bool]] = {}

    async def reach(self, reached: Callable[[], bool]) -> None:
        """Return once *reached* is true, or raise what ``fail`` or ``close`` is told."""
        if self._closed is not None:
            raise self._closed()
        future = self._loop.create_future()
        self._awaited[future] = reached
        self.look()
        try:
            await future
        finally:
            self._awaited.pop(future, None)

    def look(self) -> None:
        """Look at all conditions: a worker has come or gone."""
        for future, reached in self._awaited.items():
            if not future.done() and reached():
                future.set_result(None)

    def fail(self, error: Callable[[], Exception]) -> None:
        """Nothing that is waited for will come; each who waits gets an error of his own."""
        for future in self._awaited:
            if not future.done():
                future.set_exception(error())

    def close(self, error: Callable[[], Exception]) -> None:
        """Nothing will come any more, whoever waits now or later."""
        self._closed = error
        self.fail(error)
