"""Odd surroundings: no descriptors left, a broken stderr, ignored SIGCHLD, eager tasks, children that escape."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncpool import Event, Pool, PoolClosed, PoolError, WorkerCrashed, WorkerStartError
from tests.support import commands
from tests.support.processes import TAG, alive, children, descriptors, tagged
from tests.support.scripts import Script, noise, run
from tests.support.waiting import eventually, eventually_now

WORKERS = Path(__file__).parent / "workers"

LOOPS = ("asyncio", "uvloop")

FEW_DESCRIPTORS = """
    import resource, warnings, gc
    from asyncpool import WorkerStartError
    from tests.support.processes import children, descriptors

    async def main():
        async with Pool("tests.support.commands", max_size=1, stderr="discard") as pool:  # late imports
            await pool.run("echo", 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for spare in range(16):
            before = descriptors()
            highest = len(os.listdir("/proc/self/fd")) - 1
            holes = [os.open("/dev/null", os.O_RDONLY) for _ in range(max(before) + 1 - len(before))]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + spare, hard))
            pool = Pool("tests.support.commands", min_size=1, max_size=1, stderr="discard")
            try:
                async with asyncio.timeout(8):
                    await pool.start()
                    started = True
            except WorkerStartError as error:
                started = False
                assert "Too many open files" in str(error), error
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for hole in holes:
                os.close(hole)
            if started:
                print(spare, await pool.run("echo", "ok"), flush=True)
            await pool.aclose()
            new = [link for fd, link in descriptors().items() - before.items() if link != "/dev/null"]
            for _ in range(200):
                if not children():
                    break
                await asyncio.sleep(0.01)
            if new or children():
                print(spare, "LEFT", new, children(), flush=True)
        print("done", flush=True)
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_without_descriptors_a_start_fails_cleanly(tmp_path: Path, loop: str) -> None:
    """Whichever open() of a start fails first: WorkerStartError names the reason, nothing leaks, later it works."""
    ended = Script(tmp_path / "app.py", FEW_DESCRIPTORS, dev=False, LOOP=loop).wait()
    assert ended.code == 0, ended.err
    assert "LEFT" not in ended.out, ended.out
    assert "ok" in ended.out
    assert noise(ended.err) == [], ended.err


ODD = """
    import logging
    class Odd:
        def write(self, text):
            raise RuntimeError("odd stderr")
        flush = write
    def odd(record):
        raise RuntimeError("odd filter")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        if sys.argv[1] == "log":
            logging.getLogger("asyncpool.worker").setLevel(logging.INFO)
            logging.getLogger("asyncpool.worker").addFilter(odd)
        else:
            real, sys.stderr = sys.stderr, Odd()
        async with Pool("tests.support.commands", min_size=2, max_size=2, stderr=sys.argv[1]) as pool:
            for number in range(10):
                try:
                    await pool.run("say_and_crash", "no newline" + "\\n" * (number % 2), 9)
                except Exception as error:
                    print(type(error).__name__, await pool.run("echo", number), flush=True)
        if sys.argv[1] == "forward":
            sys.stderr = real
    RUN(main())
"""


