"""Interleavings that once lost a call, a worker or a count; each was seen to fail before it was mended."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import asyncpool
from asyncpool import PayloadError, Pool, PoolClosed, PoolError, WorkerCrashed
from tests.conftest import Gate
from tests.support import commands, updates
from tests.support.waiting import eventually


class Text(str):
    """A text that MessagePack has no rule for."""


async def test_a_name_that_cannot_travel_costs_no_worker() -> None:
    """A lone surrogate can come out of a request's JSON: refused before a worker is touched."""
    async with Pool(commands, max_size=1) as pool:
        with pytest.raises(PayloadError):
            await pool.run("echo\ud800", 1)
        assert await pool.run(Text("echo"), 2) == 2


async def test_a_call_made_while_the_pool_starts_is_refused_and_harms_nothing() -> None:
    """start() returns all the same."""
    pool = Pool(commands)
    starting = asyncio.create_task(pool.start())
    await asyncio.sleep(0)
    with pytest.raises(PoolClosed, match="starting"):
        await pool.run("echo", 1)
    await starting
    assert await pool.run("echo", 1) == 1
    await pool.aclose()


async def test_closing_counts_each_call_of_a_lease_once(gate: Gate) -> None:
    """All of them are PoolClosed, the running one started; the counters add up."""
    async with Pool(commands, max_size=1) as pool:
        worker = await pool.acquire()
        calls = [asyncio.create_task(worker.run("wait_at", gate.path)) for _ in range(4)]
        await eventually(gate.reached)
        await pool.aclose(0)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [PoolClosed] * 4 == [type(result) for result in results]
    assert [result.started for result in results] == [True, False, False, False]  # type: ignore[union-attr]
    assert (pool.stats().submitted, pool.stats().outcomes) == (4, {"closed": 4})


async def test_a_loop_that_is_always_late_still_stops_a_command() -> None:
    """Promise 12 gives a late loop some passes, not the command all the time in the world."""
    async with Pool(commands, max_size=1) as pool:
        call = asyncio.create_task(pool.options(timeout=0.25).run("sleep", 30))
        until = time.monotonic() + 5
        while not call.done() and time.monotonic() < until:
            time.sleep(0.15)  # noqa: ASYNC251 - what this test is about
            await asyncio.sleep(0)
        with pytest.raises(asyncpool.CommandTimeout):
            await call


async def test_a_waiting_call_that_is_cancelled_as_its_turn_comes_never_runs() -> None:
    """Its future is cancelled a step before its caller wakes: the worker must not get it in between."""
    async with Pool(commands, max_size=1) as pool:
        await pool.run("echo", 0)
        for _ in range(20):
            first = asyncio.create_task(pool.run("echo", 1))
            second = asyncio.create_task(pool.run("sleep", 30))
            await asyncio.sleep(0)
            first.add_done_callback(lambda _: None)
            until = time.monotonic() + 0.01
            while time.monotonic() < until:
                pass  # the first one's answer lies in the kernel
            second.cancel()
            assert await first == 1
            with pytest.raises(asyncio.CancelledError):
                await second
        assert {1} == {info.id for info in pool.workers()}


def cancel(tasks: list[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()


async def test_thousands_that_are_cancelled_as_their_turn_comes_cost_no_other_call() -> None:
    """A task group fails, in the very pass in which the worker comes free: all that wait are let go, one by one."""
    loop = asyncio.get_running_loop()
    async with Pool(commands, max_size=1) as pool:
        for _ in range(5):
            first = asyncio.create_task(pool.run("echo", 1))
            waiting = [asyncio.create_task(pool.run("sleep", 30)) for _ in range(1500)]
            last = asyncio.create_task(pool.run("echo", 2))
            await asyncio.sleep(0)
            until = time.monotonic() + 0.02
            while time.monotonic() < until:
                pass  # the first one's answer lies in the kernel
            # They are cancelled before the loop hears of that answer, which it does before it wakes them. asyncio looks
            # what has come, then makes the steps that are due, then hears of it; uvloop makes the steps first.
            if isinstance(loop, asyncio.BaseEventLoop):
                loop.call_soon(cancel, waiting)
            else:
                cancel(waiting)
            assert [await first, await last] == [1, 2]
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in results)
        assert pool.stats().outcomes == {"ok": 10, "cancelled": 7500}
        assert {1} == {info.id for info in pool.workers()}


@pytest.mark.parametrize("grace", [None, -1, float("nan"), "1"])
async def test_closing_with_what_is_no_time_changes_nothing(grace: object) -> None:
    """The pool stays open: the argument is looked at first."""
    async with Pool(commands) as pool:
        with pytest.raises((TypeError, ValueError), match="grace"):
            await pool.aclose(grace)  # type: ignore[arg-type]
        assert await pool.run("echo", 1) == 1


async def test_an_acquire_that_was_not_awaited_says_so() -> None:
    """Beginners forget the await: each use tells them."""
    async with Pool(commands) as pool:
        lease = pool.acquire()
        with pytest.raises(AttributeError, match=r"await pool\.acquire"):
            lease.run("echo", 1)  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match=r"await pool\.acquire"):
            await pool.release(lease)  # type: ignore[arg-type]
        async with lease:
            with pytest.raises(PoolError, match="entered already"):
                await lease.__aenter__()


