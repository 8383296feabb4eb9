"""Programs whose event loop ends without ``aclose()``: they end soon, leave nobody behind, and say so once."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.often import ALL
from tests.support.processes import tagged
from tests.support.scripts import Ended, Script, forked, noise
from tests.support.waiting import eventually_now

LOOPS = ("asyncio", "uvloop")

ENDINGS = {"return": 0, "raise": 1, "SIGINT": -signal.SIGINT, "sys.exit": 5}
END = """
    ending = sys.argv[1]
    def end():
        ENDS()
        if ending == "raise":
            raise RuntimeError("the application's own")
        if ending == "SIGINT":
            os.kill(os.getpid(), signal.SIGINT)
        if ending == "sys.exit":
            sys.exit(5)
"""

STARTING = f"""{END}
    async def main():
        pool = Pool("tests.support.commands", min_size=2 * (sys.argv[3] == "start"), max_size=4, stderr="discard")
        if sys.argv[3] == "start":
            begun = [asyncio.create_task(pool.start())]
        else:
            await pool.start()
            begun = [asyncio.create_task(pool.run("echo", number)) for number in range(2)]
        for _ in range(int(sys.argv[2])):
            await asyncio.sleep(0)
        end()
        if ending == "SIGINT":
            await asyncio.sleep(60)
    RUN(main())
"""

REPLACING = f"""{END}
    async def main():
        pool = Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard")
        await pool.start()
        calls = [asyncio.create_task(pool.run("echo", number)) for number in range(4)]
        for info in pool.workers():
            os.kill(info.pid, signal.SIGKILL)
        for _ in range(int(sys.argv[2])):
            await asyncio.sleep(0)
        end()
        if ending == "SIGINT":
            await asyncio.sleep(60)
    RUN(main())
"""

RUNNING = f"""{END}
    async def main():
        pool = Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard")
        await pool.start()
        calls = [asyncio.create_task(pool.run("sleep", 60)) for number in range(10)]
        for _ in range(int(sys.argv[2])):
            await asyncio.sleep(0)
        end()
        if ending == "SIGINT":
            await asyncio.sleep(60)
    RUN(main())
"""

IN_A_BLOCK = f"""{END}
    async def sleeping(pool):
        try:
            await pool.run("sleep", 60)
        except PoolClosed:
            print("PoolClosed")

    async def main():
        async with Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard") as pool:
            calls = [asyncio.create_task(sleeping(pool)) for number in range(10)]
            for _ in range(int(sys.argv[2])):
                await asyncio.sleep(0)
            ENDS()
            if ending == "return":
                for call in calls:
                    call.cancel()
                return
            end()
            await asyncio.sleep(60)
    RUN(main())
"""

WRITING = f"""{END}
    async def main():
        pool = Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard")
        await pool.start()
        os.kill(pool.workers()[0].pid, signal.SIGSTOP)
        os.kill(pool.workers()[1].pid, signal.SIGSTOP)
        calls = [asyncio.create_task(pool.run("length", b"x" * 10_000_000)) for number in range(3)]
        for _ in range(int(sys.argv[2])):
            await asyncio.sleep(0)
        end()
        if ending == "SIGINT":
            await asyncio.sleep(60)
    RUN(main())
