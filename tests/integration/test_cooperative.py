"""Commands that are asked to stop, those that may finish, and what a command knows of its call."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import asyncpool
from asyncpool import CommandTimeout, Pool, PoolClosed
from tests.conftest import Gate
from tests.support import commands, coroutines, updates
from tests.support.processes import there
from tests.support.waiting import eventually


@contextlib.asynccontextmanager
async def pool_of(size: int = 1, **options: Any) -> AsyncIterator[Pool]:
    async with Pool(commands, updates, coroutines, min_size=size, max_size=size, stderr="discard", **options) as pool:
        yield pool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


def lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except FileNotFoundError:
        return []


# --- cooperative -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looped", [False, True])
async def test_a_cooperative_command_hears_that_it_shall_stop(path: Path, looped: bool) -> None:
    """By cancelled(); its worker is kept. Also in a worker that has a loop by now."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        if looped:
            await pool.run(coroutines.answer, 1)
        task = asyncio.create_task(pool.run(updates.looks, str(path)))
        await eventually(lambda: lines(path) == ["begun"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert lines(path) == ["begun", "heard"]
        assert await pool.run("pid") == pid
        assert "cancelled" in pool.stats().outcomes


@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize("way", ["run", "stream, slow", "stream, starved"])
async def test_emit_raises_below_a_command_that_shall_stop(path: Path, way: str, looped: bool) -> None:
    """With and without a listener, with credit left and without."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        if looped:
            await pool.run(coroutines.answer, 1)
        if way == "run":
            task = asyncio.create_task(pool.run(updates.emits_until_stopped, str(path), 0.001))
            await eventually(lambda: pool.stats().running)
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])
        else:
            pause = 0.1 if way == "stream, slow" else 0.0
            async with pool.stream(updates.emits_until_stopped, str(path), pause) as stream:
                await anext(stream)
                await asyncio.sleep(0.02)
        assert lines(path) == ["finally"]
        assert await pool.run("pid") == pid


async def test_a_command_that_says_it_heeds_but_does_not_is_killed(path: Path) -> None:
    """After its own cancel_grace."""
    async with pool_of(cancel_grace=30) as pool:
        pid = await pool.run("pid")
        task = asyncio.create_task(pool.run(updates.deaf_to_cancel, str(path)))
        await eventually(lambda: lines(path))
        task.cancel()
        await asyncio.wait([task], timeout=3)
        assert task.cancelled()
        assert not there(pid)


@pytest.mark.parametrize("looped", [False, True])
async def test_a_thread_that_waits_for_credit_does_not_hold_up_cancelled(path: Path, looped: bool) -> None:
    """The main thread looks on while a thread of the command reads for it."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        if looped:
            await pool.run(coroutines.answer, 1)
        async with pool.stream(updates.thread_waits_for_credit, str(path)):
            await eventually(lambda: lines(path) == ["looked"])
        assert await pool.run("pid") == pid


async def test_a_cooperative_command_that_runs_too_long_is_asked_too(path: Path) -> None:
    """What it returns in time then is its result, as with asyncio.timeout around what swallows it; else the error."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        assert await pool.options(timeout=0.1).run(updates.looks, str(path)) == "stopped"
        with pytest.raises(CommandTimeout):
            await pool.options(timeout=0.1).run(updates.emits_until_stopped, str(path), 0.001)
        assert await pool.run("pid") == pid


# --- on_cancel="finish" ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["command", "options", "async"])
async def test_with_finish_the_caller_leaves_at_once_and_the_command_goes_on(by: str, path: Path, gate: Gate) -> None:
    """The worker is busy until it answers; the call counts once, as cancelled."""
    async with pool_of() as pool:
        call: Any = {
            "command": lambda: pool.run(updates.finishes, str(path), gate.path),
            "options": lambda: pool.options(on_cancel="finish").run("wait_at", gate.path),
            "async": lambda: pool.options(on_cancel="finish").run(coroutines.at_gate, gate.path),
        }[by]
        task = asyncio.create_task(call())
        await eventually(lambda: lines(path) or gate.reached())
        task.cancel()
        await asyncio.wait([task], timeout=0.05)
        assert task.cancelled()
        behind = asyncio.create_task(pool.run("echo", 7))
        await asyncio.sleep(0.02)
        stats = pool.stats()
        assert (stats.busy, stats.running, stats.waiting) == (1, 1, 1)
        gate.open()
        assert await behind == 7
        assert pool.stats().outcomes == {"ok": 1, "cancelled": 1}
        assert pool.stats().spawned == 1
        if by == "command":
            assert lines(path) == ["begun", "finished"]


async def test_the_caller_may_overrule_the_commands_finish(path: Path, gate: Gate) -> None:
    """on_cancel="stop" kills it."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        task = asyncio.create_task(pool.options(on_cancel="stop").run(updates.finishes, str(path), gate.path))
        await eventually(lambda: lines(path))
        task.cancel()
        await asyncio.wait([task])
        assert not there(pid)


async def test_a_waiting_call_that_would_finish_is_withdrawn(path: Path, gate: Gate) -> None:
    """It has not begun: there is nothing to finish."""
    async with pool_of() as pool:
        holder = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        task = asyncio.create_task(pool.run(updates.finishes, str(path), gate.path))
        await eventually(lambda: pool.stats().waiting)
        task.cancel()
        await asyncio.wait([task])
        gate.open()
        await holder
    assert lines(path) == []


@pytest.mark.parametrize("grace", [0.1, 5])
async def test_closing_waits_within_grace_for_what_may_finish(grace: float, path: Path, gate: Gate) -> None:
    """Beyond, it is stopped as all are."""
    async with pool_of() as pool:
        task = asyncio.create_task(pool.run(updates.finishes, str(path), gate.path))
        await eventually(lambda: lines(path))
        task.cancel()
        await asyncio.wait([task])
        closing = asyncio.create_task(pool.aclose(grace))
        if grace == 5:
            await asyncio.sleep(0.02)
            gate.open()
        await closing
        assert pool.stats().outcomes == {"cancelled": 1}
        assert lines(path) == (["begun", "finished"] if grace == 5 else ["begun"])
        with pytest.raises(PoolClosed):
            await pool.run("echo")


async def test_a_timeout_still_ends_what_may_finish(path: Path, gate: Gate) -> None:
    """Its caller is gone, its limit is not."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        task = asyncio.create_task(pool.options(timeout=0.2).run(updates.finishes, str(path), gate.path))
        await eventually(lambda: lines(path))
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: not there(pid))
        await eventually(lambda: pool.stats().outcomes == {"ok": 1, "cancelled": 1})


# --- call_context ----------------------------------------------------------------------------------------------------


async def test_a_command_knows_its_call() -> None:
    """Id, deadline, meta and slot; the deadline comes nearer."""
    async with pool_of(2) as pool:
        first = await pool.options(timeout=50, meta={"trace": "abc"}).run(updates.context)
        second = await pool.run(updates.context)
        assert first.meta == {"trace": "abc"}
        assert second.meta == {}
        assert second.id > first.id > 0
        assert first.deadline is not None
        assert 40 < first.deadline <= 50
        assert second.deadline is None
        assert {first.slot, second.slot} <= {0, 1}
        assert first.cancelled is second.cancelled is False
        before, after = await pool.options(timeout=5).run(updates.deadlines, 0.1)
        assert before is not None
        assert after is not None
        assert 0.1 <= before - after < 1


def test_outside_a_worker_there_is_a_context_too_and_emit_does_nothing() -> None:
    """So commands can be called directly, in tests for example."""
    context = asyncpool.call_context()
    assert (context.id, context.deadline, context.meta, context.slot) == (0, None, {}, 0)
    assert context.cancelled() is False
    asyncpool.emit(lambda: None)
    assert updates.emits(3) == 3
    assert list(updates.count(2)) == [0, 1]
