"""Async commands run on the worker's own event loop, several at a time, and are stopped by being cancelled."""

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncpool import CommandError, CommandTimeout, Pool, PoolClosed, WorkerCrashed
from tests.conftest import Gate
from tests.support import commands, coroutines, updates
from tests.support.by_hand import Parent
from tests.support.processes import there
from tests.support.waiting import CAP, eventually, steps

MODULES = (commands, updates, coroutines)


@contextlib.asynccontextmanager
async def pool_of(concurrency: int = 1, size: int = 1, **options: Any) -> AsyncIterator[Pool]:
    options = {"stderr": "discard", "concurrency": concurrency, **options}
    async with Pool(*MODULES, min_size=size, max_size=size, **options) as pool:
        yield pool


async def acquire(pool: Pool) -> Any:
    return await pool.acquire()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


def lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


# --- running ---------------------------------------------------------------------------------------------------------


async def test_async_commands_run_on_the_main_thread_as_many_at_a_time_as_concurrency_says() -> None:
    """No fewer and no more; the calls beyond wait their turn."""
    for concurrency in (1, 3):
        async with pool_of(concurrency) as pool:
            most = await asyncio.gather(*(pool.run(coroutines.most_at_once, 0.02) for _ in range(9)))
            assert max(most) == concurrency
            assert await pool.run(coroutines.thread) is True
            assert pool.stats().outcomes == {"ok": 10}


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_sync_commands_and_generators_exclude_all_others(concurrency: int) -> None:
    """In both directions and in order: none runs beside an async one, whichever came first."""
    async with pool_of(concurrency) as pool:
        calls: list[Any] = []
        for _ in range(6):
            calls += [pool.run(coroutines.most_at_once, 0.005) for _ in range(3)]
            calls.append(pool.run(coroutines.alone, 0.002))
            calls.append(pool.options(on_update=lambda running: running and 1 / 0).run(coroutines.alone_and_yield, 3))
            calls.append(pool.run("alone", 0.001))
        results = await asyncio.gather(*calls)
        for start in range(0, len(results), 6):
            assert max(results[start : start + 3]) <= concurrency
            assert results[start + 3 : start + 6] == [0, 1, 0]
        assert pool.stats().spawned == 1


async def test_a_withdrawn_sync_call_at_the_head_holds_nobody_up(gate: Gate) -> None:
    """It waited for the worker to be empty; the async ones behind it need not."""
    async with pool_of(2) as pool:
        first = asyncio.create_task(pool.run(coroutines.at_gate, gate.path))
        await eventually(gate.reached)
        for ticket in ("alone", None):
            waits = asyncio.create_task(pool.run(ticket, 0.01) if ticket else acquire(pool))
            await eventually(lambda: pool.stats().waiting)
            behind = asyncio.create_task(pool.run(coroutines.answer, 5))
            await asyncio.sleep(0.02)
            assert not behind.done()
            waits.cancel()
            assert await behind == 5
            await asyncio.wait([waits])
        gate.open()
        await first


async def test_a_lease_takes_the_worker_whole(gate: Gate) -> None:
    """It waits for those that run, and keeps others out."""
    async with pool_of(3) as pool:
        first = asyncio.create_task(pool.run(coroutines.at_gate, gate.path))
        await eventually(gate.reached)
        acquiring = asyncio.create_task(acquire(pool))
        behind = asyncio.create_task(pool.run(coroutines.answer, 5))
        await asyncio.sleep(0.02)
        assert not acquiring.done()
        gate.open()
        await first
        lease = await acquiring
        assert await lease.run(coroutines.answer, 3) == 3
        assert not behind.done()
        await pool.release(lease)
        assert await behind == 5


async def test_a_worker_without_async_commands_never_imports_asyncio() -> None:
    """Not for generators, emit or cooperative commands either; the first async command brings it."""
    async with Pool(commands, updates, max_size=1) as pool:
        assert await pool.run(updates.count, 40)
        async with pool.stream(updates.emits, 40) as stream:
            assert len([update async for update in stream]) == 40
        assert await pool.run(updates.has, "asyncio") is False
        assert await pool.run(updates.has, "threading") is True  # the module imports it
        assert await pool.run(coroutines.unmarked, 4) == 8
        assert await pool.run(updates.has, "asyncio") is True
        assert await pool.run(updates.count, 3) == "counted to 3"


