"""What holds for a Pool and for an InlinePool alike, beyond what is marked so elsewhere."""

import asyncio
import resource
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncpool import (
    CommandError,
    CommandTimeout,
    Lease,
    Pool,
    PoolClosed,
    ProtocolError,
    WorkerCrashed,
    WorkerStartError,
)
from asyncpool.pool.stream import WINDOW
from asyncpool.testing import Faults
from tests.conftest import Gate
from tests.support import commands, streams
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract


async def test_updates_come_in_order_and_the_result_after_them() -> None:
    """Of generators and of async generators."""
    async with Pool(streams, max_size=1, stderr="discard") as pool:
        async with pool.stream(streams.count_to, 100) as updates:
            assert [each async for each in updates] == list(range(1, 101))
            assert updates.result == "done"
        async with pool.stream(streams.count_async, 100) as numbers:
            assert [each async for each in numbers] == list(range(1, 101))
        async with pool.stream(streams.count_to, 3) as updates:  # the worker has an event loop now
            assert [each async for each in updates] == [1, 2, 3]
        assert pool.stats().spawned == 1


async def test_a_command_that_holds_many_descriptors_waits_for_credit() -> None:
    """What `select` cannot take: its updates come all the same, in a worker without an event loop and with one."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1300:
        pytest.skip("so many descriptors are not allowed here")
    async with Pool(streams, max_size=1, stderr="discard") as pool:
        for _ in range(2):
            async with pool.stream(streams.count_above, 1100, 10 * WINDOW) as updates:
                assert [each async for each in updates] == list(range(10 * WINDOW))
            await pool.run(streams.nap, 0)
        assert pool.stats().spawned == 1


@pytest.mark.parametrize("command", [streams.emit_around_a_child, streams.emit_around_a_child_later])
async def test_a_process_that_a_command_forks_is_none_of_its_workers(
    command: Callable[[str], Any], tmp_path: Path
) -> None:
    """What it emits goes nowhere: neither to the caller nor into a file that has the wire's number there."""
    async with Pool(streams, max_size=1) as pool, pool.stream(command, str(tmp_path / "file")) as updates:
        assert [each async for each in updates] == ["before", "after"]


async def test_a_slow_consumer_holds_the_command_up(tmp_path: Path) -> None:
    """It is at most a window ahead; leaving the block closes the generator and keeps the worker."""
    path = tmp_path / "last"
    async with Pool(streams, max_size=1, stderr="discard") as pool:
        async with pool.stream(streams.count_and_tell, 1000, str(path)) as updates:
            async for each in updates:
                if each == 2:
                    break
            await eventually(lambda: int(path.read_text() or 0) >= WINDOW)
            assert int(path.read_text()) < 2 * WINDOW
        assert path.read_text().endswith(" closed")
        assert await pool.run(streams.extend, [1]) == [1, 0]
        assert pool.stats().spawned == 1


@pytest.mark.parametrize("where", ["here", "thread"])
async def test_emit_and_meta_find_their_call(where: str) -> None:
    """From the command itself and from a thread that it started."""
    got: list[str] = []
    async with Pool(streams, max_size=1, stderr="discard") as pool:
        assert await pool.options(on_update=got.append, meta={"trace": "7"}).run("emit_from", where) == "7"
    assert got == [where]


async def test_emit_finds_its_call_among_many_workers() -> None:
    """Also from the threads of an event loop: each update goes to its own caller."""
    async with Pool(streams, min_size=3, max_size=3, stderr="discard") as pool:

        async def call() -> tuple[list[str], int]:
            got: list[str] = []
            slot: int = await pool.options(on_update=got.append).run("emit_below")
            return got, slot

        told = await asyncio.gather(*(call() for _ in range(3)))
        assert [got for got, _ in told] == [["to_thread", "loop"]] * 3
        assert sorted(slot for _, slot in told) == [0, 1, 2]


