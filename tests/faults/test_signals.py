"""Whom the pool's signals can reach: its own children, and nobody who got the process id of one that is gone."""

import json
import os
import signal
from pathlib import Path

import pytest

from asyncpool.pool.child import Child
from asyncpool.pool.connection import pair
from tests.support.processes import there
from tests.support.scripts import Script, noise

# Every signal and every reaping of the program is written down; the file that the kernel keeps about a pidfd names the
# process that it means, and -1 once that is reaped.
WATCHED = """
    import errno, json
    if sys.argv[1] == "without pidfds":
        def none(pid, flags=0):
            raise OSError(errno.ENOSYS, "no pidfd can be had")
        os.pidfd_open = none
    reaped, numbers, late, strays, sent = set(), [], [], [], []
    opened = {}
    pidfd_open, waitid, waitpid, send = os.pidfd_open, os.waitid, os.waitpid, signal.pidfd_send_signal

    def open_pidfd(pid, flags=0):
        pidfd = pidfd_open(pid, flags)
        opened[pidfd] = pid
        return pidfd

    def reap(pid, options):
        found = waitpid(pid, options)
        reaped.add(found[0])
        return found

    def reap_by_id(kind, number, options):
        found = waitid(kind, number, options)
        if found is not None:
            reaped.add(found.si_pid)
        return found

    def by_number(call):
        def signal_it(pid, number):
            numbers.append([call.__name__, pid, number])
            if pid in reaped:
                late.append(numbers[-1])
            call(pid, number)
        return signal_it

    def by_pidfd(pidfd, number, *more):
        about = open(f"/proc/self/fdinfo/{pidfd}").read()
        means = int(about.partition("Pid:")[2].split()[0]) if "Pid:" in about else None
        if means not in (opened[pidfd], -1):
            strays.append([opened[pidfd], means])
        try:
            send(pidfd, number, *more)
        except ProcessLookupError:
            return
        sent.append(opened[pidfd])
        if opened[pidfd] in reaped:
            late.append(["pidfd_send_signal", opened[pidfd], number])

    os.pidfd_open, os.waitid, os.waitpid = open_pidfd, reap_by_id, reap
    os.kill, os.killpg, signal.pidfd_send_signal = by_number(os.kill), by_number(os.killpg), by_pidfd

    async def crash(pool):
        await pool.run("crash")

    async def cancel(pool):
        call = asyncio.create_task(pool.run("sleep", 60))
        while not pool.stats().running:
            await asyncio.sleep(0)
        call.cancel()
        await call

    async def time_out(pool):
        await pool.options(timeout=0.05).run("sleep", 60)

    async def close(pool):
        call = asyncio.create_task(pool.run("sleep", 60))
        while not pool.stats().running:
            await asyncio.sleep(0)
        await pool.aclose(0)
        await call

    async def main():
        async with Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard") as pool:
            workers = set()
            for way in (crash, cancel, time_out, crash, cancel, time_out, close):
                workers.update(info.pid for info in pool.workers())
                await pool.run("spawn", 60)  # a group that outlives its leader
                await asyncio.gather(way(pool), return_exceptions=True)
                while way is not close and (pool.stats().idle < 2 or pool.stats().retiring):
                    await asyncio.sleep(0.005)
        print(json.dumps([len(workers - reaped), len(workers), numbers, late, strays, len(sent)]))
    RUN(main())
"""


@pytest.mark.parametrize(
    ("loop", "system"), [("asyncio", "with pidfds"), ("uvloop", "with pidfds"), ("asyncio", "without pidfds")]
)
def test_no_signal_is_sent_to_a_process_that_was_reaped(tmp_path: Path, loop: str, system: str) -> None:
    """From then on its number may be another's. Nor is one sent by number at all, or through a pidfd that was closed.

    Where no pidfd can be had, asyncio reaps the workers, and only the lifeline kills.
    """
    ended = Script(tmp_path / "app.py", WATCHED, system, LOOP=loop).wait()
    assert (ended.code, noise(ended.err)) == (0, []), ended
    not_reaped, workers, numbers, late, strays, sent = json.loads(ended.out)
    assert (not_reaped, workers) == (0, 8)
    assert (numbers, late, strays) == ([], [], [])
    if system == "without pidfds":
        assert sent == 0
    elif loop == "uvloop":  # with asyncio's loop the lifeline's kill may have come first, and the process be reaped
        assert sent >= 5  # cancel and timeout twice each, and the close


@pytest.mark.asyncio(loop_factories=["uvloop"])  # on asyncio's loop its own watcher of children has the pidfd
async def test_a_process_that_was_reaped_before_it_could_be_watched_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the application ignores SIGCHLD: its exit code is unknown, nobody waits for it, and no signal is sent."""
    pidfd_open, sent = os.pidfd_open, []

    def too_late(pid: int, flags: int = 0) -> int:
        while pid != os.getpid() and there(pid):
            pass
        return pidfd_open(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", too_late)
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        ours, theirs = pair()
        with ours, theirs:
            child = Child(["true"], stdio=theirs.fileno(), stderr=theirs.fileno())
            assert await child.wait() is None
            child.kill()
            assert child.send_signal(signal.SIGTERM) is False
            child.close()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert sent == []
