"""Updates reach the caller while the command runs: all of them, in order, typed, and no faster than they are taken."""

import asyncio
import contextlib
import gc
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncpool import (
    AcquireTimeout,
    CommandError,
    CommandTimeout,
    Pool,
    PoolClosed,
    PoolError,
    PoolFull,
    ResultError,
    WorkerCrashed,
)
from asyncpool.pool.stream import WINDOW
from tests.conftest import Gate
from tests.support import commands, coroutines, updates
from tests.support.processes import memory, state, there
from tests.support.scripts import noise, run
from tests.support.typed import Point
from tests.support.waiting import eventually, steps

KINDS = [updates, coroutines]
MODULES = (commands, updates, coroutines)


@contextlib.asynccontextmanager
async def pool_of(size: int = 1, **options: Any) -> AsyncIterator[Pool]:
    async with Pool(*MODULES, min_size=size, max_size=size, stderr="discard", **options) as pool:
        yield pool


def command(module: Any, name: str) -> Any:
    return getattr(module, name)


def lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except FileNotFoundError:
        return []


async def read(stream: Any, into: list[Any], pause: float = 0.0) -> None:
    """Take updates until they end."""
    async for update in stream:
        into.append(update)  # some are there when it raises
        await asyncio.sleep(pause)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


# --- all of them, in order, typed ------------------------------------------------------------------------------------


async def test_updates_come_in_order_and_then_the_result() -> None:
    """A generator, an emitter and an async generator; one after another in the same worker."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        for number in (0, 1, WINDOW, 1000):
            async with pool.stream(updates.count, number) as stream:
                assert [update async for update in stream] == list(range(number))
                assert stream.result == f"counted to {number}"
            async with pool.stream(updates.emits, number) as stream:
                assert [update async for update in stream] == list(range(number))
                assert stream.result == number
            async with pool.stream(coroutines.count, number) as stream:
                assert [update async for update in stream] == list(range(number))
                assert stream.result is None
            async with pool.stream(coroutines.emits, number) as stream:
                assert [update async for update in stream] == list(range(number))
        assert await pool.run("pid") == pid
        assert set(pool.stats().outcomes) == {"ok"}


@pytest.mark.parametrize("by", ["options", "pool", "name", "lease"])
async def test_a_stream_is_had_wherever_a_run_is(by: str) -> None:
    """From the pool, by name, with options, and on a lease, whose worker it keeps."""
    async with contextlib.AsyncExitStack() as exits:
        pool = await exits.enter_async_context(pool_of())
        if by == "lease":
            lease = await exits.enter_async_context(pool.acquire())
            pid = lease.pid
            stream: Any = lease.stream(updates.count, 40)
        else:
            way: Any = pool.options(timeout=5, meta={"a": "b"}) if by == "options" else pool
            stream = way.stream("tests.count" if by == "never" else updates.count, 40)
        async with stream as entered:
            assert [update async for update in entered] == list(range(40))
            assert entered.result == "counted to 40"
        if by == "lease":
            assert lease.pid == pid
            async with lease.stream(updates.count, 100) as left:
                async for _ in left:
                    break
            assert await lease.run("pid") == pid


async def test_by_name_updates_are_plain_values() -> None:
    """No annotation is known for a name."""
    async with Pool(updates, max_size=1) as pool, pool.stream("points", 2) as stream:
        assert [update async for update in stream] == [{"x": 0, "y": 0}, {"x": 1, "y": 0}]
        assert stream.result == {"x": 2, "y": 2}


async def test_updates_and_result_have_the_annotations_types() -> None:
    """Dataclasses and Structs, from Generator, Iterator and AsyncIterator."""
    async with pool_of() as pool:
        async with pool.stream(updates.points, 2) as stream:
            assert [update async for update in stream] == [Point(0), Point(1)]
            assert stream.result == Point(2, 2)
        async with pool.stream(updates.steps, 2) as found:
            assert [step async for step in found] == [updates.Step(0, Point(0)), updates.Step(1, Point(1))]
        async with pool.stream(coroutines.points, 2) as points:
            assert [update async for update in points] == [Point(0), Point(1)]


async def test_threads_of_a_command_emit_and_nothing_is_lost() -> None:
    """Each thread's updates are all there and in order, with slow and fast consumers, with and without a loop."""
    async with pool_of() as pool:
        for size in (0, 200_000):
            seen: dict[int, list[int]] = {}
            async with pool.stream(updates.emits_from_threads, 4, 40, size) as stream:
                async for thread, number, _ in stream:
                    seen.setdefault(thread, []).append(number)
                    await steps(1)
                assert stream.result == 160
            assert seen == {thread: list(range(40)) for thread in range(4)}
        await pool.run(coroutines.answer)  # from now on the worker has a loop
        async with pool.stream(coroutines.emits_from_threads, 4, 100) as stream:
            async for thread, number in stream:
                seen[thread] = [*(seen[thread] if number else []), number]
        assert seen == {thread: list(range(100)) for thread in range(4)}