async def test_unmarked_and_wrapped_ones_by_reference() -> None:
    """Any importable `async def`, by functools.partial, and behind a decorator."""
    async with Pool(stderr="discard", max_size=1, concurrency=2) as pool:
        assert await pool.run(coroutines.unmarked, 4) == 8
        assert await pool.run(functools.partial(coroutines.unmarked, 5)) == 10
        assert await pool.run(coroutines.decorated, 6) == 12
        assert await pool.run(asyncio.sleep, 0.001, "slept") == "slept"


async def test_commands_use_what_asyncio_has() -> None:
    """Task groups, gather, timeouts and threads; and a plain command its own asyncio.run, after async ones too."""
    async with pool_of(2) as pool:
        both = await asyncio.gather(*(pool.run(coroutines.structured, [1, 2, 3]) for _ in range(2)))
        assert both == [[4, 8, 12, -1, 6]] * 2
        assert await pool.run(coroutines.runs_its_own_loop, 4) == 8
        assert await pool.run(coroutines.answer, 1) == 1


async def test_each_call_gets_its_own_answer_in_whatever_order_they_come() -> None:
    """Those that began last are answered first."""
    async with pool_of(4) as pool:
        calls = [pool.run(coroutines.answer, number, 0.03 * (3 - number)) for number in range(4)]
        assert await asyncio.gather(*calls) == [0, 1, 2, 3]


async def test_each_call_knows_its_own_context() -> None:
    """Beside others in the same worker, and in its threads."""
    async with pool_of(4) as pool:
        seen = await asyncio.gather(
            *(pool.options(meta={"number": str(number)}).run(coroutines.context) for number in range(4))
        )
        assert [meta["number"] for _, _, meta in seen] == ["0", "1", "2", "3"]
        assert len({number for number, _, _ in seen}) == 4
        assert all(number == in_thread for number, in_thread, _ in seen)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ValueError", "ValueError"),
        ("SystemExit", "SystemExit"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("CancelledError", "asyncio.exceptions.CancelledError"),
        ("its own task", "asyncio.exceptions.CancelledError"),
        ("GeneratorExit", "GeneratorExit"),
    ],
)
async def test_whatever_a_command_raises_ends_the_call_and_not_the_worker(kind: str, name: str, gate: Gate) -> None:
    """Its neighbour goes on, also where a task of the command has raised it."""
    async with pool_of(2) as pool:
        neighbour = asyncio.create_task(pool.run(coroutines.at_gate, gate.path, 7))
        await eventually(gate.reached)
        with pytest.raises(CommandError) as caught:
            await pool.options(timeout=CAP).run(coroutines.raises, kind)
        assert caught.value.type_name == name
        assert isinstance(caught.value, ValueError) is (name == "ValueError")
        if kind == "GeneratorExit":  # it closes whatever awaits it
            with pytest.raises(CommandError, match="GeneratorExit"):
                await pool.run(coroutines.child_raises, kind)
        else:
            assert await pool.run(coroutines.child_raises, kind) == name.rpartition(".")[2]
        gate.open()
        assert await neighbour == 7
        assert pool.stats().exited == {}


# --- stopping --------------------------------------------------------------------------------------------------------


async def test_cancelling_the_caller_cancels_the_task_and_keeps_the_worker(path: Path, gate: Gate) -> None:
    """When the await ends the command has ended too; its neighbours notice nothing."""
    async with pool_of(2) as pool:
        pid = await pool.run("pid")
        neighbour = asyncio.create_task(pool.run(coroutines.at_gate, gate.path, 7))
        await eventually(gate.reached)
        task = asyncio.create_task(pool.run(coroutines.traced, str(path)))
        await eventually(lambda: lines(path))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert lines(path) == [f"begun {pid}", "cancelled"]
        assert pool.stats().running == 1
        gate.open()
        assert await neighbour == 7
        assert await pool.run("pid") == pid
        assert pool.stats().outcomes == {"ok": 3, "cancelled": 1}


async def test_one_that_does_not_heed_is_killed_with_its_neighbours(path: Path, gate: Gate) -> None:
    """After cancel_grace; the neighbours get WorkerCrashed with the reason, and that they had started."""
    async with pool_of(3, cancel_grace=0.1) as pool:
        pid = await pool.run("pid")
        neighbours = [asyncio.create_task(pool.run(coroutines.at_gate, gate.path)) for _ in range(2)]
        await eventually(lambda: len(gate.reached()) == 2)
        task = asyncio.create_task(pool.run(coroutines.swallows, str(path), 1000))
        await eventually(lambda: lines(path))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not there(pid)
        assert lines(path) == ["begun", "swallowed"]
        for neighbour in neighbours:
            with pytest.raises(WorkerCrashed) as caught:
                await neighbour
            assert caught.value.started
            assert "swallows was cancelled" in str(caught.value.reason)
            assert "0.1 s (cancel_grace)" in str(caught.value)
        assert pool.stats().outcomes == {"ok": 1, "crashed": 2, "cancelled": 1}


