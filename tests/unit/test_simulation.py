"""The simulation sees a scheduler that breaks a law, and theory says what is in the books."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncpool.pool import scheduler as module
from asyncpool.pool.actions import Assign
from asyncpool.pool.policy import Limits
from asyncpool.pool.scheduler import Scheduler

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import erlang
import simulation
from simulation import Behaviour, BrokenLaw, Simulation

TROUBLE = Behaviour(
    arrivals=200.0,
    service=0.02,
    crashes=0.1,
    moved=0.5,
    retried=0.3,
    leases=0.05,
    cancelled=0.05,
    silent=0.1,
    starts_failing=0.2,
    outage=(1.0, 4.0),
    unhealthy=0.2,
    unrest=0.3,
)
LIMITS = Limits(2, 5, idle_timeout=0.05, health_interval=0.02, max_calls=20, max_lifetime=2.0)


def run(limits: Limits = LIMITS, behaviour: Behaviour = TROUBLE, calls: int = 1000) -> Simulation:
    made = Simulation(limits, behaviour, calls, seed=3)
    made.run()
    return made


def test_trouble_gives_every_call_an_outcome() -> None:
    """Crashes, cancels and failed starts are all there, and each call ends in exactly one way."""
    made = run(calls=3000)  # enough for some of everything, whatever is decided first
    assert sum(made.outcomes.values()) == 3000
    assert made.outcomes.keys() == {"ok", "crashed", "cancelled", "not_started"}
    assert made.retired.keys() >= {"max_calls", "restarted", "resized"}


def test_a_quiet_pool_lets_workers_go() -> None:
    """Those that are idle for long, and those that are old, without a call being lost."""
    made = run(Limits(1, 5, idle_timeout=0.2, max_lifetime=2.0), Behaviour(arrivals=40.0, service=0.05))
    assert made.outcomes == {"ok": 1000}
    assert made.retired.keys() == {"retired", "max_lifetime"}


def test_a_ping_before_each_call_breaks_no_law() -> None:
    """check_on_acquire holds them too."""
    assert sum(run(Limits(2, 5, check_on_acquire=True)).outcomes.values()) == 1000


def test_the_same_seed_gives_the_same_course() -> None:
    """A broken law can be looked at again."""
    first, second = run(), run()
    assert (first.now, first.events, first.outcomes) == (second.now, second.events, second.outcomes)


def jump_the_queue(scheduler: Scheduler, actions: list[Any]) -> list[Any]:
    if scheduler.waiting:
        scheduler.waiting.move_to_end(next(reversed(scheduler.waiting)), last=False)
    return actions


def forget_assignments(scheduler: Scheduler, actions: list[Any]) -> list[Any]:
    return [action for action in actions if not isinstance(action, Assign)]


def assign_twice(scheduler: Scheduler, actions: list[Any]) -> list[Any]:
    return actions + [action for action in actions if isinstance(action, Assign)]


def miscount(scheduler: Scheduler, actions: list[Any]) -> list[Any]:
    scheduler.exited += 1
    return actions


def forget_the_queue(scheduler: Scheduler, actions: list[Any]) -> list[Any]:
    scheduler.waiting.clear()
    return actions


@pytest.mark.parametrize(
    ("method", "mistake", "law"),
    [
        ("submit", jump_the_queue, "law 3"),
        ("finished", forget_assignments, "law 3: call .* served before"),
        ("finished", assign_twice, "law 1"),
        ("lost", forget_the_queue, "law 3: call .* served before"),
        ("reaped", miscount, "law 5"),
    ],
)
def test_a_broken_law_is_seen(
    method: str, mistake: Callable[[Scheduler, list[Any]], list[Any]], law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler that lets calls overtake, loses or doubles them, or miscounts workers, is stopped and named."""
    right = getattr(Scheduler, method)
    monkeypatch.setattr(Scheduler, method, lambda self, *args: mistake(self, right(self, *args)))
    monkeypatch.setattr(simulation, "PATIENCE", 10.0)
    with pytest.raises(BrokenLaw, match=law):
        run()


def test_a_pool_that_grows_too_large_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker too many is a broken law, whatever the scheduler's own count says."""
    right = module.spawns
    monkeypatch.setattr(module, "spawns", lambda *args, **more: right(*args, **more) or 1)
    with pytest.raises(BrokenLaw, match="law 4"):
        run()


def test_a_timer_that_never_rests_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that was served and is due again would keep the event loop busy for ever."""
    monkeypatch.setattr(Scheduler, "_look_again", lambda self, worker, now: self.quiet.put(worker, now))
    with pytest.raises(BrokenLaw, match="the timer never rests"):
        run()


def test_an_idle_worker_beside_a_waiting_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits while a worker is idle is a broken law."""
    monkeypatch.setattr(Scheduler, "_pick", lambda *_: None)
    with pytest.raises(BrokenLaw, match="law 2"):
        run()


@pytest.mark.parametrize("limits", [Limits(1, 1, max_calls=20), Limits(1, 1, max_lifetime=2.0)])
def test_a_worker_that_is_used_for_too_long_is_seen(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call more than max_calls, or after max_lifetime, is a broken law."""
    monkeypatch.setattr(Scheduler, "spent", lambda *_: None)
    monkeypatch.setattr(Scheduler, "use", lambda *_: False)
    monkeypatch.setattr(Scheduler, "age", lambda self, now: [action for _ in self.old.take(now) for action in ()])
    with pytest.raises(BrokenLaw, match="law 6"):
        run(limits, Behaviour(arrivals=40.0, service=0.02))


@pytest.mark.parametrize(
    ("servers", "utilisation", "chance", "wait"),
    [(1, 0.5, 0.5, 1.0), (1, 0.95, 0.95, 19.0), (2, 0.5, 1 / 3, 1 / 3), (3, 2 / 3, 4 / 9, 4 / 9)],
)
def test_erlang_c(servers: int, utilisation: float, chance: float, wait: float) -> None:
    """One server waits rho / (1 - rho); two and three are worked out by hand."""
    assert erlang.chance_of_waiting(servers, utilisation) == pytest.approx(chance)
    assert erlang.mean_wait(servers, utilisation) == pytest.approx(wait)
