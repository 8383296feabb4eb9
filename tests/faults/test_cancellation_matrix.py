"""{answers, fails, slow, never} x {start, call, stop}, the caller cancelled at every step, natively and by scopes.

Law 1: who is cancelled ends cancelled, and a scope catches it; who was done before is done. Nobody hangs.
Law 2: a call that was cancelled is over when its caller learns of it; the pool serves on, and its numbers add up.
Law 3: a start or a stop that was cancelled leaves a closed pool.

A step is a turn of the event loop: 0, 1, 2, ... and, after LAST of them, each that is a STRIDE further, until the
operation is over before it is cancelled; where it never ends, the first LAST. Each
event of ``on_event`` is one too, and the first update: the cancellation then comes from within the callback.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncpool import CommandError, Event, Pool, PoolClosed, WorkerStartError
from asyncpool.pool import worker
from tests.support.waiting import eventually, steps

SWIFT = [sys.executable, "-I", "-S", str(Path(__file__).parent / "workers" / "swift.py")]
AT_ONCE = 4  # turns in which only this process acts
TURN = 0.002  # seconds that each later turn takes, so that what the worker says in it is there in the next
LAST = 10  # turns that are taken one by one, and after which nothing new happens where nothing ends
STRIDE = 4  # turns, after these
HUNG = 20.0  # seconds after which nobody is only slow

CANCELLED, CAUGHT, NOTHING = "cancelled", "caught by its scope", "nothing, ever"
NATIVELY, TWICE, BY_SCOPE = "natively", "twice", "by scope"
ways = pytest.mark.parametrize("way", [NATIVELY, TWICE, BY_SCOPE])

CALLS: dict[str, Any] = {"answers": 7, "fails": CommandError, "slow": 7, "heeds": NOTHING, "never": NOTHING}
STARTS: dict[str, Any] = {"answers": None, "fails": WorkerStartError, "slow": None, "never": NOTHING}
FIRST_CALLS: dict[str, Any] = {"answers": 7, "fails": WorkerStartError, "slow": 7, "never": NOTHING}
STOPS: dict[str, Any] = {"answers": None, "fails": None, "slow": None, "never": None, "never, in a call": NOTHING}


def pool_of(start: str = "answers", stop: str = "answers", **options: Any) -> Pool:
    """Return a pool whose workers start and stop in these ways."""
    return Pool(program=[*SWIFT, start, stop], **{"max_size": 1, "stderr": "discard", **options})


class Caller:
    """A task that awaits something, and can be cancelled.

    Args:
        operation: What it awaits.
        way: How it is cancelled.
    """

    def __init__(self, operation: Callable[[], Awaitable[Any]], way: str) -> None:
        self._operation, self._way = operation, way
        self._scope = anyio.CancelScope()
        self.cancelled = False  # before it was done
        self.task = asyncio.create_task(self._await())

    async def _await(self) -> Any:
        if self._way != BY_SCOPE:
            return await self._operation()
        with self._scope:
            return await self._operation()
        await asyncio.sleep(0)  # nothing of the cancellation is left
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return CAUGHT

    def cancel(self) -> None:
        """Cancel it, if it is not done."""
        self.cancelled = self.cancelled or not self.task.done()
        if self._way == BY_SCOPE:
            self._scope.cancel()
            return
        self.task.cancel()
        if self._way == TWICE:
            asyncio.get_running_loop().call_soon(self.task.cancel)

    async def cancel_after(self, turns: int) -> None:
        """Cancel it after so many turns of the event loop."""
        for turn in range(turns):
            await asyncio.sleep(0)
            if self.task.done():
                return
            if turn >= AT_ONCE:
                time.sleep(TURN)  # noqa: ASYNC251 - the loop shall find everything there that comes in this turn
        self.cancel()

    async def ends(self, expected: Any) -> None:
        """Wait for its end; it must be the right one."""
        await asyncio.wait([self.task], timeout=HUNG)
        assert self.task.done(), f"hangs in {self.task.get_stack()}"
        ended = CANCELLED if self.task.cancelled() else self.task.exception() or self.task.result()
        as_ever = isinstance(ended, expected) if isinstance(expected, type) else ended == expected
        if not self.cancelled:
            assert as_ever, f"ended with {ended!r} though nobody cancelled it"
        elif self._way == BY_SCOPE:
            assert ended == CAUGHT or as_ever, f"the scope saw {ended!r}"
        else:
            assert ended == CANCELLED, f"ended with {ended!r} though it was cancelled"


class Bell:
    """Takes the events of a pool, and calls somebody at the one of that number."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.act: Callable[[], object] = lambda: None

    def __call__(self, event: Event) -> None:
        self._left -= 1
        if self._left == 0:
            self.act()


async def serves_on(pool: Pool) -> None:
    """See that the next call is served, that all workers are free, and that the numbers add up.

    A caller that was cancelled twice did not wait until its worker was gone.
    """
    assert await asyncio.wait_for(pool.run("answers", 9), HUNG) == 9
    await eventually(lambda: pool.stats().running == 0)
    stats = pool.stats()
    assert (stats.waiting, stats.busy, stats.idle) == (0, 0, 1)
    assert sum(stats.outcomes.values()) == stats.submitted
    assert stats.spawned == sum(stats.exited.values()) + stats.starting + stats.idle + stats.retiring


async def is_closed(pool: Pool) -> None:
    """See that nothing is left of a pool, and that it knows it."""
    assert pool.workers() == []
    with pytest.raises(PoolClosed):
        await pool.run("answers", 9)
    stats = pool.stats()
    assert (stats.waiting, stats.running, stats.starting, stats.busy, stats.idle, stats.retiring) == (0,) * 6
    assert sum(stats.outcomes.values()) == stats.submitted
    assert stats.spawned == sum(stats.exited.values())


