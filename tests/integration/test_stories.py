"""Errors with their story, through real processes: what they came from, what they group, and where it happened."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asyncpool import CommandError, Pool
from tests.support import commands
from tests.support.stories import Shared

SOURCE = str(Path(commands.__file__))


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    """One worker that tells stories."""
    async with Pool("tests.support.stories", max_size=1, stderr="discard") as pool:
        yield pool


async def failure_of(pool: Pool, kind: str) -> CommandError:
    """Return what ``tell`` raises, after seeing that the same worker serves on."""
    with pytest.raises(CommandError) as caught:
        await pool.run("tell", kind)
    [worker] = pool.workers()
    assert (worker.pid, worker.state) == (caught.value.worker_pid, "idle")
    assert await pool.run(commands.pid) == worker.pid
    return caught.value


async def test_a_chain_can_be_asked_and_is_printed_once(pool: Pool) -> None:
    """The cause is a ValueError with its own frames in its own note."""
    error = await failure_of(pool, "chain")
    assert isinstance(error, Shared)
    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.args == ("bad value", 7)
    text = "".join(traceback.format_exception(error))
    assert text.count(f'File "{SOURCE}", line ') == 1
    assert text.count('raise ValueError("bad value", 7)') == 1
    assert text.count("In worker") == 2
    assert "serve.py" not in text


async def test_a_context_and_notes_arrive(pool: Pool) -> None:
    """What was being handled, and what was added."""
    error = await failure_of(pool, "context")
    assert isinstance(error.__context__, FileNotFoundError)
    assert (error.__context__.filename, error.__cause__) == ("/does/not/exist", None)
    assert (await failure_of(pool, "notes")).__notes__[0] == "the first note"


async def test_a_group_is_handled_with_except_star(pool: Pool) -> None:
    """Each handler gets its own part, whose leaves are of both types, with file and line of each shown once."""
    seen: dict[str, BaseException] = {}
    try:
        await pool.run("tell", "group")
    except* ValueError as found:
        seen["value"] = found
    except* OSError as found:
        seen["os"] = found
    except* CommandError as found:
        seen["rest"] = found
    leaves = [seen["value"].exceptions[0], *(seen[name].exceptions[0].exceptions[0] for name in ("os", "rest"))]
    assert [type(leaf).__name__ for leaf in leaves] == ["ValueError", "FileNotFoundError", "Shared"]
    assert all(isinstance(leaf, CommandError) for leaf in leaves)
    text = "".join(traceback.format_exception(await failure_of(pool, "group")))
    assert text.count('raise ValueError("bad value", 7)') == 1
    assert text.count('os.stat("/does/not/exist")') == 1


@pytest.mark.parametrize(
    ("kind", "type_name", "text"),
    [
        ("circle", "tests.support.stories.Shared", "first"),
        ("base group", "BaseExceptionGroup", "all"),
        ("cancelled", "asyncio.exceptions.CancelledError", "by itself"),
        ("stop async", "StopAsyncIteration", ""),
        ("generator exit", "GeneratorExit", ""),
        ("unencodable", "tests.support.stories.Shared", "object object at"),
        ("wide", "ExceptionGroup", "wide"),
        ("deep", "tests.support.stories.Shared", "1999"),
    ],
)
async def test_whatever_a_command_raises_ends_only_its_call(pool: Pool, kind: str, type_name: str, text: str) -> None:
    """It arrives under its name, the worker serves on, and neither this task nor this loop is disturbed."""
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    error = await failure_of(pool, kind)
    assert error.type_name == type_name
    assert text in error.message
    assert isinstance(error, Exception)
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0
    assert problems == []


async def test_what_is_no_exception_does_not_escape_in_a_group(pool: Pool) -> None:
    """KeyboardInterrupt and SystemExit of a worker are plain errors among the others here."""
    error = await failure_of(pool, "base group")
    assert isinstance(error, ExceptionGroup)
    assert [type(each).__name__ for each in error.exceptions] == ["CommandError", "CommandError", "ValueError"]


@pytest.mark.parametrize(
    ("kind", "type_name", "cls"),
    [
        ("chain", "tests.support.stories.Shared", Shared),
        ("group", "ExceptionGroup", ExceptionGroup),
        ("cancelled", "asyncio.exceptions.CancelledError", CommandError),
        ("hidden", "tests.support.stories.Nowhere", CommandError),
    ],
)
async def test_an_error_through_two_pools_is_named_by_its_own_class(
    pool: Pool, kind: str, type_name: str, cls: type[Exception]
) -> None:
    """A pool in a worker changes neither type nor name; both workers' tracebacks are there."""
    with pytest.raises(CommandError) as caught:
        await pool.run("through_another_pool", kind)
    assert isinstance(caught.value, cls)
    assert caught.value.type_name == type_name
    assert sum(note.startswith("In worker") for note in caught.value.__notes__) == 2


async def test_a_small_max_message_costs_the_story_not_the_call() -> None:
    """What does not fit is told shorter, under its own name."""
    async with Pool("tests.support.stories", max_size=1, max_message=64 * 1024, stderr="discard") as pool:
        with pytest.raises(CommandError) as caught:
            await pool.run("tell", "wide")
        assert (caught.value.type_name, caught.value.message) == ("ExceptionGroup", "wide (500 sub-exceptions)")
