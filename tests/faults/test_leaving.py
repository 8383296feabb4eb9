"""SIGTERM to a worker: it finishes its call and exits with code 0; idle, it exits at once. That is no crash."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from asyncpool import Event, Pool, WorkerCrashed
from tests.conftest import Gate
from tests.support import commands, lifespans, slow_to_end
from tests.support.by_hand import Parent
from tests.support.processes import alive
from tests.support.waiting import eventually, eventually_now


def pid_of(pool: Pool) -> int:
    pid = pool.workers()[0].pid
    assert pid is not None
    return pid


def bytes_read(pid: int) -> int:
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


async def test_an_idle_worker_leaves_at_once() -> None:
    """Exit code 0, counted as left; its successor is there without a call."""
    events: list[Event] = []
    async with Pool(commands, max_size=1, on_event=events.append, stderr="discard") as pool:
        pid = pid_of(pool)
        os.kill(pid, signal.SIGTERM)
        await eventually(lambda: pool.stats().idle == 1 and pid_of(pool) != pid)
        assert pool.stats().exited == {"left": 1}
        [ended] = [event for event in events if event.kind == "exited"]
        assert (ended.exit_code, ended.reason) == (0, None)


def test_a_worker_that_has_answered_a_ping_leaves_at_once() -> None:
    """It waits for the next frame as after a call, and the signal need not wait for it."""
    parent = Parent("tests.support.commands")
    try:
        parent.send(5, 77)
        assert parent.receive() == [36, 77]
        parent.process.send_signal(signal.SIGTERM)
        assert parent.process.wait(5) == 0
    finally:
        parent.close()


async def test_a_busy_worker_finishes_its_call_and_leaves(gate: Gate) -> None:
    """The call returns; the next goes to another worker, as if nothing had been."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        call = asyncio.create_task(pool.run("wait_at", gate.path, 7))
        await eventually(gate.reached)
        pid = pid_of(pool)
        following = asyncio.create_task(pool.run("pid"))
        for _ in range(3):
            os.kill(pid, signal.SIGTERM)
        gate.open()
        assert await call == 7
        assert await following != pid
        assert pool.stats().exited == {"left": 1}
        assert pool.stats().outcomes == {"ok": 2}


async def test_no_call_is_lost_to_workers_that_leave_at_any_moment() -> None:
    """Each call succeeds though workers get SIGTERM before, in and after it: it was unread, or is finished."""
    async with Pool(commands, min_size=2, max_size=2, surge=2, stderr="discard") as pool:
        served = 0
        while pool.stats().exited.get("left", 0) < 25:
            calls = [asyncio.create_task(pool.run("echo", number)) for number in range(20)]
            await asyncio.sleep(0.0002 * (served % 7))
            for info in pool.workers():
                if info.pid is not None and info.state != "starting":
                    with contextlib.suppress(ProcessLookupError):  # it has left meanwhile
                        os.kill(info.pid, signal.SIGTERM)
            assert await asyncio.gather(*calls) == list(range(20))
            served += 20
        assert pool.stats().outcomes == {"ok": served}
        assert set(pool.stats().exited) == {"left"}


async def test_a_frame_of_which_a_part_was_read_is_read_whole_and_served() -> None:
    """SIGTERM in mid-read of 50 MB, whose rest the parent sends later: the call is served."""
    data = b"x" * 50_000_000
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        pid = pid_of(pool)
        os.kill(pid, signal.SIGSTOP)
        call = asyncio.create_task(pool.run("length", data))
        await eventually(lambda: pool.stats().running == 1)
        before = bytes_read(pid)
        os.kill(pid, signal.SIGCONT)
        assert eventually_now(lambda: bytes_read(pid) > before)  # holds the loop up: nothing more is sent meanwhile
        os.kill(pid, signal.SIGTERM)
        assert await call == len(data)
        await eventually(lambda: pool.stats().exited == {"left": 1})


async def served_by_another(pool: Pool, pid: int) -> None:
    """Ask the worker to leave, and give it calls until another serves them; it may have read the first before."""
    os.kill(pid, signal.SIGTERM)
    async with asyncio.timeout(30):
        while await pool.run(os.getpid) == pid:
            pass


