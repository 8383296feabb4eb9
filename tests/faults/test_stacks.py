"""A command that ran too long: its error says where it was, whatever it was doing."""

import asyncio
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncpool import CommandTimeout, Pool
from asyncpool.pool import worker as pool_worker
from asyncpool.pool.stack import SIGNAL
from tests.conftest import Gate
from tests.support import commands, coroutines, updates
from tests.support.processes import alive, descriptors, there
from tests.support.waiting import eventually

LIMIT = 0.3  # seconds


async def timed_out(pool: Pool, command: str, *arguments: object) -> CommandTimeout:
    with pytest.raises(CommandTimeout) as caught:
        await pool.options(timeout=LIMIT).run(command, *arguments)
    return caught.value


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("spin", r"commands\.py:\d+ spin"),
        ("sleep", r"commands\.py:\d+ sleep"),
        ("regex", r"re/__init__\.py:\d+ match"),
        ("wait_for_thread", r"threading\.py:\d+ \w+"),
    ],
)
async def test_the_error_says_where_the_command_was(command: str, place: str, tmp_path: Path) -> None:
    """In Python, in a system call, in C with the GIL held, or waiting for a thread: long before the grace is over."""
    arguments = {"regex": [str(tmp_path / "began")], "wait_for_thread": []}.get(command, [60])
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        pid = await pool.run("pid")
        error = await timed_out(pool, command, *arguments)
        assert re.search(rf"pid {pid}\) in {place}$", str(error)), str(error)
        assert re.search(rf'File ".*commands\.py", line \d+ in {command}$', error.stack, re.MULTILINE), error.stack
        assert "asyncpool/worker" not in error.stack
        shown = "".join(traceback.format_exception(error))
        assert f"In worker {pid}, when it was stopped:\n{error.stack}" in shown
        assert not there(pid)
        assert await pool.run("echo", 1) == 1


@pytest.mark.parametrize(
    ("command", "seconds", "place"),
    [
        (coroutines.traced, 60, r"coroutines\.py:\d+ traced"),
        (updates.emits_until_stopped, 0.01, r"updates\.py:\d+ emits_until_stopped"),
    ],
)
async def test_a_command_that_stops_as_it_is_asked_to_says_where_it_heard_so(
    command: Callable[..., Any], seconds: float, place: str, tmp_path: Path
) -> None:
    """Its worker lives on."""
    async with Pool(coroutines, updates, max_size=1, stderr="discard") as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(CommandTimeout) as caught:
            await pool.options(timeout=LIMIT).run(command, str(tmp_path / "trace"), seconds)
        error = caught.value
        assert re.search(rf"pid {pid}\) in {place}$", str(error)), str(error)
        assert re.search(rf'File ".*\.py", line \d+, in {command.__name__}$', error.stack, re.MULTILINE), error.stack
        assert "asyncpool/worker" not in error.stack
        assert f"In worker {pid}, when it was stopped:\n{error.stack}" in error.__notes__[0]
        assert await pool.run(os.getpid) == pid


async def test_all_threads_are_in_the_stack() -> None:
    """Also the one that does the work while the command only waits."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        error = await timed_out(pool, "wait_for_thread")
        assert error.stack.count("(most recent call first)") == 2
        assert error.stack.index("in _work_in_thread") < error.stack.index("in wait_for_thread")


@pytest.mark.parametrize("command", ["stop_myself", "deaf"])
async def test_a_worker_that_cannot_tell_is_stopped_all_the_same(command: str) -> None:
    """Stopped by SIGSTOP, or deaf to signals: no stack, and SIGKILL at the end of the grace."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        pid = await pool.run("pid")
        began = time.monotonic()
        with pytest.raises(CommandTimeout) as caught:
            await pool.options(timeout=LIMIT).run(command)
        assert LIMIT + pool_worker.STACK_GRACE <= time.monotonic() - began < 2
        assert (caught.value.stack, hasattr(caught.value, "__notes__")) == ("", False)
        assert str(caught.value).endswith(f"pid {pid})")
        assert not there(pid)
        assert await pool.run("echo", 1) == 1


async def test_a_foreign_program_is_killed_at_once() -> None:
    """It is sent no signal that it does not know."""
    program = [sys.executable, str(Path(__file__).parent / "workers" / "odd_but_right.py")]
    async with Pool(program=program, max_size=1, stderr="discard") as pool:
        pid = pool.workers()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        error = await timed_out(pool, "echo", 1)
        assert error.stack == ""
        assert not there(pid)


async def test_the_commands_own_children_go_with_it(tmp_path: Path) -> None:
    """The signal is the worker's alone; its group is killed once it is gone."""
    path = tmp_path / "pid"
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        error = await timed_out(pool, "spawn_and", 60, str(path), "sleep")
        assert str(error).endswith(" spawn_and")
        await eventually(lambda: not alive(int(path.read_text())))


async def test_neighbours_are_not_touched(gate: Gate) -> None:
    """What other workers run is answered by the same processes."""
    async with Pool(commands, min_size=3, max_size=3, stderr="discard") as pool:
        neighbours = [asyncio.create_task(pool.run("wait_at", gate.path, number)) for number in range(2)]
        pids = await eventually(lambda: len(gate.reached()) == 2 and gate.reached())
        await timed_out(pool, "spin", 60)
        assert all(alive(pid) for pid in pids or [])
        gate.open()
        assert await asyncio.gather(*neighbours) == [0, 1]
        assert pool.stats().exited == {"timed_out": 1}


async def test_a_caller_that_is_cancelled_in_the_grace_does_not_wait_for_it() -> None:
    """Cancelled, it asks no more where the command was: SIGKILL at once."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        call = asyncio.create_task(pool.options(timeout=LIMIT).run("deaf"))
        await eventually(lambda: pool.stats().retiring == 1)
        began = time.monotonic()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert time.monotonic() - began < pool_worker.STACK_GRACE


async def test_a_worker_hears_the_signal_though_the_application_ignores_or_blocks_it() -> None:
    """Both are inherited by child processes; the worker undoes that for this one signal."""
    before = signal.signal(SIGNAL, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [SIGNAL])
    try:
        async with Pool(commands, max_size=1, stderr="discard") as pool:
            assert "in spin" in (await timed_out(pool, "spin", 60)).stack
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [SIGNAL])
        signal.signal(SIGNAL, before)


async def test_the_file_is_the_workers_alone() -> None:
    """Its own child processes do not inherit it, and the pool closes it with the worker."""
    before = descriptors()
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        assert sum("asyncpool-stack" in link for link in descriptors().values()) == 1
        links = await pool.run("links_of_a_child")
        assert links
        assert not [link for link in links if "asyncpool-stack" in link]
        await timed_out(pool, "spin", 60)
        assert await pool.run("echo", 1) == 1
        assert sum("asyncpool-stack" in link for link in descriptors().values()) == 1
    assert [link for link in descriptors().values() if "asyncpool-stack" in link and link not in before.values()] == []
