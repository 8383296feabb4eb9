"""Two clocks: how long a call may wait for a worker, and how long its command may run."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from asyncpool import AcquireTimeout, CommandTimeout, Pool, PoolClosed, PoolError
from tests.conftest import Gate
from tests.support import commands
from tests.support.processes import there
from tests.support.waiting import eventually, steps


async def test_a_command_that_runs_too_long_is_stopped() -> None:
    """CommandTimeout names command and limit, is a TimeoutError, and its worker is gone by then."""
    async with Pool(commands, max_size=1, timeout=0.2, stderr="discard") as pool:
        for command, argument in (("sleep", 60), ("spin", 60)):
            pid = await pool.run("pid")
            began = time.monotonic()
            with pytest.raises(
                CommandTimeout, match=rf"{command} ran longer than its timeout of 0\.2 s.*pid {pid}"
            ) as caught:
                await pool.run(command, argument)
            assert 0.2 <= time.monotonic() - began < 5
            assert isinstance(caught.value, TimeoutError)
            assert not there(pid)
        assert await pool.run("echo", 1) == 1
        assert pool.stats().outcomes == {"ok": 3, "timed_out": 2}
        assert pool.stats().exited == {"timed_out": 2}


async def test_a_command_that_holds_the_gil_in_c_is_stopped_too(tmp_path: Path) -> None:
    """SIGKILL needs no cooperation, and reaches the whole process group."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        with pytest.raises(CommandTimeout):
            await pool.options(timeout=0.3).run("regex", str(tmp_path / "began"))
        path = tmp_path / "pid"
        with pytest.raises(CommandTimeout):
            await pool.options(timeout=0.5).run("spawn_and", 60, str(path), "sleep")
        await eventually(lambda: not there(int(path.read_text())))


@pytest.mark.contract
async def test_the_timeout_counts_from_the_dispatch_not_from_the_queue(gate: Gate) -> None:
    """A call that waits longer than its timeout still gets its whole time to run."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        holder = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        call = asyncio.create_task(pool.options(timeout=0.3).run("sleep", 0.05))
        late = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.6, late.set_result, None)
        await late
        assert not call.done()
        gate.open()
        assert await call == 0.05
        await holder


@pytest.mark.contract
async def test_options_come_before_the_command_before_the_pool() -> None:
    """Precedence: options, then command, then pool; None means no limit; not given means inherit."""
    async with Pool(commands, max_size=1, timeout=0.1, stderr="discard") as pool:
        with pytest.raises(CommandTimeout, match=r"timeout of 0\.1 s"):
            await pool.run("sleep", 60)
        with pytest.raises(CommandTimeout, match=r"timeout of 0\.2 s"):
            await pool.run("impatient", 60)
        with pytest.raises(CommandTimeout, match=r"timeout of 0\.2 s"):
            await pool.run(commands.impatient, 60)
        with pytest.raises(CommandTimeout, match=r"timeout of 0\.15 s"):
            await pool.options(timeout=0.15).run("impatient", 60)
        with pytest.raises(CommandTimeout, match=r"timeout of 0\.2 s"):
            await pool.options(acquire_timeout=5).run("impatient", 60)
        assert await pool.options(timeout=None).run("impatient", 0.4) == 0.4
        assert await pool.options(timeout=None).run("sleep", 0.3) == 0.3
        assert await pool.options(timeout=30).run("impatient", 0.4) == 0.4


@pytest.mark.contract
async def test_the_commands_own_timeout_holds_for_the_very_first_call() -> None:
    """Also for the call that had to wait for the first worker, which brings the command's defaults."""
    async with Pool(commands, min_size=0, max_size=1, stderr="discard") as pool:
        with pytest.raises(CommandTimeout, match=r"timeout of 0\.2 s"):
            await pool.run(commands.impatient, 60)


@pytest.mark.contract
async def test_a_call_that_gets_no_worker_in_time_never_runs(gate: Gate, tmp_path: Path) -> None:
    """AcquireTimeout is another error than CommandTimeout, and the command left no trace."""
    trace = tmp_path / "trace"
    async with Pool(commands, max_size=1, acquire_timeout=0.1, stderr="discard") as pool:
        holder = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        with pytest.raises(AcquireTimeout, match=r"0\.1 s \(acquire_timeout\); the pool is 0 idle, 1 busy") as caught:
            await pool.run("append", str(trace), "x")
        assert caught.value.started is False
        assert isinstance(caught.value, TimeoutError)
        assert not isinstance(caught.value, CommandTimeout)
        with pytest.raises(AcquireTimeout, match=r"0\.05 s"):
            await pool.options(acquire_timeout=0.05).run("append", str(trace), "x")
        patient = asyncio.create_task(pool.options(acquire_timeout=None).run("echo", 5))
        with pytest.raises(AcquireTimeout):
            await pool.run("append", str(trace), "x")
        gate.open()
        assert await patient == 5
        await holder
        assert pool.stats().outcomes == {"ok": 2, "acquire_timed_out": 3}
    assert not trace.exists()


@pytest.mark.contract
async def test_acquire_timeout_does_not_count_once_the_command_runs() -> None:
    """It is the limit of the wait, not of the run."""
    async with Pool(commands, max_size=1, acquire_timeout=0.1, stderr="discard") as pool:
        assert await pool.run("sleep", 0.4) == 0.4


