"""What is particular to InlinePool and to Faults; what they share with Pool is marked as contract."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import socket
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncpool
from asyncpool import CommandError, CommandTimeout, Pool, PoolClosed, WorkerCrashed, WorkerStartError
from asyncpool.pool.stream import WINDOW
from asyncpool.pool.worker import Worker
from asyncpool.testing import Faults, InlinePool, thread
from asyncpool.worker import loop
from tests.support import commands, coroutines, streams
from tests.support.processes import children, descriptors
from tests.support.waiting import eventually, steps


async def test_there_are_no_processes() -> None:
    """Commands run in threads of this process, and see its modules."""
    async with InlinePool(commands, streams, min_size=2, max_size=2) as pool:
        assert isinstance(pool, Pool)
        assert children() == {}
        assert await pool.run("pid") == os.getpid()
        assert [info.pid for info in pool.workers()] == [None, None]
        await pool.run("remember", "inline", 7)
        assert commands.recall("inline") == 7
        assert await pool.run(streams.nap, 0) in {f"asyncpool pool inline worker {number}" for number in (1, 2)}


async def test_a_worker_with_an_event_loop_leaves_no_descriptor() -> None:
    """Not even where a plain command has waited for credit there (a fixture looks)."""
    async with InlinePool(streams, max_size=1) as pool:
        await pool.run(streams.nap, 0)
        async with pool.stream(streams.count_to, 10 * WINDOW) as updates:
            assert len([each async for each in updates]) == 10 * WINDOW


async def test_no_error_speaks_of_a_process() -> None:
    """There is no pid to tell."""
    async with InlinePool(commands, max_size=1) as pool:
        with pytest.raises(CommandError) as raised:
            await pool.run("fail", "ValueError")
        with pytest.raises(CommandTimeout) as late:
            await pool.options(timeout=0.05).run("sleep", 60)
    for error in (raised.value, late.value):
        text = "".join(traceback.format_exception(error))
        assert "pid" not in str(error)
        assert "worker None" not in text
        assert "In the worker" in text


async def test_a_command_that_cannot_be_stopped_is_abandoned_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller is answered, the pool goes on, and nothing of the thread is left when it ends (a fixture looks)."""
    path = tmp_path / "trace"
    with caplog.at_level(logging.WARNING, "asyncpool.testing"):
        async with InlinePool(streams, max_size=1) as pool:
            with pytest.raises(CommandTimeout):
                await pool.options(timeout=0.1).run("hold_on", str(path), 1.0)
            assert not path.exists()
            assert await pool.run(streams.extend, []) == [0]
    assert ["its command runs on" in record.message for record in caplog.records] == [True]
    await eventually(lambda: not any(each.name.startswith("asyncpool") for each in threading.enumerate()))


_enough = threading.Event()


