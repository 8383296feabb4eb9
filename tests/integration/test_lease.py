"""A lease: several calls on one worker, which nobody else uses meanwhile."""

import asyncio
import gc
import itertools
import os
import signal
import weakref
from collections.abc import Iterator

import pytest

from asyncpool import AcquireTimeout, Pool, PoolClosed, PoolError, WorkerCrashed
from tests.conftest import Gate
from tests.support import commands
from tests.support.often import often
from tests.support.processes import there
from tests.support.waiting import eventually, steps


async def test_calls_of_a_lease_share_their_workers_state(pool: Pool) -> None:
    """All calls of a lease run on the same worker, which keeps what they left."""
    async with pool.acquire() as first, pool.acquire() as second:
        assert first.pid != second.pid
        await first.run("remember", "cat", "Tom")
        await second.run("remember", "cat", "Fluffy")
        assert await first.run("recall", "cat") == "Tom"
        assert await second.run("recall", "cat") == "Fluffy"
        assert await first.run(commands.pid) == first.pid
        assert pool.stats().busy == 2
    assert pool.stats().idle == 2


async def test_a_leased_worker_serves_nobody_else(gate: Gate) -> None:
    """pool.run from other tasks goes to the other workers only, even while the leased one does nothing."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool, pool.acquire() as worker:
        pids = await asyncio.gather(*(pool.run("pid") for _ in range(50)))
        assert worker.pid not in pids


async def test_a_lease_is_acquired_and_released_by_hand(pool: Pool) -> None:
    """Awaited instead of entered; given back with release()."""
    worker = await pool.acquire()
    assert await worker.run("pid") == worker.pid
    await pool.release(worker)
    assert pool.stats().idle == 2
    assert pool.stats().exited == {}


@pytest.mark.contract
async def test_a_lease_is_released_once(pool: Pool) -> None:
    """A second release, or a use after it, says so and disturbs nobody."""
    worker = await pool.acquire()
    await pool.release(worker)
    for use in (pool.release(worker), worker.run("pid")):
        with pytest.raises(PoolError, match=r"released already: acquire\(\) a new one"):
            await use
    async with pool.acquire() as again:
        assert await again.run("echo", 1) == 1
        with pytest.raises(PoolError, match="released already"):
            await pool.release(worker)
        assert await again.run("echo", 2) == 2
    with pytest.raises(PoolError, match="released already"):
        await again.run("pid")
    assert pool.stats().idle == 2


@pytest.mark.contract
async def test_releasing_within_the_block_is_told_at_its_end(pool: Pool) -> None:
    """The block releases too: twice is twice."""
    with pytest.raises(PoolError, match="released already"):
        async with pool.acquire() as worker:
            await pool.release(worker)
    assert pool.stats().idle == 2


@pytest.mark.contract
async def test_a_strangers_lease_is_refused(pool: Pool) -> None:
    """A lease belongs to the pool that gave it."""
    async with Pool(commands, max_size=1, stderr="discard") as other, other.acquire() as worker:
        with pytest.raises(PoolError, match="acquired from another pool"):
            await pool.release(worker)
        assert await worker.run("echo", 1) == 1
    assert pool.stats().idle == 2


async def test_a_lease_that_is_released_with_a_call_running_takes_its_worker_along(gate: Gate) -> None:
    """Nobody may get a worker that is busy with somebody else's command: it is killed, and the call told."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        async with pool.acquire() as worker:
            call = asyncio.create_task(worker.run("wait_at", gate.path))
            behind = asyncio.create_task(worker.run("echo", 1))
            await eventually(gate.reached)
        with pytest.raises(WorkerCrashed, match="released with a call still running") as caught:
            async with asyncio.timeout(5):
                await call
        assert caught.value.started is True
        with pytest.raises(WorkerCrashed) as caught:
            await behind
        assert caught.value.started is False
        assert not there(gate.reached()[0])
        assert await pool.run("pid") != gate.reached()[0]
        assert pool.stats().exited == {"released": 1}


