"""Interleavings that once lost a call, a worker or a count; each was seen to fail before it was mended."""

import asyncio
import time

import pytest

import asyncpool
from asyncpool import PayloadError, Pool, PoolClosed, PoolError
from tests.support import commands


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


async def test_closing_counts_each_call_of_a_lease_once() -> None:
    """All of them are PoolClosed, the running one started; the counters add up."""
    async with Pool(commands, max_size=1) as pool:
        worker = await pool.acquire()
        calls = [asyncio.create_task(worker.run("sleep", 30)) for _ in range(4)]
        await asyncio.sleep(0)
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
