"""map: one command for many items, lazily, in order or as they are done, alone or in chunks."""

import asyncio
import functools
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncpool import (
    ArgumentError,
    CommandError,
    CommandTimeout,
    PayloadError,
    Pool,
    PoolClosed,
    PoolError,
    PoolFull,
    ResultError,
    Results,
    UnknownCommand,
    WorkerCrashed,
)
from asyncpool.pool.caller import Caller
from tests.conftest import Gate
from tests.support import commands, items
from tests.support.waiting import eventually, steps

CHUNKS = pytest.mark.parametrize("chunk", [1, 4])


def small(**options: object) -> Pool:
    """A pool of two workers that know the commands for items."""
    return Pool(items, commands, **{"min_size": 2, "max_size": 2, "stderr": "discard", **options})  # type: ignore[arg-type]


def lines_of(path: str) -> list[str]:
    return Path(path).read_text().split()


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


async def taken_until_closed(results: Results[Any]) -> list[Any]:
    taken = []
    try:
        while True:
            taken.append(await anext(results))
    except PoolClosed:
        return taken


class Counted:
    """An endless source that knows how much of it was pulled."""

    def __init__(self) -> None:
        self.pulled = 0

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.pulled += 1
            yield number


# --- results ---------------------------------------------------------------------------------------------------------


@CHUNKS
@pytest.mark.parametrize(
    "command",
    [items.double, items.double_later, "double", "double_later", items.steps_of],
    ids=lambda each: getattr(each, "__name__", f"by name {each}"),
)
async def test_each_item_has_its_result_in_order(command: object, chunk: int) -> None:
    """Plain, async and generator commands, by function and by name, from plain and async sources."""
    async with small() as pool:
        for source in (range(30), numbers(30)):
            async with pool.map(command, source, chunk=chunk) as doubled:  # type: ignore[call-overload]
                assert [each async for each in doubled] == [2 * number for number in range(30)]
        assert pool.stats().waiting == pool.stats().running == 0


