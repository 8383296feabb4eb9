"""Large values through real processes: whole, of the same type, and by whichever way the call goes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import pytest_asyncio

from asyncpool import ArgumentError, CommandError, PayloadError, Pool, ProtocolError, ResultError
from asyncpool.testing import InlinePool
from tests.support import values
from tests.support.waiting import eventually

KIB = 2**10
BUFFERS = Path(__file__).parents[1] / "faults" / "workers" / "speaks_buffers.py"


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(values, max_size=1, stderr="discard") as pool:
        yield pool


async def test_64_mb_of_an_array_there_and_back(pool: Pool) -> None:
    """Bit for bit."""
    sent = numpy.random.default_rng(1).random(8_000_000).reshape(2000, 4000)
    received = await pool.run(values.echo, sent)
    assert (received.dtype, received.shape) == (sent.dtype, sent.shape)
    assert numpy.array_equal(received, sent)
    received[0, 0] = 2.0
    assert sent[0, 0] < 1


async def test_results_that_are_kept_stay_what_they_were(pool: Pool) -> None:
    """Each has memory of its own as long as somebody looks at it, be it at a part; so have a command's arguments."""
    size = 8 * KIB * KIB
    kept = []
    for number in range(1, 12):
        result = await pool.run(values.echo, numpy.full(size, number, numpy.uint8))
        kept.append(result[:KIB] if number % 2 else result)
        assert await pool.run(values.first_items, numpy.full(size, number, numpy.uint8)) == list(range(1, number + 1))
    del result
    for number, each in enumerate(kept, 1):
        assert (each == number).all()


@pytest.mark.parametrize(("command", "times"), [(values.echo, 3), (values.echo_soon, 1), (values.echo_soon, 3)])
async def test_memory_of_large_values_is_given_back(pool: Pool, command: Any, times: int) -> None:
    """By the worker and by the application, soon after the last of them."""
    mib = KIB * KIB
    await pool.run(values.echo, numpy.zeros(1))
    before = [_rss(pool), values.resident()]
    for _ in range(times):
        await pool.run(command, numpy.zeros(100 * mib, numpy.uint8))
    for measure, had in zip([lambda: _rss(pool), values.resident], before, strict=True):
        await eventually(lambda measure=measure, had=had: measure() < had + 32 * mib)


def _rss(pool: Pool) -> int:
    (worker,) = pool.workers()
    assert worker.rss is not None
    return worker.rss


async def test_a_call_finds_nothing_of_the_large_one_before_it(pool: Pool) -> None:
    """It may take long, and the worker has that much less memory meanwhile."""
    mib = KIB * KIB
    before = await pool.run(values.resident, numpy.zeros(100 * KIB, numpy.uint8))
    for _ in range(3):
        await pool.run(values.echo, numpy.zeros(100 * mib, numpy.uint8))
    assert await pool.run(values.resident, numpy.zeros(100 * KIB, numpy.uint8)) < before + 32 * mib


@pytest.mark.parametrize("size", [64 * KIB - 1, 64 * KIB, 8 * KIB * KIB])
async def test_bytes_of_any_size_arrive_alike(pool: Pool, size: int) -> None:
    """Each kind as its annotation says, or as bytes without one; results, too."""
    data = os.urandom(size)
    for sent in (data, bytearray(data), memoryview(data)):
        assert await pool.run(values.kind_of, sent) == "bytes"
        assert await pool.run(values.echo, sent) == data
        returned = await pool.options(returns=bytearray).run("echo", sent)
        assert (type(returned), returned == data) == (bytearray, True)
    arrived = await pool.run(values.bytes_of, bytearray(data), data, data)
    assert arrived == [data, data + b"!", data, "bytes", "bytearray", "memoryview"]


async def test_large_arguments_among_small_and_named_ones(pool: Pool) -> None:
    """Each finds its own place, however many there are."""
    array = numpy.arange(20_000)
    got = await pool.run(
        values.summary, 7, b"d" * 70_000, b"small", bytearray(80_000), view=memoryview(bytes(90_000)), array=array
    )
    assert got == [7, [70_000, 5, 80_000, 90_000], "", ["<i8", [20_000], int(array.sum())]]
    many = [bytes([number % 256]) * 64 * KIB for number in range(1100)]  # more than one system call takes
    assert (await pool.run(values.summary, 1, b"", *many, view=b""))[1] == [0, *[64 * KIB] * 1100, 0]
    assert await pool.run(values.echo, numpy.float64(0.1)) == 0.1


@pytest.mark.parametrize("command", ["pieces", "pieces_soon"])
async def test_large_updates_come_in_order(pool: Pool, command: str) -> None:
    """Small and large ones, one of them larger than all credit; each is as it was sent."""
    sizes = [10, 70_000, 3 * 2**20, 70_001, 5, 300_000, *[90_000] * 30]
    async with pool.stream(command, sizes) as updates:
        got = [bytes(update) async for update in updates]
        assert got == [bytes([number]) * size for number, size in enumerate(sizes)]
        assert updates.result == (b"r" * max(sizes) if command == "pieces" else None)


async def test_async_commands_take_large_values_side_by_side() -> None:
    """Several calls in one worker do not get each other's."""
    async with Pool(values, max_size=1, concurrency=8, stderr="discard") as pool:
        sent = [bytes([number]) * (70_000 + number) for number in range(24)]
        assert await asyncio.gather(*(pool.run(values.echo_soon, each) for each in sent)) == sent


