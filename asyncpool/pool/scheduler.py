"""The acquire and release queue: who waits, who serves whom, and when somebody new is wanted.

Law 1: every worker's id is in exactly one set of the roster: membership is the state. An illegal move raises.
Law 2: no eligible ticket waits while a worker is available.
Law 3: tickets are served in order; one that is moved goes back to the head.
Law 4: workers that take calls never exceed max_size; no process is started beyond max_size + surge, those counted
       that are not yet reaped.
Law 5: spawned = exited + present.
Law 6: nothing here reads a clock, awaits or does I/O. Each decision is one synchronous method that changes the state
       and returns what is to be done; whoever calls it does all of it, in order.
Law 7: no worker is handed more than max_calls, nor anything after max_lifetime. A worn one serves on until a worker
       that started after it is ready, or its limit is reached; only where surge leaves no room it goes first.
Law 8: a ticket with a key goes to the worker that served the key last, if that is free, else where any other would.
Law 9: a ticket that is bound to a worker is served by it before any that waits, and by no other.

A ticket is whatever waits for a worker: a call, which takes one slot, or an exclusive one (a lease), which takes a
whole worker. A ticket that is assigned makes its worker busy at once. The reply frees the slot, not the caller.
"""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable

from asyncpool.pool.actions import Action, Assign, Probe, Reject, Spawn
from asyncpool.pool.policy import CIRCUIT_OPENS_AT, Crew, Limits, earliest, pause, spawns
from asyncpool.pool.ranking import Ranking, WorkerId
from asyncpool.pool.roster import Record, Ticket
from asyncpool.pool.succession import Succession