async def test_one_that_swallows_its_cancellation_and_returns_in_time_keeps_the_worker(path: Path) -> None:
    """The caller is cancelled all the same; so it is where the clean-up fails."""
    async with pool_of() as pool:
        pid = await pool.run("pid")
        for command, arguments in ((coroutines.swallows, (str(path), 1)), (coroutines.clean_up_fails, (str(path),))):
            task = asyncio.create_task(pool.run(command, *arguments))
            await eventually(lambda: lines(path)[-1:] == ["begun"])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await pool.run("pid") == pid


async def test_one_that_blocks_the_loop_hears_nothing(path: Path) -> None:
    """It is killed where it outlasts cancel_grace, and lives where it does not."""
    async with pool_of(cancel_grace=0.3) as pool:
        pid = await pool.run("pid")
        for seconds, lives in ((0.1, True), (30, False)):
            task = asyncio.create_task(pool.run(coroutines.blocks, str(path), seconds))
            await eventually(lambda: lines(path))
            await asyncio.sleep(0.03)
            task.cancel()
            await asyncio.wait([task])
            assert there(pid) is lives


async def test_a_generator_that_never_waits_hears_that_it_shall_stop(path: Path) -> None:
    """At its next update, though it has credit for many more; its neighbours get their turn meanwhile."""
    async with pool_of(2) as pool:
        pid = await pool.run("pid")
        async with pool.stream(coroutines.never_waits, str(path), 0.02) as updates:
            assert [await anext(updates) for _ in range(3)] == [0, 1, 2]
            assert await pool.run(coroutines.answer, 7) == 7
        assert int(lines(path)[0]) < 50  # 64 is what it has credit for
        assert await pool.run("pid") == pid


async def test_a_chunk_of_commands_that_never_wait_stops_between_two_items(path: Path) -> None:
    """The worker stays warm, and what comes after the item that ran is not begun."""
    command = functools.partial(coroutines.computes, str(path))
    async with pool_of() as pool:
        pid = await pool.run("pid")
        async with pool.map(command, [0.02] * 500, chunk=500, window=500) as done:
            await anext(done)
        assert 1 <= len(lines(path)) < 50
        assert await pool.run("pid") == pid


async def test_a_timeout_cancels_the_task_and_keeps_the_worker(path: Path) -> None:
    """CommandTimeout; with a clean-up that fails too. One that does not heed is killed and shows its stack."""
    async with pool_of(cancel_grace=0.2) as pool:
        pid = await pool.run("pid")
        for command in (coroutines.traced, coroutines.clean_up_fails):
            with pytest.raises(CommandTimeout) as caught:
                await pool.options(timeout=0.1).run(command, str(path))
            assert caught.value.started
        assert await pool.run("pid") == pid
        with pytest.raises(CommandTimeout) as caught:
            await pool.options(timeout=0.1).run(coroutines.blocks, str(path), 30)
        assert "in blocks" in caught.value.stack
        assert await pool.run("pid") != pid


async def test_a_cancel_that_crosses_the_reply_harms_nobody() -> None:
    """At any moment around the answer: the caller has it or is cancelled, and the worker serves on."""
    async with pool_of(2) as pool:
        pid = await pool.run("pid")
        for number in range(200):
            task = asyncio.create_task(pool.run(coroutines.answer, number, 0.0002 * (number % 5)))
            await asyncio.sleep(0.0001 * (number % 13))
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.result() == number
        assert await pool.run("pid") == pid
        stats = pool.stats()
        assert set(stats.outcomes) <= {"ok", "cancelled"}
        assert sum(stats.outcomes.values()) == stats.submitted


async def test_cancelling_one_does_not_harm_another_whose_call_is_still_being_sent() -> None:
    """A large call lies unsent in front of the Cancel."""
    async with pool_of(3) as pool:
        pid = await pool.run("pid")
        for _ in range(5):
            sleeper = asyncio.create_task(pool.run(coroutines.answer, 0, 60))
            await asyncio.sleep(0.01)
            large = asyncio.create_task(pool.run(coroutines.answer, b"x" * 20_000_000))
            await asyncio.sleep(0)
            sleeper.cancel()
            assert len(await large) == 20_000_000
            await asyncio.wait([sleeper])
        assert await pool.run("pid") == pid


