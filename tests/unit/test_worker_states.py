"""A worker's states times all that can happen to it, held against tables: each event moves it, leaves it, or raises."""

from collections.abc import Callable
from typing import Any

import pytest

from asyncpool import Pool
from asyncpool.pool.call import Call
from asyncpool.pool.policy import Limits
from asyncpool.pool.roster import IllegalMove
from asyncpool.pool.scheduler import Scheduler
from asyncpool.pool.states import TRANSITIONS, Sign, State
from asyncpool.pool.worker import Worker
from asyncpool.protocol.messages import Pong, Ready


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
