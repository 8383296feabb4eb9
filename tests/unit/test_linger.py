"""Whether a worker lingers: decided by a clock that the test turns."""

from collections.abc import Callable
from typing import Any

import pytest

from asyncpool.worker import linger
from asyncpool.worker.linger import LINGER, LONGEST_PAUSE, OTHERS, PAUSE, QUICK, Linger, Ready

FRAME: Ready = [(3, 1)]


class World:
    """A clock, a poll, and others who may want the processor."""

    def __init__(self) -> None:
        self.now = 100.0
        self.worked = 0.0  # processor seconds of ours
        self.comes_at = float("inf")  # when the frame is there
        self.others_take = 0.0  # seconds that others run at each yield
        self.looks = 0
        self.yields = 0

    def poll(self, timeout: int) -> Ready:
        assert timeout == 0, "it must not sleep"
        self.looks += 1
        self.now += 1e-6
        self.worked += 1e-6
        return FRAME if self.now >= self.comes_at else []

    def sched_yield(self) -> None:
        self.yields += 1
        self.now += self.others_take

    def wait(self, lingers: Linger, frame_after: float) -> bool:
        """Wait for a frame; returns whether it was looked for."""
        began, before = self.now, self.looks
        self.comes_at = began + frame_after
        if not lingers.look(began):
            self.now = max(self.now, self.comes_at)  # asleep until then
        lingers.came(began)
        return self.looks > before


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(linger, "monotonic", lambda: world.now)
    monkeypatch.setattr(linger, "thread_time", lambda: world.worked)
    monkeypatch.setattr(linger.os, "sched_yield", world.sched_yield)
    return world


@pytest.fixture
def make(world: World) -> Callable[..., Linger]:
    poll: Any = world
    return lambda allowed=True: Linger(poll, allowed=allowed)


def test_it_looks_only_while_frames_come_in_quick_succession(world: World, make: Callable[..., Linger]) -> None:
    """The first frame, and the one after a long silence, are slept for."""
    lingers = make()
    assert not world.wait(lingers, QUICK / 2)
    assert world.wait(lingers, LINGER / 2)
    assert world.wait(lingers, 1.0)
    assert not world.wait(lingers, LINGER / 2)
    assert world.wait(lingers, LINGER / 2)


def test_it_looks_for_a_moment_and_lets_others_run_meanwhile(world: World, make: Callable[..., Linger]) -> None:
    """Then it sleeps: nothing is ready."""
    lingers = make()
    world.wait(lingers, 0.0)
    began, world.comes_at = world.now, float("inf")
    assert lingers.look(began) == []
    assert LINGER <= world.now - began < LINGER + 5e-6
    assert world.yields >= world.looks - 2


def test_where_others_want_the_processor_it_stops_for_a_while(world: World, make: Callable[..., Linger]) -> None:
    """For longer each time, up to a second; once it had the processor for itself, for a short while again."""
    lingers = make()

    def pauses_for(seconds: float) -> None:
        """Let others run once, and see that it looks again after that time, and no sooner."""
        world.others_take = 2 * OTHERS
        assert world.wait(lingers, LINGER / 2)
        world.others_take = 0.0
        world.now += seconds - 10 * LINGER
        world.wait(lingers, 0.0)
        assert not world.wait(lingers, 0.0)
        world.now += 11 * LINGER
        world.wait(lingers, 0.0)

    world.wait(lingers, 0.0)
    for pause in (PAUSE, 2 * PAUSE, 4 * PAUSE):
        pauses_for(pause)
    assert world.wait(lingers, LINGER / 2)  # undisturbed
    pauses_for(PAUSE)
    for _ in range(10):
        world.others_take = 2 * OTHERS
        assert world.wait(lingers, LINGER / 2)
        world.others_take = 0.0
        world.now += LONGEST_PAUSE + LINGER
        world.wait(lingers, 0.0)
    assert world.wait(lingers, 0.0)


def test_where_it_is_not_allowed_it_never_looks(world: World, make: Callable[..., Linger]) -> None:
    """One processor: whoever looks keeps the other side from sending."""
    lingers = make(allowed=False)
    for _ in range(10):
        assert not world.wait(lingers, 0.0)