async def test_a_crash_fails_each_call_in_flight(gate: Gate) -> None:
    """k calls in one worker: k WorkerCrashed; those in another go on."""
    async with pool_of(3) as pool:
        calls = [asyncio.create_task(pool.run(coroutines.at_gate, gate.path)) for _ in range(2)]
        calls.append(asyncio.create_task(pool.run(coroutines.crashes, gate.path)))
        await eventually(lambda: len(gate.reached()) == 3)
        os.kill(gate.reached()[0], signal.SIGKILL)
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, WorkerCrashed)
            assert error.started
            assert error.signal == signal.SIGKILL
        assert await pool.run(coroutines.answer, 1) == 1


async def test_a_call_that_the_worker_never_read_is_moved(gate: Gate, path: Path) -> None:
    """Killed while it blocks its loop: the last frame was not read, and its call runs elsewhere."""
    async with pool_of(2) as pool:
        pid = await pool.run("pid")
        blocker = asyncio.create_task(pool.run(coroutines.blocks, str(path), 60))
        await eventually(lambda: lines(path))
        await asyncio.sleep(0.05)
        moved = asyncio.create_task(pool.run(coroutines.answer, 3))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert await moved == 3
        with pytest.raises(WorkerCrashed):
            await blocker
        assert pool.stats().outcomes == {"ok": 2, "crashed": 1}


async def test_a_call_that_was_not_read_when_the_pool_killed_its_worker_is_moved(path: Path) -> None:
    """A neighbour blocks the worker's loop and is stopped with it: what was sent last has not begun."""
    async with pool_of(2, cancel_grace=0.1) as pool:
        blocker = asyncio.create_task(pool.run(coroutines.blocks, str(path), 60))
        await eventually(lambda: lines(path))
        await asyncio.sleep(0.05)
        blocker.cancel()
        await steps(2)  # by now it was asked to stop
        assert await pool.run(coroutines.answer, 3) == 3
        await asyncio.wait([blocker])
        assert pool.stats().outcomes == {"ok": 1, "cancelled": 1}
        assert pool.stats().exited == {"cancelled": 1}
        assert pool.stats().attempts == 3


async def test_retries_of_async_commands(path: Path) -> None:
    """The command's own."""
    async with pool_of(2) as pool:
        assert await pool.run(coroutines.crashes_once, str(path)) == 2


@pytest.mark.parametrize("grace", [0, 5])
async def test_closing_with_async_calls_in_flight(gate: Gate, grace: int) -> None:
    """Within grace they finish; without, each gets PoolClosed, and that it had started."""
    async with pool_of(3) as pool:
        calls = [asyncio.create_task(pool.run(coroutines.at_gate, gate.path, 7)) for _ in range(3)]
        await eventually(lambda: len(gate.reached()) == 3)
        closing = asyncio.create_task(pool.aclose(grace))
        if grace:
            await asyncio.sleep(0.02)
            gate.open()
        results = await asyncio.gather(*calls, return_exceptions=True)
        await closing
        if grace:
            assert results == [7, 7, 7]
        for error in results if not grace else ():
            assert isinstance(error, PoolClosed)
            assert error.started


# --- SIGTERM ---------------------------------------------------------------------------------------------------------


async def test_at_sigterm_what_runs_is_finished_and_the_worker_leaves(gate: Gate) -> None:
    """Calls that come meanwhile are lost as little; exit code 0, and no crash."""
    async with pool_of(3) as pool:
        calls = [asyncio.create_task(pool.run(coroutines.at_gate, gate.path, 7)) for _ in range(2)]
        await eventually(lambda: len(gate.reached()) == 2)
        pid = gate.reached()[0]
        os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(0.02)
        calls.append(asyncio.create_task(pool.run(coroutines.at_gate, gate.path, 7)))
        await asyncio.sleep(0.02)
        gate.open()
        assert await asyncio.gather(*calls) == [7, 7, 7]
        await eventually(lambda: pool.stats().exited == {"left": 1})
        assert await pool.run("pid") != pid
        assert set(pool.stats().outcomes) == {"ok"}


async def test_after_sigterm_credit_and_cancel_are_still_heard(path: Path, gate: Gate) -> None:
    """A stream comes to its end, and a call can be stopped without the worker being killed."""
    async with pool_of(3) as pool:
        stream = pool.stream(coroutines.gate_then_count, gate.path, 500)
        async with stream:
            stopped = asyncio.create_task(pool.run(coroutines.traced, str(path)))
            await eventually(lambda: lines(path) and gate.reached())
            os.kill(gate.reached()[0], signal.SIGTERM)
            gate.open()
            await asyncio.sleep(0.02)
            stopped.cancel()
            await asyncio.wait([stopped])
            assert [update async for update in stream] == list(range(500))
        assert lines(path)[-1] == "cancelled"
        await eventually(lambda: pool.stats().exited == {"left": 1})