async def test_tasks_and_to_thread_of_an_async_command_emit() -> None:
    """Also while other calls run in the same worker: each update reaches its own caller."""
    async with pool_of(concurrency=3) as pool:

        async def one() -> None:
            async with pool.stream(coroutines.emits_from_everywhere, 100) as stream:
                seen = [update async for update in stream]
                assert [number for kind, number in seen if kind == "task"] == list(range(100))
                assert [number for kind, number in seen if kind == "thread"] == list(range(100))
                assert stream.result == 200

        await asyncio.gather(one(), one(), one())
        assert pool.stats().outcomes == {"ok": 3}


async def test_what_a_foreign_thread_has_done_on_the_loop_emits() -> None:
    """Its callbacks and coroutines have no context: where one call runs, it is that one's."""
    async with pool_of() as pool, pool.stream(coroutines.emits_from_a_foreign_threads_callback, 5) as stream:
        seen = [tuple(update) async for update in stream]
        assert seen == [(kind, number) for number in range(5) for kind in ("callback", "task")]


async def test_a_thread_that_does_not_say_whose_it_is_is_told_so(gate: Gate) -> None:
    """With several calls in one worker, a thread without a context must not guess."""
    async with pool_of(concurrency=2) as pool:
        assert await pool.run(coroutines.emits_from_executor, 1) == "it went"
        other = asyncio.create_task(pool.run(coroutines.at_gate, gate.path))
        await eventually(gate.reached)
        assert "asyncio.to_thread" in await pool.run(coroutines.emits_from_executor, 1)
        gate.open()
        await other


async def test_a_thread_that_outlives_its_call_breaks_nothing() -> None:
    """No update follows the reply, and the thread takes no frame from the next call."""
    async with Pool(updates, commands, max_size=1, stderr="discard") as pool:
        pid = await pool.run("pid")
        for take in (True, False) * 5:
            async with pool.stream(updates.leaves_a_thread) as stream:
                if take:
                    async for _ in stream:
                        pass
                else:
                    await anext(stream)
                    await asyncio.sleep(0.01)
                    async for _ in stream:
                        pass
            assert await pool.run("echo", 7) == 7
        assert await pool.run("pid") == pid
        assert set(pool.stats().outcomes) == {"ok"}


async def test_a_task_that_outlives_its_call_emits_nothing(path: Path) -> None:
    """Its call is settled."""
    async with pool_of() as pool:
        async with pool.stream(coroutines.forgets_a_task, str(path)) as stream:
            assert [update async for update in stream] == []
        await eventually(lambda: lines(path) == ["emitted"])
        assert await pool.run(coroutines.answer, 1) == 1


@pytest.mark.parametrize("module", KINDS)
async def test_run_drops_updates(module: Any) -> None:
    """Nobody listens: the result comes, however many updates there were."""
    async with pool_of() as pool:
        result = await pool.run(command(module, "count"), 5000)
        assert result == ("counted to 5000" if module is updates else None)
        assert await pool.run(updates.emits, 5000) == 5000
        assert await pool.run(updates.only_items, 50) is None


# --- credit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", KINDS)
@pytest.mark.parametrize(("size", "most"), [(1, WINDOW), (100_000, 11), (400_000, 3), (3_000_000, 1)])
async def test_a_slow_consumer_stops_the_command(module: Any, path: Path, size: int, most: int) -> None:
    """At most WINDOW updates, or a MiB and one, are made before one is taken: the next waits in the command."""
    async with pool_of() as pool:
        made = command(module, "traced") if module is updates else coroutines.traced_items
        arguments = (str(path), 1000, size) if module is updates else (str(path), size)
        async with pool.stream(made, *arguments) as stream:
            await eventually(lambda: len(lines(path)) > most)
            await asyncio.sleep(0.05)
            assert len(lines(path)) == most + 1
            for taken in range(1, 8):
                assert len(await anext(stream)) == size
                await asyncio.sleep(0.01)
                assert len(lines(path)) <= taken + most + 1
        assert set(pool.stats().outcomes) == {"cancelled"}


