"""``aclose()`` always ends, gives every call its outcome, and leaves nothing."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncpool import Pool, PoolClosed, PoolError, WorkerStartError
from tests.conftest import Gate
from tests.support import commands
from tests.support.processes import alive, children, descriptors, tagged
from tests.support.waiting import eventually, steps


def nothing_is_left(before: dict[int, str]) -> None:
    """Check, at once and without patience, what aclose() promises when it returns."""
    assert children() == {}
    # uvloop opens /dev/null once per loop, and keeps it as long as the loop.
    assert [new for new in descriptors().items() - before.items() if new[1] != "/dev/null"] == []
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "asyncpool" in task.get_name() or "closing" in task.get_name()]


async def settled(calls: list[asyncio.Task[Any]]) -> list[Any]:
    """Return the outcomes of calls that must all have one by now."""
    async with asyncio.timeout(1):
        return await asyncio.gather(*calls, return_exceptions=True)


async def test_when_aclose_returns_nothing_is_left() -> None:
    """No process, descriptor or task, at the very moment of its return."""
    before = descriptors()
    pool = Pool(commands, min_size=3, max_size=3, stderr="discard")
    await pool.start()
    await asyncio.gather(*(pool.run("echo", number) for number in range(20)))
    await pool.aclose()
    nothing_is_left(before)
    assert pool.workers() == []
    assert pool.stats().exited == {"closed": 3}
    assert repr(pool) == "<Pool 'pool' 0 idle, 0 busy, 0 starting, 0 waiting, closed>"


async def test_accepted_calls_are_served_during_the_grace(gate: Gate) -> None:
    """What runs and what waits is served; new calls are refused at once."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()
    running = asyncio.create_task(pool.run("wait_at", gate.path, "ran"))
    waiting = [asyncio.create_task(pool.run("echo", number)) for number in range(50)]
    await eventually(gate.reached)
    closing = asyncio.create_task(pool.aclose(60))
    await steps(2)
    for refused in (pool.run("echo"), pool.acquire()):
        with pytest.raises(PoolClosed, match="it is closing") as caught:
            async with asyncio.timeout(5):
                await refused
        assert caught.value.started is False
    assert "closing" in repr(pool)
    gate.open()
    await closing
    assert await settled([running, *waiting]) == ["ran", *range(50)]


async def test_calls_that_wait_for_a_start_are_served_during_the_grace() -> None:
    """min_size=0, and aclose() right after the calls: workers are still started for them."""
    pool = Pool(commands, min_size=0, max_size=2, stderr="discard")
    await pool.start()
    calls = [asyncio.create_task(pool.run("echo", number)) for number in range(10)]
    await steps(1)
    await pool.aclose()
    assert await settled(calls) == list(range(10))


async def test_calls_that_are_left_after_the_grace_get_pool_closed(gate: Gate) -> None:
    """Those that ran: started is True; those that waited: False."""
    pool = Pool(commands, min_size=2, max_size=2, stderr="discard")
    await pool.start()
    calls = [asyncio.create_task(pool.run("wait_at", gate.path, number)) for number in range(1002)]
    await eventually(lambda: len(gate.reached()) == 2)
    async with asyncio.timeout(5):
        await pool.aclose(0.1)
    errors = await settled(calls)
    assert all(type(error) is PoolClosed for error in errors)
    assert [error.started for error in errors] == [True] * 2 + [False] * 1000
    assert "was closed while wait_at ran; it was stopped" in str(errors[0])
    assert "was closed before wait_at was started" in str(errors[2])
    assert pool.stats().outcomes == {"closed": 1002}


async def test_aclose_ends_whatever_workers_do(tmp_path: Any) -> None:
    """Spinning, stopped, holding the GIL, deaf to SIGTERM, with grandchildren, in mid-write of 50 MB, starting."""
    before = descriptors()
    pool = Pool(commands, min_size=5, max_size=5, stderr="discard")
    await pool.start()
    grandchild_file = tmp_path / "pid"
    calls = [
        asyncio.create_task(pool.run("spin", 60)),
        asyncio.create_task(pool.run("regex", str(tmp_path / "began"))),
        asyncio.create_task(pool.run("spawn_and", 60, str(grandchild_file), "sleep")),
    ]
    await eventually(lambda: pool.stats().running == 3)
    await eventually(lambda: grandchild_file.exists() and grandchild_file.read_text())
    for info in pool.workers():
        if info.state == "idle":
            assert info.pid is not None
            os.kill(info.pid, signal.SIGSTOP)
    calls.append(asyncio.create_task(pool.run("length", b"x" * 50_000_000)))
    calls.extend(asyncio.create_task(pool.run("echo", number)) for number in range(1000))
    victim = pool.workers()[0].pid
    assert victim is not None
    await steps(5)
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: pool.stats().starting == 1)
    async with asyncio.timeout(5):
        await pool.aclose(0.2)
    nothing_is_left(before)
    assert len(await settled(calls)) == 1004
    await eventually(lambda: not alive(int(grandchild_file.read_text())))