@pytest.mark.parametrize("mode", ["forward", "log"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_stderr_or_a_log_filter_that_raises_breaks_no_pool(tmp_path: Path, loop: str, mode: str) -> None:
    """The user's code may raise whenever a worker's text is passed on, be it at the worker's burial."""
    ended = Script(tmp_path / "app.py", ODD, mode, dev=False, LOOP=loop).wait()
    assert (ended.code, ended.out.splitlines()) == (0, [f"WorkerCrashed {number}" for number in range(10)]), ended.err


async def test_an_on_event_that_raises_breaks_no_pool(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged; all else goes on."""

    def raising(event: Event) -> None:
        raise ValueError(event.kind)

    async with Pool(commands, min_size=2, max_size=2, on_event=raising, stderr="discard") as pool:
        with pytest.raises(WorkerCrashed):
            await pool.run("crash")
        assert await pool.run("echo", 1) == 1
        await eventually(lambda: pool.stats().idle == 2)
    logged = [record for record in caplog.records if record.name == "asyncpool"]
    assert len(logged) == 3 + 3 + 3
    assert all("on_event of pool 'pool' raised" in record.getMessage() for record in logged)


ESCAPED = """
    import subprocess
    async def main():
        pool = Pool({arguments}, max_size=1, stderr={mode!r})
        await pool.start()
        ticks = 0
        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)
        ticking = asyncio.create_task(tick())
        for _ in range(2):
            try:
                await pool.run({call})
            except Exception as error:
                print(type(error).__name__, flush=True)
        ticks = 0
        await asyncio.sleep(0.3)
        print("the loop turns", ticks > 5, flush=True)
        await pool.aclose(1)
        print("closed", flush=True)
        ticking.cancel()
    RUN(main())
"""


@pytest.fixture
def end_of_escaped() -> Iterator[None]:
    """End the processes of this test that left their worker's group, as its contract says that they may."""
    yield
    for pid in tagged(os.environ[TAG]):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.usefixtures("end_of_escaped")
@pytest.mark.parametrize("mode", ["forward", "discard"])
@pytest.mark.parametrize("loop", LOOPS)
def test_an_escaped_grandchild_that_floods_stderr_does_not_block_the_loop(tmp_path: Path, loop: str, mode: str) -> None:
    """It left the group by setsid, so it lives on and writes without end: the worker's burial ends all the same."""
    text = ESCAPED.format(arguments='"tests.support.commands"', call='"escape_and_crash"', mode=mode)
    ended = Script(tmp_path / "app.py", text, dev=False, LOOP=loop).wait()
    assert ended.out.splitlines() == ["WorkerCrashed", "WorkerCrashed", "the loop turns True", "closed"], ended
    assert ended.code == 0


FLOODS_WIRE = str(Path(__file__).parent / "workers" / "escaped_flood.py")


@pytest.mark.usefixtures("end_of_escaped")
@pytest.mark.parametrize("loop", LOOPS)
def test_an_escaped_grandchild_that_floods_the_wire_does_not_block_the_loop(tmp_path: Path, loop: str) -> None:
    """A foreign worker's child, out of its group, writes to the wire without end after the worker died."""
    text = ESCAPED.format(arguments=f"program=[sys.executable, {FLOODS_WIRE!r}]", call='"x"', mode="discard")
    ended = Script(tmp_path / "app.py", text, dev=False, LOOP=loop).wait()
    lines = ended.out.splitlines()
    assert set(lines[:2]) <= {"WorkerCrashed", "ProtocolError"}, ended
    assert lines[2:] == ["the loop turns True", "closed"], ended
    assert ended.code == 0


IGNORED = """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    async def main():
        async with Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard") as pool:
            for number in range(3):
                try:
                    await pool.run("crash")
                except Exception as error:
                    print(type(error).__name__, error.exit_code, error.signal, flush=True)
                assert await pool.run("echo", number) == number
    import logging
    logging.disable()
    RUN(main())
    print("well")
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_an_application_that_ignores_sigchld_is_served(tmp_path: Path, loop: str) -> None:
    """The kernel reaps its children by itself: nobody knows how they ended, but no call is lost and nothing hangs."""
    ended = Script(tmp_path / "app.py", IGNORED, dev=False, LOOP=loop).wait()
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["WorkerCrashed None None"] * 3 + ["well"]


REAPED = """
    def reap(*_):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    signal.signal(signal.SIGCHLD, reap)
    async def main():
        async with Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard") as pool:
            for number in range(3):
                try:
                    await pool.run("crash")
                except Exception as error:
                    print(type(error).__name__, flush=True)
                assert await pool.run("echo", number) == number
    import logging, warnings
    logging.disable()
    warnings.simplefilter("ignore")
    RUN(main())
    print("well")
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_an_application_that_reaps_all_children_is_served(tmp_path: Path, loop: str) -> None:
    """Somebody else takes the exit codes with waitpid(-1): no call is lost and nothing hangs."""
    ended = Script(tmp_path / "app.py", REAPED, dev=False, LOOP=loop).wait()
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["WorkerCrashed"] * 3 + ["well"]


async def test_a_default_timeout_of_sockets_is_no_affair_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes each new socket one that does not block, and a worker's own reads and writes must."""
    monkeypatch.setattr(socket, "socketpair", _with_timeout)
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        assert len(await pool.run("big", 50_000_000)) == 50_000_000
        assert pool.stats().spawned == 1


def _with_timeout() -> tuple[socket.socket, socket.socket]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        return _socketpair()
    finally:
        socket.setdefaulttimeout(before)


_socketpair = socket.socketpair


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
@pytest.mark.asyncio(loop_factories=["asyncio"])  # uvloop 0.23 passes to the factory what 3.13.0 does not take
async def test_a_loop_with_eager_tasks_is_served(tmp_path: Path) -> None:
    """Tasks that run when they are made: calls, growth, crashes, failed starts and close work as ever."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        async with Pool(commands, min_size=1, max_size=3, stderr="discard") as pool:
            assert await asyncio.gather(*(pool.run("echo", number) for number in range(100))) == list(range(100))
            for number in range(5):
                with pytest.raises(WorkerCrashed):
                    await pool.run("crash")
                assert await pool.run("echo", number) == number
            task = asyncio.create_task(pool.run("sleep", 60))
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert loop.get_task_factory() is asyncio.eager_task_factory
        async with Pool(program=["/does/not/exist"], min_size=0, max_size=2, stderr="discard") as pool:
            for _ in range(5):
                with pytest.raises(WorkerStartError, match=r"(?i)no such file"):
                    await pool.run("echo")
        with pytest.raises(WorkerStartError, match=r"(?i)no such file"):
            await Pool(program=["/does/not/exist"], min_size=2, max_size=2, stderr="discard").start()
        assert children() == {}
    finally:
        loop.set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("kind", ["spawned", "ready", "start_failed", "exited"])
async def test_on_event_may_change_the_pool_by_an_eager_task(kind: str, tmp_path: Path) -> None:
    """It runs in the very moment of the event: what the event causes is done by then."""
    well = tmp_path / "well"
    tasks: list[asyncio.Task[None]] = []

    def resize(event: Event) -> None:
        if event.kind == kind:
            tasks.append(asyncio.create_task(pool.resize(min_size=0, max_size=1 + len(tasks) % 3)))

    program = [sys.executable, str(WORKERS / "until_it_is_well.py"), str(well), str(WORKERS / "dies_at_boot.py")]
    pool = Pool(program=program, min_size=0, max_size=3, stderr="discard", on_event=resize)
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    try:
        async with pool:
            with pytest.raises(WorkerStartError):
                await asyncio.gather(*(pool.run("echo", number) for number in range(9)))
            well.touch()
            async with asyncio.timeout(20):
                while pool.stats().outcomes.get("ok", 0) < 9:  # until a start succeeds, calls are told at once
                    await asyncio.gather(*(pool.run("echo", number) for number in range(9)), return_exceptions=True)
                    await asyncio.sleep(0.05)
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert tasks
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert outcome is None or isinstance(outcome, (PoolClosed, WorkerStartError))


async def test_on_event_may_use_the_pool() -> None:
    """Snapshots, and new tasks with calls, from within the callback."""
    seen: list[str] = []
    calls: list[asyncio.Task[int]] = []

    def use(event: Event) -> None:
        seen.append(f"{event.kind}: {pool!r} {pool.stats().starting} {len(pool.workers())}")
        if event.kind == "ready":
            calls.append(asyncio.ensure_future(pool.run("add", 1)))

    pool = Pool(commands, min_size=2, max_size=2, on_event=use, stderr="discard")
    async with pool:
        with pytest.raises(WorkerCrashed):
            await pool.run("crash")
        await eventually(lambda: len(calls) == 3)
        assert await asyncio.gather(*calls) == [2, 2, 2]
    assert len(seen) == 9


async def test_a_pool_whose_start_failed_is_closed_for_good() -> None:
    """It takes no calls and no second start, and closing it again is harmless."""
    before = descriptors()
    pool = Pool(program=["/does/not/exist"], stderr="discard")
    for _ in range(2):
        with pytest.raises(PoolError if pool.workers() or "closed" in repr(pool) else WorkerStartError):
            await pool.start()
    await pool.aclose()
    assert [new for new in descriptors().items() - before.items() if new[1] != "/dev/null"] == []


def test_workers_are_nicely_gone_after_a_crash_of_the_interpreter(tmp_path: Path) -> None:
    """The application itself segfaults."""
    text = """
    async def main():
        pool = Pool("tests.support.commands", min_size=2, stderr="discard")
        await pool.start()
        print(*(info.pid for info in pool.workers()), flush=True)
        import ctypes
        ctypes.string_at(0)
    RUN(main())
    """
    ended = Script(tmp_path / "app.py", text, dev=False).wait()
    assert ended.code == -signal.SIGSEGV
    pids = [int(word) for word in ended.out.split()]
    assert len(pids) == 2
    assert eventually_now(lambda: not any(alive(pid) for pid in pids), 2.0)


SIGPIPE_ENDS = """
    from tests.support.processes import alive

    async def main():
        async with Pool("tests.support.commands", max_size=1, stderr="discard") as pool:
            for number in range(5):
                pid = await pool.run("pid")
                os.kill(pid, signal.SIGKILL)
                while alive(pid):
                    time.sleep(0.001)
                assert await pool.run("echo", number) == number  # is sent to the dead one first, which nobody knows yet
        print("done", flush=True)

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_an_application_that_gave_sigpipe_its_default_back_lives(tmp_path: Path, loop: str) -> None:
    """As command line tools do: whoever writes to a worker that has just died must not die of it."""
    ended = run(tmp_path / "app.py", SIGPIPE_ENDS, LOOP=loop)
    assert (ended.code, ended.out) == (0, "done\n"), ended
    assert not noise(ended.err)