async def at_each_turn(attempt: Callable[[int], Awaitable[bool]], *, ends: bool) -> None:
    """Make an attempt for each turn in which what it cancels is not over yet; of what never *ends*, the first ones."""
    turns = 0
    while await attempt(turns) and (ends or turns < LAST):
        turns += 1 if turns < LAST else STRIDE


async def at_each_event(attempt: Callable[[int], Awaitable[bool]], events: int) -> None:
    """Make an attempt for each of so many events, or of those that come before all is over."""
    for event in range(1, events + 1):
        if not await attempt(event):
            assert event > 1, "no event came"
            return


def is_over(pool: Pool, way: str) -> None:
    """See that nothing of a call is left; only a second cancellation lets its caller go earlier."""
    if way != TWICE:
        assert (pool.stats().waiting, pool.stats().running) == (0, 0)


@ways
@pytest.mark.parametrize("command", CALLS)
async def test_a_call_that_is_cancelled_at_any_step_is_over_and_the_pool_serves_on(command: str, way: str) -> None:
    """On a worker that is there: at each turn, and when its first update comes."""
    expected = CALLS[command]
    async with pool_of() as pool:

        async def attempt(turns: int) -> bool:
            caller = Caller(lambda: pool.run(command, 7), way)
            await caller.cancel_after(turns)
            await caller.ends(expected)
            is_over(pool, way)
            await serves_on(pool)
            return caller.cancelled

        await at_each_turn(attempt, ends=expected != NOTHING)
        if expected == NOTHING:
            caller = Caller(lambda: pool.options(on_update=lambda _: caller.cancel()).run(command, 7), way)
            await caller.ends(NOTHING)
            is_over(pool, way)
            await serves_on(pool)


@ways
@pytest.mark.parametrize("start", FIRST_CALLS)
async def test_a_call_that_is_cancelled_while_a_worker_starts_for_it_is_over(start: str, way: str) -> None:
    """The worker becomes ready, fails, takes its time or never gets there: at each turn, and at each event."""
    expected = FIRST_CALLS[start]

    async def attempt(turns: int | None, event: int = 0) -> bool:
        bell = Bell(event)
        async with pool_of(start, min_size=0, on_event=bell) as pool:
            caller = Caller(lambda: pool.run("answers", 7), way)
            bell.act = caller.cancel
            if turns is not None:
                await caller.cancel_after(turns)
            await caller.ends(expected)
            is_over(pool, way)
            if start in ("answers", "slow"):
                await serves_on(pool)
            await pool.aclose(0)
            await is_closed(pool)
            return caller.cancelled

    await at_each_turn(attempt, ends=start in ("answers", "slow"))
    await at_each_event(lambda event: attempt(None, event), {"never": 1, "fails": 4}.get(start, 3))


@ways
@pytest.mark.parametrize("start", STARTS)
async def test_a_start_that_is_cancelled_at_any_step_leaves_nothing(start: str, way: str) -> None:
    """With two workers: at each turn, and at each event."""
    expected = STARTS[start]

    async def attempt(turns: int | None, event: int = 0) -> bool:
        bell = Bell(event)
        pool = pool_of(start, min_size=2, max_size=2, on_event=bell)
        caller = Caller(pool.start if event % 2 else pool.__aenter__, way)
        bell.act = caller.cancel
        if turns is not None:
            await caller.cancel_after(turns)
        await caller.ends(expected if event % 2 or expected is not None else Pool)
        if way == TWICE and caller.cancelled:
            await asyncio.wait_for(pool.aclose(0), HUNG)  # which goes on by itself
        if pool.workers():  # it was done before, or could not be cancelled any more
            assert await pool.run("answers", 9) == 9
            await pool.aclose(0)
        await is_closed(pool)
        return caller.cancelled

    await at_each_turn(attempt, ends=expected != NOTHING)
    await at_each_event(lambda event: attempt(None, event), {"never": 2}.get(start, 9))


@ways
@pytest.mark.parametrize("stop", STOPS)
async def test_a_stop_that_is_cancelled_at_any_step_ends_all_the_same(
    stop: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker ends when it is asked to, badly, after its call, not at all, or never ends its call."""
    expected = STOPS[stop]
    monkeypatch.setattr(worker, "STOP_GRACE", 0.03)
    command = {"slow": "slow", "never, in a call": "never"}.get(stop)

    async def attempt(turns: int | None, event: int = 0) -> bool:
        bell = Bell(event + 2)  # its worker was spawned and is ready
        pool = pool_of("answers", stop, on_event=bell)
        await pool.start()
        call = None if command is None else asyncio.create_task(pool.run(command, 7))
        await steps(1)
        caller = Caller(lambda: pool.aclose(60), way)
        bell.act = caller.cancel
        if turns is not None:
            await caller.cancel_after(turns)
        await caller.ends(expected)
        if turns == 0 and way != BY_SCOPE:  # its task was cancelled before its first step: nobody has asked the pool
            if call is None:
                await serves_on(pool)
            await pool.aclose(0)
        elif way == TWICE:
            await asyncio.wait_for(pool.aclose(), HUNG)  # which was left to itself, and not stopped
        await is_closed(pool)
        if call is not None:
            (ended,) = await asyncio.gather(call, return_exceptions=True)
            assert ended == 7 or isinstance(ended, PoolClosed)
        return caller.cancelled

    await at_each_turn(attempt, ends=expected != NOTHING)
    if expected != NOTHING:
        await at_each_event(lambda event: attempt(None, event), 2)
