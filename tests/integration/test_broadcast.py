"""broadcast: one command, once on each worker."""

import asyncio
import functools
import os
import signal
from pathlib import Path

import pytest

from asyncpool import AcquireTimeout, PayloadError, Pool, PoolClosed, PoolError, WorkerCrashed
from tests.conftest import Gate
from tests.support import commands, items
from tests.support.waiting import eventually, steps


def lines_of(path: str) -> list[str]:
    return Path(path).read_text().split()


def three(**options: object) -> Pool:
    return Pool(commands, items, min_size=3, max_size=3, stderr="discard", **options)  # type: ignore[arg-type]


async def test_each_worker_runs_it_once() -> None:
    """Results come in the order of the workers, the oldest first."""
    async with Pool(commands, min_size=3, max_size=3, stderr="discard") as pool:
        assert await pool.broadcast(commands.pid) == [worker.pid for worker in pool.workers()]
        assert await pool.broadcast("remember", "cat", value="Tom") == [None] * 3
        assert [await pool.run("recall", "cat") for _ in range(6)] == ["Tom"] * 6
        assert pool.stats().outcomes == {"ok": 12}


async def test_idle_workers_run_it_at_once_and_busy_ones_when_they_are_free(gate: Gate) -> None:
    """The busy one before the calls that wait; the others serve on meanwhile."""
    async with three() as pool:
        running = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        told = asyncio.create_task(pool.broadcast("append", f"{gate.path}.told", "told"))
        await eventually(lambda: pool.stats().outcomes == {"ok": 2})
        assert (pool.stats().running, pool.stats().waiting) == (1, 1)
        assert len({await pool.run("pid") for _ in range(10)} & set(gate.reached())) == 0
        blocked = [asyncio.create_task(pool.run("wait_at", f"{gate.path}.2", number)) for number in range(2)]
        last = asyncio.create_task(pool.run("append", f"{gate.path}.told", "waited"))
        await steps(5)
        gate.open()
        await asyncio.gather(running, told, last)
        assert lines_of(f"{gate.path}.told") == ["told"] * 3 + ["waited"]
        Gate(Path(f"{gate.path}.2")).open()
        await asyncio.gather(*blocked)


async def test_it_has_no_place_for_updates() -> None:
    """As a map has none: nothing was begun."""
    async with three() as pool:
        with pytest.raises(ValueError, match="broadcast\\(\\) has no place for on_update="):
            await pool.options(on_update=print).broadcast("pid")
        assert pool.stats().submitted == 0


async def test_failures_come_as_one_group() -> None:
    """Of what failed; or in the list, where asked for."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        with pytest.raises(ExceptionGroup, match="fail failed on 2 of 2 workers") as raised:
            await pool.broadcast("fail", "ValueError")
        assert [type(each).__name__ for each in raised.value.exceptions] == ["ValueError"] * 2
        pids = [worker.pid for worker in pool.workers()]
        results = await pool.options(return_exceptions=True).broadcast(commands.fail, "ValueError")
        assert [each.worker_pid for each in results] == pids
        assert pool.stats().exited == {}


async def test_crashes_come_as_one_group() -> None:
    """Each of its one and only run."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        with pytest.raises(ExceptionGroup, match="crash failed on 2 of 2 workers"):
            await pool.broadcast("crash", 9)


async def test_it_takes_a_key_to_no_other_worker() -> None:
    """It is about all of them."""
    async with three() as pool:
        about_tom = pool.options(key="Tom")
        leases = [await pool.acquire() for _ in range(3)]
        home = pool.workers()[0].pid  # the oldest; a broadcast goes to the youngest last
        for lease in sorted(leases, key=lambda lease: lease.pid != home):
            await pool.release(lease)
            assert await about_tom.run("pid") == home
        for _ in range(3):
            await about_tom.broadcast("pid")
            assert await about_tom.run("pid") == home


async def test_a_worker_that_dies_meanwhile_gives_its_error(gate: Gate) -> None:
    """Whether it had begun or not; the others are not touched, and it runs nowhere else."""
    async with three() as pool:
        running = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        told = asyncio.create_task(pool.options(return_exceptions=True).broadcast("pid"))
        await eventually(lambda: pool.stats().outcomes == {"ok": 2})
        os.kill(gate.reached()[0], signal.SIGKILL)
        with pytest.raises(WorkerCrashed):
            await running
        crashed, *others = sorted(await told, key=lambda each: isinstance(each, int))
        assert isinstance(crashed, WorkerCrashed)
        assert (crashed.started, crashed.pid) == (False, gate.reached()[0])
        assert len(others) == 2
        results = await pool.options(return_exceptions=True, retries=5).broadcast("crash")
        assert all(isinstance(each, WorkerCrashed) and each.started for each in results)
        assert pool.stats().outcomes["crashed"] == 2 + len(results)