@pytest.fixture
def spinning(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What spins does so until it is killed, or the test is over; a busy machine may take its time for that."""
    monkeypatch.setattr(thread, "PATIENCE", 10.0)
    _enough.clear()
    yield
    _enough.set()


def _spin() -> None:
    while not _enough.is_set():
        pass


@dataclasses.dataclass
class _Spins:
    number: int

    def __post_init__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            _spin()


def _spin_plainly(_item: int) -> None:
    _spin()


def _spin_and_yield(_item: int) -> Iterator[int]:
    _spin()
    yield 1


async def _spin_async(_item: int) -> None:
    _spin()


async def _spin_and_yield_async(_item: int) -> AsyncIterator[int]:
    _spin()
    yield 1


def _spin_to_decode(item: _Spins) -> None: ...


def _spin_at_the_end(update: Callable[[], Any]) -> Iterator[Any]:
    try:
        while True:
            yield update()
    finally:
        _spin()


def _spin_when_cancelled() -> Iterator[Any]:
    return _spin_at_the_end(lambda: 1)


def _spin_when_refused() -> Iterator[Any]:
    return _spin_at_the_end(object)


@pytest.mark.usefixtures("spinning")
@pytest.mark.parametrize("command", [_spin_plainly, _spin_and_yield, _spin_async, _spin_and_yield_async])
async def test_an_item_of_a_chunk_is_stopped_at_its_next_step(
    command: Callable[[int], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever kind of command it is: nobody has to be abandoned."""
    async with InlinePool(max_size=1) as pool:
        with pytest.raises(CommandTimeout):
            async with pool.options(timeout=0.1).map(command, range(2), chunk=2) as done:
                _ = [each async for each in done]
    assert [record for record in caplog.records if record.name == "asyncpool.testing"] == []


@pytest.mark.usefixtures("spinning")
async def test_an_argument_of_an_item_is_stopped_at_its_next_step(caplog: pytest.LogCaptureFixture) -> None:
    """Decoding it runs code of the user's."""
    items = [_Spins(1), _Spins(2)]
    async with InlinePool(max_size=1) as pool:
        with pytest.raises(CommandTimeout):
            async with pool.options(timeout=0.1).map(_spin_to_decode, items, chunk=2) as done:
                _ = [each async for each in done]
    assert [record for record in caplog.records if record.name == "asyncpool.testing"] == []


@pytest.mark.usefixtures("spinning")
@pytest.mark.parametrize("command", [_spin_when_cancelled, _spin_when_refused])
async def test_the_end_of_a_generator_is_stopped_at_its_next_step(
    command: Callable[[], Iterator[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Its ``finally`` is of the command, too."""
    async with InlinePool(max_size=1, cancel_grace=0.1) as pool:
        with pytest.raises(CommandTimeout):
            async with pool.options(timeout=0.1).stream(command) as updates:
                _ = [each async for each in updates]
    assert [record for record in caplog.records if record.name == "asyncpool.testing"] == []


async def test_a_thread_that_cannot_be_started_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a process may have no more of them."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = len(descriptors())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(WorkerStartError, match="can't start new thread"):
            await InlinePool(commands, max_size=1).start()
    assert len(descriptors()) == before


async def test_an_application_with_a_default_timeout_of_sockets() -> None:
    """By that each new socket is one that does not block, and the worker's end must."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        async with InlinePool(commands, max_size=1) as pool:
            assert await pool.run("echo", 1) == 1
    finally:
        socket.setdefaulttimeout(before)


async def test_a_command_called_as_a_function_reaches_no_call() -> None:
    """The test's own thread is not a worker's, though a command with a listener runs meanwhile."""
    async with InlinePool(streams, max_size=1) as pool, pool.stream(streams.count_to, 100) as updates:
        assert await anext(updates) == 1
        assert streams.emit_from("here") == ""
        assert asyncpool.call_context().id == 0
        assert [each async for each in updates] == list(range(2, 101))


async def test_a_foreign_thread_below_several_calls_is_told_what_to_do() -> None:
    """It could be any call's."""
    async with InlinePool(streams, min_size=2, max_size=2) as pool, pool.stream(streams.count_to, 100) as updates:
        assert await anext(updates) == 1
        with pytest.raises(CommandError, match=r"start it with asyncio\.to_thread") as caught:
            await pool.run(_emit_from_a_thread)
        assert caught.value.type_name == "RuntimeError"


def _emit_from_a_thread() -> None:
    caught: list[BaseException] = []

    def emit() -> None:
        try:
            asyncpool.emit(1)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=emit)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]


async def test_sys_path_and_the_working_directory_stay_as_they_are() -> None:
    """A worker of a process sets them; here they are the test's own."""
    import sys

    before = list(sys.path), os.getcwd()
    async with InlinePool(commands, max_size=1, env={}, cwd="/", executable="/no/python") as pool:
        await pool.run("echo")
    assert (sys.path, os.getcwd()) == before


async def test_a_program_cannot_run_inline() -> None:
    """It says what to do."""
    with pytest.raises(ValueError, match="use a Pool for that"):
        await InlinePool(program=["cat"]).start()


async def test_arguments_are_checked_as_a_pools_are() -> None:
    """By the same function."""
    with pytest.raises(ValueError, match="min_size=3 is above max_size=2"):
        InlinePool(min_size=3, max_size=2)
    with pytest.raises(TypeError, match="modul"):
        InlinePool("kittens", modul="x")  # type: ignore[call-arg]


async def test_a_killed_async_worker_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """Its event loop is left with tasks on it: nothing is logged of them."""
    async with InlinePool(streams, commands, max_size=1, concurrency=3, timeout=0.3) as pool:
        naps = [asyncio.create_task(pool.run(streams.nap, 60)) for _ in range(2)]
        await eventually(lambda: pool.stats().running == 2)
        await pool.aclose(0)
        await asyncio.wait(naps)
    assert caplog.records == []


async def test_an_async_worker_that_is_killed_before_its_loop_runs_ends_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kill finds no event loop to cancel anything on; the command begins after it."""
    reached, go_on, serve = threading.Event(), threading.Event(), loop.serve

    def serve_late(*args: Any) -> None:
        reached.set()
        go_on.wait(10)
        serve(*args)

    monkeypatch.setattr(loop, "serve", serve_late)
    async with InlinePool(streams, max_size=1, concurrency=3) as pool:
        nap = asyncio.create_task(pool.run(streams.nap, 60))
        await eventually(reached.is_set)
        closing = asyncio.create_task(pool.aclose(0))
        await steps(20)
        go_on.set()
        await asyncio.wait([closing, nap])
        assert isinstance(nap.exception(), PoolClosed)
    assert caplog.records == []


async def test_a_worker_that_crashes_with_a_thread_at_work_is_replaced_soon(tmp_path: Path) -> None:
    """As one that is killed: nobody waits for what cannot be stopped."""
    with Faults(crash_at=2):
        async with InlinePool(commands, coroutines, max_size=1, surge=0, concurrency=2) as pool:
            held_up = asyncio.create_task(pool.run(coroutines.waits_in_a_thread, str(tmp_path / "begun"), 3))
            await eventually((tmp_path / "begun").exists)
            with pytest.raises(WorkerCrashed):
                await pool.run(coroutines.answer, 1)
            with pytest.raises(WorkerCrashed):
                await held_up
            async with asyncio.timeout(2):
                assert await pool.run("echo", 2) == 2


@pytest.mark.parametrize("pool_class", [Pool, InlinePool], indirect=True)
async def test_faults_need_a_python_worker(pool_class: type[Pool]) -> None:
    """A program of its own cannot be told to fail."""
    with Faults(), pytest.raises((WorkerStartError, ValueError), match="program="):
        await pool_class(program=["cat"], max_size=1, stderr="discard").start()


def test_faults_are_checked() -> None:
    """Numbers count from 1; one block at a time, each once."""
    with pytest.raises(ValueError, match="crash_at must be at least 1, not 0"):
        Faults(crash_at=0)
    with pytest.raises(TypeError, match="garbage_at takes an integer"):
        Faults(garbage_at="3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="slow_start must be above 0"):
        Faults(slow_start=-1)
    faults = Faults()
    with faults, pytest.raises(RuntimeError, match="other Faults are in force"), Faults():
        pass
    with pytest.raises(RuntimeError, match="used before"), faults:
        pass
    with contextlib.suppress(KeyError), Faults():
        raise KeyError
    assert Worker._argv.__name__ == "_argv"
