"""A worker's states times all that can happen to it, held against tables: each event moves it, leaves it, or raises."""

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from asyncpool import CommandTimeout, Pool, WorkerStartError
from asyncpool.pool.call import INHERIT, MOST_MOVES, Call, Reply
from asyncpool.pool.connection import pair
from asyncpool.pool.policy import Limits
from asyncpool.pool.roster import IllegalMove
from asyncpool.pool.scheduler import Scheduler
from asyncpool.pool.states import TRANSITIONS, Sign, State
from asyncpool.pool.worker import Worker
from asyncpool.protocol.messages import (
    NOTHING,
    Cancel,
    Credit,
    ErrorInfo,
    Failure,
    Log,
    Ping,
    Pong,
    Ready,
    Result,
    ToWorker,
    Update,
    decode_to_worker,
)
from asyncpool.protocol.wire import FrameError, FrameReader
from tests.support.fake_loop import Loop
from tests.support.settings import configure
from tests.support.waiting import eventually


def grid(text: str) -> list[tuple[str, str, str]]:
    """Return (row, column, cell) of each cell of a table."""
    head, *rows = (line.split() for line in text.strip().splitlines())
    return [(row, column, cell) for row, *cells in rows for column, cell in zip(head, cells, strict=True)]


def cells(text: str) -> Any:
    return pytest.mark.parametrize(("event", "state", "then"), grid(text), ids=lambda each: each.strip("."))


# --- the process: worker.py ------------------------------------------------------------------------------------------

SIGNS = """
          SPAWNING  GREETING  READY     STOPPING  ENDING    GONE
SPAWNED   GREETING  -         -         -         -         -
READY     -         READY     -         -         -         -
STOP      -         -         STOPPING  -         -         -
END       ENDING    ENDING    ENDING    ENDING    -         -
REAPED    -         -         -         -         GONE      -
"""

# What the owner asks and what the connection tells may come in any state, and never raises. "(READY)": it stays.
EVENTS = """
              SPAWNING    GREETING    READY       STOPPING    ENDING    GONE
kill          ENDING      ENDING      ENDING      ENDING      (ENDING)  (GONE)
stop          ENDING      ENDING      STOPPING    (STOPPING)  (ENDING)  (GONE)
disconnected  ENDING      ENDING      ENDING      ENDING      (ENDING)  (GONE)
greets        (SPAWNING)  READY       ENDING      ENDING      (ENDING)  (GONE)
pongs         (SPAWNING)  (GREETING)  (READY)     (STOPPING)  (ENDING)  (GONE)
babbles       ENDING      ENDING      ENDING      ENDING      (ENDING)  (GONE)
"""


class Owner:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.seconds: float | None = None  # that a command gets to stop

    def grace(self, call: Call) -> float | None:
        return self.seconds

    def spawned(self, worker: Worker) -> None:
        self.told.append("spawned")

    def answered(self, worker: Worker, call: Call, reply: Reply, now: float) -> None:
        self.told.append("answered")

    def given_up(self, call: Call, error: Exception) -> None:
        self.told.append("given")

    def gone(self, worker: Worker, failure: WorkerStartError | None) -> None:
        self.told.append("gone" if failure is None else "gone, never ready")

    def ready(self, worker: Worker, ready: Ready) -> None:
        self.told.append("ready")

    def checked(self, worker: Worker) -> None:
        self.told.append("checked")

    def lost(self, worker: Worker, moved: Call | None) -> None:
        self.told.append("lost")


def ready() -> Ready:
    return Ready(1, 1, "none", [])


def worker_in(state: State, owner: Owner) -> Worker:
    """Return a worker without a process that has come to a state in the shortest way."""
    worker = Worker(1, 0, Pool(max_size=1)._config, owner)  # type: ignore[arg-type]
    way: list[Callable[[], object]] = [
        lambda: worker._move(Sign.SPAWNED),
        lambda: worker.received([ready()], None),
        lambda: worker.stop("closed"),
        lambda: worker.kill("closed", "was killed"),
        lambda: worker._move(Sign.REAPED),
    ]
    for reached, step in zip(State, way, strict=False):
        if reached is state:
            break
        step()
    assert worker.state is state
    owner.told.clear()
    return worker


@cells(SIGNS)
async def test_a_sign_moves_a_worker_or_raises(event: str, state: str, then: str) -> None:
    """What is not in the table is a bug of the pool: it raises, and the state stays."""
    worker = worker_in(State[state], Owner())
    if then == "-":
        with pytest.raises(RuntimeError, match=f"worker 1 is {state.lower()} and cannot take {event.lower()}"):
            worker._move(Sign[event])
        assert worker.state is State[state]
    else:
        worker._move(Sign[event])
        assert worker.state is State[then]


