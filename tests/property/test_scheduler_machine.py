"""The scheduler under any sequence of events, played against a model of its own.

Law 1: every worker's id is in exactly one set, and in the one that its history says.
Law 2: no eligible ticket waits while a worker is available, and no wanted worker is left unstarted.
Law 3: tickets are assigned in the order of their submission; one that is moved goes to the head; and each goes to the
       warmest worker that fits. One with a key goes to the worker that had that key last, if it fits. One that is bound
       to a worker goes to it before all that wait, and to no other.
Law 4: workers that take calls never exceed max_size; no process is started beyond max_size + surge, those counted
       that are not yet reaped; what waits never exceeds max_waiting beyond what the workers could take.
Law 5: spawned = exited + present.
Law 6: no ticket is lost, assigned twice, or held by a worker that is gone.
Law 7: an illegal move raises and changes nothing.
Law 8: no worker is handed more than max_calls, nor anything after max_lifetime; none is worn without a cause, and a
       worn one that serves on wants a successor. Nobody is asked to end with a ticket. Each is worn at its own time, by
       the chance that was drawn for it, and not later.

The machine is the shell: it performs every returned action, in order, on its model, and refuses the ones that no
shell could perform.
"""

import functools
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from asyncpool.pool.actions import Action, Assign, Probe, Reject, Retire, Spawn, Strand
from asyncpool.pool.policy import CIRCUIT_OPENS_AT, Limits, pause, worn_by_calls, worn_from
from asyncpool.pool.roster import IllegalMove
from asyncpool.pool.scheduler import Scheduler
from tests.support.often import often


class Ticket:
    """What waits for a worker."""

    def __init__(self, number: int, exclusive: bool, key: str | None = None) -> None:
        self.number = number
        self.key = key
        self.exclusive = exclusive

    def __repr__(self) -> str:
        return f"{'lease' if self.exclusive else 'call'} {self.number}"


@dataclass
class ModelWorker:
    """A worker as the shell knows it."""

    begun: float  # when its start began
    chance: float  # its jitter
    phase: str = "starting"
    slots: int = 1
    tickets: list[Ticket] = field(default_factory=list)
    bound: list[Ticket] = field(default_factory=list)
    used: int = 0  # step at which it was last of use; the greatest is the warmest
    pinged: bool = False  # since it was last of use
    born: float = 0.0  # when it was ready
    old_from: float = float("inf")  # time from which it is worn by its age
    used_up: bool = False  # it has had so many calls that it is worn
    calls: int = 0
    most_calls: float = float("inf")
    heavy: bool = False
    restarted: bool = False
    leased: bool = False

    @property
    def takes(self) -> bool:
        """Say whether it may be handed anything more."""
        return self.phase == "ready" and self.calls < self.most_calls

    def fits(self, ticket: Ticket) -> bool:
        """Say whether it can take *ticket* now."""
        if not self.takes or any(held.exclusive for held in self.tickets):
            return False
        if self.bound and self.bound[0] is not ticket:
            return False
        return not self.tickets if ticket.exclusive else len(self.tickets) < self.slots

    def place(self) -> str:
        """Name the set that it must be in."""
        if self.phase != "ready":
            return "retiring" if self.phase == "leaving" else self.phase
        full = (
            self.bound
            or not self.takes
            or len(self.tickets) >= self.slots
            or any(held.exclusive for held in self.tickets)
        )
        return "busy" if full else "available"


def when(condition):
    """Let an event that cannot happen now do nothing."""

    def guard(act):
        @functools.wraps(act)
        def guarded(self, **drawn):
            if condition(self):
                act(self, **drawn)

        return guarded

    return guard


PLACES = ("starting", "available", "checking", "busy", "retiring")
EVENTS = (  # what happens often in life stands here often
    *("submit",) * 8,
    *("ready", "finished", "reaped") * 3,
    *("advance", "checked") * 2,
    *("lost", "withdraw", "start_failed", "nothing_starts", "early", "late", "illegal", "close"),
    *("weigh", "restart", "keep", "resize", "again"),
    *("bind", "unbind", "cancel", "time_out"),
)
picks = st.integers(0, 11)