async def test_async_commands_run_at_the_same_time_in_one_worker() -> None:
    """As many as concurrency says."""
    async with Pool(streams, max_size=1, concurrency=4, stderr="discard") as pool:
        place = uuid.uuid4().hex  # the threads of all tests share one module
        assert await asyncio.gather(*(pool.run(streams.meet, place, 4) for _ in range(4))) == [4] * 4


async def test_a_cancelled_async_command_keeps_its_worker() -> None:
    """It is asked to stop, and heeds it."""
    async with Pool(streams, max_size=1, stderr="discard") as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await pool.run(streams.nap, 60)
        await pool.run(streams.nap, 0)
        assert pool.stats().spawned == 1
        assert pool.stats().outcomes == {"cancelled": 1, "ok": 1}


async def test_what_a_command_does_to_its_arguments_stays_with_it() -> None:
    """They were encoded: the caller's own list is not touched."""
    values = [1]
    async with Pool(streams, max_size=1, stderr="discard") as pool:
        assert await pool.run(streams.extend, values) == [1, 0]
        assert await pool.run(streams.extend, values=values) == [1, 0]
    assert values == [1]


async def test_sys_exit_ends_the_call_and_nothing_else() -> None:
    """It is a CommandError, and the worker serves on."""
    async with Pool(streams, max_size=1, stderr="discard") as pool:
        with pytest.raises(CommandError, match="bye") as caught:
            await pool.run("leave")
        assert caught.value.type_name == "SystemExit"
        assert await pool.run(streams.extend, []) == [0]
        assert pool.stats().spawned == 1


async def test_a_stopped_command_does_no_more(tmp_path: Path) -> None:
    """When its caller learns of the timeout, it runs no more."""
    path = tmp_path / "trace"
    async with Pool(streams, max_size=1, stderr="discard") as pool:
        with pytest.raises(CommandTimeout, match=r"streams\.py:\d+ trace_after_nap") as caught:
            await pool.options(timeout=0.1).run("trace_after_nap", str(path))
        assert "trace_after_nap" in caught.value.stack
        await asyncio.sleep(0.6)
    assert not path.exists()


async def test_the_pool_tells_which_class_it_is(pool_class: type[Pool]) -> None:
    """In its repr."""
    assert repr(Pool(name="kittens")).startswith(f"<{pool_class.__name__} 'kittens' ")


async def test_a_missing_or_broken_module_is_a_start_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It quotes what the module raised, or where it was looked for."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "breaks_at_import.py").write_text("raise ValueError('not today')")
    with pytest.raises(WorkerStartError, match="ValueError: not today") as caught:
        await Pool("breaks_at_import", stderr="discard").start()
    assert caught.value.exit_code == 1
    with pytest.raises(WorkerStartError, match="there is no module 'no_such_module'"):
        await Pool("no_such_module", stderr="discard").start()


async def test_restart_and_resize_replace_workers() -> None:
    """As for processes."""
    async with Pool(streams, max_size=2, stderr="discard") as pool:
        await pool.restart()
        await pool.resize(min_size=2)
        assert pool.stats().spawned == 3
        assert [info.id for info in pool.workers()] == [2, 3]


# --- faults ----------------------------------------------------------------------------------------------------------


async def test_the_nth_call_crashes_its_worker() -> None:
    """The caller learns that it may have started; the calls before and after it are served."""
    with Faults(crash_at=[2, 4]) as faults:
        async with Pool(commands, max_size=1, stderr="discard") as pool:
            assert await pool.run("echo", 1) == 1
            with pytest.raises(WorkerCrashed, match=r"killed by SIGKILL .*while it ran echo") as caught:
                await pool.run("echo", 2)
            assert caught.value.started is True
            assert await pool.run("echo", 3) == 3
            assert await pool.options(retries=1).run("echo", 4) == 4
            assert (faults.calls, faults.starts) == (5, 3)
            assert pool.stats().exited == {"crashed": 2}
    assert (faults.calls, faults.starts) == (5, 3)


