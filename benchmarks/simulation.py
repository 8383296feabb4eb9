"""A pool without processes: the real scheduler, told by a fake clock what ten thousand workers and their callers do.

It performs the scheduler's actions as the pool's supervisor does, keeps its own account of who is where, and holds the
two against each other after every event:

Law 1: every call has exactly one outcome.
Law 2: no call waits while a worker is idle, and no worker has two calls.
Law 3: calls are served in order; one that is moved goes back to the head.
Law 4: workers that take calls never exceed max_size; none is spawned beyond max_size + surge, until others are reaped.
Law 5: spawned = exited + present.
Law 6: no worker is handed more than max_calls, nor anything after max_lifetime.
"""

import heapq
import itertools
import random
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from asyncpool.pool.actions import Action, Assign, Probe, Reject, Retire, Spawn
from asyncpool.pool.policy import Limits
from asyncpool.pool.roster import IllegalMove
from asyncpool.pool.scheduler import Scheduler

ASKED = (
    *("start", "submit", "withdraw", "again", "finished", "ready", "start_failed", "checked", "lost", "reaped"),
    *("restart", "resize", "tick", "deadline"),
)
CHUNKS = 20  # of one run; costs are medians over them, so that a busy machine is seen less
RINGS = 1000  # of the timer in one moment
OF_A_CALL = ("submit", "withdraw", "again", "finished")
PATIENCE = 3600.0  # simulated seconds, beside 60 mean service times, in which each call must have its outcome


class BrokenLaw(Exception):
    """The scheduler did what it promises never to do."""


@dataclass(frozen=True)
class Behaviour:
    """What calls and workers do. Times in simulated seconds, shares in [0, 1]."""

    arrivals: float  # calls per second, Poisson
    service: float  # mean of the exponential service time
    crashes: float = 0.0  # share of the calls that end their worker
    moved: float = 0.0  # share of those that provably never started
    retried: float = 0.0  # share of the others that are run again
    leases: float = 0.0  # share of the tickets that want a whole worker
    cancelled: float = 0.0  # share of the callers that are cancelled, waiting or running
    silent: float = 0.0  # share of the pings without an answer
    start: float = 0.05  # from spawn to ready
    starts_failing: float = 0.0  # share of the starts
    outage: tuple[float, float] = (0.0, 0.0)  # in it every start fails: from, to; seconds after all workers were there
    answer: float = 0.001  # from ping to pong
    unhealthy: float = 5.0  # from ping to kill
    reap: float = 0.01  # from the loss of a worker until its process is reaped
    unrest: float | None = None  # between one resize and the next; every third time all workers are replaced instead


class Ticket:
    """One call."""

    key = None
    __slots__ = ("arrived", "exclusive", "moves", "number", "outcome", "retrying", "service", "worker")

    def __init__(self, number: int, arrived: float, service: float, exclusive: bool) -> None:
        self.number = number
        self.arrived = arrived
        self.service = service
        self.exclusive = exclusive
        self.worker: int | None = None
        self.outcome: str | None = None
        self.moves = 0
        self.retrying = False  # its worker crashed, and it is run again once that is gone


@dataclass
class Staff:
    """One worker, by our own account."""

    phase: str = "starting"  # "idle", "checking", "busy" or "retiring"
    ticket: Ticket | None = None
    retried: Ticket | None = None  # run again once the worker is gone
    calls: int = 0
    born: float = 0.0
    unborn: bool = True


@dataclass
class Waits:
    """How long the calls waited, once the pool had got into its stride."""

    counted_from: int = 0  # number of the first call that counts
    total: float = 0.0
    calls: int = 0
    waited: int = 0  # those that did not get a worker at once

    @property
    def mean(self) -> float:
        return self.total / self.calls

    @property
    def share(self) -> float:
        return self.waited / self.calls


@dataclass
class Meter:
    """Processor time of one of the scheduler's methods."""

    asked: int = 0
    nanoseconds: int = 0


