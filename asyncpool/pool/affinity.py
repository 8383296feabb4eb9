"""Which worker served a key last.

Law 1: no more than MOST_KEYS are remembered: those that were used last.
Law 2: nobody is remembered who takes no more calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from asyncpool.pool.ranking import WorkerId

MOST_KEYS = 4096  # a key that was forgotten costs one call on a worker that does not know it


class Affinity:
    """Remembers which worker is warm for which key."""

    def __init__(self) -> None:
        self._workers: OrderedDict[Hashable, WorkerId] = OrderedDict()

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, key: Hashable) -> WorkerId | None:
        """Return who served *key* last, or None."""
        return self._workers.get(key)

    def note(self, key: Hashable, worker: WorkerId) -> None:
        """*worker* serves *key* now."""
        self._workers[key] = worker
        self._workers.move_to_end(key)
        if len(self._workers) > MOST_KEYS:
            self._workers.popitem(last=False)

    def forget(self, worker: WorkerId) -> None:
        """*worker* takes no more calls."""
        if worker in self._workers.values():
            self._workers = OrderedDict((key, who) for key, who in self._workers.items() if who != worker)