async def test_an_idle_worker_with_a_loop_leaves_at_once() -> None:
    """As one without."""
    async with pool_of() as pool:
        await pool.run(coroutines.answer, 1)
        pid = await pool.run("pid")
        os.kill(pid, signal.SIGTERM)
        await eventually(lambda: pool.stats().exited == {"left": 1})


# --- frame by frame --------------------------------------------------------------------------------------------------


@pytest.fixture
def parent() -> Iterator[Parent]:
    parent = Parent("tests.support.coroutines", "tests.support.updates")
    yield parent
    parent.close()


def test_a_ping_is_answered_while_async_commands_run(parent: Parent) -> None:
    """The loop reads on."""
    parent.call(1, coroutines.answer, "slow", 0.2)
    parent.send(5, 77)
    assert parent.receive() == [36, 77]
    assert parent.receive()[:3] == [33, 1, "slow"]


@pytest.mark.parametrize("end", ["stop", "end of input"])
def test_at_stop_and_at_the_end_of_input_what_runs_is_finished(parent: Parent, end: str) -> None:
    """Then the worker exits with code 0; what waits for credit gets none, and is stopped."""
    parent.call(1, coroutines.answer, "first", 0.1)
    parent.call(2, coroutines.count, 100, credit=2)
    parent.call(3, coroutines.answer, "second", 0.2)
    assert [parent.receive()[:2], parent.receive()[:2]] == [[35, 2], [35, 2]]
    parent.send(6) if end == "stop" else parent.shut()
    replies = {(message := parent.receive())[1]: message for _ in range(3)}
    assert replies[1][:3] == [33, 1, "first"]
    assert replies[3][:3] == [33, 3, "second"]
    assert replies[2][0] == 34
    assert replies[2][2][0] == "cancelled"
    assert parent.process.wait(10) == 0


def test_a_cancel_right_behind_its_call_is_heard(parent: Parent) -> None:
    """Before the first step of the command, and where both are read while another one waits for credit."""
    for _ in range(20):
        parent.call(1, coroutines.answer, "never", 60)
        parent.send(3, 1)
        assert parent.receive()[2][0] == "cancelled"
    parent.call(2, coroutines.emits, 3, credit=1)
    assert parent.receive()[0] == 35
    parent.call(3, coroutines.answer, "never", 60)
    parent.call(4, coroutines.answer, "at last", 0)
    parent.send(3, 3)
    assert parent.receive()[:2] == [34, 3]
    parent.send(4, 2, 2)
    kinds = [parent.receive()[:2] for _ in range(4)]
    assert sorted(kinds) == [[33, 2], [33, 4], [35, 2], [35, 2]]


def test_a_cancel_right_behind_the_first_chunk_is_heard() -> None:
    """Both are read at once, before the event loop is there: what the first item has made is not left unawaited."""
    parent = Parent(concurrency=1)
    parent.process.send_signal(signal.SIGSTOP)
    items = [(coroutines.answer.__module__, coroutines.answer.__qualname__), [["never", 60]]]
    parent.send(2, 1, ["asyncpool", "chunk"], items, {}, None, 10)
    parent.send(3, 1)
    parent.process.send_signal(signal.SIGCONT)
    assert parent.receive()[2][0] == "cancelled"
    parent.call(2, coroutines.answer, "next")
    assert parent.receive()[:3] == [33, 2, "next"]
    parent.shut()
    assert parent.process.wait(10) == 0
    assert parent.close()[1] == b""


def test_cancel_and_credit_for_what_is_settled_are_ignored(parent: Parent) -> None:
    """They crossed the reply."""
    for function in (coroutines.answer, updates.count):
        parent.call(1, function, 0)
        assert parent.receive()[:2] == [33, 1]
        parent.send(3, 1)
        parent.send(4, 1, 5)
        parent.send(5, 1)
        assert parent.receive() == [36, 1]


def test_a_parent_that_talks_nonsense_or_goes_away_ends_the_worker(parent: Parent) -> None:
    """Though async commands run: nobody waits for them."""
    parent.call(1, coroutines.answer, "never", 60)
    parent.ours.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert parent.process.wait(10) != 0