async def test_aclose_stops_idle_workers_that_do_not_heed() -> None:
    """Eight stopped workers are not waited for one after the other."""
    pool = Pool(commands, min_size=8, max_size=8, stderr="discard")
    await pool.start()
    for info in pool.workers():
        assert info.pid is not None
        os.kill(info.pid, signal.SIGSTOP)
    async with asyncio.timeout(5):
        await pool.aclose()
    assert children() == {}


async def test_aclose_may_be_called_twice_and_at_the_same_time(gate: Gate) -> None:
    """All of them return when it is over; the shortest grace counts."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()
    call = asyncio.create_task(pool.run("wait_at", gate.path))
    await eventually(gate.reached)
    patient = [asyncio.create_task(pool.aclose(60)) for _ in range(3)]
    await steps(3)
    async with asyncio.timeout(5):
        await pool.aclose(0.1)
    assert children() == {}
    await asyncio.gather(*patient)
    with pytest.raises(PoolClosed):
        await call
    await pool.aclose()


async def test_an_aclose_that_is_cancelled_closes_all_the_same(gate: Gate) -> None:
    """Cancelled natively, by a timeout or by a scope: at its end all is gone, and the cancel is not swallowed."""

    async def by_task(closing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(closing)
        await steps(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def by_timeout(closing: Awaitable[None]) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await closing

    async def by_scope(closing: Awaitable[None]) -> None:
        with anyio.move_on_after(0.05) as scope:
            await closing
        assert scope.cancelled_caught

    async def before_its_first_step(closing: Awaitable[None]) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await closing
        assert scope.cancelled_caught

    for way in (by_task, by_timeout, by_scope, before_its_first_step):
        before = descriptors()
        pool = Pool(commands, max_size=1, stderr="discard")
        await pool.start()
        count = len(gate.reached())
        call = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(lambda count=count: len(gate.reached()) > count)  # type: ignore[misc]
        await way(pool.aclose(60))
        nothing_is_left(before)
        [error] = await settled([call])
        assert isinstance(error, PoolClosed)
        assert "closed" in repr(pool)
        await pool.aclose()


async def test_leaving_the_block_by_an_exception_does_not_wait(gate: Gate) -> None:
    """The exception passes unchanged, running and waiting calls get PoolClosed, and nothing is left."""
    before = descriptors()
    calls = []
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012
        async with Pool(commands, max_size=1, stderr="discard") as pool:
            calls += [asyncio.create_task(pool.run("wait_at", gate.path)) for _ in range(3)]
            await eventually(gate.reached)
            raise KeyError("mine")
    nothing_is_left(before)
    errors = await settled(calls)
    assert [(type(error), error.started) for error in errors] == [(PoolClosed, True), *[(PoolClosed, False)] * 2]


async def test_leaving_the_block_by_cancellation_does_not_wait(gate: Gate) -> None:
    """A cancelled block closes at once, and stays cancelled."""
    calls = []

    async def block() -> None:
        async with Pool(commands, max_size=1, stderr="discard") as pool:
            calls.append(asyncio.create_task(pool.run("wait_at", gate.path)))
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(block())
    await eventually(gate.reached)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert children() == {}
    [error] = await settled(calls)
    assert isinstance(error, PoolClosed)


async def test_aclose_while_start_is_under_way_ends_both() -> None:
    """start() raises PoolClosed; nothing is left."""
    for passes in (0, 1, 2, 3, 5, 10, 30):
        before = descriptors()
        pool = Pool("tests.support.slow_start", min_size=2, max_size=2, stderr="discard")
        start = asyncio.create_task(pool.start())
        await steps(passes)
        async with asyncio.timeout(5):
            await pool.aclose()
            try:
                await start
            except PoolError as error:
                assert isinstance(error, PoolClosed) or "closed" in str(error)  # noqa: PT017
        nothing_is_left(before)


async def test_a_pool_may_be_started_and_closed_in_different_tasks() -> None:
    """No scope is held open across the user's code."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await asyncio.create_task(pool.start())
    async with asyncio.timeout(30):
        assert await pool.run("echo", 1) == 1
    with anyio.CancelScope():
        await asyncio.create_task(pool.aclose())
    assert children() == {}