@pytest.mark.parametrize(("module", "taken"), [(updates, 100_000), (coroutines, 40_000)])
async def test_a_slow_consumer_fills_nobodys_memory(module: Any, taken: int) -> None:
    """An endless stream, 100 MB of it: the worker stands still whenever nothing is taken, neither process grows, and
    leaving frees the worker."""
    async with pool_of() as pool:
        pid = await pool.run(commands.pid)
        async with pool.stream(module.without_end, 1000) as stream:
            before: dict[int, int] = {}
            for number in range(taken + 1):
                await anext(stream)
                if number % 10_000 == 0:
                    await eventually(lambda: state(pid) == "S")  # its credit is used up
                    now = {each: memory(each) for each in (os.getpid(), pid)}
                    before = before or now
                    assert all(now[each] - before[each] < 20 * 2**20 for each in now)
        assert pool.stats().running == 0
        assert await pool.run(commands.pid) == pid


@pytest.mark.parametrize("module", KINDS)
async def test_no_mix_of_sizes_gets_stuck(module: Any) -> None:
    """Small, large and larger than the window; the worst mixes are in the property test of the credit."""
    mixes = [
        [1] * 100,
        [2**20 - 100] * 8,
        [2**20] * 5,
        [5_000_000, 1, 1, 1, 5_000_000] * 3,
        [70_000] * 60,
        [0, 2**19, 2**19 - 10, 2**20] * 5,
    ]
    async with pool_of() as pool:
        for sizes in mixes:
            async with pool.stream(command(module, "of_sizes"), sizes) as stream:
                assert [len(update) async for update in stream] == sizes


async def test_time_without_credit_does_not_count() -> None:
    """Neither for the pool's timeout, nor for the deadline that the command sees."""
    async with pool_of() as pool:
        for made in (updates.count, coroutines.count):
            async with pool.options(timeout=0.2).stream(made, 3 * WINDOW) as stream:
                await asyncio.sleep(0.5)
                assert len([update async for update in stream]) == 3 * WINDOW
        async with pool.options(timeout=5).stream(updates.starved_deadline, 2 * WINDOW) as starved:
            await asyncio.sleep(0.3)
            async for _ in starved:
                pass
            assert starved.result is not None
            assert starved.result > 4.75


@pytest.mark.parametrize("taken", [0, 1])
async def test_the_time_that_the_command_takes_counts(taken: int) -> None:
    """A generator that runs too long is stopped; its updates come, then CommandTimeout. The worker is kept."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        seen: list[Any] = []
        async with pool.options(timeout=0.3).stream(updates.slowly, 0.02, 10_000) as stream:
            with pytest.raises(CommandTimeout) as caught:
                await read(stream, seen, 0.001 * taken)
        assert seen == list(range(len(seen)))
        assert len(seen) > 3
        assert caught.value.started
        assert await pool.run("pid") == pid
        assert pool.stats().outcomes == {"ok": 2, "timed_out": 1}


async def test_a_generator_that_must_be_killed_tells_where_it_was() -> None:
    """It does not come to its next yield within cancel_grace."""
    async with pool_of(cancel_grace=0.1) as pool:
        pid = await pool.run("pid")
        async with pool.options(timeout=0.1).stream(updates.stuck_after, 3) as stream:
            seen: list[Any] = []
            with pytest.raises(CommandTimeout) as caught:
                await read(stream, seen)
        assert seen == [0, 1, 2]
        assert "in stuck_after" in caught.value.stack
        assert await pool.run("pid") != pid


# --- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", KINDS)
@pytest.mark.parametrize("credit", ["left", "used up"])
@pytest.mark.parametrize("way", ["break", "raise", "cancel", "timeout"])
async def test_leaving_early_stops_the_command_and_keeps_the_worker(
    module: Any, way: str, credit: str, path: Path
) -> None:
    """Its finally blocks have run when the block is left, whether it ran or waited for credit."""
    async with pool_of(cancel_grace=5) as pool:
        pid = await pool.run("pid")
        slow = 0.001 if credit == "left" else 0.0

        def stream() -> Any:
            if module is coroutines:
                return pool.stream(coroutines.traced_items, str(path), 1, slow)
            return pool.stream(updates.traced, str(path), 10_000_000 if credit == "left" else 1000)

        async def consume() -> None:
            async with stream() as entered:
                async for _ in entered:
                    if credit == "used up":
                        await eventually(lambda: len(lines(path)) > WINDOW)
                    if way == "break":
                        return
                    if way == "raise":
                        raise LookupError("mine")
                    await asyncio.sleep(0 if credit == "left" else 60)

        task = asyncio.create_task(consume())
        if way == "cancel":
            await eventually(lambda: len(lines(path)) > 3)
            task.cancel()
        expected = {"break": None, "raise": LookupError, "cancel": asyncio.CancelledError, "timeout": TimeoutError}[way]
        with pytest.raises(expected) if expected else contextlib.nullcontext():
            await (asyncio.wait_for(task, 0.3) if way == "timeout" else task)
        assert lines(path)[-1] == "finally"
        assert await pool.run("pid") == pid
        assert pool.stats().outcomes == {"ok": 2, "cancelled": 1}


async def test_leaving_a_plain_emitter_kills_its_worker() -> None:
    """It never looks whether it shall stop, so nobody waits for it."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        async with pool.stream(updates.emits_slowly, 0.01, 10_000) as stream:
            await anext(stream)
        assert not there(pid)
        assert await pool.run("pid") != pid


