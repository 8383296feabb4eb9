"""A cancelled call stops its command, leaks nothing, and tells its caller only when the command runs no more."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncpool import Pool, PoolError, WorkerCrashed
from tests.conftest import Gate
from tests.support import commands, coroutines
from tests.support.processes import alive, there
from tests.support.waiting import eventually, steps


@contextlib.asynccontextmanager
async def pool_of(size: int, **options: Any) -> AsyncIterator[Pool]:
    async with Pool(commands, min_size=size, max_size=size, stderr="discard", **options) as pool:
        yield pool


@pytest.mark.contract
async def test_a_queued_call_that_is_cancelled_never_runs(gate: Gate, tmp_path: Path) -> None:
    """It leaves the queue, no worker is touched, and the calls behind it move up."""
    trace = tmp_path / "trace"
    async with pool_of(1) as pool:
        holder = asyncio.create_task(pool.run(gate.command, gate.path))
        queued = [asyncio.create_task(pool.run("append", str(trace), str(number))) for number in range(6)]
        await eventually(gate.reached)
        for number in (0, 2, 3, 5):
            queued[number].cancel()
        await asyncio.wait([queued[number] for number in (0, 2, 3, 5)])
        assert pool.stats().waiting == 2
        gate.open()
        await asyncio.gather(holder, queued[1], queued[4])
        assert pool.stats().spawned == 1
        assert pool.stats().outcomes == {"ok": 3, "cancelled": 4}
    assert trace.read_text().split() == ["1", "4"]


@pytest.mark.contract
async def test_a_call_that_is_cancelled_before_its_first_step_leaves_no_trace(pool: Pool) -> None:
    """A task that never began has submitted nothing."""
    task = asyncio.create_task(pool.run("echo"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.stats().submitted == 0


async def _task_cancel(pool: Pool, gate: Gate) -> None:
    task = asyncio.create_task(pool.run(gate.command, gate.path))
    await eventually(gate.reached)
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def _asyncio_timeout(pool: Pool, gate: Gate) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.2):
            await pool.run(gate.command, gate.path)
    assert not isinstance(caught.value, PoolError)


async def _asyncio_wait_for(pool: Pool, gate: Gate) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.run(gate.command, gate.path), 0.2)


async def _anyio_move_on_after(pool: Pool, gate: Gate) -> None:
    with anyio.move_on_after(0.2) as scope:
        await pool.run(gate.command, gate.path)
    assert scope.cancelled_caught


async def _anyio_fail_after(pool: Pool, gate: Gate) -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.2):
            await pool.run(gate.command, gate.path)


async def _anyio_cancel_scope(pool: Pool, gate: Gate) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(pool.run, gate.command, gate.path)
        await eventually(gate.reached)
        group.cancel_scope.cancel()


async def _asyncio_task_group(pool: Pool, gate: Gate) -> None:
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with asyncio.TaskGroup() as group:
            group.create_task(pool.run(gate.command, gate.path))
            await eventually(gate.reached)
            raise ValueError("sibling")
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


WAYS = [
    _task_cancel,
    _asyncio_timeout,
    _asyncio_wait_for,
    _anyio_move_on_after,
    _anyio_fail_after,
    _anyio_cancel_scope,
    _asyncio_task_group,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
async def test_when_the_cancelled_caller_learns_of_it_the_worker_is_gone(
    gate: Gate, way: Callable[[Pool, Gate], Any]
) -> None:
    """In every way of cancelling: process and pid are gone when the await ends, and a successor serves."""
    async with pool_of(1) as pool:
        first = await pool.run("pid")
        await way(pool, gate)
        assert gate.reached() == [first]
        assert not there(first)
        second = await pool.run("pid")
        assert second != first
        assert pool.stats().outcomes == {"ok": 2, "cancelled": 1}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
async def test_in_every_way_of_cancelling_a_stopped_worker_goes_too(
    gate: Gate, way: Callable[[Pool, Gate], Any]
) -> None:
    """SIGSTOP does not save a worker whose call is cancelled, nor do ignored signals."""
    async with pool_of(1) as pool:
        pid = await pool.run("pid")
        await pool.run("ignore_term")
        gate.command = "stop_at"
        await way(pool, gate)
        assert not there(pid)


@pytest.mark.contract
async def test_a_scope_that_outlives_the_cancelled_call_is_not_disturbed(gate: Gate) -> None:
    """After a cancelled call the same task, and scopes around it, go on as if nothing were."""
    async with pool_of(1) as pool:
        async with asyncio.timeout(30):
            with anyio.move_on_after(20) as outer:
                with anyio.move_on_after(0.1) as inner:
                    await pool.run(gate.command, gate.path)
                assert inner.cancelled_caught
                assert await pool.run("echo", 1) == 1
                await anyio.lowlevel.checkpoint()
            assert not outer.cancelled_caught
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_the_grandchildren_of_a_cancelled_call_go_with_it(tmp_path: Path) -> None:
    """The worker's whole process group is killed."""
    path = tmp_path / "pid"
    async with pool_of(1) as pool:
        task = asyncio.create_task(pool.run("spawn_and", 60, str(path), "sleep"))
        grandchild = int(await eventually(lambda: path.exists() and path.read_text()))
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: not alive(grandchild))