async def test_max_message_counts_what_is_behind_the_body() -> None:
    """The error tells the full size; neither side is harmed by the attempt."""
    async with Pool(values, max_size=1, max_message=2**20, stderr="discard") as pool:
        with pytest.raises(PayloadError, match=r"the call takes 1,100,0\d\d bytes, above the pool's max_message"):
            await pool.run(values.echo, bytes(600_000), bytes(500_000))
        with pytest.raises(ResultError, match=r"the result is 1,200,0\d\d bytes, above max_message"):
            await pool.run(values.zeros, 150_000)
        with pytest.raises(ResultError, match=r"an update cannot travel: it is 1,100,0\d\d bytes"):
            async with pool.stream(values.pieces, [1_100_000]) as updates:
                [each async for each in updates]
        assert await pool.run(values.echo, bytes(2**20 - 100)) == bytes(2**20 - 100)
        assert pool.stats().spawned == 1


async def test_an_annotation_that_refuses_names_the_argument(pool: Pool) -> None:
    """Before the command runs."""
    with pytest.raises(ArgumentError, match="argument 'cat': Expected `object`, got `bytes`"):
        await pool.run("older", bytes(2**20))
    with pytest.raises(ArgumentError, match=r"argument 'size': Expected `int`, got `numpy\.ndarray`"):
        await pool.run("zeros", numpy.zeros(10_000))
    with pytest.raises(ResultError, match="Expected `str`, got `bytes`"):
        await pool.options(returns=str).run("echo", bytes(2**20))


@pytest.mark.parametrize("size", [100_000, 8 * 2**20])
async def test_a_large_call_that_was_never_read_is_moved_whole(size: int) -> None:
    """To a worker that lives, though all of it, or half, was in the hands of the kernel."""
    data = os.urandom(size)
    async with Pool(values, max_size=1, stderr="discard") as pool:
        victim = pool.workers()[0].pid
        assert victim is not None
        os.kill(victim, signal.SIGSTOP)
        call = asyncio.create_task(pool.run(values.echo, data))
        await eventually(lambda: pool.stats().running == 1)
        os.kill(victim, signal.SIGKILL)
        assert await call == data
        assert pool.stats().attempts == 2


async def test_a_large_call_is_run_again_whole(pool: Pool, tmp_path: Path) -> None:
    """With its retries, and with the time limit that only the worker knows."""
    data = os.urandom(2**20)
    assert await pool.run(values.echo_once_crashed, str(tmp_path / "first"), data) == data
    async with Pool(
        values, min_size=0, max_size=1, stderr="discard"
    ) as late:  # it is encoded before any worker is ready
        assert await late.run(values.echo_once_crashed, str(tmp_path / "second"), data) == data


async def test_a_bytearray_may_grow_again_once_its_call_has_ended(pool: Pool) -> None:
    """Also by an error: nothing holds its memory any more."""
    data = bytearray(4 * 2**20)
    assert len(await pool.run(values.echo, data)) == len(data)
    data += b"!"
    try:
        await pool.run("no such command", data)
    except CommandError:
        data += b"!"
    victim = pool.workers()[0].pid
    assert victim is not None
    os.kill(victim, signal.SIGSTOP)
    call = asyncio.create_task(pool.run(values.echo, data))
    await eventually(lambda: pool.stats().running == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    data += b"!"


async def test_an_inline_pool_does_the_same() -> None:
    """What arrives is no part of what was sent, though both are in one process."""
    async with InlinePool(values, max_size=1) as pool:
        sent = numpy.zeros(100_000)
        received = await pool.run(values.echo, sent)
        received[0] = 1
        assert sent[0] == 0
        assert await pool.run(values.echo, bytearray(100_000)) == bytes(100_000)


# --- workers in other languages --------------------------------------------------------------------------------------


def foreign(takes: str) -> Pool:
    return Pool(program=[sys.executable, str(BUFFERS), takes], max_size=1, stderr="discard")


async def test_a_program_that_takes_no_buffers_gets_none() -> None:
    """All is in the body, as if there were no buffers; what it sends itself in one arrives all the same."""
    async with foreign("no") as pool:
        assert await pool.run("seen", b"x" * 70_000, b"y") == [[b"x" * 70_000, b"y"], [], b""]
        assert await pool.run("back", b"x" * 70_000) == b"x" * 70_000


async def test_a_program_that_takes_buffers_gets_them_as_the_page_says() -> None:
    """In the order of the arguments; each stands in the body with its number, an array with dtype, shape and order."""
    async with foreign("takes") as pool:
        array = numpy.arange(10_000.0).reshape(100, 100)
        inside, lengths, behind = await pool.run("seen", b"x" * 70_000, b"y", array)
        assert (inside[0], inside[1], lengths) == ([0x91, 0], b"y", [70_000, 80_000])
        assert inside[2][:5] == [0x94, 1, 0xA3, *b"<f"]
        assert behind == b"x" * 70_000 + array.tobytes()


@pytest.mark.parametrize("command", ["too long", "negative", "no buffer"])
async def test_lengths_that_lie_end_the_worker(command: str) -> None:
    """As any other bad frame does; the next call is served by another one."""
    async with foreign("takes") as pool:
        with pytest.raises(ProtocolError, match="bytes behind a message that tells of buffers of"):
            await pool.run(command, 1)
        assert await pool.run("seen", b"y") == [[b"y"], [], b""]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("missing", "buffer 1, which did not come"),
        ("no array", "has not 3 bytes"),
    ],
)
async def test_a_result_that_is_not_where_it_says_is_refused(command: str, words: str) -> None:
    """With the reason; the worker goes on."""
    async with foreign("takes") as pool:
        with pytest.raises(ResultError, match=words):
            await pool.run(command, 1)
        assert await pool.run("seen", b"y") == [[b"y"], [], b""]
        assert pool.stats().spawned == 1
