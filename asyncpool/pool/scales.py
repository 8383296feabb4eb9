"""Who of the workers has too much memory: looked at between their calls, by the application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from asyncpool.pool.memory import resident
from asyncpool.pool.worker import Worker

WEIGHING = 0.05  # seconds between two looks at a worker's memory, at least: a look costs as much as a call

logger: logging.Logger = logging.getLogger("asyncpool")


class Scales:
    """Weighs the workers of a pool.

    Args:
        loop: The pool's.
        name: The pool's.
        most: Bytes of resident memory that a worker may have.
        weighed: Told how many bytes a worker has, where that may be too much.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, most: int, weighed: Callable[[Worker, int], None]
    ) -> None:
        self._loop = loop
        self._name = name
        self._most = most
        self._weighed = weighed
        self._has_warned = False

    def at_birth(self, worker: Worker) -> int:
        """Return the memory of a worker that has just started; warn once where that is too much already."""
        memory = resident(worker.pid) or 0
        if memory > self._most and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "pool %r: worker %d has %.0f MiB right after its start, above max_memory of %.0f MiB: "
                "such workers are not recycled for their memory; raise max_memory, or import less",
                self._name,
                worker.number,
                memory / 2**20,
                self._most / 2**20,
            )
        return memory

    def look(self, worker: Worker, now: float) -> None:
        """A call has ended: look again a little later where its worker has too much, it may still hold the result."""
        if now < worker.weighed + WEIGHING:
            return
        worker.weighed = now
        if (resident(worker.pid) or 0) > self._most:
            self._loop.call_later(WEIGHING, self._look_again, worker)

    def _look_again(self, worker: Worker) -> None:
        if worker.takes_calls:
            self._weighed(worker, resident(worker.pid) or 0)