"""


def check(ended: Ended, code: int, *, warnings: int = 1, least: int = 1, where: str = "") -> None:
    """Check that a program ended by itself, rightly, and without noise."""
    assert ended.code is not None, f"{where}: it hung\n{ended.err[-3000:]}"
    assert ended.code == code, f"{where}: {ended.code}\n{ended.err[-3000:]}"
    assert noise(ended.err) == [], f"{where}\n{ended.err[-3000:]}"
    assert least <= ended.err.count("ResourceWarning") <= warnings, f"{where}\n{ended.err[-3000:]}"
    expected = {0: 0, 5: 0, 1: 1}.get(code, 2)  # asyncio shows the cancellation before the KeyboardInterrupt
    assert ended.err.count("Traceback (most recent call last)") <= expected, f"{where}\n{ended.err[-3000:]}"


def nobody_is_left() -> bool:
    """Tell whether all processes of this test are gone, or soon are."""
    tag = os.environ["ASYNCPOOL_TEST_TAG"]
    return eventually_now(lambda: not tagged(tag), 2.0)


def matrix(
    tmp_path: Path,
    text: str,
    loop: str,
    ending: str,
    passes: list[int],
    *more: str,
    warnings: int = 1,
    least: int = 1,
) -> None:
    """Run one program for each number of passes of the loop before its end."""
    ends = forked(tmp_path, text, [[ending, str(each), *more] for each in passes], LOOP=loop)
    for each, ended in zip(passes, ends, strict=True):
        check(ended, ENDINGS[ending], warnings=warnings, least=least, where=f"after {each} passes")
    assert nobody_is_left()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("ending", ["return", "raise", "SIGINT"])
@pytest.mark.parametrize("by", ["start", "call"])
def test_a_loop_that_ends_in_mid_spawn_hangs_nowhere(tmp_path: Path, loop: str, ending: str, by: str) -> None:
    """main() ends 0 to 12 passes after workers began to start: right exit code, no orphan, no noise.

    A pool that calls have made start workers is open, and always warns. One that ``start()`` starts may be closed by
    that: asyncio cancels it together with the pool's own tasks, in any order.
    """
    matrix(tmp_path, STARTING, loop, ending, list(range(0, 13, 1 if ALL else 3)), by, least=1 * (by == "call"))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("ending", ["return", "raise", "SIGINT"])
def test_a_loop_that_ends_while_workers_are_replaced_hangs_nowhere(tmp_path: Path, loop: str, ending: str) -> None:
    """main() ends while killed workers are being buried and their successors start."""
    matrix(tmp_path, REPLACING, loop, ending, [0, 2, 6, 12])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("ending", ["return", "raise", "SIGINT", "sys.exit"])
def test_a_loop_that_ends_with_calls_running_and_waiting_hangs_nowhere(tmp_path: Path, loop: str, ending: str) -> None:
    """No call of a task that nobody awaits makes noise, and no worker lives on."""
    matrix(tmp_path, RUNNING, loop, ending, [0, 6])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("ending", ["return", "raise", "SIGINT", "sys.exit"])
def test_a_loop_that_ends_within_the_block_closes_the_pool(tmp_path: Path, loop: str, ending: str) -> None:
    """With ``async with`` there is nothing to warn of."""
    matrix(tmp_path, IN_A_BLOCK, loop, ending, [0, 6], warnings=0, least=0)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("ending", ["return", "SIGINT"])
def test_a_loop_that_ends_in_mid_write_hangs_nowhere(tmp_path: Path, loop: str, ending: str) -> None:
    """10 MB that a stopped worker does not read hold nothing up."""
    matrix(tmp_path, WRITING, loop, ending, [0, 6])


FORGOTTEN = """
    async def main():
        pool = Pool("tests.support.commands", min_size=1, stderr="discard")
        await pool.start()
        print(await pool.run("echo", 3))
        ENDS()
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_forgotten_close_is_told_once(tmp_path: Path, loop: str) -> None:
    """One ResourceWarning that names the pool and says what to do."""
    ended = Script(tmp_path / "app.py", FORGOTTEN, LOOP=loop).wait()
    check(ended, 0)
    assert ended.out == "3\n"
    assert ended.err.count("ResourceWarning") == 1
    assert "was not closed before its event loop ended: use `async with`, or `await pool.aclose()`" in ended.err
    assert nobody_is_left()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_warning_that_is_made_an_error_does_not_stop_the_teardown(tmp_path: Path, loop: str) -> None:
    """Under ``-W error`` a forgotten close is told too, and the workers are gone before the program ends."""
    lines = "\n    import warnings\n    warnings.simplefilter('error')\n"
    ended = Script(tmp_path / "app.py", lines + FORGOTTEN, LOOP=loop).wait()
    assert (ended.code, ended.out) == (0, "3\n"), ended.err
    assert "was not closed before its event loop ended: use `async with`, or `await pool.aclose()`" in ended.err
    assert "Exception ignored" not in ended.err, ended.err  # nothing was left to the garbage collector
    assert nobody_is_left()


DROPPED = """
    async def main():
        pool = Pool("tests.support.commands", min_size=2, stderr="discard")
        await pool.start()
        asyncio.ensure_future(pool.run("sleep", 60))
        await asyncio.sleep(0)
        return pool
    loop = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[os.environ["LOOP"]]()
    pool = loop.run_until_complete(main())
    print(*(info.pid for info in pool.workers()), flush=True)
    if sys.argv[1] == "close":
        loop.close()
    if sys.argv[1] == "forget":
        del loop, pool
        import gc
        gc.collect()
    if sys.argv[1] == "_exit":
        os._exit(0)
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["close", "keep", "forget", "_exit"])
def test_a_loop_that_is_dropped_leaves_no_worker(tmp_path: Path, loop: str, how: str) -> None:
    """run_until_complete, then no aclose: whatever becomes of the loop, the program ends and so do the workers."""
    ended = Script(tmp_path / "app.py", DROPPED, how, dev=False, LOOP=loop).wait()
    assert ended.code == 0, ended.err
    assert len(ended.out.split()) == 2
    assert nobody_is_left()


COLLECTED = """
    import gc, warnings
    warnings.simplefilter("ignore")  # asyncio's own, about its transports
    warnings.filterwarnings("always", message=".*was not closed before its event loop ended")
    from tests.support.processes import children, descriptors

    async def main():
        pool = Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard")
        start = asyncio.create_task(pool.start())
        if sys.argv[1] == "spawning":
            while not any(info.pid for info in pool.workers()):
                await asyncio.sleep(0)
        else:
            await start
        if sys.argv[1] == "running":
            for _ in range(4):
                call = asyncio.ensure_future(pool.run("sleep", 60))
                call._log_destroy_pending = False  # its warning is the application's own affair
        if sys.argv[1] == "replacing":
            os.kill(pool.workers()[0].pid, signal.SIGKILL)
            while not pool.stats().starting:
                await asyncio.sleep(0)
        start._log_destroy_pending = False
        await asyncio.sleep(0)
        return [info.pid for info in pool.workers() if info.pid]

    def drop():
        loop = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[os.environ["LOOP"]]()
        asyncio.set_event_loop(loop)  # on 3.11 the watcher of children else asks for one
        pids = loop.run_until_complete(main())
        asyncio.set_event_loop(None)
        loop.close()
        return pids

    pids = drop()
    assert pids
    until = time.monotonic() + 5
    while children() and time.monotonic() < until:
        gc.collect()  # again: on 3.11 asyncio's own thread holds what waits for a child until that is reaped
        time.sleep(0.005)
    print(children(), *(what for number, what in descriptors().items() if number > 2))
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("phase", ["spawning", "idle", "running", "replacing"])
def test_a_loop_that_is_dropped_and_collected_ends_its_workers_at_once(tmp_path: Path, loop: str, phase: str) -> None:
    """Closed by hand without cancelling its tasks: the program goes on, the workers do not; one warning tells it."""
    ended = Script(tmp_path / "app.py", COLLECTED, phase, dev=False, LOOP=loop).wait()
    assert (ended.code, noise(ended.err)) == (0, []), ended.err
    # Two ends of a pipe are uvloop's own, opened once.
    children, _, left = ended.out.strip().partition(" ")
    assert children == "{}"
    assert left.count("socket") == 0
    assert left.count("pipe") <= 2 * (loop == "uvloop"), left
    assert ended.err.count("ResourceWarning") == 1, ended.err
    assert "was not closed before its event loop ended: use `async with`" in ended.err


