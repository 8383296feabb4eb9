"""Calls that may be run again after a crash: as often as they say, and no other call is."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from asyncpool import (
    AcquireTimeout,
    CommandTimeout,
    Pool,
    PoolClosed,
    ProtocolError,
    UnknownCommand,
    WorkerCrashed,
    WorkerStartError,
)
from asyncpool.testing import Faults
from tests.conftest import Gate
from tests.support import commands
from tests.support.waiting import eventually

WORKERS = Path(__file__).parent / "workers"


def runs(trace: Path) -> int:
    return len(trace.read_text().split())


async def test_a_call_runs_at_most_once_more_than_its_retries(pool: Pool, tmp_path: Path) -> None:
    """The last crash is told, with the number of the run; other callers go on meanwhile."""
    trace = tmp_path / "trace"
    others = [asyncio.create_task(pool.run("echo", number)) for number in range(50)]
    with pytest.raises(WorkerCrashed) as caught:
        await pool.options(retries=2).run("append_and", str(trace), "x", "crash")
    assert runs(trace) == 3
    assert caught.value.started is True
    assert "append_and (run 3)" in str(caught.value)
    assert await asyncio.gather(*others) == list(range(50))
    stats = pool.stats()
    assert stats.outcomes["crashed"] == 1
    assert stats.attempts == stats.submitted + 2


async def test_a_retry_that_succeeds_is_an_answer(pool: Pool, tmp_path: Path) -> None:
    """Nobody hears of the crash but the statistics."""
    trace = tmp_path / "trace"
    assert await pool.options(retries=5).run("crash_until", str(trace), 3) == 3
    assert pool.stats().exited["crashed"] == 2


async def test_without_retries_nothing_is_run_again(pool: Pool, tmp_path: Path) -> None:
    """At most once is what holds when nothing is said."""
    trace = tmp_path / "trace"
    with pytest.raises(WorkerCrashed):
        await pool.run("crash_until", str(trace), 3)
    assert runs(trace) == 1


async def test_a_command_may_say_it_of_itself_and_its_caller_otherwise(pool: Pool, tmp_path: Path) -> None:
    """Options come before the command's own word, by name and as a function."""
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert await pool.run("patient", str(first), 2) == 2
    assert await pool.run(commands.patient, str(second), 2) == 2
    with pytest.raises(WorkerCrashed):
        await pool.options(retries=0).run("patient", str(third), 2)
    assert runs(third) == 1


async def test_each_run_has_a_fresh_timeout(tmp_path: Path) -> None:
    """The time of a run that crashed does not count; a run that is too long is not run again."""
    trace = tmp_path / "trace"
    async with Pool(commands, max_size=1, timeout=1.0, stderr="discard") as pool:
        # Three runs of 0.5 s each would be more than the timeout.
        assert await pool.options(retries=2).run("crash_until", str(trace), 3, 0.5) == 3
        with pytest.raises(CommandTimeout):
            await pool.options(retries=3, timeout=0.2).run("append_and", str(trace), "x", "sleep")
    assert runs(trace) == 4


@pytest.mark.parametrize("kind", ["value", "exit"])
async def test_only_crashes_are_retried(pool: Pool, tmp_path: Path, kind: str) -> None:
    """A command that raises has answered."""
    trace = tmp_path / "trace"
    with pytest.raises(Exception, match="told to"):
        await pool.options(retries=5).run("append_and_raise", str(trace), kind)
    assert runs(trace) == 1


async def test_a_broken_protocol_is_not_retried() -> None:
    """A worker that sends something else than frames would do so again."""
    program = [sys.executable, str(WORKERS / "prints_later.py")]
    async with Pool(program=program, max_size=1, stderr="discard") as pool:
        with pytest.raises(ProtocolError):
            await pool.options(retries=3).run("bad")
        assert pool.stats().attempts == 1


async def test_what_ran_too_long_is_not_run_again(pool: Pool, tmp_path: Path) -> None:
    """Its worker was killed by the pool: that is no crash."""
    trace = tmp_path / "trace"
    with pytest.raises(CommandTimeout):
        await pool.options(retries=3, timeout=0.2).run("append_and", str(trace), "x", "sleep")
    assert runs(trace) == 1
    assert pool.stats().attempts == 1


async def test_a_cancelled_call_is_not_run_again(pool: Pool, tmp_path: Path) -> None:
    """Killing its worker is how a call is stopped, no crash."""
    trace = tmp_path / "trace"
    call = asyncio.create_task(pool.options(retries=3).run("append_and", str(trace), "x", "sleep"))
    await eventually(trace.exists)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert await pool.run("echo", 1) == 1
    assert runs(trace) == 1