async def test_a_lost_lease_stays_lost(pool: Pool) -> None:
    """Its worker crashed: every later call says so, though a successor is there; releasing it is fine."""
    async with pool.acquire() as worker:
        pid = worker.pid
        with pytest.raises(WorkerCrashed):
            await worker.run("crash")
        for _ in range(3):
            with pytest.raises(
                WorkerCrashed, match=r"the worker of this lease \(pid \d+\) has ended.*acquire\(\) a new one"
            ) as caught:
                await worker.run("echo", 1)
            assert caught.value.started is False
            assert caught.value.pid == pid
            await asyncio.sleep(0)
        await eventually(lambda: pool.stats().idle == 2)
        with pytest.raises(WorkerCrashed):
            await worker.run("echo", 1)
    assert await pool.run("echo", 1) == 1


async def test_a_lease_whose_idle_worker_is_killed_from_outside_is_lost(pool: Pool) -> None:
    """Even right after the kill, before anybody noticed: the call fails, is not moved, and tells it never ran."""
    for passes in range(5):
        async with pool.acquire() as worker:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            await steps(passes)
            with pytest.raises(WorkerCrashed) as caught:
                await worker.run("echo", 1)
            assert caught.value.started is False
        await eventually(lambda: pool.stats().idle == 2)


@pytest.mark.contract
async def test_calls_queue_behind_leases_and_leases_behind_calls(gate: Gate) -> None:
    """One queue, in order: call, lease, call."""
    order: list[str] = []
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        holder = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)

        async def call(name: str) -> None:
            await pool.run("echo")
            order.append(name)

        async def lease(name: str) -> None:
            async with pool.acquire() as worker:
                await worker.run("echo")
                await worker.run("echo")
                order.append(name)

        tasks = []
        for make, name in ((call, "1"), (lease, "2"), (call, "3"), (lease, "4"), (call, "5")):
            tasks.append(asyncio.create_task(make(name)))
            await steps(1)
        assert pool.stats().waiting == 5
        gate.open()
        await asyncio.gather(holder, *tasks)
    assert order == ["1", "2", "3", "4", "5"]


@pytest.mark.contract
async def test_a_task_that_holds_all_workers_is_told_instead_of_waiting_for_itself() -> None:
    """pool.run and acquire from the holder of all leases raise; other tasks wait as usual."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        async with pool.acquire() as first, pool.acquire():
            for use in (pool.run("echo"), pool.acquire(), pool.options(acquire_timeout=9).run("echo")):
                with pytest.raises(
                    PoolError, match=r"this task holds all 2 workers of the pool as leases.*run the command on a lease"
                ):
                    await use
            other = asyncio.create_task(pool.run("echo", 5))
            await steps(3)
            assert not other.done()
            assert await first.run("echo", 1) == 1
        assert await other == 5
        assert pool.stats().waiting == 0


@pytest.mark.contract
async def test_a_task_whose_leased_worker_is_to_go_is_told_that_no_other_can_take_its_place() -> None:
    """Without surge there is room for none, and the lease is this task's own."""
    async with Pool(commands, max_size=1, surge=0, stderr="discard") as pool:
        async with pool.acquire() as worker:
            restarting = asyncio.create_task(pool.restart())
            await steps(3)
            with pytest.raises(PoolError, match=r"this task holds all 1 workers of the pool as leases"):
                async with asyncio.timeout(5):
                    await pool.run("echo")
            assert await worker.run("echo", 1) == 1
        await restarting
        assert await pool.run("echo", 2) == 2


@pytest.mark.contract
async def test_a_cancelled_acquire_leaks_no_worker(gate: Gate) -> None:
    """Cancelled in the queue, in the step of the grant, or just after: all workers are free again."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        for passes in range(6):
            async with pool.acquire() as worker:
                task = asyncio.ensure_future(_acquire(pool))
                await steps(2)
                assert await worker.run("echo", passes) == passes
            await steps(passes)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                await pool.release(task.result())
            await eventually(lambda: pool.stats().idle == 1)
        task = asyncio.ensure_future(_acquire(pool))
        task.cancel()
        await asyncio.wait([task])
        assert await pool.run("echo", 1) == 1
        assert pool.stats().spawned == 1


@pytest.mark.contract
async def test_an_acquire_cancelled_in_the_very_step_of_its_grant_passes_the_worker_on() -> None:
    """The release grants the lease and the cancel follows at once, before the waiting task runs."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        held = await pool.acquire()
        waiting = asyncio.ensure_future(_acquire(pool))
        behind = asyncio.ensure_future(pool.run("echo", 7))
        await steps(2)
        await pool.release(held)
        waiting.cancel()
        assert await behind == 7
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert pool.stats().idle == 1


