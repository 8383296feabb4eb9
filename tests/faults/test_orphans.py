"""Nobody outlives the application, however it dies, and no grandchild its worker, however that ends."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from asyncpool import CommandTimeout, Pool, ProtocolError, WorkerCrashed, WorkerStartError
from tests.support import commands
from tests.support.processes import alive, parent
from tests.support.scripts import Script
from tests.support.waiting import eventually, eventually_now

LOOPS = ("asyncio", "uvloop")
WORKERS = Path(__file__).parent / "workers"
MIB = 2**20
GONE = 1.0  # seconds that the promise allows
PR_GET_PDEATHSIG = 2

# Each prints the processes that must be gone a second after its own death.
WAYS = {
    "in mid-write of a large result": """
    async def main():
        pool = await started()
        call = asyncio.create_task(pool.run("big", 100_000_000))
        while not moved("wchar"):
            await asyncio.sleep(0.001)
        print(kept["worker"], kept["grandchild"], flush=True)
        time.sleep(60)  # nothing is read: the worker is stuck in its write
    """,
    "in mid-read of a large argument": """
    async def main():
        pool = await started()
        call = asyncio.create_task(pool.run("length", b"x" * 100_000_000))
        while not moved("rchar"):
            await asyncio.sleep(0.001)
        print(kept["worker"], kept["grandchild"], flush=True)
        time.sleep(60)  # nothing more is written: the worker is stuck in its read
    """,
    "after a fork by multiprocessing": """
    import multiprocessing
    async def main():
        pool = await started()
        call = asyncio.create_task(pool.run("regex", sys.argv[1]))
        while not os.path.exists(sys.argv[1]):
            await asyncio.sleep(0.005)
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        print(kept["worker"], kept["grandchild"], flush=True)
        print(child.pid, flush=True)
        await call
    """,
    "after a fork by C code": """
    import ctypes
    async def main():
        pool = await started()
        call = asyncio.create_task(pool.run("regex", sys.argv[1]))
        while not os.path.exists(sys.argv[1]):
            await asyncio.sleep(0.005)
        libc = ctypes.PyDLL(None)
        child = libc.fork()  # no hook of os.register_at_fork has run: it holds the lifeline's write end
        if child == 0:
            libc.pause()
        print(kept["worker"], flush=True)
        print(child, flush=True)
        await call
    """,
    "started by a thread that has ended": """
    import threading
    async def main():
        await started()
    def start():
        loop = asyncio.new_event_loop() if os.environ["LOOP"] == "asyncio" else uvloop.new_event_loop()
        kept["loop"] = loop
        loop.run_until_complete(main())
    def RUN(coroutine):
        coroutine.close()
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        time.sleep(0.3)  # a worker that is tied to the thread would be killed about now
        kept["loop"].run_until_complete(kept["pool"].run("echo", 1))
        assert kept["pool"].workers()[0].pid == kept["worker"]
        print(kept["worker"], kept["grandchild"], flush=True)
        time.sleep(60)
    """,
}
COMMON = """
    kept = {}
    async def started():
        pool = kept["pool"] = Pool("tests.support.commands", min_size=1, max_size=1, stderr="discard")
        await pool.start()
        kept["worker"] = pool.workers()[0].pid
        kept["grandchild"] = await pool.run("spawn", 60)
        kept["io"] = io()
        return pool
    def io():
        return {name: int(count) for name, count in (line.split(": ") for line in open(f"/proc/{kept['worker']}/io"))}
    def moved(name):
        return io()[name] > kept["io"][name] + 100_000
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("way", WAYS)
def test_workers_and_grandchildren_die_with_a_killed_parent(tmp_path: Path, loop: str, way: str) -> None:
    """Within a second; but a fork by C code holds the lifeline, and then the worker dies by the second guard."""
    text = COMMON + WAYS[way] + "\n    RUN(main())\n"
    script = Script(tmp_path / "app.py", text, str(tmp_path / "began"), dev=False, LOOP=loop)
    pids = [int(word) for word in script.line().split()]
    forked = int(script.line()) if "fork" in way else None
    try:
        assert pids
        assert all(alive(pid) for pid in pids)
        script.process.kill()
        script.process.wait()
        assert eventually_now(lambda: not any(alive(pid) for pid in pids), GONE)
    finally:
        if forked is not None:
            os.kill(forked, signal.SIGKILL)
        script.wait()