def test_the_table_of_signs_is_that_of_the_product() -> None:
    """Every state and every sign has its cell here, and no transition is missing or too many."""
    found = {(State[state], Sign[event]): State[then] for event, state, then in grid(SIGNS) if then != "-"}
    assert found == TRANSITIONS
    assert len(grid(SIGNS)) == len(State) * len(Sign)


@cells(EVENTS)
async def test_whatever_happens_in_whatever_state_is_taken(event: str, state: str, then: str) -> None:
    """No order of events makes a worker raise; its owner hears once that it is lost, if it was ever ready."""
    owner = Owner()
    worker = worker_in(State[state], owner)
    happen: dict[str, Callable[[], None]] = {
        "kill": lambda: worker.kill("closed", "was killed"),
        "stop": lambda: worker.stop("closed"),
        "disconnected": worker.disconnected,
        "greets": lambda: worker.received([ready()], None),
        "pongs": lambda: worker.received([Pong(0)], None),
        "babbles": lambda: worker.received([Pong(77)], None),
    }
    happen[event]()
    assert worker.state is State[then.strip("()")]
    was_ready = state in ("READY", "STOPPING")
    expected = ["ready"] if then == "READY" else ["lost"] if was_ready and then == "ENDING" else []
    if event == "pongs" and state == "READY":
        expected = ["checked"]
    assert owner.told == expected
    worker._cancel_timers()


# The same with one call, which a ready worker has. After the state, in order, what the owner hears.
WITH_A_CALL = """
            SPAWNING  GREETING  READY           STOPPING           ENDING            GONE
result      ENDING    ENDING    READY+answered  STOPPING+answered  ENDING+answered   GONE
failure     ENDING    ENDING    READY+answered  STOPPING+answered  ENDING+answered   GONE
update      ENDING    ENDING    READY+fed       STOPPING+fed       ENDING+fed        GONE
too_many    ENDING    ENDING    ENDING+lost     ENDING+lost        ENDING            GONE
another's   ENDING    ENDING    ENDING+lost     ENDING+lost        ENDING            GONE
log         SPAWNING  GREETING  READY           STOPPING           ENDING            GONE
no_frame    ENDING    ENDING    ENDING+lost     ENDING+lost        ENDING            GONE
credit      SPAWNING  GREETING  READY           STOPPING           ENDING            GONE
ping        SPAWNING  GREETING  READY           STOPPING           ENDING            GONE
stop_call   ENDING    ENDING    ENDING+lost     ENDING+lost        ENDING            GONE
ask_call    ENDING    ENDING    READY           ENDING+lost        ENDING            GONE
time        SPAWNING  ENDING    READY           ENDING+lost+given  ENDING+given      GONE
"""


class Listener:
    """Takes as many updates as it gave credit for."""

    delivered = False

    def __init__(self, owner: Owner) -> None:
        self.owner, self.credit = owner, 1

    def feed(self, update: Update) -> bool:
        self.credit -= 1
        if self.credit >= 0:
            self.owner.told.append("fed")
        return self.credit >= 0


class Scene:
    """A worker without a process, on a loop that only a test turns, and the other end of its connection."""

    def __init__(self, state: str, timeout: float | None = None) -> None:
        self.loop, self.owner = Loop(), Owner()
        with mock.patch.object(asyncio, "get_running_loop", return_value=self.loop):
            self.worker = Worker(1, 0, configure(stderr="discard"), self.owner)  # type: ignore[arg-type]
        self.call = Call(1, mock.Mock(), "pet", b"\x90", timeout, INHERIT, INHERIT, 0.0)
        self.call.updates = Listener(self.owner)
        ours, self.theirs = pair()
        self.theirs.setblocking(False)
        self.worker._connection.open(ours)
        for reached in State:
            if reached is State[state]:
                break
            self._go_on_from(reached, timeout)
        assert self.worker.state is State[state]
        self.owner.told.clear()
        self.sent()

    def _go_on_from(self, state: State, timeout: float | None) -> None:
        worker = self.worker
        if state is State.SPAWNING:
            worker._greet()
        elif state is State.GREETING:
            worker.received([ready()], None)
            worker.send(self.call, timeout)
            self.sent()  # so that it may have started
        elif state is State.READY:
            worker.stop("closed")
        elif state is State.STOPPING:
            worker.kill("closed", "was killed")
        else:
            worker._move(Sign.REAPED)
            worker._give_up_calls()

    def sent(self) -> list[ToWorker | None]:
        """Return what the worker was sent since the last time."""
        reader, found = FrameReader(2**20), []
        while True:
            try:
                count = self.theirs.recv_into(reader.get_buffer())
            except BlockingIOError:
                return found
            if not count:
                return found
            found += [decode_to_worker(body) for body, _ in reader.received(count) if body != b"\x90"]

    def let_time_pass(self) -> None:
        """Let every deadline act that there is, or comes."""
        for _ in range(20):
            self.loop.now += 100.0
            self.loop.turn()

    def close(self) -> None:
        self.worker._cancel_timers()
        self.worker._connection.close()
        self.theirs.close()


