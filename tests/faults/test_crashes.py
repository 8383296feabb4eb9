"""Workers that die: by their own hand, by the kernel's, or with the parent."""

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from asyncpool import AsyncPoolError, Pool, PoolClosed, WorkerCrashed, WorkerStartError
from asyncpool.pool.stream import WINDOW
from tests.conftest import Gate
from tests.support import commands, updates
from tests.support.often import often
from tests.support.processes import alive, children, state, tagged
from tests.support.scripts import Script, noise
from tests.support.waiting import eventually, eventually_now, steps

LOOPS = ("asyncio", "uvloop")
GONE = 1.0  # seconds in which a parent's death reaches all of its workers


async def test_each_tenth_call_kills_its_worker_and_no_other_call_notices() -> None:
    """Exactly the calls that crash fail, with started True; all others are right; the pool is whole afterwards."""
    calls = often(1000, 300)
    async with Pool(commands, min_size=4, max_size=4, surge=2, stderr="discard") as pool:

        async def call(number: int) -> int:
            if number % 10 == 5:
                await pool.run("crash", signal.SIGKILL)
            return await pool.run("echo", number)

        results = await asyncio.gather(*(call(number) for number in range(calls)), return_exceptions=True)
        crashed = [result for result in results if isinstance(result, BaseException)]
        assert [type(error) for error in crashed] == [WorkerCrashed] * (calls // 10)
        assert all(error.started for error in crashed if isinstance(error, WorkerCrashed))
        assert [result for result in results if isinstance(result, int)] == [n for n in range(calls) if n % 10 != 5]
        assert pool.stats().outcomes == {"ok": calls * 9 // 10, "crashed": calls // 10}
        await eventually(lambda: pool.stats().idle == 4)
    assert children() == {}


@pytest.mark.parametrize("between", range(4))
async def test_a_call_right_after_an_idle_worker_was_killed_succeeds(between: int) -> None:
    """The one that would serve next, and now and then all of them, a few steps before: every call succeeds."""
    tries = often(12, 6)
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        for number in range(tries):
            victims = {await pool.run("pid")}
            if number % 5 == 0:
                victims |= {info.pid for info in pool.workers() if info.state == "idle"}
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            await steps(between)
            assert await pool.run("echo", number) == number
        assert pool.stats().outcomes == {"ok": 2 * tries}


async def test_a_large_call_right_after_an_idle_worker_was_killed_succeeds() -> None:
    """Its frame does not fit into the kernel's buffer: it never started, and is moved."""
    data = b"x" * (8 * 2**20)
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        for _ in range(5):
            await eventually(lambda: pool.stats().idle == 2)
            for info in pool.workers():
                assert info.pid is not None
                os.kill(info.pid, signal.SIGKILL)
            assert await pool.run("length", data) == len(data)


async def test_a_worker_that_dies_before_it_reads_the_frame_loses_no_call() -> None:
    """Stopped, then given a call, then killed: the call was never read, so another worker takes it."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        for number in range(10):
            await eventually(lambda: pool.stats().idle == 2)
            victims = [info.pid for info in pool.workers() if info.pid is not None]
            for pid in victims:
                os.kill(pid, signal.SIGSTOP)
            calls = [asyncio.create_task(pool.run("echo", number + extra)) for extra in range(2)]
            await eventually(lambda: pool.stats().running == 2)
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            assert await asyncio.gather(*calls) == [number, number + 1]


async def test_an_unread_call_is_moved_though_an_escaped_child_holds_the_connection() -> None:
    """The stream never ends then, and no error proves anything: what the kernel still holds does."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        escaped = await pool.run("fork_and_escape")
        try:
            (pid,) = [info.pid for info in pool.workers()]
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            call = asyncio.create_task(pool.run("echo", 1))
            await eventually(lambda: pool.stats().running == 1)
            os.kill(pid, signal.SIGKILL)
            assert await call == 1
        finally:
            os.kill(escaped, signal.SIGKILL)


async def test_a_call_that_is_moved_keeps_its_place(tmp_path: Path) -> None:
    """What provably never started goes to the head of the queue, before those that came later."""
    trace = str(tmp_path / "trace")
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        victim = pool.workers()[0].pid
        assert victim is not None
        os.kill(victim, signal.SIGSTOP)
        calls = [asyncio.create_task(pool.run("append", trace, str(number))) for number in range(5)]
        await eventually(lambda: pool.stats().running == 1)
        os.kill(victim, signal.SIGKILL)
        await asyncio.gather(*calls)
    assert (tmp_path / "trace").read_text().split() == ["0", "1", "2", "3", "4"]


async def test_a_call_is_moved_twice_at_most(gate: Gate) -> None:
    """A third worker that dies before it reads the call ends it: with an error that says that nothing ran."""
    # With a min_size, a successor could be there before the third move, and take the call.
    async with Pool(commands, min_size=0, max_size=3, stderr="discard") as pool:
        warming = [asyncio.create_task(pool.run("wait_at", gate.path)) for _ in range(3)]
        await eventually(lambda: len(gate.reached()) == 3)
        gate.open()
        await asyncio.gather(*warming)
        before = pool.stats().attempts
        for info in pool.workers():
            assert info.pid is not None
            os.kill(info.pid, signal.SIGSTOP)
        call = asyncio.create_task(pool.run("echo", 1))
        for attempts in (1, 2, 3):
            await eventually(lambda: pool.stats().attempts == before + attempts)  # noqa: B023
            (holder,) = [info.pid for info in pool.workers() if info.state == "busy" and info.pid is not None]
            os.kill(holder, signal.SIGKILL)
        with pytest.raises(WorkerCrashed, match="before it started echo") as caught:
            await call
        assert caught.value.started is False
        assert await pool.run("echo", 2) == 2


async def test_a_frame_sent_after_the_call_destroys_the_proof() -> None:
    """A worker that dies with credit unread may have read the call: here it has, and it must not run again."""
    async with Pool(updates, max_size=1, stderr="discard") as pool:
        (pid,) = [info.pid for info in pool.workers()]
        assert pid is not None
        async with pool.stream("then", WINDOW // 2, "stop") as stream:
            await eventually(lambda: state(pid) == "T")
            for number in range(WINDOW // 2):  # at the last of them credit is given back
                assert await anext(stream) == number
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerCrashed) as caught:
                await anext(stream)
        assert caught.value.started is True


async def test_a_call_that_began_is_never_run_again(tmp_path: Path) -> None:
    """At most once: the trace of a command that crashes its worker is there once."""
    trace = tmp_path / "trace"
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        for number in range(10):
            with pytest.raises(WorkerCrashed) as caught:
                await pool.run("append_and", str(trace), str(number), "crash")
            assert caught.value.started is True
    assert trace.read_text().split() == [str(number) for number in range(10)]


@pytest.mark.parametrize(
    ("command", "arguments", "ended"),
    [
        ("crash", [signal.SIGKILL], "was killed by SIGKILL (not by this pool: perhaps by the OOM killer, or by hand)"),
        ("crash", [signal.SIGSEGV], "was killed by SIGSEGV"),
        ("crash", [signal.SIGTERM], "was killed by SIGTERM"),
        ("exit_now", [0], "exited with code 0"),
        ("exit_now", [7], "exited with code 7"),
        ("close_wire", [], "closed its end of the connection and lived on"),
    ],
    ids=["SIGKILL", "SIGSEGV", "SIGTERM", "exit 0", "exit 7", "closes the wire"],
)
async def test_every_kind_of_death_fails_its_call_at_once(command: str, arguments: list[int], ended: str) -> None:
    """With no timeout set, the call fails and says how its worker ended; the next call succeeds."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        pid = await pool.run("pid")
        async with asyncio.timeout(5):
            with pytest.raises(WorkerCrashed, match=re.escape(ended)) as caught:
                await pool.run(command, *arguments)
        assert caught.value.pid == pid
        assert caught.value.started is True
        assert await pool.run("pid") != pid


async def test_a_grandchild_that_holds_all_descriptors_does_not_hide_a_death(tmp_path: Path) -> None:
    """It would keep the stream open: yet the call fails at once, and the grandchild goes with the worker."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        for command in ("spawn", "fork"):
            grandchild = await pool.run(command, 60)
            assert alive(grandchild)
            async with asyncio.timeout(5):
                with pytest.raises(WorkerCrashed):
                    await pool.run("crash")
            await eventually(lambda pid=grandchild: not alive(pid))  # type: ignore[misc]
        assert await pool.run("echo", 1) == 1


async def test_an_idle_worker_with_a_grandchild_is_missed_at_once() -> None:
    """Its exit is noticed though the stream stays open; its successor is there without any call."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        grandchild = await pool.run("fork", 60)
        pid = await pool.run("pid")
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: [info.pid for info in pool.workers() if info.state == "idle"] not in ([], [pid]))
        assert await pool.run("pid") != pid
        await eventually(lambda: not alive(grandchild))


WORDS = Path(__file__).parent / "workers" / "last_words.py"


async def test_the_last_words_of_a_dying_worker_count() -> None:
    """It answers 2 MB and dies while 8 MB of the next call are on their way: the answer is not lost."""
    async with Pool(program=[sys.executable, str(WORDS)], max_size=1, stderr="discard") as pool:
        for _ in range(10):
            first = asyncio.create_task(pool.run("answer and die", 2 * 2**20))
            second = asyncio.create_task(pool.run("echo", b"y" * (8 * 2**20)))
            answer = await first
            assert answer == b"x" * (2 * 2**20)
            assert len(await second) == 8 * 2**20


async def test_an_answer_counts_though_its_worker_died_with_the_call_half_read() -> None:
    """It answers and dies while 8 MB of that very call are being written.

    The parent's loop is held up meanwhile: then it can take in only a piece of the answer before its write fails, and
    what the transport has not read by then must still be read.
    """
    async with Pool(program=[sys.executable, str(WORDS)], max_size=1, stderr="discard") as pool:
        for number in range(10):
            assert await pool.run("echo", number) == number
            pid = pool.workers()[0].pid
            assert pid is not None
            call = asyncio.create_task(pool.run("answer early and die", b"y" * (8 * 2**20)))
            await steps(1)
            assert eventually_now(lambda pid=pid: not alive(pid))  # type: ignore[misc] # holds up the loop, as intended
            assert await call == b"x" * 150_000
        assert pool.stats().outcomes == {"ok": 20}


async def test_a_lease_hears_the_last_words_too() -> None:
    """The next call on the lease never started, and says so; the answer before it is whole."""
    async with Pool(program=[sys.executable, str(WORDS)], max_size=1, stderr="discard") as pool:
        for _ in range(5):
            async with pool.acquire() as worker:
                first = asyncio.create_task(worker.run("answer and die", 2 * 2**20))
                second = asyncio.create_task(worker.run("echo", b"y" * (8 * 2**20)))
                assert await first == b"x" * (2 * 2**20)
                with pytest.raises(WorkerCrashed) as caught:
                    await second
                assert caught.value.started is False


HOLDS = """
    async def main():
        pool = Pool("tests.support.commands", min_size=4, max_size=4, stderr="discard")
        await pool.start()
        grandchild = await pool.run("spawn", 60)
        calls = [
            asyncio.create_task(pool.run("regex", sys.argv[1])),
            asyncio.create_task(pool.run("spin", 60)),
            asyncio.create_task(pool.run("sleep", 60)),
        ]
        while not os.path.exists(sys.argv[1]):
            await asyncio.sleep(0.005)
        starting = Pool("tests.support.slow_start", stderr="discard")
        start = asyncio.create_task(starting.start())
        while not starting.workers() or starting.workers()[0].pid is None:
            await asyncio.sleep(0)
        print(grandchild, *(info.pid for info in pool.workers() + starting.workers()), flush=True)
        await asyncio.sleep(60)
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV], ids=lambda number: number.name)
def test_workers_die_with_a_killed_parent(tmp_path: Path, loop: str, ending: signal.Signals) -> None:
    """Idle, starting, in Python, asleep, or in C with the GIL held: all gone soon, and their children with them."""
    script = Script(tmp_path / "app.py", HOLDS, str(tmp_path / "began"), dev=False, LOOP=loop)
    pids = [int(word) for word in script.line().split()]
    assert len(pids) == 6
    assert all(alive(pid) for pid in pids)
    script.process.send_signal(ending)
    assert script.process.wait() == -ending
    assert eventually_now(lambda: not any(alive(pid) for pid in pids), GONE)
    script.wait()


IN_A_THREAD = """
    import threading

    async def main():
        async with Pool("tests.support.commands", max_size=1, stderr="discard") as pool:
            call = asyncio.create_task(pool.run("regex", sys.argv[1]))
            while not os.path.exists(sys.argv[1]):
                await asyncio.sleep(0.005)
            print(pool.workers()[0].pid, flush=True)
            await call
    threading.Thread(target=RUN, args=(main(),)).start()
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_workers_of_a_pool_in_a_thread_die_with_a_killed_parent(tmp_path: Path, loop: str) -> None:
    """The kernel's tie is to the process, not to the thread that started the pool."""
    script = Script(tmp_path / "app.py", IN_A_THREAD, str(tmp_path / "began"), dev=False, LOOP=loop)
    pid = int(script.line())
    script.process.kill()
    script.process.wait()
    assert eventually_now(lambda: not alive(pid), GONE)
    script.wait()


FORKED = """
    async def main():
        pool = Pool("tests.support.commands", max_size=1, stderr="discard")
        await pool.start()
        call = asyncio.create_task(pool.run("regex", sys.argv[1]))
        while not os.path.exists(sys.argv[1]):
            await asyncio.sleep(0.005)
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        print(pool.workers()[0].pid, child, flush=True)
        await call
    import warnings
    warnings.simplefilter("ignore")
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_workers_die_with_a_killed_parent_that_had_forked(tmp_path: Path, loop: str) -> None:
    """The fork holds copies of all descriptors, and must hold no worker alive."""
    script = Script(tmp_path / "app.py", FORKED, str(tmp_path / "began"), dev=False, LOOP=loop)
    pid, child = (int(word) for word in script.line().split())
    try:
        script.process.kill()
        script.process.wait()
        assert eventually_now(lambda: not alive(pid), GONE)
    finally:
        os.kill(child, signal.SIGKILL)
        script.wait()


HELPER = """
    import threading

    pools = []

    def start():
        loop = asyncio.new_event_loop()
        pool = Pool("tests.support.commands", max_size=1, stderr="discard")
        loop.run_until_complete(pool.start())
        pools.append((loop, pool))
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    loop, pool = pools[0]
    time.sleep(0.3)  # a worker that is tied to the thread would be killed about now
    assert loop.run_until_complete(pool.run("echo", 3)) == 3
    assert pool.stats().spawned == 1
    loop.run_until_complete(pool.aclose())
    loop.close()
    print("well", flush=True)
"""


def test_workers_outlive_the_thread_that_started_them(tmp_path: Path) -> None:
    """A helper thread that ends after it has started a pool takes no worker along."""
    ended = Script(tmp_path / "app.py", HELPER).wait()
    assert (ended.code, ended.out, noise(ended.err)) == (0, "well\n", [])


FLAKY = """
import os, sys
if not os.path.exists(sys.argv[1]):
    with open(sys.argv[1] + ".tries", "a") as file:
        file.write("x")
    sys.exit("no API key")
from asyncpool.worker.__main__ import main
sys.path[:0] = [sys.argv[2]]
main()
"""


async def test_workers_that_cannot_start_are_told_retried_and_healed(tmp_path: Path) -> None:
    """Calls fail with exit code and stderr; few starts are tried; once the program works, so does the same pool."""
    program, flag = tmp_path / "flaky.py", tmp_path / "flag"
    program.write_text(FLAKY)
    argv = [
        sys.executable,
        "-c",
        f"import sys; sys.argv = {['', str(flag), '']!r}; exec(open({str(program)!r}).read())",
    ]
    async with Pool(program=argv, min_size=0, max_size=2, stderr="discard") as pool:
        for _ in range(30):
            with pytest.raises(WorkerStartError, match="no API key") as caught:
                await pool.run("os.getpid")
            assert caught.value.exit_code == 1
            assert caught.value.started is False
            assert "no API key" in caught.value.stderr
        until = time.monotonic() + 1.5
        await eventually(lambda: time.monotonic() > until)
        assert 3 <= len((tmp_path / "flag.tries").read_text()) < 15  # a storm would be dozens
        flag.touch()
        await eventually(lambda: pool.stats().idle or None, within=15)
        assert await pool.run(os.getpid) in {info.pid for info in pool.workers()}


async def test_a_failed_start_tears_everything_down(tmp_path: Path) -> None:
    """start() raises the first failure with its reasons; nothing is left, and the pool is closed."""
    pool = Pool(program=[sys.executable, "-c", "import sys; sys.exit('boom-123')"], min_size=2, stderr="discard")
    with pytest.raises(WorkerStartError, match=r"exited with code 1 before it was ready.*\n.*boom-123") as caught:
        await pool.start()
    assert caught.value.exit_code == 1
    assert children() == {}
    with pytest.raises(PoolClosed):
        await pool.run("echo")


@pytest.mark.parametrize("count", [1, 10])
async def test_a_start_failure_does_not_disturb_live_workers(tmp_path: Path, count: int) -> None:
    """While a worker is live, calls wait for it; they do not fail because another could not be started."""
    flag = tmp_path / "flag"
    flag.touch()
    program = tmp_path / "flaky.py"
    program.write_text(FLAKY)
    argv = [
        sys.executable,
        "-c",
        f"import sys; sys.argv = {['', str(flag), '']!r}; exec(open({str(program)!r}).read())",
    ]
    async with Pool(program=argv, min_size=1, max_size=4, stderr="discard") as pool:
        flag.unlink()
        calls = [asyncio.create_task(pool.run(time.sleep, 0.2)) for _ in range(count)]
        assert await asyncio.gather(*calls) == [None] * count
        assert pool.stats().outcomes == {"ok": count}


async def test_every_error_says_whether_the_command_may_have_run() -> None:
    """Each class of the tree has .started, on the class already."""
    import asyncpool

    for name in asyncpool.__all__:
        kind = getattr(asyncpool, name)
        if isinstance(kind, type) and issubclass(kind, AsyncPoolError):
            assert isinstance(kind.started, bool)
            assert isinstance(kind().started, bool)


def test_tagged_processes_are_found() -> None:
    """The leak check itself sees a process, and no longer when it has ended."""
    import subprocess

    tag = os.environ["ASYNCPOOL_TEST_TAG"]
    with subprocess.Popen(["sleep", "60"]) as process:
        assert process.pid in tagged(tag)
        process.kill()
    assert tagged(tag) == {}