async def test_a_worker_that_left_and_does_not_end_hangs_up() -> None:
    """A thread holds up its interpreter: the parent, which takes it for idle, gets its call back after a while."""
    async with Pool(slow_to_end, max_size=1, stderr="discard") as pool:
        await pool.run(slow_to_end.leave_a_thread)
        await served_by_another(pool, pid_of(pool))


@pytest.mark.parametrize("modules", [[slow_to_end], [slow_to_end, lifespans]], ids=["none", "lifespans"])
async def test_a_worker_whose_event_loop_does_not_end_hangs_up(modules: list[ModuleType], tmp_path: Path) -> None:
    """A thread of a command that was cancelled holds up the end of the loop, and so the leaving of plain lifespans."""
    traces = tmp_path / "traces"
    config = {"trace": str(tmp_path / "lifespans")}
    async with Pool(*modules, config=config, max_size=1, stderr="discard") as pool:
        call = asyncio.create_task(pool.run(slow_to_end.leave_a_thread_of_the_loop, str(traces)))
        await eventually(traces.exists)
        call.cancel()
        await asyncio.wait([call])
        assert pool.stats().spawned == 1
        await served_by_another(pool, pid_of(pool))


async def test_a_worker_that_starts_when_it_is_asked_to_leave_has_not_failed(tmp_path: Path) -> None:
    """It says Ready and leaves: no start failure is told to anybody."""
    gate = tmp_path / "gate"
    (tmp_path / "waits_at_import.py").write_text(
        f"import os, time\nopen({str(gate)!r} + '.reached', 'a').write('x')\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.002)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        pool = Pool("waits_at_import", max_size=1, stderr="discard")
        start = asyncio.create_task(pool.start())
        await eventually((tmp_path / "gate.reached").exists)
        os.kill(pid_of(pool), signal.SIGTERM)
        gate.touch()
        await start
        await eventually(lambda: pool.stats().exited == {"left": 1})
        assert await pool.run(os.getpid) == pid_of(pool)
        await pool.aclose()
    finally:
        sys.path.remove(str(tmp_path))


async def test_a_lease_whose_worker_left_says_so() -> None:
    """A lease holds a worker and no call: its next call never started."""
    async with Pool(commands, max_size=1, stderr="discard") as pool, pool.acquire() as lease:
        os.kill(pid_of(pool), signal.SIGTERM)
        await eventually(lambda: pool.stats().exited == {"left": 1})
        with pytest.raises(WorkerCrashed) as caught:
            await lease.run("echo", 1)
        assert caught.value.started is False


async def test_a_call_that_exits_with_code_0_is_a_crash() -> None:
    """Left is only who had no call."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        with pytest.raises(WorkerCrashed, match="exited with code 0"):
            await pool.run("exit_now", 0)
        assert pool.stats().exited == {"crashed": 1}


def fork_and_terminate() -> int:
    """Return how a forked child ends that gets SIGTERM, as multiprocessing's terminate() sends it."""
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(60)
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_a_loop_with_signals() -> None:
    """Take the interpreter's wakeup descriptor away, as asyncio does."""

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)

    asyncio.run(main())


def spawn_a_shell() -> int:
    """Return how a program ends that was started by a command and gets SIGTERM."""
    with subprocess.Popen(["sleep", "60"]) as process:
        process.terminate()
        return process.wait()


async def test_commands_keep_their_signals() -> None:
    """Forked and started children die by SIGTERM as ever, and an event loop in a command does not deafen the worker."""
    async with Pool(max_size=1, stderr="discard") as pool:
        assert await pool.run(fork_and_terminate) == -signal.SIGTERM
        assert await pool.run(spawn_a_shell) == -signal.SIGTERM
        await pool.run(run_a_loop_with_signals)
        assert pool.stats().spawned == 1
        pid = pid_of(pool)
        os.kill(pid, signal.SIGTERM)
        await eventually(lambda: pool.stats().exited == {"left": 1})
        assert not alive(pid)


async def test_a_command_may_take_sigterm_for_itself() -> None:
    """A worker that ignores it, by its own code, stays."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        await pool.run("ignore_term")
        os.kill(pid_of(pool), signal.SIGTERM)
        for number in range(20):
            assert await pool.run("echo", number) == number
        assert pool.stats().exited == {}