async def test_calls_of_a_lease_are_never_retried(pool: Pool, tmp_path: Path) -> None:
    """What the worker kept is gone with it."""
    trace = tmp_path / "trace"
    async with pool.acquire() as worker:
        with pytest.raises(WorkerCrashed):
            await worker.run("patient", str(trace), 2)
    assert runs(trace) == 1


async def test_a_retry_goes_to_the_head_of_the_queue(tmp_path: Path, gate: Gate) -> None:
    """It has waited its turn already."""
    trace = tmp_path / "trace"
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        first = asyncio.create_task(pool.options(retries=1).run(gate.command, gate.path, "first"))
        [pid] = await eventually(gate.reached)
        later = [asyncio.create_task(pool.run("append", str(trace), str(number))) for number in range(3)]
        await eventually(lambda: pool.stats().waiting == 3)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: len(gate.reached()) == 2)
        assert not trace.exists()
        gate.open()
        assert await first == "first"
        await asyncio.gather(*later)


async def test_what_ran_once_says_so_whatever_ends_it(gate: Gate) -> None:
    """A call that waits for its second run and gets PoolClosed may have had effects."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()
    call = asyncio.create_task(pool.options(retries=1).run(gate.command, gate.path))
    [pid] = await eventually(gate.reached)
    others = asyncio.create_task(pool.run("echo"))
    await eventually(lambda: pool.stats().waiting == 1)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: pool.stats().waiting == 2)
    await pool.aclose(0)
    for each, started in ((call, True), (others, False)):
        with pytest.raises(PoolClosed) as caught:
            await each
        assert caught.value.started is started


async def test_no_worker_for_the_second_run_says_that_the_first_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WorkerStartError, with started as it is."""
    module = tmp_path / "once_kittens.py"
    module.write_text("import asyncpool, os\n@asyncpool.command(retries=1)\ndef die(): os._exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Pool("once_kittens", max_size=1, stderr="discard") as pool:
        module.write_text("raise RuntimeError('cannot start any more')")
        with pytest.raises(WorkerStartError, match="cannot start any more") as caught:
            await pool.run("die")
        assert caught.value.started is True


@pytest.mark.parametrize(
    ("retries", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), (None, TypeError)]
)
async def test_retries_that_cannot_be_are_refused(retries: object, error: type[Exception]) -> None:
    """Where they are said."""
    with pytest.raises(error, match="retries"):
        Pool(commands).options(retries=retries)  # type: ignore[arg-type]


async def test_a_call_that_crashed_once_has_started_whatever_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run is refused, since its worker knows no such command: the first one may have had effects."""
    mark = tmp_path / "ran"
    (tmp_path / "vanishing.py").write_text(
        "import os, signal\n"
        "from asyncpool import command\n"
        f"if not os.path.exists({str(mark)!r}):\n"
        "    @command\n"
        "    def once() -> None:\n"
        f"        open({str(mark)!r}, 'w').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with Pool("vanishing", max_size=1, stderr="discard") as pool:
        with pytest.raises(UnknownCommand) as first:
            await pool.options(retries=1).run("once")
        assert first.value.started
        with pytest.raises(UnknownCommand) as second:
            await pool.options(retries=1).run("once")
        assert not second.value.started


async def test_a_call_that_is_run_again_waits_no_longer_than_acquire_timeout(tmp_path: Path) -> None:
    """For its next worker as for its first: also when that one is long in coming."""
    trace = tmp_path / "trace"
    async with Pool(commands, max_size=1, acquire_timeout=0.3, stderr="discard") as pool:
        with Faults(slow_start=60):
            async with asyncio.timeout(20):
                with pytest.raises(AcquireTimeout) as caught:
                    await pool.options(retries=1).run("append_and", str(trace), "x", "crash")
    assert caught.value.started is True
    assert isinstance(caught.value.__cause__, WorkerCrashed)  # why it waited again
    assert runs(trace) == 1


async def test_a_call_that_is_moved_waits_no_longer_than_acquire_timeout() -> None:
    """It never started, and its worker was killed before it read it."""
    async with Pool(commands, max_size=1, acquire_timeout=0.3, stderr="discard") as pool:
        pid = await pool.run("pid")
        with Faults(slow_start=60):
            os.kill(pid, signal.SIGSTOP)
            moved = asyncio.create_task(pool.run("echo", 1))
            await eventually(lambda: pool.stats().running == 1)
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                with pytest.raises(AcquireTimeout) as caught:
                    await moved
    assert caught.value.started is False
