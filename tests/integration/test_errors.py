"""What callers catch: one tree, the command's own types, and everything that one wants to know."""

import asyncio
import copy
import pickle
import re
import signal
import traceback
from pathlib import Path
from typing import Any

import pytest

from asyncpool import (
    ArgumentError,
    AsyncPoolError,
    CommandError,
    Pool,
    PoolFull,
    ResultError,
    WorkerCrashed,
    WorkerError,
)
from tests.support import commands
from tests.support.by_hand import Parent
from tests.support.commands import OwnError, Unprintable
from tests.support.waiting import eventually

SOURCE = str(Path(commands.__file__))


@pytest.mark.contract
async def test_an_error_is_caught_by_its_own_type_and_by_ours(pool: Pool) -> None:
    """except ValueError and except CommandError both work; arguments and message are there."""
    with pytest.raises(ValueError, match="bad value") as caught:
        await pool.run("fail", "ValueError")
    error = caught.value
    assert isinstance(error, CommandError)
    assert isinstance(error, AsyncPoolError)
    assert error.args == ("bad value", 7)
    assert type(error).__name__ == "ValueError"
    assert (error.type_name, error.message, error.started) == ("ValueError", "('bad value', 7)", True)
    assert error.worker_pid in {info.pid for info in pool.workers()}


async def test_the_remote_traceback_is_a_note_with_file_and_line(pool: Pool) -> None:
    """Printed as usual, the error shows where in the worker it was raised, and none of our own frames there."""
    with pytest.raises(CommandError) as caught:
        await pool.run("fail", "ValueError")
    shown = "".join(traceback.format_exception(caught.value))
    assert re.search(
        rf'In worker {caught.value.worker_pid}:\nTraceback .*\n  File "{re.escape(SOURCE)}", line \d+, in fail', shown
    )
    assert 'raise ValueError("bad value", 7)' in caught.value.traceback
    assert "serve.py" not in caught.value.traceback


async def test_the_systems_errors_keep_their_attributes(pool: Pool) -> None:
    """An OSError has its errno and its file name."""
    with pytest.raises(FileNotFoundError) as caught:
        await pool.run("fail", "os")
    assert (caught.value.errno, caught.value.filename) == (2, "/does/not/exist")
    assert isinstance(caught.value, CommandError)


@pytest.mark.contract
async def test_ones_own_errors_arrive_with_their_attributes(pool: Pool) -> None:
    """Though its constructor takes other arguments: no code of the class is run to rebuild it."""
    with pytest.raises(OwnError, match="code 7") as caught:
        await pool.run("fail", "OwnError")
    assert (caught.value.code, caught.value.hint) == (7, "try 8")
    assert isinstance(caught.value, CommandError)


@pytest.mark.contract
@pytest.mark.parametrize(
    ("kind", "type_name", "text"),
    [
        ("Unprintable", "tests.support.commands.Unprintable", "its str() raised RuntimeError"),
        ("surrogates", "ValueError", r"half of \ud800 it"),
        ("long", "ValueError", "10,000,000 characters"),
        ("recursion", "RecursionError", "maximum recursion depth"),
        ("memory", "MemoryError", ""),
        ("stop", "StopIteration", "3"),
        ("keyboard", "KeyboardInterrupt", ""),
        ("exit", "SystemExit", "3"),
        ("base", "tests.support.commands.Base", "basic"),
        ("pool", "asyncpool.errors.PoolFull", "not really"),
        ("chained", "ValueError", "outer"),
    ],
)
async def test_whatever_a_command_raises_ends_only_its_call(pool: Pool, kind: str, type_name: str, text: str) -> None:
    """It arrives as a CommandError with its name and its words; the same worker serves on."""
    async with pool.acquire() as worker:
        with pytest.raises(CommandError) as caught:
            await worker.run("fail", kind)
        assert caught.value.type_name == type_name
        assert text in caught.value.message
        assert len(str(caught.value)) < 100_000
        assert caught.value.started is True
        assert await worker.run("echo", 1) == 1


@pytest.mark.contract
async def test_what_would_mean_something_else_here_is_not_raised_as_itself(pool: Pool) -> None:
    """StopIteration, SystemExit, KeyboardInterrupt and our own errors arrive as plain CommandErrors."""
    for kind, never in (
        ("stop", StopIteration),
        ("exit", SystemExit),
        ("keyboard", KeyboardInterrupt),
        ("pool", PoolFull),
    ):
        with pytest.raises(CommandError) as caught:
            await pool.run("fail", kind)
        assert type(caught.value) is CommandError
        assert not isinstance(caught.value, never)


@pytest.mark.contract
async def test_a_chain_is_shown_in_the_traceback(pool: Pool) -> None:
    """The cause of an error is in its remote traceback."""
    with pytest.raises(ValueError, match="outer") as caught:
        await pool.run("fail", "chained")
    assert isinstance(caught.value, CommandError)
    assert "KeyError: 'inner'" in caught.value.traceback
    assert "direct cause" in caught.value.traceback


@pytest.mark.contract
async def test_an_unprintable_error_keeps_its_type(pool: Pool) -> None:
    """Its str() raises, there and here: that is nobody else's affair."""
    with pytest.raises(Unprintable):
        await pool.run("fail", "Unprintable")


UNPRINTABLE = "tests.support.unprintable"  # by name: it registers a type in the process that imports it