@pytest.mark.parametrize("module", KINDS)
@pytest.mark.parametrize(("how", "kept"), [("returns", True), ("raises", True), ("yields on", None), ("sleeps", False)])
async def test_a_generator_that_does_not_heed_its_closing(module: Any, how: str, kept: bool | None, path: Path) -> None:
    """It may return or raise; one that takes longer than cancel_grace is killed with its worker."""
    async with pool_of(cancel_grace=0.2) as pool:
        pid = await pool.run("pid")
        async with pool.stream(command(module, "stubborn"), str(path), how) as stream:
            await anext(stream)
        assert lines(path)
        after = await pool.run("pid")
        assert kept is None or (after == pid) is kept
        assert pool.stats().outcomes == {"ok": 2, "cancelled": 1}


async def test_the_lease_lives_on_after_a_stream_that_was_left() -> None:
    """The next call on the lease comes to the same worker."""
    async with pool_of() as pool, pool.acquire() as lease:
        await lease.run("remember", "a", 1)
        async with lease.stream(updates.count, 1000) as stream:
            await anext(stream)
        assert await lease.run("recall", "a") == 1


@pytest.mark.parametrize("module", KINDS)
async def test_with_finish_a_command_runs_to_its_end_though_its_stream_is_left(module: Any, path: Path) -> None:
    """It waits for no credit that nobody would give; the caller leaves at once, the worker is busy until the end."""
    async with pool_of() as pool:
        made: Any = updates.traced if module is updates else coroutines.of_sizes
        arguments: Any = (str(path), 2000, 5000) if module is updates else ([5000] * 2000,)
        async with pool.options(on_cancel="finish", timeout=5).stream(made, *arguments) as stream:
            await anext(stream)
        assert pool.stats().running == 1
        assert await pool.run("pid")
        assert lines(path)[-1:] == (["finally"] if module is updates else [])
        assert len(lines(path)) == (2001 if module is updates else 0)
        assert pool.stats().outcomes == {"ok": 1, "cancelled": 1}
        assert pool.stats().spawned == 1


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", KINDS)
@pytest.mark.parametrize("end", ["raise", "exit", "crash", "lambda", "large"])
async def test_updates_before_an_error_come_and_then_the_error(module: Any, end: str) -> None:
    """The producer raises, exits or dies in the middle, or an update cannot travel."""
    async with pool_of(max_message=2_000_000) as pool:
        pid = await pool.run("pid")
        seen: list[Any] = []
        async with pool.stream(command(module, "then"), 5, end) as stream:
            with pytest.raises((CommandError, WorkerCrashed)) as caught:
                await read(stream, seen)
            with pytest.raises(PoolError, match="no result yet"):
                _ = stream.result
        assert seen == [0, 1, 2, 3, 4]
        error: Any = caught.value
        assert error.started
        match end:
            case "raise":
                assert isinstance(error, ValueError)
            case "exit":
                assert error.type_name == "SystemExit"
            case "crash":
                assert error.signal == 9
            case "lambda":
                assert isinstance(error, ResultError)
                assert "update" in str(error)
            case "large":
                assert "max_message of 2,000,000" in str(error)
        assert (await pool.run("pid") == pid) is (end != "crash")