FOREIGN = """
    async def main():
        program = [sys.executable, "-B", sys.argv[1], "stops itself"]
        pool = Pool(program=program, min_size=2, max_size=2, stderr="discard")
        await pool.start()
        call = asyncio.create_task(pool.run("bad", 1))
        while not any("T (stopped)" in open(f"/proc/{info.pid}/status").read() for info in pool.workers()):
            await asyncio.sleep(0.001)
        print(*(info.pid for info in pool.workers()), flush=True)
        await call
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_foreign_workers_die_with_a_killed_parent(tmp_path: Path, loop: str) -> None:
    """Idle, and stopped in a call: the lifeline asks for no help of theirs."""
    script = Script(tmp_path / "app.py", FOREIGN, str(WORKERS / "misbehaves.py"), dev=False, LOOP=loop)
    pids = [int(word) for word in script.line().split()]
    assert len(pids) == 2
    script.process.kill()
    script.process.wait()
    assert eventually_now(lambda: not any(alive(pid) for pid in pids), GONE)
    script.wait()


def death_signal() -> int:
    """Return the signal that this process gets when its parent dies."""
    number = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0)
    return number.value


async def test_a_worker_is_tied_to_the_main_thread_alone() -> None:
    """The second guard is there where the main thread spawned the worker, and nowhere else."""
    async with Pool(max_size=1, stderr="discard") as pool:
        assert await pool.run(death_signal) == signal.SIGKILL
    found: list[int] = []

    async def elsewhere() -> None:
        async with Pool(max_size=1, stderr="discard") as pool:
            found.append(await pool.run(death_signal))

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    await eventually(lambda: not thread.is_alive())
    thread.join()
    assert found == [0]


async def test_a_worker_behind_a_wrapper_is_not_tied_to_it() -> None:
    """A program between us and the worker may end: that must not kill it. It is told the parent, and finds another."""
    boot = "import os, subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    inner = f"from asyncpool.worker.__main__ import main; main(parent={os.getpid()})"
    async with Pool(program=[sys.executable, "-c", boot, "-c", inner], max_size=1, stderr="discard") as pool:
        assert await pool.run(death_signal) == 0


async def crash(pool: Pool) -> None:
    with pytest.raises(WorkerCrashed):
        await pool.run("crash")


async def exit_0(pool: Pool) -> None:
    os.kill(_pid(pool), signal.SIGTERM)
    await _gone(pool, "left")


async def time_out(pool: Pool) -> None:
    with pytest.raises(CommandTimeout):
        await pool.options(timeout=0.05).run("sleep", 60)


async def cancel(pool: Pool) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await pool.run("sleep", 60)


async def release(pool: Pool) -> None:
    async with pool.acquire() as lease:
        call = asyncio.create_task(lease.run("sleep", 60))
        await eventually(lambda: pool.stats().running)
    await asyncio.wait([call])
    call.exception()


async def retire(pool: Pool) -> None:
    await _gone(pool, "retired")


async def serve_enough(pool: Pool) -> None:
    for _ in range(8):
        await pool.run("echo")
    await _gone(pool, "max_calls")


async def grow_old(pool: Pool) -> None:
    await _gone(pool, "max_lifetime")


async def grow_large(pool: Pool) -> None:
    await pool.run("hold_memory", 150 * MIB)
    await _gone(pool, "max_memory")


async def restart(pool: Pool) -> None:
    await pool.restart()
    await _gone(pool, "restarted")


async def stop_answering(pool: Pool) -> None:
    os.kill(_pid(pool), signal.SIGSTOP)
    await _gone(pool, "unhealthy")


async def break_the_protocol(pool: Pool) -> None:
    with pytest.raises(ProtocolError):
        await pool.run("babble")


async def close(pool: Pool) -> None:
    await pool.aclose()


async def _gone(pool: Pool, cause: str) -> None:
    await eventually(lambda: pool.stats().exited == {cause: 1})


def _pid(pool: Pool) -> int:
    pid = pool.workers()[0].pid
    assert pid is not None
    return pid


ENDS: list[tuple[Callable[[Pool], Awaitable[None]], dict[str, Any]]] = [
    (crash, {}),
    (exit_0, {}),
    (time_out, {}),
    (cancel, {}),
    (release, {}),
    (retire, {"idle_timeout": 0.3}),
    (serve_enough, {"max_calls": 10}),
    (grow_old, {"max_lifetime": 2.0}),
    (grow_large, {"max_memory": 120 * MIB}),
    (restart, {}),
    (stop_answering, {"health_interval": 0.1, "health_timeout": 1.0}),
    (break_the_protocol, {}),
    (close, {}),
]


@pytest.mark.parametrize(("way", "options"), ENDS, ids=[way.__name__ for way, _ in ENDS])
async def test_grandchildren_go_with_their_worker(
    way: Callable[[Pool], Awaitable[None]], options: dict[str, Any]
) -> None:
    """Started and forked ones, however the worker ends, also when it does so by itself and in peace."""
    settings: dict[str, Any] = {"min_size": 0, "max_size": 1, "idle_timeout": None, "stderr": "discard", **options}
    async with Pool(commands, **settings) as pool:
        grandchildren = [await pool.run("spawn", 60), await pool.run("fork", 60)]
        assert all(alive(pid) for pid in grandchildren)
        await way(pool)
        await eventually(lambda: not any(alive(pid) for pid in grandchildren), GONE)


async def test_only_the_grandchildren_of_the_worker_that_resize_lets_go_leave() -> None:
    """Those of the worker that stays have done nothing wrong."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        grandchildren = await pool.broadcast("spawn", 60)
        parents = {pid: parent(pid) for pid in grandchildren}
        assert len(set(parents.values())) == 2
        await pool.resize(min_size=1, max_size=1)
        await _gone(pool, "resized")
        (stays,) = (pid for pid in grandchildren if parents[pid] == _pid(pool))
        (leaves,) = (pid for pid in grandchildren if pid != stays)
        await eventually(lambda: not alive(leaves), GONE)
        assert alive(stays)