async def test_a_worker_that_is_let_go_before_its_turn_is_left_out(gate: Gate) -> None:
    """One that reaches its max_calls with the call that it has takes nothing more, and that is no failure."""
    async with Pool(commands, min_size=2, max_size=2, max_calls=1, stderr="discard") as pool:
        running = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        told = asyncio.create_task(pool.broadcast("pid"))
        await steps(3)
        gate.open()
        await running
        assert gate.reached()[0] not in await told


async def test_workers_that_start_meanwhile_are_not_included(gate: Gate) -> None:
    """Each worker that takes calls now; none: an empty list."""
    async with Pool(commands, min_size=0, max_size=2, stderr="discard") as pool:
        assert await pool.broadcast("pid") == []
        running = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        told = asyncio.create_task(pool.broadcast("pid"))
        await pool.run("pid")
        gate.open()
        await running
        assert await told == gate.reached()


@pytest.mark.parametrize("command", [commands.wait_at, functools.partial(items.wait_later_at, item=1)])
async def test_cancelling_it_stops_it_everywhere(gate: Gate, command: object) -> None:
    """Where it runs it is stopped, where it waits it never runs."""
    async with three() as pool:
        running = asyncio.create_task(pool.run("wait_at", f"{gate.path}.2"))
        await steps(2)
        told = asyncio.create_task(pool.broadcast(command, gate.path))  # type: ignore[call-overload]
        await eventually(lambda: len(gate.reached()) == 2)
        told.cancel()
        with pytest.raises(asyncio.CancelledError):
            await told
        Gate(Path(f"{gate.path}.2")).open()
        await running
        assert pool.stats().outcomes == {"ok": 1, "cancelled": 3}
        assert len(gate.reached()) == 2


async def test_it_waits_no_longer_than_acquire_timeout(gate: Gate) -> None:
    """For each worker; those that were free have run it."""
    async with three(acquire_timeout=0.05) as pool:
        running = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        results = await pool.options(return_exceptions=True).broadcast("pid")
        assert [type(each) for each in results].count(AcquireTimeout) == 1
        gate.open()
        await running
        assert await pool.run("echo", 1) == 1


async def test_async_workers_run_it_beside_others(gate: Gate) -> None:
    """A plain command waits until its worker is empty, and nothing is added to that worker meanwhile."""
    async with Pool(commands, items, max_size=1, concurrency=3, stderr="discard") as pool:
        running = asyncio.create_task(pool.run(items.wait_later_at, gate.path, 1))
        await eventually(gate.reached)
        assert await pool.broadcast(items.double_later, 2) == [4]
        told = asyncio.create_task(pool.broadcast("pid"))
        await steps(2)
        after = asyncio.create_task(pool.run(items.double_later, 3))
        await steps(5)
        assert (pool.stats().running, pool.stats().waiting) == (1, 2)
        told.cancel()  # what was kept for it is free again
        assert await after == 6
        gate.open()
        await running


async def test_checked_workers_are_checked_first() -> None:
    """With check_on_acquire each idle worker is pinged before."""
    async with three(check_on_acquire=True) as pool:
        pids = [worker.pid for worker in pool.workers()]
        assert await pool.broadcast("pid") == pids
        assert await pool.broadcast("pid") == pids


async def test_misuse_is_told(pool: Pool, gate: Gate) -> None:
    """A lease of one's own, a payload that cannot travel, a pool that is closed, also in its middle."""
    async with pool.acquire():
        with pytest.raises(PoolError, match="holds a lease"):
            await pool.broadcast("pid")
    with pytest.raises(PayloadError):
        await pool.broadcast("echo", object())
    assert pool.stats().attempts == 0
    running = asyncio.create_task(pool.run("wait_at", gate.path))
    await eventually(gate.reached)
    told = asyncio.create_task(pool.options(return_exceptions=True).broadcast("wait_at", gate.path))
    await eventually(lambda: len(gate.reached()) == 2)
    await pool.aclose(0)
    assert [(type(each), each.started) for each in sorted(await told, key=lambda each: each.started)] == [
        (PoolClosed, False),
        (PoolClosed, True),
    ]
    with pytest.raises(PoolClosed):
        await running
    with pytest.raises(PoolClosed):
        await pool.broadcast("pid")