@dataclass
class Costs:
    """Processor time of the scheduler itself: by chunk of the run, the first one being the start of all workers."""

    chunks: list[dict[str, Meter]] = field(default_factory=list)
    calls_of_chunk: list[int] = field(default_factory=list)

    def per_call(self, questions: Sequence[str] = ASKED) -> float:
        """Seconds for each call, spent with these questions."""
        return statistics.median(
            _seconds(chunk[name] for name in questions) / calls
            for chunk, calls in zip(self.chunks[1:], self.calls_of_chunk[1:], strict=True)
        )

    def per_question(self) -> dict[str, float]:
        """Seconds for each time that one of the scheduler's methods was called."""
        return {
            name: statistics.median(_seconds([chunk[name]]) / chunk[name].asked for chunk in asked)
            for name in ASKED
            if (asked := [chunk for chunk in self.chunks if chunk[name].asked])
        }


def _seconds(meters: Iterable[Meter]) -> float:
    return sum(max(0.0, meter.nanoseconds - meter.asked * CLOCK) for meter in meters) * 1e-9


def _cost_of_the_clock() -> float:
    """Nanoseconds that a meter shows where nothing is done."""
    clock = time.thread_time_ns
    return statistics.median(-clock() + clock() for _ in range(10_000))


CLOCK = _cost_of_the_clock()


