"""submit: calls in the background, which nobody need wait for and nobody loses."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from asyncpool import CommandError, PayloadError, Pool, PoolClosed, PoolFull
from tests.conftest import Gate
from tests.support import commands, items
from tests.support.waiting import eventually, steps


@pytest.fixture
def complaints() -> Iterator[list[dict[str, Any]]]:
    """What asyncio itself says of exceptions that were never retrieved: nothing."""
    heard: list[dict[str, Any]] = []
    yield heard
    assert heard == []


@pytest.fixture
def listening(complaints: list[dict[str, Any]]) -> "type[Listening]":
    Listening.heard = complaints
    return Listening


class Listening:
    """Listens to the loop within its block."""

    heard: list[dict[str, Any]]

    def __enter__(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.heard.append(context))

    def __exit__(self, *_: object) -> None:
        gc.collect()


async def test_a_submitted_call_is_a_task_with_its_result(pool: Pool) -> None:
    """It runs without being awaited, and can be awaited whenever."""
    task = pool.submit(commands.add, 1, second=2)
    assert isinstance(task, asyncio.Task)
    assert await task == 3
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(asyncio.wait_for(pool.options(timeout=5).submit("echo", "Tom"), 5))
    assert waiting.result() == "Tom"


async def test_the_pool_holds_its_tasks(gate: Gate) -> None:
    """A task that nobody keeps is not collected in its middle."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        pool.submit("wait_at", gate.path)
        await eventually(gate.reached)
        gc.collect()
        gate.open()
        await eventually(lambda: pool.stats().outcomes == {"ok": 1})


async def test_refusals_are_raised_at_once(gate: Gate) -> None:
    """PoolFull, PayloadError and PoolClosed come from submit itself, and nothing was begun."""
    async with Pool(commands, max_size=1, max_waiting=0, stderr="discard") as pool:
        running = pool.submit("wait_at", gate.path)
        with pytest.raises(PoolFull):
            pool.submit("pid")
        with pytest.raises(PayloadError):
            pool.submit("echo", object())
        gate.open()
        await running
        assert pool.stats().attempts == 1
    with pytest.raises(PoolClosed):
        pool.submit("pid")


async def test_a_failure_that_nobody_awaits_is_logged_once(
    pool: Pool, caplog: pytest.LogCaptureFixture, listening: type[Listening]
) -> None:
    """With the command's name and the worker's traceback; asyncio's own complaint does not come on top."""
    with listening():
        pool.submit("fail", "ValueError")
        await eventually(lambda: caplog.records)
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("asyncpool", logging.ERROR)
        assert record.getMessage() == "fail, in the background of pool 'pool', failed and nobody awaited it"
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ValueError)
        assert "In worker" in caplog.text
        assert 'raise ValueError("bad value", 7)' in caplog.text


async def test_a_failure_that_somebody_hears_of_is_not_logged(
    pool: Pool, caplog: pytest.LogCaptureFixture, listening: type[Listening]
) -> None:
    """Awaited, asked for its exception, or handled by a callback."""
    with listening():
        with pytest.raises(CommandError):
            await pool.submit("fail", "ValueError")
        task = pool.submit("fail", "ValueError")
        await asyncio.wait([task])
        assert isinstance(task.exception(), ValueError)
        pool.submit("fail", "ValueError").add_done_callback(lambda task: task.exception())
        await eventually(lambda: pool.stats().outcomes == {"failed": 3})
        await steps(3)
        del task
    assert caplog.records == []


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_cancelling_the_task_stops_the_command(gate: Gate, after: int) -> None:
    """Also before the task has made its first step; what waits is withdrawn."""
    async with Pool(commands, items, max_size=1, stderr="discard") as pool:
        running = pool.submit(items.wait_later_at, gate.path, 1)
        waiting = pool.submit(commands.echo, 1)
        await steps(after)
        running.cancel()
        waiting.cancel()
        done = await asyncio.gather(running, waiting, return_exceptions=True)
        assert [type(each) for each in done] == [asyncio.CancelledError] * 2
        await eventually(lambda: pool.stats().running == 0)
        assert pool.stats().waiting == 0
        assert pool.stats().outcomes == {"cancelled": 2}
        assert await pool.run("echo", 2) == 2


async def test_closing_serves_what_was_submitted(gate: Gate) -> None:
    """Within its grace; the tasks are done when the pool is."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        tasks = [pool.submit("echo", number) for number in range(5)]
    assert [task.result() for task in tasks] == [0, 1, 2, 3, 4]


async def test_what_closing_ends_is_no_failure(
    gate: Gate, caplog: pytest.LogCaptureFixture, listening: type[Listening]
) -> None:
    """PoolClosed, with started; said at the level of debugging only."""
    caplog.set_level(logging.DEBUG, "asyncpool")
    with listening():
        pool = Pool(commands, max_size=1, stderr="discard")
        await pool.start()
        kept = [pool.submit("wait_at", gate.path), pool.submit("wait_at", gate.path)]
        pool.submit("wait_at", gate.path)
        await eventually(gate.reached)
        await pool.aclose(0)
        assert all(task.done() for task in kept)
        assert [task.exception().started for task in kept] == [True, False]  # type: ignore[union-attr]
        assert [type(task.exception()) for task in kept] == [PoolClosed] * 2
    assert [record.levelno for record in caplog.records if record.name == "asyncpool"] == [logging.DEBUG]


async def test_updates_of_a_submitted_call_are_told(pool: Pool) -> None:
    """options(on_update=) works in the background, and closing waits for it within its grace."""
    told: list[Any] = []

    async def tell(update: Any) -> None:
        await asyncio.sleep(0.01)
        told.append(update)

    async with Pool(items, max_size=1, stderr="discard") as own:
        task = own.options(on_update=tell).submit(items.steps_of, 3)
    assert await task == 6
    assert told == [["an update", 3], 3]


async def test_closing_does_not_wait_for_ever_for_updates() -> None:
    """An on_update that never ends is cancelled when the grace is over."""
    reached = asyncio.Event()

    async def never_ends(update: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with Pool(items, max_size=1, stderr="discard") as pool:
        task = pool.options(on_update=never_ends).submit(items.steps_of, 3)
        await reached.wait()
        await pool.aclose(0.05)
    assert task.cancelled()


async def test_a_task_that_holds_leases_may_submit(gate: Gate) -> None:
    """It does not wait for the call, so it cannot wait for itself."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        async with pool.acquire():
            task = pool.submit("echo", 1)
        assert await task == 1
