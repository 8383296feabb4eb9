"""The numbers of a pool add up, at every moment."""

import asyncio
import dataclasses
import os
import time
from pathlib import Path

import pytest

from asyncpool import AsyncPoolError, Pool, PoolStats
from tests.conftest import Gate
from tests.support import commands
from tests.support.waiting import eventually, steps


def add_up(stats: PoolStats) -> None:
    """Check the sums that the documentation promises."""
    assert sum(stats.outcomes.values()) == stats.submitted - stats.waiting - stats.running
    assert sum(stats.exited.values()) == stats.spawned - stats.starting - stats.idle - stats.busy - stats.retiring
    assert stats.wait_time.count == stats.attempts
    assert all(value >= 0 for value in dataclasses.asdict(stats).values() if isinstance(value, int))


async def test_a_scripted_mix_is_counted_exactly(gate: Gate) -> None:
    """Each outcome once and by its name; at every moment in between the sums hold."""
    async with Pool(commands, min_size=2, max_size=2, max_waiting=4, stderr="discard") as pool:
        done = asyncio.Event()

        async def watch() -> None:
            while not done.is_set():
                stats = pool.stats()
                assert sum(stats.exited.values()) == (
                    stats.spawned - stats.starting - stats.idle - stats.busy - stats.retiring
                )
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        for number in range(10):
            assert await pool.run("echo", number) == number  # ok
        for kind in ("ValueError", "exit", "os"):
            with pytest.raises(AsyncPoolError):
                await pool.run("fail", kind)  # failed
        with pytest.raises(TypeError):
            await pool.run("add", "x")  # failed: ArgumentError
        with pytest.raises(TypeError):
            await pool.run("nothing of that name")  # failed: UnknownCommand
        with pytest.raises(TypeError):
            await pool.run("untravelling", "lambda")  # failed: ResultError
        with pytest.raises(TypeError):
            await pool.run("echo", object())  # PayloadError: never submitted
        for _ in range(2):
            with pytest.raises(AsyncPoolError):
                await pool.run("crash")  # crashed
        with pytest.raises(TimeoutError):
            await pool.options(timeout=0.1).run("sleep", 60)  # timed out
        await eventually(lambda: pool.stats().idle == 2)
        held = [asyncio.create_task(pool.run("wait_at", gate.path)) for _ in range(2)]  # cancelled while they run
        await eventually(lambda: len(gate.reached()) == 2)
        with pytest.raises(TimeoutError):
            await pool.options(acquire_timeout=0.05).run("echo")  # acquire timed out
        waiting = [asyncio.create_task(pool.run("echo")) for _ in range(4)]  # two of them cancelled, two served
        await steps(2)
        assert (pool.stats().waiting, pool.stats().running, pool.stats().busy) == (4, 2, 2)
        for _ in range(3):
            with pytest.raises(AsyncPoolError):
                await pool.run("echo")  # rejected
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.wait(waiting[:2])
        for task in held:
            task.cancel()
        await asyncio.wait([*held, *waiting])
        await eventually(lambda: pool.stats().idle == 2)
        done.set()
        await watching
        stats = pool.stats()
        assert stats.outcomes == {
            "ok": 12,
            "failed": 6,
            "crashed": 2,
            "timed_out": 1,
            "acquire_timed_out": 1,
            "cancelled": 4,
            "rejected": 3,
        }
        assert stats.submitted == 29
        assert stats.attempts == 12 + 6 + 2 + 1 + 2
        assert stats.exited == {"crashed": 2, "timed_out": 1, "cancelled": 2}
        assert (stats.spawned, stats.idle, stats.running, stats.waiting) == (7, 2, 0, 0)
        add_up(stats)
    add_up(pool.stats())
    assert pool.stats().exited["closed"] == 2