async def test_an_update_that_cannot_travel_survives_a_bad_clean_up() -> None:
    """The generator raises while it is closed: its worker lives on."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        with pytest.raises(ResultError):
            async with pool.stream(updates.untravelling_and_stubborn) as stream:
                await anext(stream)
        assert await pool.run("pid") == pid


async def test_emit_raises_for_what_cannot_travel() -> None:
    """In the command, where it can be caught."""
    async with pool_of() as pool, pool.stream(updates.emits_what_cannot_travel) as stream:
        async for _ in stream:
            pass
        assert stream.result != "it went"


async def test_an_update_that_its_annotation_does_not_say() -> None:
    """ResultError where it is taken; whoever goes on gets the next."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        async with pool.stream(updates.wrong_updates) as stream:
            assert await anext(stream) == Point(1)
            with pytest.raises(ResultError, match="wrong_updates sent an update") as caught:
                await anext(stream)
            assert "wrong_updates" in caught.value.message
            assert [update async for update in stream] == [Point(2)]
        with pytest.raises(ResultError):  # noqa: PT012
            async with pool.stream(updates.wrong_updates) as stream:
                async for _ in stream:
                    pass
        assert await pool.run("pid") == pid


async def test_a_crash_is_retried_only_until_the_first_update_was_delivered(path: Path) -> None:
    """Before, the run begins anew and its updates are shown once; after, the stream fails."""
    async with pool_of() as pool:
        async with pool.stream(updates.crashes_first, str(path), 3, 5) as stream:
            await eventually(lambda: lines(path) == ["run", "run"])
            await eventually(lambda: pool.stats().busy == 0)
            assert [update async for update in stream] == [f"2.{number}" for number in range(5)]
            assert stream.result == "run 2"
        path.unlink()  # noqa: ASYNC240
        seen: list[Any] = []
        async with pool.stream(updates.crashes_first, str(path), 3, 5) as stream:
            with pytest.raises(WorkerCrashed):
                await read(stream, seen)
        assert seen == ["1.0", "1.1", "1.2"]
        assert lines(path) == ["run"]


async def test_a_retried_stream_has_its_whole_credit_again(path: Path) -> None:
    """What the first run used is forgotten, else the second would be taken for one without credit, or get stuck."""
    async with pool_of() as pool, pool.stream(updates.crashes_first, str(path), WINDOW - 1, 100) as stream:
        await eventually(lambda: lines(path) == ["run", "run"])
        assert [update async for update in stream] == [f"2.{number}" for number in range(100)]


# --- on_update -------------------------------------------------------------------------------------------------------


async def test_on_update_is_called_with_each_update() -> None:
    """A plain function, and one whose answer is awaited before the next."""
    seen: list[int] = []

    async def slowly(update: int) -> None:
        await asyncio.sleep(0)
        seen.append(update)

    async with pool_of() as pool:
        assert await pool.options(on_update=seen.append).run(updates.count, 40) == "counted to 40"
        assert await pool.options(on_update=slowly).run(coroutines.count, 40) is None
        assert seen == [*range(40), *range(40)]


async def test_an_error_in_on_update_stops_the_command_and_is_raised(path: Path) -> None:
    """The worker is kept where the command heeds it."""

    def refuse(update: bytes) -> None:
        raise LookupError(len(update))

    async def refuse_later(update: bytes) -> None:
        await asyncio.sleep(0)
        refuse(update)

    async with pool_of() as pool:
        pid = await pool.run("pid")
        for on_update in (refuse, refuse_later):
            with pytest.raises(LookupError):
                await pool.options(on_update=on_update).run(updates.traced, str(path), 1000)
            assert lines(path)[-1] == "finally"
        assert await pool.run("pid") == pid


# --- misuse ----------------------------------------------------------------------------------------------------------


async def test_a_stream_is_entered_once_and_read_within_its_block() -> None:
    """Each misuse says what to do."""
    async with pool_of() as pool:
        stream = pool.stream(updates.count, 3)
        with pytest.raises(PoolError, match="enter it first"):
            await anext(stream)
        async with stream:
            with pytest.raises(PoolError, match="entered already"):
                await stream.__aenter__()
            with pytest.raises(PoolError, match="no result yet"):
                _ = stream.result
            await anext(stream)
        with pytest.raises(PoolError, match="was left"):
            await anext(stream)
        with pytest.raises(PoolError, match="entered already"):
            await stream.__aenter__()
        async with pool.stream(updates.count, 3) as whole:
            async for _ in whole:
                pass
        assert [update async for update in whole] == []
        assert whole.result == "counted to 3"