async def _acquire(pool: Pool) -> object:
    return await pool.acquire()


@pytest.mark.parametrize("passes", range(4))
async def test_a_lease_of_a_dying_worker_is_lost_or_of_another(pool: Pool, passes: int) -> None:
    """Acquired after a kill that nobody has noticed yet: its first call fails unstarted, or runs elsewhere."""
    for _ in range(often(5, 2)):
        await eventually(lambda: pool.stats().idle == 2)
        killed = [info.pid for info in pool.workers()]
        for pid in killed:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        async with pool.acquire() as worker:
            if worker.pid in killed:
                await steps(passes)
                with pytest.raises(WorkerCrashed) as caught:
                    await worker.run("echo")
                assert caught.value.started is False
            else:
                assert await worker.run("echo", passes) == passes


@pytest.mark.contract
async def test_calls_on_one_lease_are_served_one_at_a_time_in_order(pool: Pool, gate: Gate) -> None:
    """Concurrent calls wait for one another."""
    async with pool.acquire() as worker:
        await worker.run("remember", "log", "")
        calls = [asyncio.create_task(worker.run("echo", number)) for number in range(100)]
        finished: list[int] = []
        for call in calls:
            call.add_done_callback(lambda done: finished.append(done.result()))
        assert await asyncio.gather(*calls) == list(range(100))
        assert finished == list(range(100))


@pytest.mark.contract
async def test_acquire_timeout_holds_for_leases() -> None:
    """acquire() waits no longer than acquire_timeout, the pool's or the view's."""
    async with Pool(commands, max_size=1, acquire_timeout=0.1, stderr="discard") as pool:

        async def other() -> None:
            with pytest.raises(AcquireTimeout, match=r"within 0\.1 s \(acquire_timeout\)"):
                await pool.acquire()
            with pytest.raises(AcquireTimeout, match=r"within 0\.05 s"):
                async with pool.options(acquire_timeout=0.05).acquire():
                    pytest.fail("nobody released a worker")

        async with pool.acquire():
            await asyncio.create_task(other())
        async with pool.acquire() as worker:
            assert await worker.run("echo", 1) == 1


@pytest.mark.contract
async def test_a_leases_calls_keep_to_timeouts(pool: Pool) -> None:
    """The command's own timeout holds on a lease: its worker is stopped, and the lease lost."""
    async with pool.acquire() as worker:
        with pytest.raises(TimeoutError, match=r"timeout of 0\.2 s"):
            await worker.run(commands.impatient, 60)
        with pytest.raises(WorkerCrashed):
            await worker.run("echo")


@pytest.mark.contract
async def test_closing_the_pool_ends_leases(gate: Gate) -> None:
    """aclose(0) while a lease is held and another waits: both learn of it; release after it is harmless."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()
    worker = await pool.acquire()
    call = asyncio.create_task(worker.run("wait_at", gate.path))
    waiting = asyncio.ensure_future(_acquire(pool))
    await eventually(gate.reached)
    await pool.aclose(0)
    with pytest.raises(PoolClosed) as caught:
        await call
    assert caught.value.started is True
    with pytest.raises(PoolClosed, match="before a worker came free") as caught:
        await waiting
    assert caught.value.started is False
    with pytest.raises((PoolClosed, WorkerCrashed)):
        await worker.run("echo")
    await pool.release(worker)


@pytest.mark.contract
async def test_a_held_lease_without_a_call_does_not_hold_up_aclose() -> None:
    """Nothing runs on it, so there is nothing to wait for."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()
    worker = await pool.acquire()
    async with asyncio.timeout(5):
        await pool.aclose(60)
    await pool.release(worker)