async def test_stats_are_a_snapshot_that_nobody_can_change(pool: Pool) -> None:
    """What was handed out stays as it was."""
    before = pool.stats()
    await pool.run("echo", 1)
    assert before.submitted == 0
    assert before.outcomes == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.submitted = 1  # type: ignore[misc]
    before.outcomes["ok"] = 99
    assert pool.stats().outcomes == {"ok": 1}


async def test_workers_tell_what_they_are(gate: Gate) -> None:
    """Number, pid, slot, state, calls, age, memory, the command that runs, and the language."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        call = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        for _ in range(3):
            await pool.run("echo")
        first, second = sorted(pool.workers(), key=lambda info: info.state)
        assert (first.state, first.command, first.calls) == ("busy", "wait_at", 1)
        assert (second.state, second.command, second.calls) == ("idle", None, 3)
        assert {first.id, second.id} == {1, 2}
        assert {first.slot, second.slot} == {0, 1}
        assert [first.pid] == gate.reached()
        assert first.rss is not None
        assert 2**20 < first.rss < 2**30
        assert first.age > 0
        assert first.language.startswith("python 3.")
        gate.open()
        await call


async def test_a_successor_takes_its_predecessors_slot(pool: Pool) -> None:
    """Slots are reused, numbers never."""
    for _ in range(3):
        with pytest.raises(AsyncPoolError):
            await pool.run("crash")
        await eventually(lambda: pool.stats().idle == 2 and len(pool.workers()) == 2)
        assert {info.slot for info in pool.workers()} <= {0, 1, 2}
    assert max(info.id for info in pool.workers()) == 5


async def test_the_repr_tells_all_in_one_line(gate: Gate) -> None:
    """Name, workers by state, and how many calls wait."""
    pool = Pool(commands, min_size=1, max_size=1, name="cats", stderr="discard")
    assert repr(pool) == "<Pool 'cats' 0 idle, 0 busy, 0 starting, 0 waiting, new>"
    async with pool:
        assert repr(pool) == "<Pool 'cats' 1 idle, 0 busy, 0 starting, 0 waiting>"
        calls = [asyncio.create_task(pool.run("wait_at", gate.path)) for _ in range(3)]
        await eventually(gate.reached)
        assert repr(pool) == "<Pool 'cats' 0 idle, 1 busy, 0 starting, 2 waiting>"
        gate.open()
        await asyncio.gather(*calls)
    assert repr(pool) == "<Pool 'cats' 0 idle, 0 busy, 0 starting, 0 waiting, closed>"


async def test_times_are_counted(pool: Pool, gate: Gate) -> None:
    """The histograms hold each dispatch and each reply, and their sums are about right."""
    began = time.monotonic()
    calls = [asyncio.create_task(pool.run("wait_at", gate.path)) for _ in range(4)]
    await eventually(lambda: len(gate.reached()) == 2 and pool.stats().waiting == 2)
    stays = time.monotonic()
    await asyncio.sleep(0.05)
    stayed = time.monotonic() - stays - 0.002  # uvloop counts whole milliseconds, and each time may lack two
    gate.open()
    await asyncio.gather(*calls)
    took, stats = time.monotonic() - began + 0.002, pool.stats()
    assert (stats.wait_time.count, stats.run_time.count) == (4, 4)
    assert 2 * stayed <= stats.run_time.total <= 4 * took
    assert 2 * stayed <= stats.wait_time.total <= 4 * took
    assert len(stats.run_time.counts) == len(stats.run_time.bounds) + 1


async def test_leases_are_counted_as_busy_workers_and_their_calls_as_calls(pool: Pool, tmp_path: Path) -> None:
    """A lease is no call; what is run on it is."""
    async with pool.acquire() as worker:
        assert pool.stats().submitted == 0
        assert (pool.stats().busy, pool.stats().idle) == (1, 1)
        await worker.run("echo", 1)
        with pytest.raises(FileNotFoundError):
            await worker.run(os.listdir, str(tmp_path / "no such folder"))
        assert pool.stats().outcomes == {"ok": 1, "failed": 1}
        add_up(pool.stats())