class Scheduler(Succession):
    """Decides who serves whom, and how many workers there are.

    Args:
        limits: Sizes and times.
        chance: Gives a number in [0, 1); injected so that tests can decide it.
    """

    def __init__(self, limits: Limits, chance: Callable[[], float] = random.random) -> None:
        super().__init__(limits)
        self._chance = chance
        self.waiting: OrderedDict[Ticket, None] = OrderedDict()
        self.serving: dict[Ticket, WorkerId] = {}
        self.failures: int = 0  # failed starts in a row
        self._failed_alone = False  # one of these, while nobody took tickets
        self._retry_at: float | None = None
        self._closing = False
        self._rested = Ranking()  # have answered a ping since they were of use; the warmest first

    # --- what there is -----------------------------------------------------------------------------------------------

    @property
    def circuit_open(self) -> bool:
        """True while calls fail at once because no worker can be started."""
        return self.failures >= CIRCUIT_OPENS_AT and self._failed_alone and self.taking == 0

    @property
    def full(self) -> bool:
        """True when one more waiting ticket would exceed max_waiting."""
        if self.limits.max_waiting is None or (self.available and not self.waiting):
            return False
        startable = max(0, self.limits.max_size - self.live)
        # Who is idle while others wait is checked, or will be. A successor brings no room of its own.
        soon = self.idle() + max(0, len(self.starting) - len(self.worn))
        room = min(soon + startable, max(0, self.limits.max_size - len(self.busy)))
        return len(self.waiting) - room >= self.limits.max_waiting

    def deadline(self) -> float | None:
        """Return the time at which ``tick`` is due, or None."""
        return earliest(self._retry_at, self.quiet.least(), self.old.least())

    # --- tickets -----------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Begin: min_size workers are wanted from now on."""
        return self._settle(now, [])

    def submit(self, ticket: Ticket, now: float) -> list[Action]:
        """Take in a ticket."""
        if not self.waiting and self.available and not ticket.exclusive and not self.limits.check_on_acquire:
            worker = next(reversed(self.available))
            record = self.available[worker]
            if ticket.key is not None or record.seen > record.idle_since:
                worker = self._pick(ticket, None) or worker
                record = self.available[worker]
            if record.slots == 1 and not self.worn and self.limits.max_calls is None:
                del self.available[worker]
                return [self._hand(ticket, worker, record)]  # the common case, short
            return self._settle(now, [self._assign(ticket, worker, now)])
        self.waiting[ticket] = None
        if len(self.busy) >= self.limits.max_size and not self.available and not self.worn:
            return []  # the other common case: all are busy, and no more may be started
        return self._settle(now, [])

    def withdraw(self, ticket: Ticket) -> bool:
        """Take a waiting ticket back; False when it does not wait (any more)."""
        if ticket not in self.waiting:
            return False
        del self.waiting[ticket]
        return True

    def takes(self, ticket: Ticket) -> bool:
        """Say whether the worker that serves a ticket takes others after it: else another will take its place."""
        return ticket in self.serving and self.serving[ticket] not in self.retiring

    def waits(self, ticket: Ticket) -> bool:
        """Say whether a ticket still waits for a worker."""
        return ticket in self.waiting or ticket in self.bound

    def bind(self, ticket: Ticket, worker: WorkerId, now: float) -> list[Action]:
        """Take in a ticket that only *worker* may serve, one of those that take tickets: as soon as it can.

        It counts for no max_waiting, and nobody is started for it.
        """
        place = next((each for each in self._places() if worker in each), self.available)
        self.record(worker, place).bound.append(ticket)
        self.bound[ticket] = worker
        return self._settle(now, self._serve_bound(worker, now)) if place is self.available else []

    def unbind(self, ticket: Ticket, now: float) -> list[Action]:
        """Take a ticket back that waits for the worker to which it is bound."""
        worker = self.bound.pop(ticket)
        place = next(each for each in self._places() if worker in each)
        record = place[worker]
        record.bound.remove(ticket)
        if place is not self.busy or self._full(record):
            return []
        self.move(worker, self.busy, self.available)  # its free slots were kept for this ticket
        return self._settle(now, self._serve_bound(worker, now))

    def again(self, ticket: Ticket, now: float) -> list[Action]:
        """Take in a ticket for another run: it has waited its turn, and goes to the head of the queue."""
        self._to_the_head(ticket)
        return self._settle(now, [])

    def finished(self, ticket: Ticket, now: float, calls: int = 1) -> list[Action]:
        """Free the slot of a ticket that was answered, or given back. Unknown once its worker was lost.

        Args:
            ticket: Which.
            now: When.
            calls: Calls that it was: a lease makes any number.
        """
        worker = self.serving.pop(ticket, None)
        if worker is None:
            return []
        record = self.busy.get(worker) or self.available.get(worker)
        if record is None:
            return self.finish_leaving(ticket, worker)
        record.tickets.discard(ticket)
        record.seen = record.idle_since = now
        record.calls += calls - 1
        limits = self.limits
        worn_out = limits.max_calls is not None or limits.max_lifetime is not None
        spent = self.spent(record, now) if worn_out else None
        if self.waiting and not (worn_out or self.available or record.bound) and record.slots == 1:
            return [self._hand(self.waiting.popitem(last=False)[0], worker, record)]  # the common case, short
        if spent is None:
            self.busy.pop(worker, None)
            self.available[worker] = record
            self.available.move_to_end(worker)
            if record.bound:
                return self._settle(now, self._serve_bound(worker, now, proven=True), proven=worker)
            return self._settle(now, [], proven=worker) if self.waiting or self.worn else []
        self.available.pop(worker, None)
        self.busy[worker] = record
        return self._settle(now, [] if record.tickets else self.step_down(worker, spent))

    def _hand(self, ticket: Ticket, worker: WorkerId, record: Record) -> Assign:
        """Give a ticket to a worker that has one slot, and is not available (any more)."""
        record.tickets.add(ticket)
        record.calls += 1
        self.serving[ticket] = worker
        if ticket.key is not None:
            self.affinity.note(ticket.key, worker)
        self.busy[worker] = record
        return Assign(worker, ticket)

    # --- workers -----------------------------------------------------------------------------------------------------

    def ready(self, worker: WorkerId, slots: int, now: float, memory: int = 0) -> list[Action]:
        """A worker has started; it takes *slots* tickets at a time, and has so many bytes of memory.

        It replaces one that is worn.
        """
        record = self.move(worker, self.starting, self.available)
        record.slots = slots
        record.seen = record.idle_since = now
        self.begin(worker, record, memory, now)
        self._look_again(worker, now)
        self.failures, self._failed_alone = 0, False
        self._retry_at = None
        return self._settle(now, self.take_over(worker), proven=worker)

    def start_failed(self, worker: WorkerId, now: float) -> list[Action]:
        """A worker did not become ready; its process is still to be reaped."""
        self.move(worker, self.starting, self.retiring)
        self.failures += 1
        self._failed_alone = self._failed_alone or self.taking == 0
        self._retry_at = now + pause(self.failures, self._chance())
        return self._settle(now, [])

    def checked(self, worker: WorkerId, now: float) -> list[Action]:
        """A worker has answered a ping. It may have been lost meanwhile."""
        if worker not in self.checking:
            return []
        record = self.move(worker, self.checking, self.available)
        record.seen = now
        self.available.move_to_end(worker, last=False)  # a ping warms nobody
        self._rested.put(worker, -record.idle_since)
        return self._settle(now, self._serve_bound(worker, now, proven=True), proven=worker)

    def weighed(self, worker: WorkerId, memory: int, now: float) -> list[Action]:
        """A worker has so many bytes of resident memory."""
        self.wear_heavy(worker, memory)
        return self._settle(now, [])

    def lost(self, worker: WorkerId, now: float, moved: Ticket | None = None) -> list[Action]:
        """A worker died, was killed or is not to be trusted: it gets no more tickets, and those on it are let go.

        *moved* is the one that provably never started: it goes back to the head of the queue.
        """
        record = self.leave(worker)
        for ticket in record.tickets:
            del self.serving[ticket]
        record.tickets = set()
        if moved is not None:
            self._to_the_head(moved)
        return self._settle(now, self.strand(worker, record))

    def reaped(self, worker: WorkerId, now: float) -> list[Action]:
        """A retiring worker's process is gone."""
        self.strike(worker)
        self._rested.drop(worker)
        return self._settle(now, [])

    # --- all of them -------------------------------------------------------------------------------------------------

    def restart(self, now: float) -> list[Action]:
        """Every worker that there is wants a successor."""
        self.wear_all()
        return self._settle(now, [])

    def resize(self, limits: Limits, now: float) -> list[Action]:
        """From now on there are other limits. Those that are too many go."""
        self.limits = limits
        for worker in self.available:  # with a lower min_size some may be idle for too long already
            self.quiet.put(worker, now)
        return self._settle(now, self.dismiss())

    # --- time and end ------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Action]:
        """Do what is due: retire who was idle for long, ping who was silent for long, replace who is old, try again."""
        actions: list[Action] = []
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
        actions += self.age(now)
        due = self.quiet.take(now)
        unused = [worker for worker in due if worker in self.available and not self.available[worker].tickets]
        for worker in sorted(unused, key=lambda worker: self.available[worker].idle_since):  # the coldest first
            record, limit = self.available[worker], self.limits.idle_timeout
            if limit is not None and self.taking > self.limits.min_size and record.idle_since + limit <= now:
                actions += self.step_down(worker, "retired")
            elif self.limits.health_interval is not None and record.seen + self.limits.health_interval <= now:
                actions.append(self._probe(worker))
        for worker in due:
            self._look_again(worker, now)
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
            actions.append(self._assign(ticket, worker, now))
        if self.limits.check_on_acquire:
            actions.extend(self._checks())
        if self.circuit_open:
            actions.extend(Reject(ticket) for ticket in self.waiting)
            self.waiting.clear()
        if self.worn and not self._closing and (not self.failures or self._retry_at is None):
            actions.extend(self.make_room())
        if self.live - len(self.worn) < self.limits.max_size:
            actions.extend([self._spawn(now) for _ in range(self._spawns(now))])
        return actions

    def _warmest(self) -> WorkerId:
        """Return the available worker that was of use last, and make it the last of them.

        Those that have answered a ping since stand first, in no order, and matter only once all others are in use.
        """
        worker = next(reversed(self.available))
        while (warmest := self.available[worker]).seen > warmest.idle_since:
            first = self._rested.first()
            if first is None:
                break
            record = self.available.get(first[1])
            if record is not None and record.idle_since == -first[0]:
                worker = first[1]
                self.available.move_to_end(worker)
                break
            self._rested.drop(first[1])  # it was of use since, or is gone
        return worker

    def _pick(self, ticket: Ticket, proven: WorkerId | None) -> WorkerId | None:
        """Return the worker that knows the key of *ticket*, else the warmest, of those that can take it."""
        if self.available:
            self._warmest()
        if ticket.key is not None:
            preferred = self.affinity.get(ticket.key)
            if preferred is not None and preferred in self.available and self._fits(ticket, preferred, proven):
                return preferred
        for worker in reversed(self.available):
            if self._fits(ticket, worker, proven):
                return worker
        return None

    def _fits(self, ticket: Ticket, worker: WorkerId, proven: WorkerId | None) -> bool:
        """Say whether an available worker can take *ticket* now."""
        if self.available[worker].tickets:
            return not ticket.exclusive
        return worker == proven or not self.limits.check_on_acquire

    def _assign(self, ticket: Ticket, worker: WorkerId, now: float) -> Assign:
        record = self.available[worker]
        record.tickets.add(ticket)
        self.serving[ticket] = worker
        if ticket.key is not None:
            self.affinity.note(ticket.key, worker)
        last = self.use(worker, record, now)
        if ticket.exclusive or last or len(record.tickets) >= record.slots:
            self.move(worker, self.available, self.busy)
        return Assign(worker, ticket)

    def _serve_bound(self, worker: WorkerId, now: float, *, proven: bool = False) -> list[Action]:
        """Let an available worker take what is bound to it, in order; for one that takes all its slots, they wait."""
        record = self.available[worker]
        actions: list[Action] = []
        while record.bound and worker in self.available:
            ticket = record.bound[0]
            if not record.tickets and self.limits.check_on_acquire and not proven:
                actions.append(self._probe(worker))
            elif record.tickets and ticket.exclusive:
                self.move(worker, self.available, self.busy)
            else:
                del record.bound[0], self.bound[ticket]
                actions.append(self._assign(ticket, worker, now))
        return actions

    def _full(self, record: Record) -> bool:
        most = self.limits.max_calls
        if len(record.tickets) >= record.slots or (most is not None and record.calls >= most):
            return True
        return any(ticket.exclusive for ticket in record.tickets)

    def _to_the_head(self, ticket: Ticket) -> None:
        self.waiting[ticket] = None
        self.waiting.move_to_end(ticket, last=False)

    def _checks(self) -> list[Action]:
        """Ping as many available workers as there are waiting tickets that nobody is on the way to serve."""
        missing = len(self.waiting) - len(self.checking)
        if missing <= 0:
            return []
        known = self.affinity.get(next(iter(self.waiting)).key)  # whom the head of the queue would rather have
        order: Iterable[WorkerId] = reversed(self.available)
        if known is not None and known in self.available:
            order = [known, *order]
        unused = dict.fromkeys(worker for worker in order if not self.available[worker].tickets)
        return [self._probe(worker) for worker in list(itertools.islice(unused, missing))]

    def _probe(self, worker: WorkerId) -> Probe:
        self.move(worker, self.available, self.checking)
        return Probe(worker)

    def _spawn(self, now: float) -> Spawn:
        worker = self.enlist(now)
        self.starting[worker].chance = self._chance()
        return Spawn(worker)

    def _spawns(self, now: float) -> int:
        crew = Crew(
            live=self.live,
            starting=len(self.starting),
            worn=len(self.worn),
            soon=self._soon(),
            processes=self.processes,
            waiting=len(self.waiting),
            failures=self.failures,
        )
        paused = self._retry_at is not None and now < self._retry_at
        return spawns(self.limits, crew, closing=self._closing, paused=paused)

    def _soon(self) -> int:
        return len(self.starting) + len(self.checking)

    def _look_again(self, worker: WorkerId, now: float) -> None:
        """Set the alarm at which *worker* may have been idle or silent for too long."""
        if worker in self.retiring:
            return
        record = self.available.get(worker)
        idle_since, seen = (now, now) if record is None or record.tickets else (record.idle_since, record.seen)
        idle, health = self.limits.idle_timeout, self.limits.health_interval
        if idle is not None and idle_since + idle <= now:
            idle_since = now  # it stays because of min_size
        due = earliest(None if idle is None else idle_since + idle, None if health is None else seen + health)
        if due is not None:
            self.quiet.put(worker, due)