async def test_a_task_that_was_just_answered_may_close_the_pool() -> None:
    """aclose() in the step of an answer, with the next call on the wire and others waiting."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()

    async def ask_and_close() -> None:
        await pool.run("echo", 1)
        await pool.aclose(0)

    closing = asyncio.create_task(ask_and_close())
    await steps(1)
    others = [asyncio.create_task(pool.run("sleep", 60)) for _ in range(3)]
    await closing
    errors = await settled(others)
    assert [type(error) for error in errors] == [PoolClosed] * 3
    assert [error.started for error in errors[1:]] == [False] * 2  # the first one may have been read, or not


async def test_a_worker_that_ends_while_the_pool_closes_is_not_replaced(gate: Gate) -> None:
    """Killed from outside during the grace: the call that ran is told, and nothing new is started for nobody."""
    pool = Pool(commands, min_size=2, max_size=2, stderr="discard")
    await pool.start()
    call = asyncio.create_task(pool.run(gate.command, gate.path))
    await eventually(gate.reached)  # killed before it had read the call, it would have left it to another worker
    closing = asyncio.create_task(pool.aclose(60))
    await steps(2)
    for info in pool.workers():
        assert info.pid is not None
        os.kill(info.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        await closing
    [error] = await settled([call])
    assert "SIGKILL" in str(error)
    assert pool.stats().spawned == 2


async def test_closing_during_the_pause_after_a_failed_start_does_not_wait() -> None:
    """A pool that cannot start workers closes at once."""
    pool = Pool(program=[sys.executable, "-c", "raise SystemExit('no')"], min_size=0, max_size=1, stderr="discard")
    await pool.start()
    calls = [asyncio.create_task(pool.run("echo")) for _ in range(5)]
    await eventually(lambda: pool.stats().exited.get("start_failed"))
    async with asyncio.timeout(5):
        await pool.aclose(0.1)
    errors = await settled(calls)
    assert all(isinstance(error, PoolClosed | WorkerStartError) and not error.started for error in errors)


async def test_the_workers_own_children_go_with_them() -> None:
    """Grandchildren, idle in the worker's process group, are gone soon after aclose()."""
    pool = Pool(commands, min_size=2, max_size=2, stderr="discard")
    await pool.start()
    grandchildren = [await pool.run("spawn", 60), await pool.run("fork", 60)]
    assert all(alive(pid) for pid in grandchildren)
    await pool.aclose()
    await eventually(lambda: not any(alive(pid) for pid in grandchildren), within=1)
    assert tagged(os.environ["ASYNCPOOL_TEST_TAG"]) == {}


async def test_each_worker_has_a_session_of_its_own(pool: Pool) -> None:
    """A terminal's signals reach the application alone."""
    pid, session, group = await pool.run("session")
    assert pid == session == group != os.getsid(0)


async def test_what_a_worker_has_written_and_not_flushed_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as any interpreter does: files are flushed, also that of a cycle, and what waits for its end is told."""
    (tmp_path / "diary.py").write_text(
        "import atexit\n"
        "from asyncpool import command\n"
        "file = open('file', 'w')\n"
        "class Cycle:\n"
        "    def __init__(self) -> None:\n"
        "        self.itself, self.file = self, open('cycle', 'w')\n"
        "cycle = Cycle()\n"
        "atexit.register(lambda: open('end', 'w').close())\n"
        "@command\n"
        "def note(text: str) -> None:\n"
        "    file.write(text)\n"
        "    cycle.file.write(text)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with Pool("diary", max_size=1, cwd=tmp_path) as pool:
        await pool.run("note", "purred")
    assert [(tmp_path / name).read_text() for name in ("file", "cycle", "end")] == ["purred", "purred", ""]


async def test_aclose_ends_also_when_sigkill_does_not_end_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that a driver holds in the kernel outlives SIGKILL: it is left to the kernel, and nothing else is."""
    before = descriptors()
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()
    call = asyncio.create_task(pool.run("sleep", 60))
    await eventually(lambda: pool.stats().busy == 1)
    monkeypatch.setattr("asyncpool.pool.child.Child.kill", lambda child: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # subprocess's own, which tells that the process still runs
        async with asyncio.timeout(30):
            await pool.aclose(0)
        [outcome] = await settled([call])
        assert isinstance(outcome, PoolClosed)
        assert outcome.started
        assert pool.workers() == []
        assert pool.stats().exited == {"closed": 1}
        await eventually(
            lambda: set(children().values()) <= {"Z", "gone"}
        )  # its lifeline was closed, which ends it here
        gc.collect()
        await asyncio.to_thread(subprocess.run, ["true"], check=True)  # whoever starts a process next reaps it
        await eventually(lambda: not children())
    nothing_is_left(before)