async def test_a_second_cancel_releases_the_caller_early(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first stops the command, the second ends the wait for it; the worker is still killed and replaced."""
    async with pool_of(1) as pool:
        pid = await pool.run("pid")
        task = asyncio.create_task(pool.run(gate.command, gate.path))
        await eventually(gate.reached)
        task.cancel()
        await steps(1)
        assert not task.done()
        task.cancel()
        await steps(3)
        assert task.cancelled()
        assert await pool.run("pid") != pid
        assert not there(pid)
        assert pool.stats().outcomes == {"ok": 2, "cancelled": 1}


@pytest.mark.contract
async def test_a_cancel_in_the_step_of_the_answer_is_not_swallowed(pool: Pool) -> None:
    """Cancelled while the reply is on its way: the caller is cancelled, or has its answer; the worker is free."""
    for passes in range(12):
        for _ in range(10):
            task = asyncio.create_task(pool.run("echo", passes))
            await steps(passes)
            was_done = task.done()
            cancelled = task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() if cancelled else was_done
            if not task.cancelled():
                assert task.result() == passes
    await eventually(lambda: pool.stats().idle == 2)
    assert pool.stats().running == pool.stats().waiting == 0


CANCELLED, KILLED = 1250, 20  # calls that are cancelled at least in each way, and workers that this costs at least


class Disturbed:
    """A call that is cancelled at some moment: after a few turns, or a few milliseconds."""

    def __init__(self, pool: Pool, number: int, chance: random.Random) -> None:
        self._pool, self._number = pool, number
        self._command: Any = coroutines.answer
        self._arguments: tuple[Any, ...] = (number, chance.choice([0.0, 0.0, 0.002]))  # seconds
        plain = chance.random()  # costs the worker once it runs, where the others heed the cancellation
        if plain < 0.01:
            self._command, self._arguments = commands.echo, (number,)
        elif plain < 0.03:
            self._command, self._arguments = commands.sleep, (60.0,)  # it is never answered
        self._turns = chance.randrange(12) if chance.random() < 0.5 else None
        self.moment: float = chance.random() ** 4 * 0.04  # seconds, mostly few

    async def run(self) -> None:
        """See that the answer is its own."""
        assert await self._pool.run(self._command, *self._arguments) == self._number

    async def wait(self) -> None:
        """Wait for the moment."""
        await (asyncio.sleep(self.moment) if self._turns is None else steps(self._turns))


async def _cancel_its_task(call: Disturbed) -> bool:
    task = asyncio.create_task(call.run())
    await call.wait()
    cancelled = task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or (not cancelled and task.exception() is None)
    return task.cancelled()


async def _let_its_timeout_expire(call: Disturbed) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            expiring = asyncio.create_task(_expire(call, timeout))
            await call.run()
    await expiring
    return timeout.expired()


async def _expire(call: Disturbed, timeout: asyncio.Timeout) -> None:
    await call.wait()
    with contextlib.suppress(RuntimeError):  # it is over
        timeout.reschedule(asyncio.get_running_loop().time())


async def _wait_for_it(call: Disturbed) -> bool:
    try:
        await asyncio.wait_for(call.run(), call.moment)
    except TimeoutError:
        return True
    return False


async def _cancel_its_scope(call: Disturbed) -> bool:
    with anyio.CancelScope() as scope:
        cancelling = asyncio.create_task(_cancel_scope(call, scope))
        await call.run()
    await cancelling
    return scope.cancelled_caught


async def _cancel_scope(call: Disturbed, scope: anyio.CancelScope) -> None:
    await call.wait()
    scope.cancel()


@pytest.mark.parametrize("way", [_cancel_its_task, _let_its_timeout_expire, _wait_for_it, _cancel_its_scope])
async def test_1250_calls_of_each_way_cancelled_at_random_moments_leak_nothing(way: Callable[[Disturbed], Any]) -> None:
    """In each of four ways: no wrong answer, no stray cancellation; then all workers are free, and the books add up.

    Those count that the pool had taken in, and some of them are plain commands in their middle, whose workers go.
    """
    chance = random.Random(way.__name__)
    async with pool_of(3, cancel_grace=10) as pool:

        def enough() -> bool:
            stats = pool.stats()
            return stats.outcomes.get("cancelled", 0) >= CANCELLED and stats.exited.get("cancelled", 0) >= KILLED

        async def some() -> int:
            cancelled = 0
            while not enough():
                cancelled += await way(Disturbed(pool, next(numbers), chance))
                task = asyncio.current_task()
                assert task is not None
                assert task.cancelling() == 0
            return cancelled

        numbers = itertools.count()
        cancelled = sum(await asyncio.gather(*(some() for _ in range(10))))
        stats = pool.stats()
        assert (stats.running, stats.waiting, stats.busy) == (0, 0, 0)
        assert sum(stats.outcomes.values()) == stats.submitted
        assert set(stats.outcomes) == {"ok", "cancelled"}
        assert cancelled >= stats.outcomes["cancelled"] >= CANCELLED  # some never began, or were answered all the same
        assert stats.outcomes["ok"] > 100
        assert stats.spawned == sum(stats.exited.values()) + stats.starting + stats.idle + stats.retiring
        assert set(stats.exited) == {"cancelled"}
        await eventually(lambda: pool.stats().idle == 3)
        assert await asyncio.gather(*(pool.run("echo", number) for number in range(100))) == list(range(100))


@pytest.mark.contract
async def test_1000_queued_calls_are_cancelled_at_once(gate: Gate) -> None:
    """A thousand waiting calls in one cancelled group are gone, and the worker that was busy is not touched."""
    async with pool_of(1) as pool:
        holder = asyncio.create_task(pool.run("wait_at", gate.path, "held"))
        await eventually(gate.reached)
        with anyio.move_on_after(0.05):
            async with anyio.create_task_group() as group:
                for number in range(1000):
                    group.start_soon(pool.run, "echo", number)
        assert pool.stats().waiting == 0
        gate.open()
        assert await holder == "held"
        assert pool.stats().outcomes == {"ok": 1, "cancelled": 1000}
        assert pool.stats().spawned == 1


@pytest.mark.contract
async def test_one_calls_cancellation_never_hits_the_next(gate: Gate) -> None:
    """The kill is for the call that was cancelled: a queued one gets another worker and its own answer."""
    async with pool_of(1) as pool:
        for number in range(10):
            first = asyncio.create_task(pool.run("sleep", 60))
            second = asyncio.create_task(pool.run("echo", number))
            await eventually(lambda: pool.stats().running == 1)
            first.cancel()
            assert await second == number
            assert first.done() or (await asyncio.wait([first]))
            assert first.cancelled()


async def test_a_cancelled_call_in_mid_write_takes_its_worker_along() -> None:
    """50 MB on their way to a stopped worker: the caller is free, and so is the memory's way to another worker."""
    async with pool_of(1) as pool:
        pid = await pool.run("pid")
        os.kill(pid, signal.SIGSTOP)
        task = asyncio.create_task(pool.run("length", b"x" * 50_000_000))
        await eventually(lambda: pool.stats().running == 1)
        await steps(20)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not there(pid)
        assert await pool.run("length", b"x" * 50_000_000) == 50_000_000


async def test_a_cancelled_call_on_a_lease_ends_the_lease(gate: Gate) -> None:
    """Its worker is killed, so what the lease stood for is gone: it says so, and can be released."""
    async with pool_of(2) as pool:
        async with pool.acquire() as worker:
            task = asyncio.create_task(worker.run("wait_at", gate.path))
            behind = asyncio.create_task(worker.run("echo", 1))
            await eventually(gate.reached)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert not there(gate.reached()[0])
            with pytest.raises(WorkerCrashed) as caught:
                await behind
            assert caught.value.started is False
            with pytest.raises(WorkerCrashed):
                await worker.run("echo", 1)
        await eventually(lambda: pool.stats().idle == 2)


@pytest.mark.contract
async def test_a_cancelled_call_that_waits_on_a_lease_harms_nobody(gate: Gate) -> None:
    """It leaves the lease's own queue; the call before it and the one behind it go on."""
    async with pool_of(1) as pool, pool.acquire() as worker:
        calls = [asyncio.create_task(worker.run("wait_at", gate.path, number)) for number in range(3)]
        await eventually(gate.reached)
        calls[1].cancel()
        await asyncio.wait([calls[1]])
        gate.open()
        assert await calls[0] == 0
        assert await calls[2] == 2
        assert pool.stats().spawned == 1


@pytest.mark.contract
async def test_cancelling_a_call_while_no_worker_is_there_yet_withdraws_it(tmp_path: Path) -> None:
    """With min_size=0 the call waits for a start: cancelled, it is gone, and the worker is kept or goes quietly."""
    async with Pool(commands, min_size=0, max_size=1, stderr="discard") as pool:
        for passes in range(8):
            task = asyncio.create_task(pool.run("append", str(tmp_path / "trace"), "ran"))
            await steps(1)
            if task.done():
                break
            await steps(passes)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            if pool.stats().idle:
                break
        assert await pool.run("echo", 1) == 1


async def test_cancelling_start_leaves_nothing(tmp_path: Path) -> None:
    """start() that is cancelled at any moment tears down what it had begun."""
    for passes in (0, 1, 2, 3, 5, 8, 13, 50):
        pool = Pool("tests.support.slow_start", min_size=2, max_size=2, stderr="discard")
        task = asyncio.create_task(pool.start())
        await steps(passes)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert pool.workers() == []