async def test_an_answer_in_the_last_moment_is_the_callers(tmp_path: Path) -> None:
    """Around the deadline each call has one outcome, its answer or CommandTimeout, and no other is touched."""
    async with Pool(commands, min_size=2, max_size=2, timeout=0.05, stderr="discard") as pool:

        async def call(number: int) -> str:
            try:
                seconds = 0.04 + number * 0.0005
                assert await pool.run("sleep", seconds) == seconds
                return "ok"
            except CommandTimeout:
                return "timed out"

        outcomes = [await call(number) for number in range(40)]
        assert set(outcomes) <= {"ok", "timed out"}
        stats = pool.stats()
        assert stats.outcomes.get("ok", 0) == outcomes.count("ok")
        assert stats.outcomes.get("timed_out", 0) == outcomes.count("timed out")


async def test_a_blocked_loop_makes_no_healthy_worker_look_dead() -> None:
    """time.sleep in the parent, past the deadlines of a running call, of a ping and of a start: nobody is killed."""
    async with Pool(
        commands,
        min_size=2,
        max_size=3,
        timeout=0.3,
        start_timeout=1.0,
        health_interval=0.05,
        health_timeout=0.1,
        stderr="discard",
    ) as pool:
        for blocked in (0.7, 0.5, 0.9, 0.35):
            calls = [asyncio.create_task(pool.run("sleep", 0.1)) for _ in range(2)]
            await steps(3)
            time.sleep(blocked)  # noqa: ASYNC251 # the application's mistake, which the pool must bear
            assert await asyncio.gather(*calls) == [0.1, 0.1]
        grown = [asyncio.create_task(pool.run("sleep", 0.05)) for _ in range(3)]
        await steps(2)
        time.sleep(1.3)  # noqa: ASYNC251
        assert await asyncio.gather(*grown) == [0.05] * 3
        assert dict(pool.stats().exited) == {}


async def test_a_blocked_loop_in_the_middle_of_a_frame_costs_no_worker() -> None:
    """The worker could neither be given the rest of its call nor be heard: the time of the block is not its own."""
    data = b"x" * (32 * 2**20)
    async with Pool(commands, max_size=1, timeout=1.0, stderr="discard") as pool:
        sending = asyncio.create_task(pool.run("length", data))
        await eventually(lambda: pool.stats().running == 1)
        time.sleep(1.5)  # noqa: ASYNC251
        assert await sending == len(data)
        receiving = asyncio.create_task(pool.run("big", len(data)))
        await eventually(lambda: pool.stats().running == 1)
        time.sleep(1.5)  # noqa: ASYNC251
        assert await receiving == data
        assert pool.stats().spawned == 1


@pytest.mark.contract
async def test_a_blocked_loop_is_no_excuse_for_a_command_that_is_too_slow() -> None:
    """After the block is over, what really runs too long is stopped."""
    async with Pool(commands, max_size=1, timeout=0.2, stderr="discard") as pool:
        call = asyncio.create_task(pool.run("sleep", 60))
        await steps(3)
        time.sleep(0.5)  # noqa: ASYNC251
        with pytest.raises(CommandTimeout):
            await call


async def test_a_timeout_in_mid_write_stops_a_worker_that_does_not_read() -> None:
    """50 MB on their way to a stopped worker: the time of the call counts from the dispatch."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        pid = await pool.run("pid")
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(CommandTimeout) as caught:
            await pool.options(timeout=0.3).run("length", b"x" * 50_000_000)
        assert caught.value.started is False
        assert not there(pid)
        assert await pool.options(timeout=30).run("length", b"x" * 50_000_000) == 50_000_000


async def test_a_command_that_ran_when_its_time_was_over_had_started(gate: Gate) -> None:
    """As far as anybody knows: its effects are there."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        with pytest.raises(CommandTimeout) as caught:
            await pool.options(timeout=1).run("wait_at", gate.path)
    assert gate.reached()
    assert caught.value.started is True


@pytest.mark.parametrize("ends", ["timeout", "close"])
async def test_a_call_that_a_stopped_worker_never_read_says_that_it_never_started(ends: str) -> None:
    """Whatever ends it: what the kernel still holds when the worker is gone proves it."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        os.kill(await pool.run("pid"), signal.SIGSTOP)
        call = asyncio.create_task(pool.options(timeout=0.3 if ends == "timeout" else None).run("echo", 1))
        await eventually(lambda: pool.stats().running == 1)
        if ends == "close":
            await pool.aclose(0)
        with pytest.raises(CommandTimeout if ends == "timeout" else PoolClosed) as caught:
            await call
    assert caught.value.started is False
    assert caught.value.__notes__ == ["echo was never begun: its worker had not read it"]


async def test_an_answer_that_takes_long_to_arrive_is_not_cut_off() -> None:
    """Bytes that come in put the deadline off: 64 MB begun in time are taken in."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        assert len(await pool.options(timeout=5).run("big", 64 * 2**20)) == 64 * 2**20


async def test_both_timeouts_are_pool_errors() -> None:
    """One except clause takes both, and TimeoutError does as well."""
    assert issubclass(CommandTimeout, PoolError)
    assert issubclass(AcquireTimeout, PoolError)
    assert issubclass(CommandTimeout, TimeoutError)
    assert issubclass(AcquireTimeout, TimeoutError)
