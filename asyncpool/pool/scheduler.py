"""The acquire and release queue: who is starting, available, checking, busy, retiring; who waits.

Law 1: every worker's id is in exactly one of those sets: membership is the state. An illegal move raises.
Law 2: no eligible ticket waits while a worker is available.
Law 3: tickets are served in order; one that is moved goes back to the head.
Law 4: workers that take calls never exceed max_size; processes, until reaped, never exceed max_size + surge.
Law 5: spawned = exited + present.
Law 6: nothing here reads a clock, awaits or does I/O. Each decision is one synchronous method that changes the state
       and returns what is to be done; whoever calls it does all of it, in order.

A ticket is whatever waits for a worker: a call, which takes one slot, or an exclusive one (a lease), which takes a
whole worker. A ticket that is assigned makes its worker busy at once. The reply frees the slot, not the caller.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from asyncpool.pool.policy import CIRCUIT_OPENS_AT, Crew, Limits, earliest, pause, spawns

WorkerId = int


class Ticket(Protocol):
    """What waits for a worker."""

    exclusive: bool  # takes all slots of a worker


class Spawn(msgspec.Struct, frozen=True):
    """Start a worker under this id."""

    worker: WorkerId


class Assign(msgspec.Struct, frozen=True, gc=False):
    """Hand the ticket to the worker."""

    worker: WorkerId
    ticket: Ticket


class Probe(msgspec.Struct, frozen=True):
    """Ping the worker; say ``checked`` when it answers, or ``lost`` when it does not."""

    worker: WorkerId


class Retire(msgspec.Struct, frozen=True):
    """Ask the worker to end."""

    worker: WorkerId


class Reject(msgspec.Struct, frozen=True):
    """No worker can be started: fail the ticket with the last start error."""

    ticket: Ticket


Action = Spawn | Assign | Probe | Retire | Reject


class IllegalMove(Exception):
    """A worker was moved out of a set that it is not in: a bug, never to be ignored."""


class _Record:
    __slots__ = ("idle_since", "seen", "slots", "tickets")

    def __init__(self, now: float) -> None:
        self.slots = 1
        self.tickets: set[Ticket] = set()
        self.idle_since = now
        self.seen = now  # when it last gave a sign of life


_Set = OrderedDict[WorkerId, _Record]


class Scheduler:
    """Decides who serves whom, and how many workers there are.

    Args:
        limits: Sizes and times.
        chance: Gives a number in [0, 1); injected so that tests can decide it.
    """

    def __init__(self, limits: Limits, chance: Callable[[], float] = random.random) -> None:
        self.limits = limits
        self._chance = chance
        self.starting: _Set = OrderedDict()
        self.available: _Set = OrderedDict()  # has a free slot; the warmest last
        self.checking: _Set = OrderedDict()  # idle, and a ping is under way
        self.busy: _Set = OrderedDict()  # no slot is free
        self.retiring: _Set = OrderedDict()  # asked to end, killed or lost, and not yet reaped
        self.waiting: OrderedDict[Ticket, None] = OrderedDict()
        self.serving: dict[Ticket, WorkerId] = {}
        self.spawned: int = 0
        self.exited: int = 0
        self.failures: int = 0  # failed starts in a row
        self._retry_at: float | None = None
        self._closing = False

    # --- what there is -----------------------------------------------------------------------------------------------

    @property
    def live(self) -> int:
        """Workers that take calls, or will."""
        return len(self.starting) + len(self.available) + len(self.checking) + len(self.busy)

    @property
    def processes(self) -> int:
        """Workers that are not yet reaped."""
        return self.live + len(self.retiring)

    @property
    def circuit_open(self) -> bool:
        """True while calls fail at once because no worker can be started."""
        return self.failures >= CIRCUIT_OPENS_AT and self.live == len(self.starting)

    @property
    def full(self) -> bool:
        """True when one more waiting ticket would exceed max_waiting."""
        if self.limits.max_waiting is None or (self.available and not self.waiting):
            return False
        startable = max(0, self.limits.max_size - self.live)
        return len(self.waiting) - self._soon() - startable >= self.limits.max_waiting

    def idle(self) -> int:
        """Return how many workers hold no ticket and are not starting or retiring."""
        return len(self.checking) + sum(not record.tickets for record in self.available.values())

    def tickets(self, worker: WorkerId) -> list[Ticket]:
        """Return the tickets that *worker* serves."""
        for place in (self.available, self.busy):
            if worker in place:
                return list(place[worker].tickets)
        return []

    def deadline(self) -> float | None:
        """Return the time at which ``tick`` is due, or None."""
        return earliest(self._retry_at, *(self._due(record) for record in self.available.values()))

    # --- tickets -----------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Begin: min_size workers are wanted from now on."""
        return self._settle(now, [])

    def submit(self, ticket: Ticket, now: float) -> list[Action]:
        """Take in a ticket."""
        if not self.waiting and self.available and not ticket.exclusive and not self.limits.check_on_acquire:
            return [self._assign(ticket, next(reversed(self.available)))]  # the common case, short
        self.waiting[ticket] = None
        if not self.available and self.live >= self.limits.max_size and not self.failures:
            return []  # the other common case: all are busy, and no more may be started
        return self._settle(now, [])

    def withdraw(self, ticket: Ticket) -> bool:
        """Take a waiting ticket back; False when it does not wait (any more)."""
        if ticket not in self.waiting:
            return False
        del self.waiting[ticket]
        return True

    def finished(self, ticket: Ticket, now: float) -> list[Action]:
        """Free the slot of a ticket that was answered, or given back. Unknown once its worker was lost."""
        worker = self.serving.pop(ticket, None)
        if worker is None:
            return []
        record = self.busy.pop(worker, None) or self.available.pop(worker, None)
        if record is None:
            self._record(worker, self.retiring).tickets.discard(ticket)
            return []
        record.tickets.discard(ticket)
        record.seen = record.idle_since = now
        self.available[worker] = record
        return self._settle(now, [], proven=worker) if self.waiting else []

    # --- workers -----------------------------------------------------------------------------------------------------

    def ready(self, worker: WorkerId, slots: int, now: float) -> list[Action]:
        """A worker has started; it takes *slots* tickets at a time."""
        record = self._move(worker, self.starting, self.available)
        record.slots = slots
        record.seen = record.idle_since = now
        self.failures = 0
        self._retry_at = None
        return self._settle(now, [], proven=worker)

    def start_failed(self, worker: WorkerId, now: float) -> list[Action]:
        """A worker did not become ready; its process is still to be reaped."""
        self._move(worker, self.starting, self.retiring)
        self.failures += 1
        self._retry_at = now + pause(self.failures, self._chance())
        return self._settle(now, [])

    def checked(self, worker: WorkerId, now: float) -> list[Action]:
        """A worker has answered a ping. It may have been lost meanwhile."""
        if worker not in self.checking:
            return []
        self._move(worker, self.checking, self.available).seen = now
        # A ping warms nobody: the cold end stays the one that is retired.
        self.available = OrderedDict(sorted(self.available.items(), key=lambda item: item[1].idle_since))
        return self._settle(now, [], proven=worker)

    def retire(self, worker: WorkerId, now: float) -> list[Action]:
        """Ask a worker without tickets to end."""
        self._move(worker, self.available, self.retiring)
        return self._settle(now, [Retire(worker)])

    def lost(self, worker: WorkerId, now: float, moved: Ticket | None = None) -> list[Action]:
        """A worker died, was killed or is not to be trusted: it gets no more tickets, and those on it are let go.

        *moved* is the one that provably never started: it goes back to the head of the queue.
        """
        for place in (self.starting, self.available, self.checking, self.busy):
            if worker in place:
                record = self._move(worker, place, self.retiring)
                break
        else:
            record = self._record(worker, self.retiring)
        for ticket in record.tickets:
            del self.serving[ticket]
        record.tickets = set()
        if moved is not None:
            self.waiting[moved] = None
            self.waiting.move_to_end(moved, last=False)
        return self._settle(now, [])

    def reaped(self, worker: WorkerId, now: float) -> list[Action]:
        """A retiring worker's process is gone."""
        self._record(worker, self.retiring)
        del self.retiring[worker]
        self.exited += 1
        return self._settle(now, [])

    # --- time and end ------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Action]:
        """Do what is due: retire what was idle for long, ping what was silent for long, try a start again."""
        actions: list[Action] = []
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
        for worker, record in list(self.available.items()):  # the coldest first
            if record.tickets:
                continue
            limit = self.limits.idle_timeout
            if limit is not None and self.live > self.limits.min_size and record.idle_since + limit <= now:
                self._move(worker, self.available, self.retiring)
                actions.append(Retire(worker))
            elif self.limits.health_interval is not None and record.seen + self.limits.health_interval <= now:
                actions.append(self._probe(worker))
        return self._settle(now, actions)

    def close(self) -> None:
        """From now on start workers only for tickets that already wait."""
        self._closing = True
        self._retry_at = None

    # --- the one place where queue and workers meet ------------------------------------------------------------------

    def _settle(self, now: float, actions: list[Action], proven: WorkerId | None = None) -> list[Action]:
        """Serve the head of the queue while a worker is available for it, then start what is wanted.

        *proven* has just given a sign of life: it needs no check before it is used.
        """
        while self.waiting:
            ticket = next(iter(self.waiting))
            worker = self._pick(ticket, proven)
            if worker is None:
                break
            del self.waiting[ticket]
            actions.append(self._assign(ticket, worker))
        if self.limits.check_on_acquire:
            actions.extend(self._checks())
        if self.circuit_open:
            actions.extend(Reject(ticket) for ticket in self.waiting)
            self.waiting.clear()
        if self.live < self.limits.max_size:
            actions.extend([self._spawn(now) for _ in range(self._spawns(now))])
        return actions

    def _pick(self, ticket: Ticket, proven: WorkerId | None) -> WorkerId | None:
        """Return the warmest worker that can take *ticket*."""
        for worker in reversed(self.available):
            in_use = bool(self.available[worker].tickets)
            if in_use and ticket.exclusive:
                continue
            if in_use or worker == proven or not self.limits.check_on_acquire:
                return worker
        return None

    def _assign(self, ticket: Ticket, worker: WorkerId) -> Assign:
        record = self.available[worker]
        record.tickets.add(ticket)
        self.serving[ticket] = worker
        if ticket.exclusive or len(record.tickets) >= record.slots:
            self._move(worker, self.available, self.busy)
        return Assign(worker, ticket)

    def _checks(self) -> list[Action]:
        """Ping as many available workers as there are waiting tickets that nobody is on the way to serve."""
        missing = len(self.waiting) - len(self.checking)
        unused = [worker for worker in reversed(self.available) if not self.available[worker].tickets]
        return [self._probe(worker) for worker in unused[: max(0, missing)]]

    def _probe(self, worker: WorkerId) -> Probe:
        self._move(worker, self.available, self.checking)
        return Probe(worker)

    def _spawn(self, now: float) -> Spawn:
        self.spawned += 1
        self.starting[self.spawned] = _Record(now)
        return Spawn(self.spawned)

    def _spawns(self, now: float) -> int:
        crew = Crew(self.live, len(self.starting), self._soon(), self.processes, len(self.waiting), self.failures)
        paused = self._retry_at is not None and now < self._retry_at
        return spawns(self.limits, crew, closing=self._closing, paused=paused)

    def _soon(self) -> int:
        return len(self.starting) + len(self.checking)

    def _due(self, record: _Record) -> float | None:
        if record.tickets:
            return None
        idle, health = self.limits.idle_timeout, self.limits.health_interval
        return earliest(
            record.idle_since + idle if idle is not None and self.live > self.limits.min_size else None,
            record.seen + health if health is not None else None,
        )

    def _move(self, worker: WorkerId, source: _Set, target: _Set) -> _Record:
        record = target[worker] = self._record(worker, source)
        del source[worker]
        return record

    def _record(self, worker: WorkerId, place: _Set) -> _Record:
        try:
            return place[worker]
        except KeyError:
            raise IllegalMove(f"worker {worker} is not where it was taken from") from None