@CHUNKS
@pytest.mark.parametrize(
    "command", [items.double_by_coroutine, items.double_at_once, items.double_any_way], ids=lambda each: each.__name__
)
async def test_what_a_command_returns_says_whether_it_is_awaited(
    command: Callable[[int], Any], chunk: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not how it is defined, in a chunk as alone."""
    async with small(stderr="forward") as pool, pool.map(command, range(10), chunk=chunk) as doubled:
        assert [each async for each in doubled] == [2 * number for number in range(10)]
    assert capfd.readouterr().err == ""


@CHUNKS
async def test_an_async_generator_has_no_result(chunk: int) -> None:
    """Its updates go to nobody, as with run."""
    async with small() as pool, pool.map(items.later_steps_of, range(6), chunk=chunk) as nothing:
        assert [each async for each in nothing] == [None] * 6


@CHUNKS
async def test_partial_gives_the_arguments_before_the_item(chunk: int) -> None:
    """functools.partial is taken apart, as with run."""
    async with small() as pool, pool.map(functools.partial(commands.add, 5), range(6), chunk=chunk) as sums:
        assert [each async for each in sums] == [5, 6, 7, 8, 9, 10]
    async with small() as pool, pool.map(functools.partial(commands.add, second=7), range(3), chunk=chunk) as sums:
        assert [each async for each in sums] == [7, 8, 9]


@CHUNKS
async def test_named_arguments_may_be_large_integers(chunk: int) -> None:
    """Beyond what MessagePack has a word for."""
    async with small() as pool, pool.map(functools.partial(commands.add, second=2**128), range(3), chunk=chunk) as sums:
        assert [each async for each in sums] == [2**128 + number for number in range(3)]


async def test_chunks_make_few_calls(pool: Pool) -> None:
    """Ten items of ten go to a worker with one frame."""
    for window in (None, 12, 35):
        before = pool.stats().submitted
        async with pool.map("echo", range(100), chunk=10, window=window) as echoes:
            assert [each async for each in echoes] == list(range(100))
        assert pool.stats().submitted == before + 10
    async with pool.map("echo", range(9), chunk=10, window=3) as echoes:  # never full: the window ships it
        assert [each async for each in echoes] == list(range(9))
    assert pool.stats().submitted == before + 13


async def test_as_completed_a_slow_item_holds_up_nobody(gate: Gate) -> None:
    """Without order the results come as they are done; with it they wait for the first."""
    async with small() as pool:
        command = functools.partial(items.wait_from, gate.path, 9)
        async with pool.map(command, [9, 1, 2, 3], ordered=False) as done:
            assert sorted([await anext(done) for _ in range(3)]) == [1, 2, 3]
            gate.open()
            assert [each async for each in done] == [9]


async def test_results_of_a_chunk_come_one_by_one(gate: Gate) -> None:
    """What is done arrives while the rest of its chunk still runs."""
    async with small() as pool, pool.map(functools.partial(items.wait_from, gate.path, 3), range(5), chunk=5) as done:
        assert [await anext(done) for _ in range(3)] == [0, 1, 2]
        assert pool.stats().running == 1
        gate.open()
        assert [each async for each in done] == [3, 4]


async def test_no_items_no_results(pool: Pool) -> None:
    """An empty source is no error."""
    async with pool.map("echo", []) as echoes:
        assert [each async for each in echoes] == []
    assert pool.stats().submitted == 0


async def test_foreign_functions_are_mapped_in_chunks_too(pool: Pool) -> None:
    """Any function that a worker can import."""
    async with pool.map(len, ["", "a", "ab"], chunk=2) as lengths:
        assert [each async for each in lengths] == [0, 1, 2]


async def test_large_results_of_a_chunk_flow(pool: Pool) -> None:
    """Answers above the bytes that may be under way wait for nobody but the reader."""
    async with pool.map("big", [700_000] * 40, chunk=20) as blobs:
        assert [len(each) async for each in blobs] == [700_000] * 40


# --- laziness --------------------------------------------------------------------------------------------------------


@CHUNKS
@pytest.mark.parametrize("ordered", [True, False])
async def test_an_endless_source_is_pulled_as_far_as_the_window(chunk: int, ordered: bool) -> None:
    """However slow the consumer, at most window items are pulled whose result was not taken."""
    source = Counted()
    async with small() as pool:
        async with pool.map(items.double, source, window=6, chunk=chunk, ordered=ordered) as doubled:
            await eventually(lambda: source.pulled == 6 and pool.stats().running + pool.stats().waiting == 0)
            await steps(5)
            assert source.pulled == 6
            for taken in range(1, 20):
                await anext(doubled)
                assert source.pulled <= taken + 6
        assert source.pulled < 30
        assert await pool.run("double", 1) == 2


async def test_the_default_window_is_four_items_for_each_worker() -> None:
    """Where nothing is said: 4 * max_size * concurrency * chunk."""
    for concurrency, chunk in ((1, 1), (2, 3)):
        source = Counted()
        async with small(concurrency=concurrency) as pool, pool.map(items.double_later, source, chunk=chunk):
            await eventually(lambda source=source, most=8 * concurrency * chunk: source.pulled == most)
            await eventually(lambda pool=pool: not (pool.stats().running or pool.stats().waiting))
            assert source.pulled == 8 * concurrency * chunk


async def test_others_get_their_turn(gate: Gate) -> None:
    """However large the window, a map has at most two calls with the pool for each that its workers can run."""
    async with (
        small() as pool,
        pool.map(functools.partial(items.wait_from, gate.path, 0), range(1000), window=1000) as done,
    ):
        await eventually(lambda: len(gate.reached()) == 2)
        assert (pool.stats().running, pool.stats().waiting) == (2, 2)
        other = asyncio.create_task(pool.run("pid"))
        await steps(3)
        gate.open()
        await other
        assert await anext(done) == 0


async def test_a_map_is_never_refused_and_refuses_nobody_for_long(gate: Gate) -> None:
    """Where max_waiting is reached the map holds back until there is room; it raises no PoolFull."""
    async with small(max_waiting=1) as pool:
        blocked = [asyncio.create_task(pool.run("wait_at", gate.path)) for _ in range(3)]
        await eventually(lambda: pool.stats().waiting == 1)
        async with pool.map(items.double, range(20)) as first, pool.map(items.double, numbers(20), chunk=3) as second:
            with pytest.raises(PoolFull):
                await pool.run("pid")
            assert pool.stats().waiting == 1
            gate.open()
            assert [each async for each in first] == [each async for each in second] == list(range(0, 40, 2))
        await asyncio.gather(*blocked)
        assert pool.stats().outcomes == {"ok": pool.stats().submitted - 1, "rejected": 1}


async def test_a_chunk_whose_items_are_all_answered_is_not_stopped() -> None:
    """Whoever leaves with the last answer in hand, before the end of its chunk has come, cancels nothing."""
    async with small() as pool:
        for count in range(1, 40):
            async with pool.map(items.double, range(4), chunk=4) as doubled:
                assert [each async for each in doubled] == [0, 2, 4, 6]
            assert pool.stats().outcomes == {"ok": count}


async def test_a_map_that_is_left_while_it_holds_back_lets_the_next_one_go(gate: Gate) -> None:
    """Room that was offered to one that is gone is offered to the next."""
    async with small(max_waiting=0) as pool:
        blocked = [asyncio.create_task(pool.run("wait_at", gate.path)) for _ in range(2)]
        await eventually(lambda: len(gate.reached()) == 2)
        async with pool.map(items.double, range(5)) as second_after:
            async with pool.map(items.double, range(5)):
                await steps(3)
                gate.open()
            assert [each async for each in second_after] == [0, 2, 4, 6, 8]
        await asyncio.gather(*blocked)


async def test_a_map_whose_turn_it_is_and_that_needs_none_lets_the_next_one_go(gate: Gate) -> None:
    """Its item cannot travel: the room that it was offered is offered to the next, at once."""
    async with Pool(items, commands, max_size=1, max_waiting=0, health_interval=None, idle_timeout=None) as pool:
        blocked = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        async with pool.options(return_exceptions=True).map(items.double, [object()]) as refused:
            await steps(3)
            async with pool.map(items.double, range(3)) as doubled:
                await steps(3)
                gate.open()
                assert [each async for each in doubled] == [0, 2, 4]
            assert [type(each) async for each in refused] == [PayloadError]
        await blocked


async def test_a_chunk_that_waits_when_the_map_is_left_never_runs(tmp_path: Path) -> None:
    """Also where the end of an answered one is on its way, which would free the worker for it."""
    trace = tmp_path / "trace"
    command = functools.partial(items.leave_a_trace, str(trace))
    async with small(min_size=1, max_size=1) as pool:
        await pool.run(items.flush_slowly, 2.0)
        async with pool.map(command, range(8), chunk=2, window=8) as traced:
            assert [await anext(traced) for _ in range(2)] == [0, 1]
        assert await pool.run("echo", 1) == 1
    assert lines_of(str(trace)) == ["0", "1"]


async def test_a_map_that_has_ended_by_an_error_begins_nothing_more() -> None:
    """Its block may go on for long; what it held back for want of room stays where it is."""
    async with (
        small(min_size=1, max_size=1, max_waiting=0) as pool,
        pool.map(items.fail_below, range(9)) as failed,
    ):
        with pytest.raises(CommandError):
            await anext(failed)
        before = pool.stats().submitted
        await eventually(lambda: pool.stats().idle == 1)
        await steps(9)
        assert (pool.stats().submitted, pool.stats().idle) == (before, 1)


async def test_a_map_that_has_ended_by_an_error_passes_its_turn_on(gate: Gate) -> None:
    """Who waits for room behind it gets that, though nothing else happens in the pool and its block is still open."""
    second = asyncio.Event()

    async def two() -> AsyncIterator[int]:
        yield 0
        await second.wait()
        yield 1

    async def doubled(pool: Pool) -> list[int]:
        async with pool.map(items.double, [1]) as results:
            return [each async for each in results]

    fail = functools.partial(items.fail_at_gate, gate.path)
    async with (
        small(min_size=1, max_size=1, max_waiting=0, health_interval=None, idle_timeout=None) as pool,
        pool.map(fail, two()) as failed,
    ):
        await eventually(gate.reached)
        before = asyncio.create_task(doubled(pool))
        await steps(5)
        second.set()
        await steps(5)
        behind = asyncio.create_task(doubled(pool))
        await steps(5)
        gate.open()
        with pytest.raises(CommandError):
            await anext(failed)
        async with asyncio.timeout(5):
            assert await asyncio.gather(before, behind) == [[2], [2]]


async def test_a_map_is_left_though_its_source_swallows_the_cancellation(gate: Gate) -> None:
    """It yields once more, while the pool is full: nobody waits for room for that."""

    async def stubborn() -> AsyncIterator[str]:
        yield "first"
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            yield "once more"

    async with small(min_size=1, max_size=1, max_waiting=0) as pool:
        async with pool.map("echo", stubborn()) as echoed:
            assert await anext(echoed) == "first"
            blocked = asyncio.create_task(pool.run("wait_at", gate.path))
            await eventually(gate.reached)
        gate.open()
        await blocked


async def test_whatever_fails_in_the_making_of_a_call_is_raised_and_hangs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bug of our own, say."""

    def fail(*_args: object, **_named: object) -> None:
        raise ZeroDivisionError

    async with small() as pool:
        monkeypatch.setattr(Caller, "begin", fail)
        async with pool.map(items.double, range(3)) as doubled:
            with pytest.raises(ZeroDivisionError):
                await anext(doubled)


async def test_acquire_timeout_is_not_for_maps(gate: Gate) -> None:
    """An item may wait as long as those before it take."""
    async with small(acquire_timeout=0.05) as pool, pool.map("sleep", [0.1] * 6, ordered=False) as slept:
        assert [each async for each in slept] == [0.1] * 6


# --- errors ----------------------------------------------------------------------------------------------------------


@CHUNKS
async def test_an_items_error_is_raised_in_its_place_and_ends_the_map(chunk: int) -> None:
    """Those before it arrive; nothing after it does."""
    async with (
        small() as pool,
        pool.map(functools.partial(items.later_than, bound=3), itertools.count(), chunk=chunk) as done,
    ):
        assert [await anext(done) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="3") as raised:
            await anext(done)
        assert isinstance(raised.value, CommandError)
        assert raised.value.worker_pid in [worker.pid for worker in pool.workers()]
        assert [each async for each in done] == []


@CHUNKS
async def test_errors_are_given_as_objects_where_asked_for(chunk: int) -> None:
    """With return_exceptions the map goes on; by its own argument, or by the options."""
    async with small() as pool:
        for view, how in ((pool, {"return_exceptions": True}), (pool.options(return_exceptions=True), {})):
            async with view.map(items.odd_ones_fail, range(10), chunk=chunk, **how) as done:  # type: ignore[call-overload]
                results = [each async for each in done]
            assert [each for each in results if isinstance(each, int)] == [0, 2, 4, 6, 8]
            assert [each.args for each in results if isinstance(each, KeyError)] == [(1,), (3,), (5,), (7,), (9,)]


@CHUNKS
async def test_an_error_says_whose_it_is(chunk: int) -> None:
    """In a note, which is added without the help of the error's class."""
    async with small() as pool, pool.map(items.raises_stubborn, range(2), chunk=chunk, return_exceptions=True) as done:
        for number in range(2):
            error: Any = await anext(done)
            assert isinstance(error, items.Stubborn)
            assert error.__notes__[-1] == f"This is item {number} of a map, counted from 0."


async def test_an_error_of_a_whole_chunk_is_told_of_each_item_by_itself(pool: Pool) -> None:
    """Not one error with the notes of all."""
    command = functools.partial(commands.add, second=bytes(200 * 2**20))  # type: ignore[arg-type]
    async with pool.map(command, range(3), chunk=3, return_exceptions=True) as done:
        errors: list[Any] = [each async for each in done]
    assert [type(each) for each in errors] == [PayloadError] * 3
    notes = [each.__notes__ for each in errors]
    assert notes == [[f"This is item {number} of a map, counted from 0."] for number in range(3)]


@CHUNKS
async def test_what_cannot_travel_fails_in_its_place(chunk: int) -> None:
    """An argument, a result, a wrong type, a result above max_message: each costs its own item only."""
    async with small(max_message=100_000) as pool:
        cases = [
            (commands.echo, [1, object(), 2], PayloadError),
            (commands.length, [b"a", b"x" * 200_000, b"b"], PayloadError),
            (commands.untravelling, ["lambda"] * 2, ResultError),
            (items.double, [1, "one", 2], ArgumentError),
            (items.big_if_odd, range(3), ResultError),
        ]
        for command, arguments, error in cases:
            async with pool.map(command, arguments, chunk=chunk, return_exceptions=True) as done:  # type: ignore[call-overload]
                results = [each async for each in done]
            assert len(results) == len(list(arguments))
            assert isinstance(results[1], error), results
            assert "item 1 of" in "".join([str(results[1]), *getattr(results[1], "__notes__", [])])
            assert error is ResultError or not isinstance(results[2], Exception), results


@CHUNKS
async def test_an_unknown_command_is_told_for_each_item(chunk: int) -> None:
    """Each item has its own error."""
    async with small() as pool, pool.map("purr", range(3), chunk=chunk, return_exceptions=True) as done:
        results = [each async for each in done]
    assert [type(each) for each in results] == [UnknownCommand] * 3
    assert len(set(map(id, results))) == 3


@CHUNKS
async def test_registered_only_holds_in_chunks_too(chunk: int) -> None:
    """A chunk is no way around it."""
    async with small(registered_only=True) as pool, pool.map(os.getenv, ["HOME"], chunk=chunk) as done:
        with pytest.raises(UnknownCommand, match="registered_only"):
            await anext(done)


@CHUNKS
@pytest.mark.parametrize("ordered", [True, False])
async def test_an_error_of_the_source_comes_after_the_results_before_it(chunk: int, ordered: bool) -> None:
    """What it gave before it broke is worth its results."""

    def broken() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no more kittens")

    async def broken_later() -> AsyncIterator[int]:
        for number in broken():
            yield number

    async with small() as pool:
        for source in (broken(), broken_later()):
            async with pool.map(items.double, source, chunk=chunk, ordered=ordered) as done:
                assert sorted([await anext(done) for _ in range(5)]) == [0, 2, 4, 6, 8]
                with pytest.raises(LookupError, match="no more kittens"):
                    await anext(done)
                with pytest.raises(StopAsyncIteration):
                    await anext(done)


async def test_a_crash_in_a_chunk_leaves_no_doubt_about_more_than_one(pool: Pool) -> None:
    """Answered items have their results, the one that ran may have had effects, those after it never started."""
    command = functools.partial(items.crash_at, 3)
    async with pool.map(command, range(6), chunk=6, return_exceptions=True) as done:
        results = [each async for each in done]
    assert results[:3] == [0, 1, 2]
    assert [type(each) for each in results[3:]] == [WorkerCrashed] * 3
    notes = [each.__notes__ for each in results[3:]]  # type: ignore[union-attr]
    assert notes == [[f"This is item {number} of a map, counted from 0."] for number in (3, 4, 5)]
    assert [each.started for each in results[3:]] == [True, False, False]  # type: ignore[union-attr]
    assert results[3].signal == signal.SIGKILL  # type: ignore[union-attr]
    assert pool.stats().outcomes["crashed"] == 1


async def test_a_chunk_is_run_again_only_before_its_first_answer(tmp_path: Path) -> None:
    """retries are for calls of which nothing was seen."""
    trace = str(tmp_path / "trace")
    async with small() as pool:
        command = functools.partial(commands.crash_until, trace)
        async with pool.options(retries=3).map(command, [3, 3], chunk=2) as done:
            assert [each async for each in done] == [3, 4]
        command = functools.partial(items.crash_at, 1)
        async with pool.options(retries=3).map(command, range(2), chunk=2) as done:
            assert await anext(done) == 0
            with pytest.raises(WorkerCrashed):
                await anext(done)


async def test_the_timeout_of_a_chunk_is_that_of_its_items_together(pool: Pool) -> None:
    """Each item may take it in full; the chunk is stopped when all of it is used up."""
    async with pool.options(timeout=0.25).map("sleep", [0.1] * 5, chunk=5) as slept:
        assert [each async for each in slept] == [0.1] * 5
    async with pool.options(timeout=0.05).map("sleep", [0.01, 60, 0.01], chunk=3, return_exceptions=True) as slept:
        results = [each async for each in slept]
    assert results[0] == 0.01
    assert [type(each) for each in results[1:]] == [CommandTimeout] * 2
    assert [each.started for each in results[1:]] == [True, False]


# --- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 3, 4])
async def test_leaving_stops_what_runs_and_drops_what_waits(gate: Gate, tmp_path: Path, window: int) -> None:
    """When the block is left nothing of the map runs, and what waited never will."""
    async with small() as pool:
        async with pool.map(functools.partial(items.wait_later_at, gate.path), itertools.count(), window=window):
            await eventually(lambda: len(gate.reached()) == min(window, 2))
        assert (pool.stats().running, pool.stats().waiting) == (0, 0)
        assert pool.stats().outcomes == {"cancelled": window}
        assert sorted(lines_of(f"{gate.path}.stopped")) == ["0", "1"][:window]
        assert pool.stats().exited == {}
        gate.open()
        assert len(gate.reached()) == min(window, 2)


async def test_leaving_stops_a_chunk_between_its_items(gate: Gate) -> None:
    """A chunk of plain commands is asked to stop, and its worker stays warm."""
    async with small() as pool:
        async with pool.map("sleep", itertools.repeat(0.01), chunk=1000, window=1000) as slept:
            assert await anext(slept) == 0.01
        assert (pool.stats().running, pool.stats().exited) == (0, {})


async def test_leaving_by_an_error_or_a_cancellation_stops_it_too(gate: Gate) -> None:
    """Whatever ends the block."""

    async def consume(pool: Pool) -> None:
        async with pool.map("wait_at", itertools.repeat(gate.path)) as done:
            await anext(done)

    async with small() as pool:
        task = asyncio.create_task(consume(pool))
        await eventually(lambda: len(gate.reached()) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (pool.stats().running, pool.stats().waiting) == (0, 0)


async def test_a_cancelled_wait_loses_no_result(gate: Gate) -> None:
    """anext under a timeout may be asked again."""
    async with small() as pool, pool.map("wait_at", [gate.path] * 2) as done:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(done)
        gate.open()
        assert [each async for each in done] == [None, None]


async def test_the_pool_may_close_in_the_middle(gate: Gate) -> None:
    """What runs gets PoolClosed in its place, nothing more is pulled, and the map ends."""
    async with small() as pool, pool.map("wait_at", itertools.repeat(gate.path), return_exceptions=True) as done:
        await eventually(lambda: len(gate.reached()) == 2)
        await pool.aclose(0)
        results = await taken_until_closed(done)
        assert 4 <= len(results) <= 5
        assert {type(each) for each in results} == {PoolClosed}
        assert [each.started for each in results[:4]] == [True, True, False, False]


# --- misuse ----------------------------------------------------------------------------------------------------------


async def test_misuse_is_told(pool: Pool) -> None:
    """Each error says what to do."""
    with pytest.raises(TypeError, match="something to iterate over, not 7"):
        pool.map("echo", 7)  # type: ignore[call-overload]
    for name in ("window", "chunk"):
        with pytest.raises(ValueError, match=name):
            pool.map("echo", [], **{name: 0})  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="run or stream"):
        pool.options(on_update=print).map("echo", [])
    with pytest.raises(PayloadError, match="lambda"):
        async with pool.map(lambda item: item, [1]):
            pass
    done = pool.map("echo", [1])
    with pytest.raises(PoolError, match="enter it first"):
        await anext(done)
    async with done:
        with pytest.raises(PoolError, match="entered already"):
            async with done:
                pass
    async with pool.acquire(), pool.acquire():
        with pytest.raises(PoolError, match="holds all 2 workers"):
            async with pool.map("echo", [1]):
                pass
    await pool.aclose()
    with pytest.raises(PoolClosed):
        async with pool.map("echo", [1]):
            pass