limits_strategy = st.builds(
    lambda least, more, **rest: Limits(min_size=least, max_size=max(1, least + more), **rest),
    st.integers(0, 3),
    st.integers(0, 3),
    surge=st.integers(0, 2),
    idle_timeout=st.sampled_from([None, 5.0, 20.0]),
    health_interval=st.sampled_from([None, 3.0, 30.0]),
    max_waiting=st.sampled_from([None, 0, 1, 3]),
    check_on_acquire=st.sampled_from([False, False, True]),
    starts_at_once=st.integers(1, 3),
    max_calls=st.sampled_from([None, None, 1, 3, 6]),
    max_lifetime=st.sampled_from([None, None, 15.0]),
    max_memory=st.just(100),
).filter(lambda limits: limits.max_size <= 4)


class SchedulerMachine(RuleBasedStateMachine):
    """One scheduler, and the shell around it."""

    most_slots = 1

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.step = 0
        self.closed = False
        self.failures = 0
        self.failed_alone = False  # one of them, while nobody took tickets
        self.retry_at: float | None = None
        self.gone = 0
        self.moves = 0
        self.workers: dict[int, ModelWorker] = {}
        self.queue: list[Ticket] = []
        self.tickets: list[Ticket] = []
        self.settled: set[Ticket] = set()
        self.proven: int | None = None  # the worker that gave a sign of life in this very step
        self.resizing = False
        self.crowded = False  # one more has become ready than may take calls
        self.spared: set[int] = set()  # heavy from their start
        self.served_last: dict[str, int] = {}  # worker by key
        self.start_time = 0.0  # seconds that the last start took
        self.chances: Iterator[float] = itertools.repeat(0.0)
        self.drawn: deque[float] = deque()  # chances that the scheduler has drawn, and not yet made use of

    @initialize(limits=limits_strategy, chances=st.lists(st.sampled_from((0.0, 0.3, 0.7, 0.999)), min_size=1))
    def begin(self, limits: Limits, chances: list[float]) -> None:
        self.limits = limits
        self.largest = limits.max_size
        self.chances = itertools.cycle(chances)
        self.scheduler = Scheduler(limits, self.draw)
        self.perform(self.scheduler.start(self.now))

    def draw(self) -> float:
        self.drawn.append(next(self.chances))
        return self.drawn[-1]

    def last_drawn(self) -> float:
        """Return the chance that the scheduler must have drawn for what it has just done."""
        assert self.drawn, "nothing was left to chance"
        return self.drawn.popleft()

    # --- the shell ---------------------------------------------------------------------------------------------------

    def perform(self, actions: list[Action]) -> None:
        """Do what the scheduler has decided, and refuse what cannot be done."""
        for action in actions:
            if isinstance(action, Spawn):
                assert action.worker > max(self.workers, default=0), "an id was used twice"
                assert self.retry_at is None or self.retry_at <= self.now, "a pause was not kept"
                self.let_leave()
                assert self.wanted(), "a worker was started for nobody"
                assert len(self.workers) < self.limits.max_size + self.limits.surge, "law 4: one process too many"
                self.workers[action.worker] = ModelWorker(self.now, self.last_drawn())
            elif isinstance(action, Assign):
                self.assign(action)
            elif isinstance(action, Probe):
                self.move_idle(action.worker, "checking")
            elif isinstance(action, Retire):
                self.let_go(action)
            elif isinstance(action, Strand):
                self.strand(action)
            else:
                self.reject(action)
        assert not self.drawn, "a chance was drawn for nobody"
        self.let_leave()
        self.proven = None
        self.step += 1

    def assign(self, action: Assign) -> None:
        worker = self.workers[action.worker]
        bound = worker.bound[:1] == [action.ticket]
        if not bound:
            assert self.queue, f"{action.ticket} does not wait"
            assert self.queue[0] is action.ticket, "law 3: not the head of the queue"
        assert worker.fits(action.ticket), f"{action.ticket} was assigned to {worker}"
        preferred = self.preferred(action.ticket)
        if self.limits.check_on_acquire:
            assert worker.tickets or action.worker == self.proven, "an idle worker was used unchecked"
        elif bound:
            pass
        elif preferred is not None:
            assert action.worker == preferred, "law 3: not the worker that had the key last"
        elif not worker.pinged:
            able = [each for number, each in self.workers.items() if self.could_take(number, action.ticket)]
            others = [each.used for each in able if not each.pinged]
            assert worker.used >= max(others, default=0), "law 3: not the warmest worker"
        lifetime = self.limits.max_lifetime
        assert lifetime is None or self.now < worker.born + lifetime, "law 8: its life was over"
        worker.tickets.append(action.ticket)
        worker.calls += 1
        most = self.limits.max_calls
        worker.most_calls = float("inf") if most is None else most
        age = self.now - worker.born
        if most is not None and worn_by_calls(worker.calls, most, age, self.start_time, worker.chance):
            worker.used_up = True
            places = (self.scheduler.worn, self.scheduler.retiring)
            assert any(action.worker in each for each in places), f"law 8: {worker} is not worn by its calls"
        del (worker.bound if bound else self.queue)[0]
        if action.ticket.key is not None:
            self.served_last[action.ticket.key] = action.worker

    def preferred(self, ticket: Ticket) -> int | None:
        """Return the worker that had the ticket's key last, if the ticket fits it."""
        number = self.served_last.get(ticket.key)
        return number if number in self.workers and self.could_take(number, ticket) else None

    def could_take(self, number: int, ticket: Ticket) -> bool:
        """Say whether a worker can take *ticket*, and was not let go in this very step."""
        return self.workers[number].fits(ticket) and number not in self.scheduler.retiring

    def strand(self, action: Strand) -> None:
        """A worker takes no more, and had something bound to it."""
        worker = self.workers[action.worker]
        assert action.worker in self.scheduler.retiring
        assert worker.bound.pop(0) is action.ticket, "not bound, or not in order"
        self.settled.add(action.ticket)

    def let_go(self, action: Retire) -> None:
        """Ask a worker to end: an idle one, one that leaves and is done, or one that still starts."""
        worker = self.workers[action.worker]
        assert not worker.tickets, f"law 8: {worker} was asked to end in the middle of its work"
        assert worker.phase in ("ready", "leaving", "checking", "starting"), f"{worker} was asked to end"
        if action.cause == "resized":
            assert self.resizing or worker.phase == "leaving"
        elif action.cause == "retired":
            assert worker.phase != "starting"
        else:
            assert self.has_cause(worker), f"law 8: {worker} was recycled for nothing"
        worker.phase = "retiring"

    def let_leave(self) -> None:
        """Those that are to end, and hold tickets, take no more: the scheduler says so by their place alone."""
        for number in self.of_phase("ready"):
            worker = self.workers[number]
            if number in self.scheduler.retiring:
                assert worker.tickets, f"{worker} was not asked to end"
                assert self.has_cause(worker) or self.resizing or self.crowded
                worker.phase = "leaving"

    def has_cause(self, worker: ModelWorker) -> bool:
        """Say whether there is a reason to replace it."""
        calls = self.limits.max_calls
        return (
            worker.heavy
            or worker.restarted
            or worker.used_up
            or (calls is not None and worker.calls >= calls)  # by those of a lease
            or self.now >= worker.old_from
        )

    def reject(self, action: Reject) -> None:
        assert self.failures >= CIRCUIT_OPENS_AT
        assert self.failed_alone
        self.let_leave()
        assert not self.of_phase("ready", "checking"), "a ticket was failed although a worker is live"
        assert action.ticket in self.queue
        self.queue.remove(action.ticket)
        self.settled.add(action.ticket)

    def move_idle(self, number: int, phase: str) -> None:
        worker = self.workers[number]
        assert worker.phase == "ready", f"{worker} was moved to {phase}"
        assert not worker.tickets, f"{worker} was moved to {phase}"
        worker.phase = phase

    def of_phase(self, *phases: str) -> list[int]:
        return [number for number, worker in self.workers.items() if worker.phase in phases]

    def idle_workers(self) -> list[int]:
        return [number for number in self.of_phase("ready") if not self.workers[number].tickets]

    def served(self) -> list[tuple[int, Ticket]]:
        return [(number, ticket) for number, worker in self.workers.items() for ticket in worker.tickets]

    def live(self) -> int:
        return len(self.workers) - len(self.of_phase("retiring", "leaving"))

    def worn(self) -> int:
        return len(self.scheduler.worn)

    def soon(self) -> int:
        return len(self.of_phase("starting", "checking"))

    def wanted(self) -> bool:
        """Say whether one more worker has something to do: for the queue, min_size, or to see whether it can start."""
        if len(self.queue) > self.soon():
            return True
        if not self.closed and self.worn() > len(self.of_phase("starting")):
            return True
        return not self.closed and self.live() < max(self.limits.min_size, 1 if self.failures else 0)

    def use(self, number: int) -> ModelWorker:
        worker = self.workers[number]
        worker.used, worker.pinged = self.step, False
        self.proven = number
        return worker

    # --- tickets -----------------------------------------------------------------------------------------------------

    @when(lambda self: not self.closed and not self.scheduler.full)
    def submit(self, pick: int) -> None:
        ticket = Ticket(len(self.tickets), exclusive=pick % 4 == 3, key=(None, "a", "b")[pick % 3])
        self.tickets.append(ticket)
        self.queue.append(ticket)
        self.perform(self.scheduler.submit(ticket, self.now))

    @when(lambda self: self.queue)
    def withdraw(self, pick: int) -> None:
        ticket = self.queue[pick % len(self.queue)]
        assert self.scheduler.withdraw(ticket)
        self.queue.remove(ticket)
        self.settled.add(ticket)
        if ticket.exclusive:
            self.tick()  # it may have held up the calls behind it

    @when(lambda self: self.of_phase("ready", "checking"))
    def bind(self, pick: int) -> None:
        """Let one worker, or all of them, do something, whoever else waits."""
        numbers = self.of_phase("ready", "checking")
        assert sorted(numbers) == self.scheduler.taking_workers()
        for number in numbers if pick % 2 else [numbers[pick % len(numbers)]]:
            ticket = Ticket(len(self.tickets), exclusive=pick % 3 == 0)
            self.tickets.append(ticket)
            self.workers[number].bound.append(ticket)
            self.perform(self.scheduler.bind(ticket, number, self.now))

    def bound(self) -> list[tuple[ModelWorker, Ticket]]:
        return [(worker, ticket) for worker in self.workers.values() for ticket in worker.bound]

    @when(lambda self: self.bound())
    def unbind(self, pick: int) -> None:
        bound = self.bound()
        worker, ticket = bound[pick % len(bound)]
        assert self.scheduler.waits(ticket)
        worker.bound.remove(ticket)
        self.settled.add(ticket)
        self.perform(self.scheduler.unbind(ticket, self.now))
        assert not self.scheduler.waits(ticket)

    @when(lambda self: self.served())
    def finished(self, pick: int) -> None:
        served = self.served()
        number, ticket = served[pick % len(served)]
        worker = self.use(number) if self.workers[number].phase == "ready" else self.workers[number]
        worker.tickets.remove(ticket)
        self.settled.add(ticket)
        calls = pick % 3 if ticket.exclusive else 1
        worker.calls += calls - 1
        worker.leased = worker.leased or ticket.exclusive
        self.perform(self.scheduler.finished(ticket, self.now, calls))

    @when(lambda self: not self.closed and self.settled)
    def again(self, pick: int) -> None:
        """Run a call once more that had crashed."""
        ticket = Ticket(len(self.tickets), exclusive=False)
        self.tickets.append(ticket)
        self.queue.insert(0, ticket)
        self.moves += 1
        self.perform(self.scheduler.again(ticket, self.now))

    # --- workers -----------------------------------------------------------------------------------------------------

    @when(lambda self: self.of_phase("starting"))
    def ready(self, pick: int) -> None:
        starting = self.of_phase("starting")
        number = starting[pick % len(starting)]
        slots = 1 + pick % self.most_slots
        worker = self.use(number)
        worker.phase, worker.slots, worker.born = "ready", slots, self.now
        self.start_time = self.now - worker.begun
        if self.limits.max_lifetime is not None:
            worker.old_from = self.now + worn_from(self.limits.max_lifetime, self.start_time, worker.chance)
        self.failures, self.failed_alone, self.retry_at = 0, False, None
        self.crowded = len(self.of_phase("ready", "checking")) > self.limits.max_size
        memory = 200 if pick == 7 else 0
        self.perform(self.scheduler.ready(number, worker.slots, self.now, memory))
        self.crowded = False
        worker.heavy = False
        if memory:
            self.spared.add(number)

    @when(lambda self: self.of_phase("starting"))
    def nothing_starts(self, pick: int) -> None:
        """Let up to four starts fail in a row, each as soon as it is tried."""
        for _ in range(1 + pick % 4):
            if self.retry_at is not None:
                self.let_pass(self.retry_at - self.now)
            for number in self.of_phase("starting"):
                self.fail_start(number)
                self.reap(number)

    @when(lambda self: self.of_phase("starting"))
    def start_failed(self, pick: int) -> None:
        starting = self.of_phase("starting")
        self.fail_start(starting[pick % len(starting)])

    def fail_start(self, number: int) -> None:
        self.workers[number].phase = "retiring"
        self.failures += 1
        self.failed_alone = self.failed_alone or not self.of_phase("ready", "checking")
        actions = self.scheduler.start_failed(number, self.now)
        self.retry_at = self.now + pause(self.failures, self.last_drawn())
        self.perform(actions)

    @when(lambda self: self.of_phase("checking"))
    def checked(self, pick: int) -> None:
        checking = self.of_phase("checking")
        number = checking[pick % len(checking)]
        worker = self.workers[number]
        worker.phase, worker.pinged, self.proven = "ready", True, number
        head, bound = self.queue[:1], worker.bound[:1]
        self.perform(self.scheduler.checked(number, self.now))
        assert (bound or head) == worker.tickets[:1], "a worker that answered was not used"

    @when(lambda self: self.of_phase("ready"))
    def weigh(self, pick: int) -> None:
        """A worker has grown: one that was so from its start is left alone."""
        ready = self.of_phase("ready")
        number = ready[pick % len(ready)]
        heavy = pick % 2 == 1 and number not in self.spared
        self.workers[number].heavy = self.workers[number].heavy or heavy
        actions = self.scheduler.weighed(number, 200 if pick % 2 else 50, self.now)
        assert not heavy or number in self.scheduler.worn or number in self.scheduler.retiring
        self.perform(actions)

    @when(lambda self: not self.closed)
    def restart(self, pick: int) -> None:
        for number in self.of_phase("ready", "checking", "starting"):
            self.workers[number].restarted = True
        self.perform(self.scheduler.restart(self.now))

    def keep(self, pick: int) -> None:
        self.scheduler.keep()
        for number in self.of_phase("ready", "checking", "starting"):
            self.workers[number].restarted = False

    @when(lambda self: not self.closed)
    def resize(self, pick: int) -> None:
        least, most = pick % 3, max(1, pick % 3 + pick // 4)
        self.limits = msgspec.structs.replace(self.limits, min_size=least, max_size=most)
        self.largest = max(self.largest, most)
        self.resizing = True
        self.perform(self.scheduler.resize(self.limits, self.now))
        self.resizing = False

    @when(lambda self: self.workers)
    def lost(self, pick: int) -> None:
        numbers = sorted(self.workers, key=lambda number: self.workers[number].phase == "retiring")
        number = numbers[pick % len(numbers)]
        movable = [ticket for ticket in self.workers[number].tickets if not ticket.exclusive]
        self.lose(number, movable[-1] if movable and pick % 3 else None)

    def lose(self, number: int, moved: Ticket | None = None) -> None:
        worker = self.workers[number]
        held = worker.tickets
        if moved is not None:
            self.queue.insert(0, moved)
            self.moves += 1
        self.settled.update(ticket for ticket in held if ticket is not moved)
        worker.phase, worker.tickets = "retiring", []
        self.perform(self.scheduler.lost(number, self.now, moved))

    @when(lambda self: self.queue or self.bound() or self.served())
    def cancel(self, pick: int) -> None:
        """Take back any ticket for a caller that is cancelled; one in work heeds it, or costs its worker."""
        waiting, bound, served = len(self.queue), len(self.bound()), self.served()
        place = (pick // 2) % (waiting + bound + len(served))
        if place < waiting:
            self.withdraw(pick=place)
        elif place < waiting + bound:
            self.unbind(pick=place - waiting)
        elif pick % 2:
            self.finished(pick=place - waiting - bound)
        else:
            self.lose(served[place - waiting - bound][0])

    @when(lambda self: self.served() or self.of_phase("checking"))
    def time_out(self, pick: int) -> None:
        """A command runs too long, or a ping is not answered: the worker is killed, and nothing goes elsewhere."""
        late = [*dict.fromkeys(number for number, _ in self.served()), *self.of_phase("checking")]
        self.lose(late[pick % len(late)])

    @when(lambda self: self.of_phase("retiring"))
    def reaped(self, pick: int) -> None:
        retiring = self.of_phase("retiring")
        self.reap(retiring[pick % len(retiring)])

    def reap(self, number: int) -> None:
        del self.workers[number]
        self.gone += 1
        self.perform(self.scheduler.reaped(number, self.now))

    # --- time and end ------------------------------------------------------------------------------------------------

    def advance(self, pick: int) -> None:
        self.let_pass((0.05, 0.5, 3.0, 6.0, 40.0)[pick % 5])

    def let_pass(self, seconds: float) -> None:
        """Let time pass, and ring where the scheduler asked for it, as a timer would."""
        until = self.now + seconds
        for _ in range(1000):
            due = self.scheduler.deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.tick()
            after = self.scheduler.deadline()
            assert after is None or after > self.now, "a deadline that was served is due again"
        else:
            raise AssertionError("the timer never rests")
        self.now = until

    def early(self, pick: int) -> None:
        """Ring when nothing is due, as a timer that was set before may."""
        self.tick()

    def tick(self) -> None:
        if self.retry_at is not None and self.retry_at <= self.now:
            self.retry_at = None
        taking = len(self.of_phase("ready", "checking"))
        actions = self.scheduler.tick(self.now)
        retired = sum(isinstance(action, Retire) and action.cause == "retired" for action in actions)
        self.perform(actions)
        assert retired <= max(0, taking - self.limits.min_size), "idle workers were retired below min_size"

    @when(lambda self: not self.closed and self.step > 40)
    def close(self, pick: int) -> None:
        self.closed = True
        self.retry_at = None
        self.scheduler.close()
        self.tick()  # the timer that was set before still rings

    # --- law 7 -------------------------------------------------------------------------------------------------------

    def illegal(self, pick: int) -> None:
        """Try every move that the worker's place does not allow; with a stranger, all of them."""
        numbers = [*self.workers, 10_000]
        number = numbers[pick % len(numbers)]
        place = self.workers[number].place() if number in self.workers else None
        moves = [
            ("starting", lambda: self.scheduler.ready(number, 1, self.now)),
            ("starting", lambda: self.scheduler.start_failed(number, self.now)),
            ("retiring", lambda: self.scheduler.reaped(number, self.now)),
            (place, lambda: self.scheduler.lost(number, self.now)),
        ]
        for source, move in moves:
            if source != place or place is None:
                with pytest.raises(IllegalMove):
                    move()

    def late(self, pick: int) -> None:
        """Say what is no longer true, as events that crossed a worker's end do: it changes nothing."""
        for ticket in self.tickets:
            if ticket not in self.queue and not any(ticket in worker.bound for worker in self.workers.values()):
                assert not self.scheduler.withdraw(ticket)
        for ticket in self.settled:
            assert self.scheduler.finished(ticket, self.now) == []
        for number in self.of_phase("retiring"):
            assert self.scheduler.checked(number, self.now) == []

    # --- life --------------------------------------------------------------------------------------------------------

    @rule(events=st.lists(st.tuples(st.sampled_from(EVENTS), picks), min_size=20, max_size=60))
    def happen(self, events: list[tuple[str, int]]) -> None:
        """Let things happen, the laws holding after each.

        One rule for all: Hypothesis would switch most of sixteen rules off in each run, and choose the others with
        equal chance, so that hardly a ticket was ever served.
        """
        for event, pick in events:
            getattr(self, event)(pick=pick)
            self.check_laws()

    # --- laws 1 to 6 -------------------------------------------------------------------------------------------------

    @invariant()
    def check_laws(self) -> None:
        for law in LAWS:
            getattr(self, law)()

    def law_1_membership_is_the_state(self) -> None:
        places = {place: list(getattr(self.scheduler, place)) for place in PLACES}
        expected = {place: [] for place in PLACES}
        for number, worker in self.workers.items():
            expected[worker.place()].append(number)
        assert {place: sorted(ids) for place, ids in expected.items()} == {
            place: sorted(ids) for place, ids in places.items()
        }

    def law_2_nobody_waits_while_a_worker_is_available(self) -> None:
        if not self.queue:
            return
        fitting = [number for number, worker in self.workers.items() if worker.fits(self.queue[0])]
        if self.limits.check_on_acquire:
            idle = [number for number in fitting if not self.workers[number].tickets]
            assert not idle or len(self.of_phase("checking")) >= len(self.queue)
            fitting = [number for number in fitting if number not in idle]
        assert fitting == []

    def law_2_no_wanted_worker_is_left_unstarted(self) -> None:
        if self.retry_at is not None and self.now < self.retry_at:
            return
        possible = (
            self.live() - self.worn() < self.limits.max_size
            and len(self.workers) < self.limits.max_size + self.limits.surge
            and len(self.of_phase("starting")) < (1 if self.failures else self.limits.starts_at_once)
        )
        assert not (self.wanted() and possible)

    def law_2_nobody_waits_for_nothing(self) -> None:
        if self.queue:
            assert self.workers or self.scheduler.deadline() is not None

    def law_2_nobody_waits_while_no_worker_can_be_started(self) -> None:
        expected = self.failures >= CIRCUIT_OPENS_AT and self.failed_alone and not self.of_phase("ready", "checking")
        assert expected == self.scheduler.circuit_open
        if expected:
            assert self.queue == []

    def law_3_the_queue_is_in_order(self) -> None:
        assert self.queue == list(self.scheduler.waiting)

    def law_3_keys_are_those_of_workers_that_take_tickets(self) -> None:
        takes = self.of_phase("ready", "checking")
        known = {key: number for key, number in self.served_last.items() if number in takes}
        assert known == {key: self.scheduler.affinity.get(key) for key in known}
        assert len(known) == len(self.scheduler.affinity)

    def law_2_nothing_that_is_bound_waits_for_a_worker_that_can_serve_it(self) -> None:
        for worker, ticket in self.bound():
            if ticket is worker.bound[0]:
                assert worker.phase == "checking" or not worker.fits(ticket), f"{ticket} waits for {worker}"
                assert worker.takes or worker.tickets or worker.phase == "checking"

    def law_4_sizes(self) -> None:
        assert self.live() == self.scheduler.live
        assert len(self.of_phase("ready", "checking")) == self.scheduler.taking <= self.limits.max_size
        assert len(self.workers) == self.scheduler.processes <= self.largest + self.limits.surge
        if self.failures:
            assert len(self.of_phase("starting")) <= self.limits.starts_at_once
        assert len(self.idle_workers()) + len(self.of_phase("checking")) == self.scheduler.idle()

    def law_4_the_queue_has_its_bound(self) -> None:
        if self.limits.max_waiting is not None:
            assert len(self.queue) <= self.limits.max_waiting + self.largest + self.moves
        plain = Ticket(-1, exclusive=False)
        free = not self.queue and any(worker.fits(plain) for worker in self.workers.values())
        startable = max(0, self.limits.max_size - self.live())
        soon = len(self.of_phase("checking")) + max(0, len(self.of_phase("starting")) - self.worn())
        busy = sum(worker.place() == "busy" for worker in self.workers.values())
        room = min(soon + startable, max(0, self.limits.max_size - busy))
        if self.limits.max_waiting is None or free or len(self.queue) < room:
            assert not self.scheduler.full

    def law_5_conservation_of_workers(self) -> None:
        assert self.gone == self.scheduler.exited
        assert self.scheduler.spawned == self.scheduler.exited + len(self.workers)

    def law_6_conservation_of_tickets(self) -> None:
        served = {ticket: number for number, ticket in self.served()}
        assert served == self.scheduler.serving
        assert len(served) == len(self.served()), "a ticket is held twice"
        bound = {ticket for _, ticket in self.bound()}
        assert bound == self.scheduler.bound.keys()
        assert set(self.tickets) == served.keys() | set(self.queue) | self.settled | bound
        assert len(self.tickets) == len(served) + len(self.queue) + len(self.settled) + len(bound)
        for number, worker in self.workers.items():
            assert sorted(map(id, worker.tickets)) == sorted(map(id, self.scheduler.tickets(number)))

    def law_8_age(self) -> None:
        due = self.scheduler.deadline()
        for number in self.of_phase("ready", "checking"):
            worker = self.workers[number]
            if worker.old_from < float("inf") and number not in self.scheduler.worn:
                assert due is not None, f"no alarm is set for the age of {worker}"
                assert due <= worker.old_from, f"{worker} will be old before the alarm rings"

    def law_8_wear(self) -> None:
        for number, worker in self.workers.items():
            if number in self.scheduler.worn:
                assert worker.phase in ("ready", "checking")
                assert self.has_cause(worker), f"{worker} is worn for nothing"
            if worker.restarted and worker.phase in ("ready", "checking"):
                assert number in self.scheduler.worn
            exclusive = any(held.exclusive for held in worker.tickets)
            if self.limits.max_calls is not None and not exclusive and not worker.leased:  # a lease is not cut short
                assert worker.calls <= self.limits.max_calls, f"{worker} was handed too many calls"


class SlotsMachine(SchedulerMachine):
    """The same, with workers that take several tickets at a time."""

    most_slots = 3


LAWS = [name for name in vars(SchedulerMachine) if name.startswith("law_")]
SchedulerMachine.TestCase.settings = SlotsMachine.TestCase.settings = settings(
    deadline=None,
    max_examples=often(200),
    stateful_step_count=6,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(300)  # a failure takes its time to become small
class TestScheduler(SchedulerMachine.TestCase):
    """Workers that take one ticket at a time."""


@pytest.mark.timeout(300)
class TestSchedulerWithSlots(SlotsMachine.TestCase):
    """Workers that take several."""