@pytest.fixture
def scene() -> Iterator[Callable[..., Scene]]:
    """Give what makes a scene."""
    scenes: list[Scene] = []

    def make(*args: Any) -> Scene:
        scenes.append(Scene(*args))
        return scenes[-1]

    yield make
    for each in scenes:
        each.close()


@cells(WITH_A_CALL)
def test_what_happens_to_a_call_of_its_is_taken_in_whatever_state(
    scene: Callable[..., Scene], event: str, state: str, then: str
) -> None:
    """A call has one outcome at most, a reply to what it does not have ends it, and nothing raises."""
    at = scene(state)
    worker, owner, call = at.worker, at.owner, at.call
    owner.seconds = 1.0 if event == "ask_call" else None

    def feed_beyond_its_credit() -> None:
        call.updates.credit = 0  # type: ignore[union-attr]
        worker.received([Update(1, NOTHING)], None)

    happen: dict[str, Callable[[], object]] = {
        "result": lambda: worker.received_one(Result(1, NOTHING)),
        "failure": lambda: worker.received([Failure(1, ErrorInfo("raised", "builtins", "ValueError", ""))], None),
        "update": lambda: worker.received([Update(1, NOTHING)], None),
        "too_many": feed_beyond_its_credit,
        "another's": lambda: worker.received_one(Result(2, NOTHING)),
        "log": lambda: worker.received([Log(NOTHING)], None),
        "no_frame": lambda: worker.received([], FrameError("no frame")),
        "credit": lambda: worker.credit(call, 3),
        "ping": worker.ping,
        "stop_call": lambda: worker.stop_call(call, "cancelled", "was cancelled"),
        "ask_call": lambda: worker.stop_call(call, "cancelled", "was cancelled"),
        "time": at.let_time_pass,
    }
    happen[event]()
    reached, *told = then.split("+")
    assert worker.state is State[reached]
    assert owner.told == told
    assert (call.id in worker.calls) == (
        state in ("READY", "STOPPING", "ENDING") and not {"answered", "given"} & {*told}
    )
    expected: list[object] = []
    if event == "credit" and state in ("READY", "STOPPING"):
        expected = [Credit(1, 3)]
    elif event == "ping":
        expected = [Ping(1)]
    elif event == "ask_call" and state == "READY":
        expected = [Cancel(1)]
    assert at.sent() == expected


DEADLINES: dict[str, tuple[str, Callable[[Scene], object], str, str]] = {
    "start_timeout": ("GREETING", lambda at: None, "start_failed", "was not ready within 30 s"),
    "timeout": ("READY", lambda at: None, "timed_out", "ran longer than its timeout of 9 s"),
    "health_timeout": ("READY", lambda at: at.worker.ping(), "unhealthy", "did not answer a ping within 5 s"),
    "cancel_grace": (
        "READY",
        lambda at: at.worker.stop_call(at.call, "cancelled", "was cancelled"),
        "cancelled",
        "was cancelled and did not stop within 1 s",
    ),
    "exit": ("READY", lambda at: at.worker.disconnected(), "crashed", "closed its end of the connection and lived on"),
    "stop": ("STOPPING", lambda at: None, "closed", "did not end within 1 s of being asked to"),
}


@pytest.mark.parametrize("name", DEADLINES)
def test_each_deadline_ends_a_worker_for_its_own_reason(scene: Callable[..., Scene], name: str) -> None:
    """And its call is given up with it, once."""
    state, begin, cause, reason = DEADLINES[name]
    at = scene(state, 9.0 if name == "timeout" else None)
    at.owner.seconds = 1.0 if name == "cancel_grace" else None
    begin(at)
    at.let_time_pass()
    assert at.worker.state is State.ENDING
    assert at.worker.cause == cause
    assert reason in (at.worker.reason or "")
    assert at.owner.told == ([] if state == "GREETING" else ["lost", "given"])
    assert isinstance(at.call.verdict, CommandTimeout) == (name == "timeout")


