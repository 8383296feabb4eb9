"""Large payloads when the other side does not behave as one would wish, and what is left of them."""

import asyncio
import gc
import os
import signal
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from asyncpool import CommandError, CommandTimeout, Pool, ResultError, WorkerCrashed
from tests.support import commands, greedy
from tests.support.processes import memory
from tests.support.waiting import eventually

LARGE = 64 * 2**20  # bytes
SLACK = 16 * 2**20  # bytes by which a process may have grown when nothing of a large payload is left
UNREAD = Path(__file__).parent / "workers" / "answers_unread.py"


async def test_both_sides_may_write_at_once() -> None:
    """64 MiB go to a worker that first writes 64 MiB itself and reads nothing meanwhile; then all is as before."""
    async with (
        asyncio.timeout(20),
        Pool(program=[sys.executable, str(UNREAD)], max_size=1, stderr="discard") as pool,
    ):
        for number in range(2):
            answer = await pool.run("answer unread", b"y" * LARGE)
            assert (len(answer), answer[:1], answer[-1:]) == (LARGE, b"x", b"x")
            assert await pool.run("echo", number) == number
        assert pool.stats().spawned == 1


@pytest.mark.parametrize("command", ["length", "big", "whole"])
async def test_nothing_of_a_settled_call_is_kept(command: str) -> None:
    """The last argument and the last result are gone, here and in the worker, while it waits for its next call."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        for size in (1000, LARGE):
            if size == LARGE:
                here, there = memory(), pool.workers()[0].rss
                assert there is not None
            await pool.run(command, size if command == "big" else b"x" * size)
        await eventually(lambda: (pool.workers()[0].rss or 0) - there < SLACK)
        await eventually(lambda: memory() - here < SLACK)
        assert pool.stats().spawned == 1


async def succeeds(pool: Pool, array: Any) -> None:
    assert await pool.options(retries=1, key="Tom").run(greedy.returns, array) == LARGE


async def raises(pool: Pool, array: Any) -> None:
    with pytest.raises(CommandError):
        await pool.run(greedy.fails, array)


async def does_not_fit(pool: Pool, array: Any) -> None:
    with pytest.raises(ResultError):
        await pool.run(greedy.says_text, array)


async def crashes(pool: Pool, array: Any) -> None:
    with pytest.raises(WorkerCrashed):
        await pool.run(greedy.dies, array)


async def takes_too_long(pool: Pool, array: Any) -> None:
    with pytest.raises(CommandTimeout):
        await pool.options(timeout=0.1).run(greedy.hangs, array)


async def streams(pool: Pool, array: Any) -> None:
    async with pool.stream(greedy.sends, array) as updates:
        assert [update async for update in updates] == [LARGE]


async def tells(pool: Pool, array: Any) -> None:
    lengths = list[int]()
    await pool.options(on_update=lengths.append).run(greedy.sends, array)
    assert lengths == [LARGE]


async def maps(pool: Pool, array: Any) -> None:
    async with pool.map(greedy.returns, [array] * 2, chunk=2) as lengths:
        assert [length async for length in lengths] == [LARGE] * 2


@pytest.mark.parametrize(
    "use", [succeeds, raises, does_not_fit, crashes, takes_too_long, streams, tells, maps], ids=lambda use: use.__name__
)
async def test_a_settled_call_keeps_nothing_until_garbage_is_collected(use: Callable[..., Any]) -> None:
    """Whatever its options and its outcome: its argument is gone when its caller lets go of it."""
    async with Pool(max_size=1, acquire_timeout=60, timeout=60, stderr="discard") as pool:
        gc.disable()
        try:
            array = numpy.zeros(LARGE, numpy.uint8)
            left = weakref.ref(array)
            await use(pool, array)
            del array
            await eventually(lambda: left() is None)
        finally:
            gc.enable()


async def test_nothing_of_a_cancelled_call_is_kept() -> None:
    """It was on its way to a worker that is stopped: once its caller is cancelled, its 64 MiB are gone."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        os.kill(await pool.run("pid"), signal.SIGSTOP)
        array = numpy.zeros(LARGE, numpy.uint8)  # it travels by reference, and tells when it is gone
        left = weakref.ref(array)
        call = asyncio.create_task(pool.run("length", array))
        del array
        await eventually(lambda: pool.stats().running == 1)
        assert left() is not None
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        del call
        await eventually(lambda: left() is None)
        assert await pool.run("echo", 1) == 1