async def test_an_exception_larger_than_a_message_keeps_its_type() -> None:
    """Its text is cut; it does not become a ResultError."""
    async with Pool(commands, max_message=2**16) as pool:
        with pytest.raises(ValueError, match=r"x{100}"):
            await pool.run("raise_long", 60_000)


async def test_the_pool_serves_a_task_whose_lease_has_lost_its_worker() -> None:
    """The way on after a WorkerCrashed: a successor is starting, so nobody waits for himself."""
    async with Pool(commands, max_size=1, stderr="discard") as pool, pool.acquire() as worker:
        with pytest.raises(WorkerCrashed):
            await worker.run("crash")
        assert await pool.run("echo", 1) == 1


async def test_the_pool_serves_a_task_whose_leased_worker_was_replaced(gate: Gate) -> None:
    """Its successor takes calls: the lease holds no place of the pool any more."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:

        async def open_once_somebody_waits() -> None:
            await eventually(lambda: pool.stats().waiting == 1)
            gate.open()

        async with pool.acquire() as worker:
            restarting = asyncio.create_task(pool.restart())
            await eventually(lambda: (pool.stats().retiring, pool.stats().idle) == (1, 1))
            busy = asyncio.create_task(pool.run(gate.command, gate.path))
            await eventually(gate.reached)
            opening = asyncio.create_task(open_once_somebody_waits())
            assert await pool.run("echo", 1) == 1  # by the task that has the lease: no other could wait for itself
            await opening
            await busy
            assert await worker.run("pid") == worker.pid
        await restarting


async def test_a_map_ends_whose_pool_closes_while_a_chunk_is_made() -> None:
    """An item that is too much for a chunk that cannot be sent any more has its outcome too."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()

    async def source() -> AsyncIterator[bytes]:
        yield b"a" * 700_000
        await pool.aclose()
        yield b"b" * 700_000

    async def consume() -> None:
        async with pool.map("length", source(), chunk=4, return_exceptions=True) as lengths:
            async for length in lengths:
                assert isinstance(length, PoolClosed)

    with pytest.raises(PoolClosed):
        await asyncio.wait_for(consume(), 5)


async def test_resizing_while_a_worker_fails_to_start_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has closed the wire and is about to exit is let go: it is no failed start any more."""
    module = tmp_path / "ending_kittens.py"
    module.write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Pool("ending_kittens", max_size=3, stderr="discard") as pool:
        module.write_text("import os\nos.closerange(3, 50)\nimport time\ntime.sleep(0.2)\nos._exit(1)\n")
        growing = asyncio.create_task(pool.resize(min_size=2))
        await eventually(lambda: pool.stats().starting == 1)
        await asyncio.sleep(0.1)  # it has closed the wire by then, or not: both must do
        await pool.resize(min_size=1, max_size=1)
        await asyncio.wait([growing])
        growing.exception()
        await eventually(lambda: len(pool.workers()) == 1)
        assert await pool.run(len, "abc") == 3


async def test_a_crashed_call_does_not_time_out_while_it_waits_for_its_next_run(tmp_path: Path) -> None:
    """The time of the run that crashed is over with it, also while its worker is not yet reaped."""
    async with Pool("tests.support.slow_commands", max_size=1, stderr="discard") as pool:
        call = pool.options(timeout=0.8, retries=3).run("crash_until", str(tmp_path / "trace"), 3, 0.6)
        assert await call == 3


async def test_a_submitted_call_that_is_cancelled_at_once_frees_its_worker_in_the_end() -> None:
    """It may finish, and so must not wait for credit that nobody gives."""
    async with Pool(updates, max_size=1, stderr="discard") as pool:
        options = pool.options(on_update=print, on_cancel="finish", timeout=5)
        task = options.submit("count", 100)
        task.cancel()
        await eventually(lambda: pool.stats().idle == 1)
        assert await pool.run(len, "abc") == 3