class FakeProcess:
    """Holds its end of the connection, and ends when a test says so."""

    pid = 2**30  # more than the kernel gives

    def __init__(self, stdio: int) -> None:
        self._stdio = os.dup(stdio)
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self.exit)

    def kill(self) -> None:
        """Be killed: that shows when the test says so."""

    def send_signal(self, number: int) -> bool:
        return False

    def close(self) -> None:
        os.close(self._stdio)


class FakeWorker(Worker):
    """A worker whose process is a fake, or cannot be spawned."""

    process: FakeProcess | None = None
    fails = False
    tries = 0

    def _start(self, stdio: int, stderr: int, dumps: list[int]) -> FakeProcess:
        self.tries += 1
        if self.fails:
            raise FileNotFoundError("no such program")
        self.process = FakeProcess(stdio)
        return self.process


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("GREETING", ["gone, never ready"]),
        ("READY", ["lost", "given", "gone"]),
        ("STOPPING", ["lost", "given", "gone"]),
        ("ENDING", ["given", "gone"]),
    ],
)
async def test_the_exit_of_its_process_ends_a_worker_in_every_state(state: str, told: list[str]) -> None:
    """Its call is given up with it, and it is gone once."""
    owner = Owner()
    worker = FakeWorker(1, 0, configure(stderr="discard"), owner)  # type: ignore[arg-type]
    life = asyncio.create_task(worker.live())
    process = await eventually(lambda: worker.process)
    assert process is not None
    call = Call(1, asyncio.get_running_loop().create_future(), "pet", b"\x90", None, INHERIT, INHERIT, 0.0)
    call.moves = MOST_MOVES  # it goes nowhere else
    if state != "GREETING":
        worker.received([ready()], None)
        worker.send(call, None)
    if state == "STOPPING":
        worker.stop("closed")
    elif state == "ENDING":
        worker.kill("closed", "was killed")
    assert worker.state is State[state]
    owner.told.clear()
    process.exit.set_result(7)
    await life
    assert worker.state is State.GONE
    assert worker.exit_code == 7
    assert owner.told == told


@pytest.mark.parametrize("killed", [False, True])
async def test_a_worker_that_cannot_be_spawned_is_gone_at_once(killed: bool) -> None:
    """Or was killed before it was tried: then nothing is."""
    owner = Owner()
    worker = FakeWorker(1, 0, configure(stderr="discard"), owner)  # type: ignore[arg-type]
    worker.fails = True
    if killed:
        worker.kill("closed", "was closed")
    await worker.live()
    assert worker.state is State.GONE
    assert owner.told == ["gone, never ready"]
    assert worker.tries == (0 if killed else 1)
    assert worker.cause == ("closed" if killed else "start_failed")
    assert ("no such program" in (worker.reason or "")) == (not killed)


# --- the pool's view: scheduler.py, where membership in a set is the state -------------------------------------------

# partly: it has one ticket and a free slot; leased: its one ticket takes it whole; leaving: it is retiring, but has a
# ticket still; gone: reaped. "-": IllegalMove, and nothing has changed. Where there is no worker, an event that needs
# none does nothing to it.
MOVES = """
                starting  idle      partly    checking  busy      leased    leaving   retiring  gone
ready           idle      -         -         -         -         -         -         -         -
start_failed    retiring  -         -         -         -         -         -         -         -
checked         starting  idle      partly    idle      busy      leased    leaving   retiring  gone
lost            retiring  retiring  retiring  retiring  retiring  retiring  retiring  retiring  -
reaped          -         -         -         -         -         -         -         gone      -
answered        starting  idle      idle      checking  partly    idle      retiring  retiring  gone
submit_call     starting  partly    busy      checking  busy      leased    leaving   retiring  gone
submit_lease    starting  leased    partly    checking  busy      leased    leaving   retiring  gone
bind            -         partly    busy      checking  busy      leased    -         -         -
weighed         starting  retiring  leaving   retiring  leaving   leaving   leaving   retiring  gone
restart         starting  retiring  leaving   retiring  leaving   leaving   leaving   retiring  gone
resize          retiring  retiring  leaving   retiring  leaving   leaving   leaving   retiring  gone
idle_for_long   starting  retiring  partly    checking  busy      leased    leaving   retiring  gone
silent          starting  checking  partly    checking  busy      leased    leaving   retiring  gone
old             starting  retiring  leaving   retiring  leaving   leaving   leaving   retiring  gone
close           starting  idle      partly    checking  busy      leased    leaving   retiring  gone
"""