class Simulation:
    """One pool, from its start to its end.

    Args:
        limits: The pool's.
        behaviour: What calls and workers do.
        calls: How many.
        seed: Of everything that is random.
        metered: Look at the clock around each question to the scheduler.
        after_chunk: Called CHUNKS times.
    """

    def __init__(
        self,
        limits: Limits,
        behaviour: Behaviour,
        calls: int,
        seed: int,
        *,
        metered: bool = False,
        after_chunk: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits, self.behaviour, self.calls = limits, behaviour, calls
        self._sizes = limits.min_size, limits.max_size
        self.now = 0.0
        self.events = 0
        self.outcomes: Counter[str] = Counter()
        self.waits = Waits(calls // 10)
        self.costs = Costs()
        self.scheduler = Scheduler(limits, random.Random(seed).random)
        self._after_chunk = after_chunk
        self._chance = random.Random(seed + 1)
        self._agenda: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._order = itertools.count()
        self._queue: deque[Ticket] = deque()  # those that were served or withdrawn are dropped when they come first
        self._crew: dict[int, Staff] = {}
        self.retired: Counter[str] = Counter()  # workers that were asked to end, by cause
        self._arrived = 0
        self._open = 0
        self._began = 0.0  # when all workers were there
        self._last_outcome = 0.0
        self._timer = 0  # number of the timer that counts; one that was cancelled has a lower one
        self._timer_is_set = False
        self._rang_at, self._rings = -1.0, 0
        self._timed = limits.idle_timeout is not None or limits.health_interval is not None
        self._ask: Callable[..., Any] = self._ask_metered if metered else self._ask_plainly
        self._questions = {name: getattr(self.scheduler, name) for name in ASKED}

    # --- the course of it --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start all workers, make all calls, wait for their outcomes, close.

        Raises:
            BrokenLaw: Which, and when.
        """
        self._new_chunk()
        try:
            self._perform(self._ask("start", self.now))
            while self.scheduler.starting or self.scheduler.failures:
                self._happen()
            self._began = self._last_outcome = self.now
            self._finish_chunk()
            self._arrive_later()
            if self.behaviour.unrest is not None:
                self._later(self.behaviour.unrest, self._shake, 1)
            for chunk in range(1, CHUNKS + 1):
                until = self.calls if chunk == CHUNKS else self.calls * chunk // CHUNKS
                while self._arrived < until or (chunk == CHUNKS and self._open):
                    self._happen()
                self._finish_chunk()
                self._after_chunk()
            self._close()
        except IllegalMove as error:
            raise self._broken(f"the scheduler was led astray: {error}") from error

    def _happen(self) -> None:
        """Let the next thing happen, and look whether the laws hold."""
        if not self._agenda:
            raise self._broken(f"law 1: {self._open} calls wait for ever; nothing is left that could serve them")
        self.now, _, what, subject = heapq.heappop(self._agenda)
        self.events += 1
        what(subject)
        self._check()

    def _check(self) -> None:
        scheduler, present = self.scheduler, len(self._crew)
        if scheduler.spawned != scheduler.exited + present:
            raise self._broken(f"law 5: {scheduler.spawned} spawned, {scheduler.exited} exited, {present} present")
        if scheduler.taking > self.limits.max_size:
            raise self._broken(f"law 4: {scheduler.taking} workers take calls, of at most {self.limits.max_size}")
        if scheduler.waiting and scheduler.available and not self.limits.check_on_acquire:
            raise self._broken(f"law 2: {len(scheduler.waiting)} wait, {len(scheduler.available)} workers are idle")
        if self._open and self.now - self._last_outcome > PATIENCE + 60 * self.behaviour.service:
            raise self._broken(f"law 1: {self._open} calls have no outcome, and have waited for an hour")

    def _broken(self, what: str) -> BrokenLaw:
        return BrokenLaw(f"{what} (at {self.now:.3f} s, event {self.events:,}, call {self._arrived:,})")

    def _close(self) -> None:
        """End all workers; nothing may be left, and nothing may start."""
        self.scheduler.close()
        for worker, staff in list(self._crew.items()):
            if staff.phase != "retiring":
                self._lose(worker)
            if worker in self._crew:
                self._reap(worker)
            self._check()
        if self._crew or self.scheduler.serving or self.scheduler.waiting:
            raise self._broken("law 5: something is left of a pool that was closed")
        if sum(self.outcomes.values()) != self.calls:
            raise self._broken(f"law 1: {self.calls} calls, {dict(self.outcomes)}")

    # --- cost --------------------------------------------------------------------------------------------------------

    def _ask_plainly(self, question: str, *args: Any) -> Any:
        return self._questions[question](*args)

    def _ask_metered(self, question: str, *args: Any) -> Any:
        method = self._questions[question]
        begin = time.thread_time_ns()
        answer = method(*args)
        end = time.thread_time_ns()
        meter = self._meters[question]
        meter.asked += 1
        meter.nanoseconds += end - begin
        return answer

    def _new_chunk(self) -> None:
        self._meters = {name: Meter() for name in ASKED}
        self._chunk_began_at = self._arrived

    def _finish_chunk(self) -> None:
        self.costs.chunks.append(self._meters)
        self.costs.calls_of_chunk.append(self._arrived - self._chunk_began_at)
        self._new_chunk()

    # --- what the supervisor does ------------------------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Assign):
                self._assign(action.worker, action.ticket)  # type: ignore[arg-type] # ours
            elif isinstance(action, Spawn):
                self._spawn(action.worker)
            elif isinstance(action, Probe):
                self._probe(action.worker)
            elif isinstance(action, Retire):
                self.retired[action.cause] += 1
                self._move(action.worker, "retiring", "idle", "checking", "starting")
                self._later(self.behaviour.reap, self._reap, action.worker)
            elif isinstance(action, Reject):
                self._settle(action.ticket, "not_started")  # type: ignore[arg-type] # ours
            else:
                raise self._broken(f"the simulation does not know how to do {action!r}")
        if not self._timer_is_set and self._timed:
            self._set_timer()

    def _set_timer(self) -> None:
        due = self._ask("deadline")
        if due is not None:
            self._timer += 1
            self._timer_is_set = True
            self._later(max(0.0, due - self.now), self._tick, self._timer)

    def _reset_timer(self) -> None:
        self._timer_is_set = False
        self._set_timer()

    def _tick(self, timer: int) -> None:
        if timer == self._timer and self._timer_is_set:
            self._timer_is_set = False
            self._rings = self._rings + 1 if self.now == self._rang_at else 0
            self._rang_at = self.now
            if self._rings > RINGS:
                raise self._broken("the timer never rests: what it was set for is due again and again")
            self._perform(self._ask("tick", self.now))

    # --- calls -------------------------------------------------------------------------------------------------------

    def _arrive_later(self) -> None:
        if self._arrived < self.calls:
            self._later(self._chance.expovariate(self.behaviour.arrivals), self._arrive, None)

    def _arrive(self, _: None) -> None:
        behaviour, chance = self.behaviour, self._chance
        exclusive = behaviour.leases > 0 and chance.random() < behaviour.leases
        ticket = Ticket(self._arrived, self.now, chance.expovariate(1 / behaviour.service), exclusive)
        self._arrived += 1
        self._open += 1
        self._queue.append(ticket)
        if behaviour.cancelled and chance.random() < behaviour.cancelled:
            self._later(chance.expovariate(1 / behaviour.service), self._cancel, ticket)
        self._arrive_later()
        self._perform(self._ask("submit", ticket, self.now))

    def _assign(self, worker: int, ticket: Ticket) -> None:
        if ticket.outcome is not None or ticket.worker is not None:
            raise self._broken(f"law 1: call {ticket.number} was assigned again")
        head = self._head()
        if head is not ticket:
            raise self._broken(f"law 3: call {ticket.number} was served before {'none' if not head else head.number}")
        self._queue.popleft()
        staff = self._move(worker, "busy", "idle")
        staff.ticket, ticket.worker = ticket, worker
        staff.calls += 1
        most, lifetime = self.limits.max_calls, self.limits.max_lifetime
        if most is not None and staff.calls > most:
            raise self._broken(f"law 6: worker {worker} is handed its call {staff.calls} of at most {most}")
        if lifetime is not None and self.now > staff.born + lifetime + 1e-6:
            raise self._broken(f"law 6: worker {worker} is handed a call at the age of {self.now - staff.born:.3f} s")
        if ticket.number >= self.waits.counted_from and not ticket.moves:
            waited = self.now - ticket.arrived
            self.waits.calls += 1
            self.waits.total += waited
            self.waits.waited += waited > 0
        crashes = self.behaviour.crashes > 0 and self._chance.random() < self.behaviour.crashes
        self._later(ticket.service, self._crash if crashes else self._finish, (worker, ticket))

    def _head(self) -> Ticket | None:
        """The call whose turn it is, by our own account."""
        queue = self._queue
        while queue and (queue[0].outcome is not None):
            queue.popleft()
        return queue[0] if queue else None

    def _finish(self, pair: tuple[int, Ticket]) -> None:
        worker, ticket = pair
        if ticket.worker != worker:
            return  # it was cancelled
        self._move(worker, "idle", "busy").ticket = None
        self._settle(ticket, "ok")
        self._perform(self._ask("finished", ticket, self.now))

    def _crash(self, pair: tuple[int, Ticket]) -> None:
        worker, ticket = pair
        if ticket.worker != worker:
            return
        chance, behaviour = self._chance, self.behaviour
        movable = not ticket.exclusive and ticket.moves < 2
        if movable and chance.random() < behaviour.moved:
            self._lose(worker, moved=ticket)
        elif not ticket.exclusive and chance.random() < behaviour.retried:
            self._crew[worker].retried, ticket.retrying = ticket, True
            self._lose(worker, outcome=None)
        else:
            self._lose(worker)

    def _cancel(self, ticket: Ticket) -> None:
        if ticket.outcome is not None:
            return
        if ticket.worker is not None:
            self._lose(ticket.worker, outcome="cancelled")
        elif ticket.retrying or self._ask("withdraw", ticket):
            self._settle(ticket, "cancelled")
        else:
            raise self._broken(f"law 1: call {ticket.number} neither waits nor runs")

    def _settle(self, ticket: Ticket, outcome: str) -> None:
        if ticket.outcome is not None:
            raise self._broken(f"law 1: call {ticket.number} is {ticket.outcome} and now {outcome}")
        ticket.outcome, ticket.worker = outcome, None
        self.outcomes[outcome] += 1
        self._open -= 1
        self._last_outcome = self.now

    # --- workers -----------------------------------------------------------------------------------------------------

    def _spawn(self, worker: int) -> None:
        if worker in self._crew:
            raise self._broken(f"law 5: worker {worker} was spawned twice")
        self._crew[worker] = Staff()
        limits = self.limits
        if len(self._crew) > limits.max_size + limits.surge:
            raise self._broken(f"law 4: {len(self._crew)} processes of at most {limits.max_size} + {limits.surge}")
        self._later(self.behaviour.start, self._started, worker)

    def _started(self, worker: int) -> None:
        if worker not in self._crew or self._crew[worker].phase != "starting":
            return  # it was asked to end meanwhile
        begin, end = self.behaviour.outage
        fails = self._arrived > 0 and (
            begin <= self.now - self._began < end or self._chance.random() < self.behaviour.starts_failing
        )
        if fails:
            self._move(worker, "retiring", "starting").unborn = False
            self._later(self.behaviour.reap, self._reap, worker)
            self._perform(self._ask("start_failed", worker, self.now))
        else:
            staff = self._move(worker, "idle", "starting")
            staff.born, staff.unborn = self.now, False
            self._perform(self._ask("ready", worker, 1, self.now))
            self._reset_timer()

    def _probe(self, worker: int) -> None:
        self._move(worker, "checking", "idle")
        silent = self.behaviour.silent > 0 and self._chance.random() < self.behaviour.silent
        self._later(self.behaviour.unhealthy if silent else self.behaviour.answer, self._answer, (worker, silent))

    def _answer(self, pair: tuple[int, bool]) -> None:
        worker, silent = pair
        if worker not in self._crew or self._crew[worker].phase != "checking":
            return  # it was asked to end meanwhile
        if silent:
            self._lose(worker)
        else:
            self._move(worker, "idle", "checking")
            self._perform(self._ask("checked", worker, self.now))

    def _lose(self, worker: int, moved: Ticket | None = None, outcome: str | None = "crashed") -> None:
        """A worker is gone; its call is moved, settled with *outcome*, or, without one, run again later."""
        staff = self._move(worker, "retiring")
        ticket, staff.ticket = staff.ticket, None
        if ticket is not None:
            ticket.worker = None
            if moved is not None:
                moved.moves += 1
                self._queue.appendleft(moved)
            elif outcome is not None:
                self._settle(ticket, outcome)
        self._later(self.behaviour.reap, self._reap, worker)
        if not staff.unborn:  # else the scheduler is told once it is reaped, as the supervisor does
            self._perform(self._ask("lost", worker, self.now, moved))

    def _reap(self, worker: int) -> None:
        staff = self._crew.get(worker)
        if staff is None:
            return  # the pool was closed meanwhile
        if staff.phase != "retiring":
            raise self._broken(f"law 5: worker {worker} was reaped alive")
        if (again := staff.retried) is not None and again.outcome is None:
            again.retrying = False
            self._queue.appendleft(again)
            self._perform(self._ask("again", again, self.now))
        del self._crew[worker]
        if staff.unborn:
            self._perform(self._ask("lost", worker, self.now))
        self._perform(self._ask("reaped", worker, self.now))
        self._reset_timer()

    def _shake(self, number: int) -> None:
        """Replace all workers, or let there be fewer and then more again."""
        if self._arrived == self.calls:
            return
        if number % 3 == 0:
            self._perform(self._ask("restart", self.now))
        else:
            smallest, largest = self._sizes
            fewer = (max(1, smallest // 2), max(1, largest * 3 // 4)) if number % 3 == 1 else self._sizes
            self.limits = msgspec.structs.replace(self.limits, min_size=fewer[0], max_size=fewer[1])
            self._perform(self._ask("resize", self.limits, self.now))
            self._reset_timer()
        self._later(self.behaviour.unrest or 0.0, self._shake, number + 1)

    def _move(self, worker: int, to: str, *expected: str) -> Staff:
        staff = self._crew.get(worker)
        if staff is None or (expected and staff.phase not in expected):
            was = "unknown" if staff is None else staff.phase
            raise self._broken(f"law 2: worker {worker} is {was}, and was to become {to}")
        staff.phase = to
        return staff

    def _later(self, seconds: float, what: Callable[[Any], None], subject: Any) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), what, subject))