@pytest.mark.contract
async def test_a_lease_serves_during_the_grace_of_aclose(gate: Gate) -> None:
    """A call that runs on a lease when the pool closes is served."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()
    worker = await pool.acquire()
    call = asyncio.create_task(worker.run("wait_at", gate.path, 5))
    await eventually(gate.reached)
    closing = asyncio.create_task(pool.aclose(60))
    await steps(3)
    gate.open()
    assert await call == 5
    await closing


# --- async commands and streams --------------------------------------------------------------------------------------

_running = 0


async def overlap() -> int:
    """Return how many of these run at a time in this worker, itself among them."""
    global _running  # noqa: PLW0603
    _running += 1
    try:
        await asyncio.sleep(0.01)
        return _running
    finally:
        _running -= 1


def endless() -> Iterator[int]:
    yield from itertools.count()


async def test_a_lease_takes_a_worker_whole_whatever_its_concurrency() -> None:
    """Where two async commands would share it, a lease's go one at a time, and nobody else's go there."""
    async with Pool(min_size=2, max_size=2, concurrency=4, stderr="discard") as pool:
        assert max(await asyncio.gather(*(pool.run(overlap) for _ in range(8)))) > 1
        async with pool.acquire() as worker:
            others = [asyncio.create_task(pool.run(overlap)) for _ in range(4)]
            pids = [asyncio.create_task(pool.run(os.getpid)) for _ in range(4)]
            assert await asyncio.gather(*(worker.run(overlap) for _ in range(4))) == [1, 1, 1, 1]
            await asyncio.gather(*others)
            assert worker.pid not in await asyncio.gather(*pids)
        assert pool.stats().idle == 2


async def test_a_lease_waits_until_a_shared_worker_is_free() -> None:
    """It is granted once no async command runs on the worker, and calls that came later wait behind it."""
    async with Pool(commands, max_size=1, concurrency=4, stderr="discard") as pool:
        await pool.run(overlap)
        sharing = [asyncio.create_task(pool.run(overlap)) for _ in range(3)]
        await steps(3)
        async with pool.acquire() as worker:
            behind = asyncio.create_task(pool.run(overlap))
            assert await worker.run(overlap) == 1
            assert not behind.done()
        assert await behind == 1
        assert max(await asyncio.gather(*sharing)) > 1


async def test_streams_on_a_lease(pool: Pool) -> None:
    """A stream is one of its calls: those behind it wait; left early, it is stopped, and the lease keeps its state."""
    async with pool.acquire() as worker:
        await worker.run("remember", "cat", "Tom")
        async with worker.stream(endless) as updates:
            async for number in updates:
                if number == 3:
                    break
            behind = asyncio.create_task(worker.run("recall", "cat"))
            await steps(3)
            assert not behind.done()
        assert await behind == "Tom"
        assert await worker.run(os.getpid) == worker.pid
    assert pool.stats().exited == {}


async def test_a_lease_that_is_released_with_a_stream_running_takes_its_worker_along(pool: Pool) -> None:
    """A stream that was not left is a call still running."""
    worker = await pool.acquire()
    async with worker.stream(endless) as updates:
        async for _ in updates:
            break
        await pool.release(worker)
        with pytest.raises(WorkerCrashed, match="released with a call still running"):
            async for _ in updates:
                pass
    await eventually(lambda: pool.stats().exited == {"released": 1})


async def test_an_async_call_cancelled_on_a_lease_stops_and_keeps_the_lease() -> None:
    """It heeds Cancel: the worker, and what it keeps, are still there."""
    async with Pool(commands, max_size=1, stderr="discard") as pool, pool.acquire() as worker:
        await worker.run("remember", "cat", "Tom")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await worker.run(asyncio.sleep, 60)
        assert await worker.run("recall", "cat") == "Tom"


async def test_who_holds_a_lease_cannot_restart_the_pool() -> None:
    """It would wait for its own worker for ever; after the lease it can."""
    async with Pool(commands, max_size=1) as pool:
        async with pool.acquire():
            with pytest.raises(PoolError, match="restart before it is acquired, or after it is released"):
                await pool.restart()
        await pool.restart()
        assert {2} == {info.id for info in pool.workers()}


async def test_a_cancelled_acquire_keeps_nothing() -> None:
    """Neither its timer nor its task waits for the rest of acquire_timeout."""
    async with Pool(commands, max_size=1) as pool, pool.acquire():

        async def acquire() -> None:
            await pool.options(acquire_timeout=3600).acquire()

        task = asyncio.create_task(acquire())
        await eventually(lambda: pool.stats().waiting == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = weakref.ref(task)
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert left() is None