async def test_the_nth_call_of_an_async_worker_crashes_it(gate: Gate) -> None:
    """Its event loop goes with it, and every call that runs there."""
    with Faults(crash_at=2):
        async with Pool(streams, max_size=1, concurrency=2, stderr="discard") as pool:
            first = asyncio.create_task(pool.run(streams.nap, 60))
            await eventually(lambda: pool.stats().running)
            with pytest.raises(WorkerCrashed):
                await pool.run(streams.nap, 60)
            with pytest.raises(WorkerCrashed):
                await first
            await pool.run(streams.nap, 0)


async def test_a_crash_takes_the_lease_along() -> None:
    """As every crash does."""
    with Faults(crash_at=1):
        async with Pool(commands, max_size=1, stderr="discard") as pool, pool.acquire() as worker:
            assert isinstance(worker, Lease)
            with pytest.raises(WorkerCrashed):
                await worker.run("echo", 1)
            with pytest.raises(WorkerCrashed, match="lease") as caught:
                await worker.run("echo", 1)
            assert caught.value.started is False


async def test_the_nth_call_hangs() -> None:
    """Its timeout ends it."""
    with Faults(hang_at=1):
        async with Pool(commands, max_size=1, timeout=0.2, stderr="discard") as pool:
            with pytest.raises(CommandTimeout):
                await pool.run("echo", 1)
            assert await pool.run("echo", 2) == 2


async def test_the_nth_reply_is_garbage() -> None:
    """ProtocolError quotes it."""
    with Faults(garbage_at=1):
        async with Pool(commands, max_size=1, stderr="discard") as pool:
            with pytest.raises(ProtocolError, match="This is no frame") as caught:
                await pool.run("echo", 1)
            assert caught.value.started is True
            assert await pool.run("echo", 2) == 2


async def test_the_first_starts_fail_and_all_are_slow() -> None:
    """start() raises at once; a pool that is started anew gets its worker, late."""
    loop = asyncio.get_running_loop()
    with Faults(fail_starts=1, slow_start=0.2):
        with pytest.raises(WorkerStartError, match=r"start 1 fails, because of Faults\(fail_starts=1\)"):
            await Pool(commands, max_size=1, stderr="discard").start()
        began = loop.time()
        async with Pool(commands, max_size=1, stderr="discard"):
            assert loop.time() - began >= 0.2
        with pytest.raises(WorkerStartError, match="start_timeout"):
            await Pool(commands, max_size=1, start_timeout=0.05, stderr="discard").start()


async def test_faults_end_with_their_block() -> None:
    """Workers that live on have none any more, nor have those that start later."""
    with Faults(crash_at=range(1, 100)):
        pool = Pool(commands, max_size=1, stderr="discard")
        await pool.start()
    assert await pool.run("echo", 1) == 1
    await pool.restart()
    assert await pool.run("echo", 2) == 2
    assert pool.stats().exited == {"restarted": 1}
    await pool.aclose()


async def test_faults_hold_for_workers_that_start_within_their_block() -> None:
    """Also in a pool that was there before."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        with Faults(crash_at=1) as faults:
            assert await pool.run("echo", 1) == 1
            assert (faults.calls, faults.starts) == (0, 0)
            await pool.restart()
            with pytest.raises(WorkerCrashed):
                await pool.run("echo", 2)


async def test_calls_are_counted_over_all_workers() -> None:
    """Each once, also when several workers take one at the same time."""
    with Faults(crash_at=150) as faults:
        async with Pool(commands, min_size=3, max_size=3, stderr="discard") as pool:
            calls = (pool.run("echo", number) for number in range(300))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(isinstance(each, WorkerCrashed) for each in answers) == 1
    assert faults.calls == 300


async def test_a_pool_that_closes_tells_its_calls() -> None:
    """PoolClosed with .started, though the worker hangs."""
    with Faults(hang_at=1) as faults:
        pool = Pool(commands, max_size=1, stderr="discard")
        await pool.start()
        call = asyncio.create_task(pool.run("echo", 1))
        await eventually(lambda: faults.calls == 1)
        await pool.aclose(0)
        with pytest.raises(PoolClosed) as caught:
            await call
        assert caught.value.started is True
