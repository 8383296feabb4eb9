"""An event loop that does nothing by itself: the test turns it, and its clock."""

import heapq
import select
from collections.abc import Callable
from typing import Any


class Timer:
    """One timer; may be cancelled."""

    def __init__(self, due: float, act: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.due, self.act, self.arguments = due, act, arguments
        self.cancelled = False

    def __lt__(self, other: "Timer") -> bool:
        return self.due < other.due

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A loop that knows descriptors and timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.readers: dict[int, Callable[[], object]] = {}
        self.writers: dict[int, Callable[[], object]] = {}
        self._timers: list[Timer] = []

    @property
    def watches(self) -> bool:
        """True while a descriptor is watched or a timer runs."""
        return bool(self.readers or self.writers or [timer for timer in self._timers if not timer.cancelled])

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, act: Callable[..., object], *arguments: Any) -> Timer:
        timer = Timer(due, act, arguments)
        heapq.heappush(self._timers, timer)
        return timer

    def add_reader(self, descriptor: int, act: Callable[[], object]) -> None:
        self.readers[descriptor] = act

    def remove_reader(self, descriptor: int) -> bool:
        return self.readers.pop(descriptor, None) is not None

    def add_writer(self, descriptor: int, act: Callable[[], object]) -> None:
        self.writers[descriptor] = act

    def remove_writer(self, descriptor: int) -> bool:
        return self.writers.pop(descriptor, None) is not None

    def turn(self) -> None:
        """Make one pass: readers whether or not there is something, writers that can write, timers that are due."""
        for act in list(self.readers.values()):
            act()
        for descriptor, act in list(self.writers.items()):
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            if poll.poll(0):
                act()
        while self._timers and self._timers[0].due <= self.now:
            timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.act(*timer.arguments)
