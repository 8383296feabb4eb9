"""The pool's processes beside others: those of the application, of the workers, and those that were."""

import mmap
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from asyncpool import CommandTimeout, Pool
from asyncpool.pool.child import Child
from asyncpool.pool.connection import pair
from tests.support import commands
from tests.support.processes import alive
from tests.support.scripts import Script, noise
from tests.support.waiting import eventually

LOOPS = ("asyncio", "uvloop")

CHURN = """
    import threading
    from tests.support.processes import children, descriptors
    if sys.argv[1] == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    async def die(pool, number):
        try:
            if number % 4 == 0:
                await pool.run("crash")
            elif number % 4 == 1:
                await pool.options(timeout=0.01).run("sleep", 60)
            elif number % 4 == 2:
                async with asyncio.timeout(0.01):
                    await pool.run("sleep", 60)
            else:
                await pool.run("fork", 60)
                await pool.run("exit_now", 3)
        except Exception:
            pass

    async def main():
        async with Pool("tests.support.commands", min_size=3, max_size=3, stderr="discard") as pool:
            async def settled():
                while pool.stats().idle < 3 or pool.stats().retiring:
                    await asyncio.sleep(0.005)
                return len(descriptors()), len(children()), threading.active_count()
            await asyncio.gather(*(die(pool, number) for number in range(4)))
            before = await settled()
            await asyncio.gather(*(die(pool, number) for number in range(12)))
            after = await settled()
            for _ in range(200):  # on 3.11 a thread per child ends a moment after it
                if after == before:
                    break
                await asyncio.sleep(0.01)
                after = await settled()
            print(before == after and before[1] == 3, before, after, pool.stats().spawned >= 12, flush=True)
    import logging
    logging.disable()
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("sigchld", ["default", "ignored"])
def test_workers_that_come_and_go_leave_nothing_behind(tmp_path: Path, loop: str, sigchld: str) -> None:
    """While the pool lives: after a dozen deaths of four kinds there are as many descriptors, threads and children.

    Also where the application ignores SIGCHLD, so that nobody but the kernel reaps them.
    """
    ended = Script(tmp_path / "app.py", CHURN, sigchld, dev=False, LOOP=loop).wait()
    assert (ended.code, ended.out.split()[:1]) == (0, ["True"]), ended
    assert ended.out.split()[-1] == "True"


OWN_CHILDREN = """
    import subprocess

    def own(number):
        return subprocess.run(["sh", "-c", f"exit {number}"]).returncode

    async def own_async(number):
        process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {number}")
        return await process.wait()

    async def main():
        async with Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard") as pool:
            async def crash(number):
                try:
                    await pool.run("exit_now", number)
                except Exception as error:
                    return error.exit_code
            codes = list(range(1, 11))
            theirs, ours, ours_async = await asyncio.gather(
                asyncio.gather(*(crash(number) for number in codes)),
                asyncio.gather(*(asyncio.to_thread(own, number) for number in codes)),
                asyncio.gather(*(own_async(number) for number in codes)),
            )
            print(theirs == codes, ours == codes, ours_async == codes, flush=True)
            assert theirs == ours == ours_async == codes, (theirs, ours, ours_async)
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_nobody_takes_the_exit_code_of_another(tmp_path: Path, loop: str) -> None:
    """The application's own children, from threads and from asyncio, and crashing workers: each its own code."""
    ended = Script(tmp_path / "app.py", OWN_CHILDREN, LOOP=loop).wait()
    assert (ended.code, ended.out) == (0, "True True True\n"), ended
    assert noise(ended.err) == []


AS_PID_1 = """
    import subprocess
    from tests.support.processes import children

    async def main():
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard") as pool:
            for number in range(8):
                crash = asyncio.create_task(pool.run("exit_now", 7))
                own = await asyncio.to_thread(subprocess.run, ["sh", "-c", f"exit {number}"])
                assert own.returncode == number, own
                await asyncio.wait([crash])
                assert crash.exception().exit_code == 7, crash
                assert await pool.run("echo", number) == number
            while pool.stats().idle < 2 or pool.stats().retiring:
                await asyncio.sleep(0.005)
            print(os.getpid(), len(children()), "Z" in children().values(), flush=True)
            subprocess.Popen(["sh", "-c", "kill -TERM 1"]).wait()
            await stop.wait()
        print("closed", children(), flush=True)
    RUN(main())
"""
UNSHARE = [("unshare", "-pf", "--mount-proc", "--kill-child"), ("unshare", "-Urpf", "--mount-proc", "--kill-child")]


@pytest.fixture(scope="module")
def new_pid_namespace() -> tuple[str, ...]:
    """Return the command that runs another as process 1."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here, which makes a process number 1")
    for command in UNSHARE:
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("unshare may make no pid namespace here: process 1 cannot be played")


@pytest.mark.parametrize("loop", LOOPS)
def test_the_application_may_be_process_1(tmp_path: Path, loop: str, new_pid_namespace: tuple[str, ...]) -> None:
    """As in a container without an init: no zombies, true exit codes on both sides, SIGTERM closes the pool."""
    script = Script(tmp_path / "app.py", AS_PID_1, under=new_pid_namespace, LOOP=loop)
    ended = script.wait()
    assert (ended.code, ended.out) == (0, "1 2 False\nclosed {}\n"), ended
    assert noise(ended.err) == []


async def test_the_grandchildren_of_a_retired_worker_go_with_it() -> None:
    """It ended by itself and in peace, with exit code 0: its process group ends all the same."""
    async with Pool(commands, min_size=0, max_size=1, idle_timeout=0.1, stderr="discard") as pool:
        grandchild = await pool.run("spawn", 60)
        assert alive(grandchild)
        await eventually(lambda: pool.workers() == [])
        assert pool.stats().exited == {"retired": 1}
        await eventually(lambda: not alive(grandchild))


async def test_the_grandchildren_of_a_call_that_timed_out_go_with_it(tmp_path: Path) -> None:
    """The whole process group of its worker is killed."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        with pytest.raises(CommandTimeout):
            await pool.options(timeout=0.3).run("spawn_and", 60, str(tmp_path / "pid"), "sleep")
        grandchild = int((tmp_path / "pid").read_text())
        await eventually(lambda: not alive(grandchild))


async def test_a_large_application_spawns_as_fast_as_a_small_one() -> None:
    """Spawning copies no page tables: a fork() of these 512 MiB would hold up the loop for 15 ms and more."""

    async def quickest() -> float:
        times = []
        for _ in range(10):
            ours, theirs = pair()
            with ours, theirs:
                began = time.process_time()  # other processes do not count
                child = Child(["true"], stdio=theirs.fileno(), stderr=theirs.fileno())
                times.append(time.process_time() - began)
                await child.wait()
                child.close()
        return min(times)

    small = await quickest()
    with mmap.mmap(-1, 512 * 2**20) as ballast:
        ballast.madvise(mmap.MADV_NOHUGEPAGE)  # in small pages, as a grown heap is
        for page in range(0, len(ballast), mmap.PAGESIZE):
            ballast[page] = 1
        large = await quickest()
    assert large < small + 0.006