AGAIN = """
    pools = []
    async def main():
        pool = Pool("tests.support.commands", max_size=1, stderr="discard")
        pools.append(pool)
        async with pool:
            return await pool.run("echo", len(pools))
    print(RUN(main()), RUN(main()), RUN(main()))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_one_program_may_run_several_loops(tmp_path: Path, loop: str) -> None:
    """A pool per loop, one after the other: nothing of the first is in the way of the second."""
    ended = Script(tmp_path / "app.py", AGAIN, LOOP=loop).wait()
    check(ended, 0, warnings=0, least=0)
    assert ended.out == "1 2 3\n"


HANDLED = """
    async def main():
        async with Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard") as pool:
            calls = [asyncio.create_task(pool.run("sleep", 1)) for _ in range(2)]
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
            while pool.stats().running < 2:
                await asyncio.sleep(0.005)
            print("running", flush=True)
            await stop.wait()
            print(await asyncio.gather(*calls))
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_reaches_the_application_alone(tmp_path: Path, loop: str) -> None:
    """Sent to the whole process group, as a terminal does: workers are in sessions of their own and go on."""
    script = Script(tmp_path / "app.py", HANDLED, LOOP=loop, new_group=True)
    assert script.line() == "running"
    os.killpg(script.process.pid, signal.SIGINT)
    ended = script.wait()
    check(ended, 0, warnings=0, least=0)
    assert ended.out == "[1.0, 1.0]\n"


IMPATIENT = """
    import threading
    def interrupt():
        for pause in (float(sys.argv[1]), 0.5, 0.5, 0.5):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(pause)
    async def main():
        async with Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard") as pool:
            calls = [asyncio.create_task(pool.run("sleep", 60)) for _ in range(2)]
            while pool.stats().running < 2:
                await asyncio.sleep(0.005)
            threading.Thread(target=interrupt, daemon=True).start()
            await asyncio.gather(*calls)
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_again_and_again_leaves_nobody(tmp_path: Path, loop: str) -> None:
    """The second one comes while the first is still closing the pool: the program ends, and all workers with it.

    A third may be needed: the second makes asyncio lose the step of a task that it meets, and wait for it for ever.
    """
    gaps = ("0", "0.001", "0.01", "0.1")
    scripts = [Script(tmp_path / f"app{gap}.py", IMPATIENT, gap, LOOP=loop) for gap in gaps]
    for gap, script in zip(gaps, scripts, strict=True):
        ended = script.wait()
        assert ended.code, f"after {gap} s: {ended}"
    assert nobody_is_left()


KILLED = """
    async def main():
        asyncio.get_running_loop().slow_callback_duration = 60  # 10 MB take their time, which -X dev would tell
        async with Pool("tests.support.commands", min_size=1, max_size=1, stderr="discard") as pool:
            for number in range(3):
                pid = await pool.run("pid")
                os.kill(pid, signal.SIGSTOP)
                call = asyncio.create_task(pool.run("length", b"x" * 10_000_000))
                while pool.stats().running < 1:
                    await asyncio.sleep(0)
                os.kill(pid, signal.SIGKILL)
                print(await call, flush=True)
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_killed_in_mid_write_makes_no_noise(tmp_path: Path, loop: str) -> None:
    """10 MB were on their way to it: the call is moved, and neither log nor warning tells of the broken connection."""
    ended = Script(tmp_path / "app.py", KILLED, LOOP=loop).wait()
    assert (ended.code, ended.out, ended.err) == (0, "10000000\n" * 3, "")
