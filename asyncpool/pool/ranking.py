"""Workers ranked by a number, the least first, so that nobody need look at all of them.

The number is a time at which something may be due for a worker, and never later than it is: what the worker does
meanwhile only puts that off and touches no ranking, so a call costs nothing here. Whoever takes a worker out looks
what is due by then, and puts it back in.
"""

from __future__ import annotations

import heapq
import math

WorkerId = int


class Ranking:
    """Each worker once at most."""

    def __init__(self) -> None:
        self._ranks: dict[WorkerId, float] = {}
        self._heap: list[tuple[float, WorkerId]] = []  # what is not in _ranks any more is skipped

    def put(self, worker: WorkerId, rank: float) -> None:
        """Put a worker in, unless it has a lower rank already."""
        if rank >= self._ranks.get(worker, math.inf):
            return
        self._ranks[worker] = rank
        heapq.heappush(self._heap, (rank, worker))
        if len(self._heap) > 2 * len(self._ranks) + 16:
            self._heap = [(rank, worker) for worker, rank in self._ranks.items()]
            heapq.heapify(self._heap)

    def drop(self, worker: WorkerId) -> None:
        """Take a worker out, if it is in."""
        self._ranks.pop(worker, None)

    def first(self) -> tuple[float, WorkerId] | None:
        """Return the least rank with its worker, or None."""
        while self._heap:
            rank, worker = self._heap[0]
            if self._ranks.get(worker) == rank:
                return rank, worker
            heapq.heappop(self._heap)
        return None

    def least(self) -> float | None:
        """Return the least rank, or None."""
        first = self.first()
        return None if first is None else first[0]

    def take(self, most: float) -> list[WorkerId]:
        """Take out those whose rank is *most* or less, the least first."""
        taken: list[WorkerId] = []
        while (first := self.first()) is not None and first[0] <= most:
            taken.append(first[1])
            self.drop(first[1])
        return taken
