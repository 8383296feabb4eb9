"""Large payloads when the other side does not behave as one would wish, and what is left of them."""

import asyncio
import gc
import os
import signal
import sys
import weakref
from pathlib import Path

import numpy
import pytest

from asyncpool import Pool
from tests.support import commands
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


async def test_a_settled_call_keeps_nothing_until_garbage_is_collected() -> None:
    """Whatever its options: its argument is gone when its caller lets go of it."""
    async with Pool(commands, max_size=1, acquire_timeout=60, timeout=60, stderr="discard") as pool:
        gc.disable()
        try:
            array = numpy.zeros(LARGE, numpy.uint8)
            left = weakref.ref(array)
            assert await pool.options(retries=1, key="Tom").run(len, array) == LARGE
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