LIMITS = Limits(
    min_size=0, max_size=1, surge=0, idle_timeout=50.0, health_interval=30.0, max_lifetime=1000.0, max_memory=100
)
NOW = 31.0  # seconds after all began


class Ticket:
    """What waits for a worker."""

    key = None

    def __init__(self, *, exclusive: bool = False) -> None:
        self.exclusive = exclusive


def scheduler_with_worker(state: str) -> tuple[Scheduler, Ticket]:
    """Return a scheduler whose only worker, of two slots, is in a state; and the first ticket that it has, if any."""
    scheduler = Scheduler(LIMITS, chance=lambda: 0.0)
    ticket, second = Ticket(exclusive=state == "leased"), Ticket()
    way: dict[str, list[Callable[[], object]]] = {
        "starting": [],
        "idle": [lambda: scheduler.ready(1, 2, 0.0)],
        "checking": [lambda: scheduler.ready(1, 2, 0.0), lambda: scheduler.tick(30.0)],
        "retiring": [lambda: scheduler.ready(1, 2, 0.0), lambda: scheduler.restart(NOW)],
        "partly": [lambda: scheduler.ready(1, 2, 0.0), lambda: scheduler.submit(ticket, NOW)],
    }
    way["leased"] = way["partly"]
    way["busy"] = [*way["partly"], lambda: scheduler.submit(second, NOW)]
    way["leaving"] = [*way["partly"], lambda: scheduler.restart(NOW)]
    way["gone"] = [*way["retiring"], lambda: scheduler.reaped(1, NOW)]
    scheduler.submit(second, 0.0)  # for which it is started
    scheduler.withdraw(second)
    for step in way[state]:
        step()
    assert state_in(scheduler) == state
    return scheduler, ticket


def state_in(scheduler: Scheduler) -> str:
    """Return the state of worker 1, by its membership."""
    names = ("starting", "available", "checking", "busy", "retiring")
    places = [name for name in names if 1 in getattr(scheduler, name)]
    if not places:
        return "gone"
    (name,) = places
    tickets = getattr(scheduler, name)[1].tickets
    assert not tickets or name in ("available", "busy", "retiring")
    if name == "busy":
        return "leased" if any(ticket.exclusive for ticket in tickets) else "busy"
    if name == "available":
        return "partly" if tickets else "idle"
    return "leaving" if tickets else name


def everything(scheduler: Scheduler) -> list[Any]:
    """Return what there is to change."""
    sets = (scheduler.starting, scheduler.available, scheduler.checking, scheduler.busy, scheduler.retiring)
    records = {worker: (record.tickets.copy(), record.bound.copy()) for each in sets for worker, record in each.items()}
    numbers = [scheduler.spawned, scheduler.exited, scheduler.failures, scheduler.deadline()]
    queues = [list(scheduler.waiting), dict(scheduler.serving), dict(scheduler.bound), dict(scheduler.worn)]
    return [[list(each) for each in sets], records, numbers, queues]


@cells(MOVES)
def test_an_event_moves_a_worker_leaves_it_or_raises(event: str, state: str, then: str) -> None:
    """In the pool's view: what is not in the table raises and changes nothing."""
    scheduler, ticket = scheduler_with_worker(state)
    smaller = Limits(min_size=0, max_size=0)
    happen: dict[str, Callable[[], object]] = {
        "ready": lambda: scheduler.ready(1, 2, NOW),
        "start_failed": lambda: scheduler.start_failed(1, NOW),
        "checked": lambda: scheduler.checked(1, NOW),
        "lost": lambda: scheduler.lost(1, NOW),
        "reaped": lambda: scheduler.reaped(1, NOW),
        "answered": lambda: scheduler.finished(ticket, NOW),
        "submit_call": lambda: scheduler.submit(Ticket(), NOW),
        "submit_lease": lambda: scheduler.submit(Ticket(exclusive=True), NOW),
        "bind": lambda: scheduler.bind(Ticket(), 1, NOW),
        "weighed": lambda: scheduler.weighed(1, 200, NOW),
        "restart": lambda: scheduler.restart(NOW),
        "resize": lambda: scheduler.resize(smaller, NOW),
        "idle_for_long": lambda: scheduler.tick(NOW + 50.0),
        "silent": lambda: scheduler.tick(NOW),
        "old": lambda: scheduler.tick(1000.0),
        "close": scheduler.close,
    }
    if then == "-":
        before = everything(scheduler)
        with pytest.raises(IllegalMove):
            happen[event]()
        assert everything(scheduler) == before
    else:
        happen[event]()
        assert state_in(scheduler) == then
        assert scheduler.spawned == scheduler.exited + scheduler.processes
