"""Who follows whom: workers wear out, and a successor is warm before the old one goes.

Law 1: no worker is handed more than max_calls, nor anything after max_lifetime; a lease counts when it is given back.
Law 2: a worn worker serves on until one that started after it is ready, or until law 1 forbids it.
Law 3: who serves nobody is asked to end at once; who does, when its last ticket is done. Nobody is cut short.
Law 4: who was above max_memory when it began is not worn by it: its successor would be no better.
"""

from __future__ import annotations

import itertools

from asyncpool.pool.actions import Action, Retire, Strand
from asyncpool.pool.policy import Limits, worn_by_calls, worn_from
from asyncpool.pool.ranking import WorkerId
from asyncpool.pool.roster import Leave, Record, Roster, Set, Ticket, Wear

ELDERS = 16  # worn workers, worn for longest, of whom one goes: a look at all would take long in a large pool


class Succession(Roster):
    """A roster whose workers wear out.

    Args:
        limits: Sizes and times.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits: Limits = limits
        self._start_time = 0.0  # seconds that the last start took

    # --- who is worn -------------------------------------------------------------------------------------------------

    def begin(self, worker: WorkerId, record: Record, memory: int, now: float) -> None:
        """A worker has become ready, with so many bytes of memory: its life begins."""
        self._start_time = now - record.born
        record.born = now
        record.spared = self._too_large(memory)
        if self.limits.max_lifetime is not None:
            record.worn_at = now + worn_from(self.limits.max_lifetime, self._start_time, record.chance)
            self.old.put(worker, record.worn_at)

    def use(self, worker: WorkerId, record: Record, now: float) -> bool:
        """A worker is handed a ticket; returns whether it may be handed no other."""
        record.calls += 1
        most = self.limits.max_calls
        if most is None:
            return False
        if worn_by_calls(record.calls, most, now - record.born, self._start_time, record.chance):
            self._wear(worker, record, "max_calls")
        return record.calls >= most

    def wear_heavy(self, worker: WorkerId, memory: int) -> None:
        """A worker has so many bytes of resident memory."""
        if not self._too_large(memory):
            return
        for place in self._places():
            if worker in place and not place[worker].spared:
                self._wear(worker, place[worker], "max_memory")

    def wear_all(self) -> None:
        """Every worker wants a successor, those that are starting included."""
        for place in self._places():
            for worker, record in place.items():
                self._wear(worker, record, "restarted")
        for record in self.starting.values():
            record.wear = "restarted"

    def keep(self) -> None:
        """Those that were to be restarted, and have no successor yet, stay."""
        for place in (*self._places(), self.starting):
            for worker, record in place.items():
                if record.wear == "restarted":
                    record.wear = None
                    self.worn.pop(worker, None)
                    self.old.put(worker, record.worn_at)

    def spent(self, record: Record, now: float) -> Wear | None:
        """Return why a worker may be handed nothing more, or None."""
        if self.limits.max_calls is not None and record.calls >= self.limits.max_calls:
            return "max_calls"
        if self.limits.max_lifetime is not None and now >= record.born + self.limits.max_lifetime:
            return "max_lifetime"
        return None

    # --- age ---------------------------------------------------------------------------------------------------------

    def age(self, now: float) -> list[Action]:
        """Wear those that are old, and let those go whose life is over."""
        actions: list[Action] = []
        for worker in self.old.take(now):
            record = next(place[worker] for place in self._places() if worker in place)
            self._wear(worker, record, "max_lifetime")
            end = record.born + (self.limits.max_lifetime or 0.0)
            if end <= now:
                actions += self.step_down(worker, "max_lifetime")
            else:
                self.old.put(worker, end)
        return actions

    # --- who goes ----------------------------------------------------------------------------------------------------

    def take_over(self, successor: WorkerId) -> list[Action]:
        """A worker has become ready: a worn one goes, as does one that is too many."""
        actions: list[Action] = []
        record = self.available[successor]
        if record.wear is not None:
            self.worn[successor] = None  # it was to be restarted while it started
        elif self.worn:
            old = self._first_to_go()
            actions += self.step_down(old, self._wear_of(old))
        if self.taking > self.limits.max_size:  # its predecessor was kept, or went by itself and has another successor
            actions += self.step_down(self._first_to_go(), "retired")
        return actions

    def make_room(self) -> list[Action]:
        """Where there is no room for a successor, a worn worker goes first."""
        if self.starting or self.retiring or self.processes < self.limits.max_size + self.limits.surge:
            return []
        old = self._first_to_go()
        return self.step_down(old, self._wear_of(old))

    def dismiss(self) -> list[Action]:
        """Let those go that are more than max_size: first who starts, then who idles, then who is busy."""
        actions: list[Action] = []
        while self.starting and self.live - len(self.worn) > self.limits.max_size:
            actions += self.step_down(next(reversed(self.starting)), "resized")
        while self.taking > self.limits.max_size:
            actions += self.step_down(self._first_to_go(), "resized")
        return actions

    def step_down(self, worker: WorkerId, cause: Leave) -> list[Action]:
        """Let a worker take no more tickets, and end when it has none."""
        record = self.leave(worker)
        stranded = self.strand(worker, record)
        if record.tickets:
            record.leaving = cause
            return stranded
        return [*stranded, Retire(worker, cause)]

    def strand(self, worker: WorkerId, record: Record) -> list[Action]:
        """A worker serves nothing more: give back what was bound to it."""
        if not record.bound:
            return []
        stranded, record.bound = record.bound, []
        for ticket in stranded:
            del self.bound[ticket]
        return [Strand(worker, ticket) for ticket in stranded]

    def finish_leaving(self, ticket: Ticket, worker: WorkerId) -> list[Action]:
        """A retiring worker is done with a ticket."""
        record = self.record(worker, self.retiring)
        record.tickets.discard(ticket)
        if record.leaving is None or record.tickets:
            return []
        cause, record.leaving = record.leaving, None
        return [Retire(worker, cause)]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _places(self) -> tuple[Set, Set, Set]:
        return self.available, self.checking, self.busy

    def _wear(self, worker: WorkerId, record: Record, wear: Wear) -> None:
        record.wear = record.wear or wear
        self.worn[worker] = None

    def _wear_of(self, worker: WorkerId) -> Wear:
        wear: Wear | None = None
        for place in self._places():
            if worker in place:
                wear = place[worker].wear
        assert wear is not None
        return wear

    def _too_large(self, memory: int) -> bool:
        return self.limits.max_memory is not None and memory > self.limits.max_memory

    def _first_to_go(self) -> WorkerId:
        """Return who is missed least: one of the first worn if there are any, an idle one if there is, the coldest."""
        if self.worn:
            return min(itertools.islice(self.worn, ELDERS), key=self._missed)
        idle = (worker for worker, record in self.available.items() if not record.tickets)
        return next(itertools.chain(idle, self.checking, self.busy, self.available))

    def _missed(self, worker: WorkerId) -> tuple[int, float]:
        """Order workers by how much they would be missed, the least first."""
        record = self.available.get(worker)
        if record is not None and not record.tickets:
            return 0, record.idle_since
        if worker in self.checking:
            return 1, 0.0
        return 2 if worker in self.busy else 3, 0.0
