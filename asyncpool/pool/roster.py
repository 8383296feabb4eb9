"""Who there is: every worker in exactly one set, and membership is its state.

Law 1: a worker is in exactly one of starting, available, checking, busy and retiring. An illegal move raises.
Law 2: worn workers are live ones that have started; who is retiring is worn no more.
Law 3: spawned = exited + present.
Law 4: a ticket is bound to a worker that takes tickets; with the worker's leaving it is stranded.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Literal, Protocol

from asyncpool.pool.affinity import Affinity
from asyncpool.pool.ranking import Ranking, WorkerId

Wear = Literal["max_calls", "max_lifetime", "max_memory", "restarted"]  # why a worker wants a successor
Leave = Wear | Literal["retired", "resized"]  # why it is asked to end


class Ticket(Protocol):
    """What waits for a worker."""

    exclusive: bool  # takes all slots of a worker
    key: Hashable  # goes to the worker that served this key last, if that is free; None: to the warmest


class IllegalMove(Exception):
    """A worker was moved out of a set that it is not in, or with its tickets: a bug, never to be ignored."""


class Record:
    """What is known of one worker.

    Attributes:
        slots: Tickets that it takes at a time.
        tickets: Those that it serves.
        bound: Those that only it may serve, and that wait until it can.
        idle_since: When it last was of use.
        seen: When it last gave a sign of life.
        calls: Calls that it was handed so far.
        born: When its start began; then, when it was ready.
        chance: In [0, 1): its jitter.
        worn_at: Time from which it is worn.
        wear: Why it wants a successor, None while it does not.
        spared: It was above max_memory when it began: a successor would be no better.
        leaving: It retires, with this cause, when its last ticket is done.
    """

    __slots__ = (
        "born",
        "bound",
        "calls",
        "chance",
        "idle_since",
        "leaving",
        "seen",
        "slots",
        "spared",
        "tickets",
        "wear",
        "worn_at",
    )

    def __init__(self, now: float) -> None:
        self.slots: int = 1
        self.tickets: set[Ticket] = set()
        self.bound: list[Ticket] = []
        self.idle_since: float = now
        self.seen: float = now
        self.born: float = now
        self.calls: int = 0
        self.chance: float = 0.0
        self.worn_at: float = math.inf
        self.wear: Wear | None = None
        self.spared: bool = False
        self.leaving: Leave | None = None


Set = OrderedDict[WorkerId, Record]


class Roster:
    """The five sets, and the moves between them."""

    def __init__(self) -> None:
        self.starting: Set = OrderedDict()
        self.available: Set = OrderedDict()  # has a free slot; the warmest last
        self.checking: Set = OrderedDict()  # idle, and a ping is under way
        self.busy: Set = OrderedDict()  # no slot is free, or those that are wait for a bound ticket that takes all
        self.retiring: Set = OrderedDict()  # takes no more tickets, and is not yet reaped
        self.worn: dict[WorkerId, None] = {}  # wants a successor
        self.quiet: Ranking = Ranking()  # by the time at which each may have been idle or silent for long
        self.old: Ranking = Ranking()  # by the time at which each has lived for long
        self.bound: dict[Ticket, WorkerId] = {}  # wait for one worker, not for any
        self.affinity: Affinity = Affinity()
        self.spawned: int = 0
        self.exited: int = 0

    @property
    def taking(self) -> int:
        """Workers that take tickets."""
        return len(self.available) + len(self.checking) + len(self.busy)

    @property
    def live(self) -> int:
        """Workers that take tickets, or will."""
        return len(self.starting) + self.taking

    @property
    def processes(self) -> int:
        """Workers that are not yet reaped."""
        return self.live + len(self.retiring)

    def idle(self) -> int:
        """Return how many workers hold no ticket and are not starting or retiring."""
        return len(self.checking) + sum(not record.tickets for record in self.available.values())

    def taking_workers(self) -> list[WorkerId]:
        """Return the workers that take tickets, the oldest first."""
        return sorted((*self.available, *self.checking, *self.busy))

    def tickets(self, worker: WorkerId) -> list[Ticket]:
        """Return the tickets that *worker* serves."""
        for place in (self.available, self.busy, self.retiring):
            if worker in place:
                return list(place[worker].tickets)
        return []

    def enlist(self, now: float) -> WorkerId:
        """Add a worker that is starting."""
        self.spawned += 1
        self.starting[self.spawned] = Record(now)
        return self.spawned

    def strike(self, worker: WorkerId) -> None:
        """Take out a retiring worker, whose process is gone.

        Raises:
            IllegalMove: It is not retiring, or has tickets that nobody was told of.
        """
        if self.record(worker, self.retiring).tickets:
            raise IllegalMove(f"worker {worker} is gone, and was not lost before")
        del self.retiring[worker]
        self.exited += 1

    def move(self, worker: WorkerId, source: Set, target: Set) -> Record:
        """Move a worker from one set to another.

        Raises:
            IllegalMove: It is not in *source*.
        """
        record = target[worker] = self.record(worker, source)
        del source[worker]
        if target is self.retiring:
            self.worn.pop(worker, None)
            self.quiet.drop(worker)
            self.old.drop(worker)
            self.affinity.forget(worker)
        return record

    def leave(self, worker: WorkerId) -> Record:
        """Move a worker from wherever it is to the retiring ones."""
        for place in (self.starting, self.available, self.checking, self.busy):
            if worker in place:
                return self.move(worker, place, self.retiring)
        return self.record(worker, self.retiring)

    def record(self, worker: WorkerId, place: Set) -> Record:
        """Return a worker's record.

        Raises:
            IllegalMove: It is not in *place*.
        """
        try:
            return place[worker]
        except KeyError:
            raise IllegalMove(f"worker {worker} is not where it was taken from") from None