async def test_several_tasks_share_a_stream() -> None:
    """Each update goes to one of them, and all learn of the end."""
    async with pool_of() as pool:
        async with pool.stream(updates.slowly, 0.001, 100) as stream:

            async def take() -> list[int]:
                return [update async for update in stream]

            taken = await asyncio.gather(take(), take(), take())
        assert sorted(itertools.chain(*taken)) == list(range(100))
        async with pool.stream(updates.slowly, 0.2, 100) as stream:
            other = asyncio.create_task(anext(stream))
            await steps(2)
        with pytest.raises(PoolError, match="was left"):
            await other


async def test_entering_submits_and_can_be_refused(gate: Gate) -> None:
    """PoolFull and PoolClosed when the block is entered; AcquireTimeout where the updates would be."""
    async with pool_of(max_waiting=0) as pool:
        holder = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        with pytest.raises(PoolFull):
            async with pool.stream(updates.count, 3):
                pytest.fail("it was entered")
        gate.open()
        await holder
    with pytest.raises(PoolClosed):
        await pool.stream(updates.count, 3).__aenter__()
    gate.close()
    async with pool_of() as pool:
        holder = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(lambda: pool.stats().busy)
        async with pool.options(acquire_timeout=0.05).stream(updates.count, 3) as stream:
            with pytest.raises(AcquireTimeout):
                await anext(stream)
        async with pool.stream(updates.count, 3):  # left while it waits: withdrawn
            assert pool.stats().waiting == 1
        assert pool.stats().waiting == 0
        gate.open()
        await holder


async def test_a_stream_that_is_never_entered_is_nothing() -> None:
    """No call, no warning."""
    async with pool_of() as pool:
        pool.stream(updates.count, 3)
        gc.collect()
        assert pool.stats().submitted == 0


# --- closing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", KINDS)
async def test_closing_waits_for_a_stream_that_is_read_and_gives_up_one_that_is_not(module: Any) -> None:
    """Within grace it goes on; a consumer that never reads does not hold the pool up for ever."""
    async with pool_of(2) as pool:
        taken, unread = pool.stream(command(module, "count"), 200), pool.stream(command(module, "count"), 200)
        async with taken, unread:
            await anext(taken)
            closing = asyncio.create_task(pool.aclose(1.0))
            assert len([update async for update in taken]) == 199
            await closing
            seen: list[Any] = []
            with pytest.raises(PoolClosed) as caught:
                await read(unread, seen)
            assert seen == list(range(WINDOW))
            assert caught.value.started


async def test_a_stream_that_was_entered_and_forgotten_goes_with_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody leaves its block; nor is there a word of an error that nobody retrieved."""
    async with pool_of() as pool:
        await pool.stream(updates.count, 2000).__aenter__()
        gc.collect()
        await pool.aclose(0.1)
    await steps(2)
    gc.collect()
    assert caplog.text == ""


async def test_the_pool_may_be_left_with_a_stream_open() -> None:
    """An error in the block closes the pool at once."""
    with pytest.raises(LookupError):  # noqa: PT012
        async with pool_of() as pool, pool.stream(updates.count, 2000) as stream:
            await anext(stream)
            raise LookupError


async def test_an_anyio_scope_may_be_left_by_timeout() -> None:
    """move_on_after around the whole block."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        with anyio.move_on_after(0.1) as scope:
            async with pool.stream(updates.slowly, 0.01, 10_000) as stream:
                async for _ in stream:
                    pass
        assert scope.cancelled_caught
        assert await pool.run("pid") == pid


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_loop_that_ends_in_the_middle_of_a_stream_leaves_nothing(loop: str, tmp_path: Path) -> None:
    """Without aclose: the block is left by the cancellation, and no noise is made."""
    ended = run(
        tmp_path / "app.py",
        """
        from tests.support import updates
        import warnings

        warnings.simplefilter("ignore", ResourceWarning)

        async def consume(pool):
            async with pool.stream(updates.count, 10_000) as stream:
                async for _ in stream:
                    await asyncio.sleep(0.001)

        async def main():
            pool = Pool("tests.support.updates", max_size=1)
            await pool.start()
            tasks = [asyncio.create_task(consume(pool)) for _ in range(2)]
            forgotten = await pool.stream(updates.count, 10).__aenter__()
            await asyncio.sleep(0.1)
            print("ends")

        RUN(main())
        """,
        LOOP=loop,
    )
    assert (ended.code, ended.out, noise(ended.err)) == (0, "ends\n", [])