SPAWNS_AND_FAILS = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(child.pid))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(60 * (sys.argv[2] == "hangs"))
sys.exit("no API key")
"""


@pytest.mark.parametrize(("how", "limit"), [("exits", 30.0), ("hangs", 2.0)])
async def test_grandchildren_go_with_a_worker_that_cannot_start(tmp_path: Path, how: str, limit: float) -> None:
    """It started them before it failed, or before its time to start was over."""
    program = [sys.executable, "-c", SPAWNS_AND_FAILS, str(tmp_path / "pid"), how]
    pool = Pool(program=program, max_size=1, start_timeout=limit, stderr="discard")
    start = asyncio.create_task(pool.start())
    grandchild = int((await eventually((tmp_path / "pid").exists)) and (tmp_path / "pid").read_text())
    with pytest.raises(WorkerStartError):
        await start
    await eventually(lambda: not alive(grandchild), GONE)


FORGOTTEN = """
    async def main():
        pool = Pool("tests.support.commands", min_size=1, max_size=1, stderr="discard")
        await pool.start()
        print(await pool.run("spawn", 60), await pool.run("fork", 60), flush=True)
        return pool
    if sys.argv[1] == "run":
        RUN(main())
    else:
        loop = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[os.environ["LOOP"]]()
        pool = loop.run_until_complete(main())
        if sys.argv[1] == "close":
            loop.close()
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["run", "close", "keep"])
def test_grandchildren_go_with_a_loop_that_ends_without_a_close(tmp_path: Path, loop: str, how: str) -> None:
    """By ``asyncio.run``, by hand, or with the program."""
    script = Script(tmp_path / "app.py", FORGOTTEN, how, dev=False, LOOP=loop)
    grandchildren = [int(word) for word in script.line().split()]
    assert len(grandchildren) == 2
    assert script.process.wait() == 0
    assert eventually_now(lambda: not any(alive(pid) for pid in grandchildren), GONE)
    script.wait()