async def test_an_unprintable_error_outside_of_a_command_ends_only_its_call() -> None:
    """In what an argument is made of, and in what a result or an update is made into: alone and in a chunk."""
    said = r"<its str\(\) raised Unprintable>"
    async with Pool(UNPRINTABLE, max_size=1, surge=0, stderr="discard") as pool:
        with pytest.raises(ArgumentError, match=said):
            await pool.run("touch", {"name": "bad"})
        with pytest.raises(ResultError, match=f"the result cannot travel: {said}"):
            await pool.run("stick", 1)
        for name in ("stick_later", "stick_at_last"):
            with pytest.raises(ResultError, match=f"an update cannot travel: {said}"):
                async with pool.stream(name) as updates:
                    await anext(updates)
        for name, items, error in (
            ("touch", [{"name": "good"}, {"name": "bad"}], ArgumentError),
            ("stick", [0, 1], ResultError),
        ):
            async with pool.map(name, items, chunk=2, return_exceptions=True) as done:
                found = [each async for each in done]
            assert found[0] in ("good", "nothing")
            assert isinstance(found[1], error)
        assert pool.stats().spawned == 1


@pytest.mark.parametrize("reference", ["unfindable", ["asyncpool", "chunk"]], ids=["alone", "in a chunk"])
def test_what_lets_nobody_look_at_it_is_refused(reference: Any) -> None:
    """A proxy of what is not there, named as a command; the worker serves on."""
    parent = Parent()
    alone = isinstance(reference, str)
    found = [UNPRINTABLE, "unfindable"]
    parent.send(2, 1, found if alone else reference, [] if alone else [found, [[]]], {}, None, 10)
    assert parent.receive()[:2] == [34, 1]
    parent.call(2, int, "7")
    assert parent.receive()[:3] == [33, 2, 7]
    parent.shut()
    assert parent.process.wait(10) == 0
    parent.close()


@pytest.mark.contract
async def test_an_error_can_be_copied_and_pickled(pool: Pool) -> None:
    """As test runners and process pools do."""
    for kind in ("ValueError", "OwnError", "os"):
        with pytest.raises(CommandError) as caught:
            await pool.run("fail", kind)
        for twin in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
            assert type(twin).__mro__[1:] == type(caught.value).__mro__[1:]
            assert (str(twin), twin.args, twin.worker_pid) == (
                str(caught.value),
                caught.value.args,
                caught.value.worker_pid,
            )


@pytest.mark.parametrize(
    ("command", "args", "exit_code", "number", "shown"),
    [
        ("say_and_crash", ["boom-123", signal.SIGSEGV], None, signal.SIGSEGV, "SIGSEGV"),
        ("say_and_crash", ["boom-123", signal.SIGKILL], None, signal.SIGKILL, "perhaps by the OOM killer"),
        ("exit_now", [7], 7, None, "exited with code 7"),
    ],
)
async def test_a_crash_report_has_all_that_is_known(
    pool: Pool, command: str, args: list[object], exit_code: int | None, number: int | None, shown: str
) -> None:
    """pid, exit code or signal as numbers, the end of stderr, and all of it in the text."""
    with pytest.raises(WorkerCrashed, match=shown) as caught:
        await pool.run(command, *args)
    error = caught.value
    assert isinstance(error, WorkerError)
    assert (error.exit_code, error.signal, error.reason, error.started) == (exit_code, number, None, True)
    assert f"pid {error.pid}" in str(error)
    assert command in str(error)
    if command == "say_and_crash":
        assert error.stderr == "boom-123"
        assert "boom-123" in str(error)


async def test_only_the_end_of_stderr_is_kept(pool: Pool) -> None:
    """At most 8 KiB, the last of it."""
    async with pool.acquire() as worker:
        await worker.run("flood", 2**20)
        with pytest.raises(WorkerCrashed) as caught:
            await worker.run("say_and_crash", "the very end", signal.SIGKILL)
    assert caught.value.stderr.endswith("x\nthe very end")
    assert 4096 < len(caught.value.stderr) <= 8192
    assert len(str(caught.value)) < 4096


async def test_one_workers_stderr_is_not_anothers(pool: Pool) -> None:
    """Each crash report quotes its own worker."""
    crashes = [pool.run("say_and_crash", f"boom-{number}", signal.SIGKILL) for number in range(2)]
    errors = await asyncio.gather(*crashes, return_exceptions=True)
    assert [error.stderr for error in errors if isinstance(error, WorkerCrashed)] == ["boom-0", "boom-1"]


async def test_callers_get_errors_of_their_own(pool: Pool) -> None:
    """One instance raised in many tasks would gather all of their tracebacks."""
    await pool.run("echo")
    failing = Pool(program=["/does/not/exist"], min_size=0, max_size=1, stderr="discard")
    async with failing:
        errors = await asyncio.gather(*(failing.run("echo") for _ in range(10)), return_exceptions=True)
        assert len({id(error) for error in errors}) == 10
        await eventually(lambda: failing.stats().waiting == 0)


async def test_an_error_keeps_nothing_alive_in_the_worker(pool: Pool) -> None:
    """Dozens of failures with 10 MB of text later the worker is as small as before."""
    async with pool.acquire() as worker:

        def rss() -> int:
            [size] = [info.rss for info in pool.workers() if info.pid == worker.pid]
            assert size is not None
            return size

        for _ in range(5):
            with pytest.raises(ValueError, match="xxx"):
                await worker.run("fail", "long")
        before = rss()
        for _ in range(30):
            with pytest.raises(ValueError, match="xxx"):
                await worker.run("fail", "long")
        assert rss() - before < 40 * 2**20
