"""Workers wear out: by calls, age and memory; all are replaced on wish; and nobody who calls notices."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncpool import Event, Pool, PoolClosed, WorkerStartError
from asyncpool.testing import Faults, InlinePool
from tests.conftest import Gate
from tests.support import commands
from tests.support.waiting import eventually

MIB = 2**20


class Story:
    """The events of a pool, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)


def exits(pool: Pool) -> dict[str, int]:
    return {cause: count for cause, count in pool.stats().exited.items() if count}


@pytest.mark.parametrize(("max_calls", "size"), [(1, 1), (1, 2), (3, 1), (3, 2)])
async def test_no_worker_serves_more_than_max_calls(max_calls: int, size: int) -> None:
    """However the calls come; and those that wait are served without anybody submitting more."""
    async with Pool(commands, min_size=size, max_size=size, max_calls=max_calls, stderr="discard") as pool:
        pids = await asyncio.gather(*(pool.run("pid") for _ in range(12)))
        await eventually(lambda: pool.stats().outcomes["ok"] == 12)
    counts = [pids.count(pid) for pid in set(pids)]
    assert max(counts) <= max_calls
    stats = pool.stats()
    assert sum(stats.exited.values()) == stats.spawned
    assert stats.exited["max_calls"] >= 12 // max_calls - size


async def test_crashes_and_cancels_do_not_upset_recycling() -> None:
    """Each pid serves at most max_calls, whatever happens to its calls."""
    async with Pool(commands, min_size=2, max_size=2, max_calls=3, stderr="discard") as pool:
        crashing = [asyncio.create_task(pool.run("crash", 9)) for _ in range(4)]
        calls = [asyncio.create_task(pool.run("pid")) for _ in range(30)]
        for call in calls[::5]:
            call.cancel()
        done = await asyncio.gather(*calls, *crashing, return_exceptions=True)
        pids = [each for each in done if isinstance(each, int)]
        assert len(pids) == 24
        assert max(pids.count(pid) for pid in set(pids)) <= 3


async def test_a_successor_is_warm_before_the_old_one_goes() -> None:
    """With surge no caller meets a cold worker, where calls do not come faster than a worker starts."""
    story = Story()
    async with Pool(commands, max_size=1, max_calls=10, on_event=story, stderr="discard") as pool:
        for _ in range(30):
            await pool.run("echo")
            await eventually(lambda: len(pool.workers()) == 1)  # the last successor is ready, its predecessor gone
        told = list(story.events)
    assert sum(event.kind == "exited" for event in told) >= 2
    ready = 0
    for event in told:
        ready += {"ready": 1, "exited": -1}.get(event.kind, 0)
        assert ready >= 1 or event.kind == "spawned", [each.kind for each in told]


async def test_calls_one_after_another_meet_no_cold_worker_while_workers_grow_old() -> None:
    """Each of them is served by a worker that was ready before it was submitted, however long a start takes.

    A start is mostly a sleep here, so that the next one takes about as long as the last, also on a busy machine.
    """
    ready: set[int | None] = set()

    def note(event: Event) -> None:
        if event.kind == "ready":
            ready.add(event.pid)

    async with Pool(
        "tests.support.slow_commands", max_size=1, surge=1, max_lifetime=2.5, on_event=note, stderr="discard"
    ) as pool:
        served: list[int] = []
        while exits(pool).get("max_lifetime", 0) < 2:
            warm = ready.copy()
            pid = await pool.run(commands.pid)
            assert pid in warm, f"call {len(served) + 1} waited for a start, after {len(set(served))} workers"
            served.append(pid)
        assert len(set(served)) == 3
        assert exits(pool) == {"max_lifetime": 2}


async def test_without_surge_the_old_one_goes_first() -> None:
    """Never more processes than max_size, and all the same every call is served."""
    async with Pool(commands, max_size=1, surge=0, max_calls=2, stderr="discard") as pool:
        pids = [await pool.run("pid") for _ in range(6)]
        assert len(set(pids)) >= 3
        assert len(pool.workers()) <= 1


async def test_a_lease_is_never_cut_short() -> None:
    """It may go beyond max_calls; its worker is recycled when it is given back."""
    async with Pool(commands, max_size=1, max_calls=3, stderr="discard") as pool:
        async with pool.acquire() as worker:
            pids = {await worker.run("pid") for _ in range(10)}
            assert pids == {worker.pid}
        await eventually(lambda: exits(pool).get("max_calls") == 1)
        assert await pool.run("pid") not in pids


async def test_workers_grow_old() -> None:
    """After max_lifetime a worker is replaced, also an idle one; a busy one finishes its call."""
    async with Pool(commands, max_size=1, max_lifetime=0.4, stderr="discard") as pool:
        first = await pool.run("pid")
        assert await pool.run("pid_after", 0.8) > 0, "what it has is finished beyond its time"
        await eventually(lambda: exits(pool).get("max_lifetime", 0) >= 2)
        assert await pool.run("pid") != first


async def test_a_worker_that_has_grown_is_replaced() -> None:
    """By what it has now, looked at between calls; the call that made it grow is answered."""
    async with Pool(commands, max_size=1, max_memory=120 * MIB, stderr="discard") as pool:
        first = await pool.run("pid")
        assert await pool.run("hold_memory", 150 * MIB) == 150 * MIB
        await eventually(lambda: exits(pool) == {"max_memory": 1})
        assert await pool.run("pid") != first


async def test_memory_that_was_given_back_does_not_count() -> None:
    """It is not the peak that counts."""
    async with Pool(commands, max_size=1, max_memory=120 * MIB, stderr="discard") as pool:
        first = await pool.run("pid")
        assert len(await pool.run("big", 100 * MIB)) == 100 * MIB
        await pool.run("sleep", 0.2)  # by then its memory has been looked at for a second time
        assert await pool.run("pid") == first
        assert exits(pool) == {}


async def test_a_limit_below_what_a_worker_has_from_its_start_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """One warning, and no worker after worker that each serve one call."""
    with caplog.at_level(logging.WARNING, "asyncpool"):
        async with Pool(commands, min_size=2, max_size=2, max_memory=MIB, stderr="discard") as pool:
            for _ in range(20):
                await pool.run("echo")
            await pool.run("sleep", 0.06)
            await pool.run("sleep", 0.2)
            assert pool.stats().spawned == 2
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "above max_memory" in record.getMessage()
    assert "raise max_memory" in record.getMessage()


async def test_restart_under_load_fails_no_call() -> None:
    """Every worker that there was is gone when it returns, and each call in between had its answer."""
    async with Pool(commands, min_size=3, max_size=3, stderr="discard") as pool:
        old = {info.pid for info in pool.workers()}
        answers: list[int] = []
        going = True

        async def load(number: int) -> None:
            while going:
                assert await pool.run("echo", number) == number
                answers.append(number)

        tasks = [asyncio.create_task(load(number)) for number in range(6)]
        await pool.restart()
        assert old.isdisjoint({info.pid for info in pool.workers()})
        count = len(answers)
        await eventually(lambda: len(answers) > count + 20)
        going = False
        await asyncio.gather(*tasks)
        assert exits(pool) == {"restarted": 3}
        assert pool.stats().idle == 3


async def test_restart_waits_for_the_busy_and_the_leased(gate: Gate) -> None:
    """Nobody is cut short: a call and a lease that are there keep their old worker to their end."""
    async with Pool(commands, min_size=2, max_size=2, surge=2, stderr="discard") as pool:
        lease = await pool.acquire()
        call = asyncio.create_task(pool.run(gate.command, gate.path, "ran"))
        await eventually(gate.reached)
        restarting = asyncio.create_task(pool.restart())
        await eventually(lambda: pool.stats().retiring == 2)
        assert await pool.run("pid") not in {lease.pid, *gate.reached()}, "a warm successor is there"
        assert await lease.run("pid") == lease.pid
        assert not restarting.done()
        gate.open()
        assert await call == "ran"
        await pool.release(lease)
        await restarting


@pytest.mark.parametrize("surge", [0, 1, 3])
async def test_restart_keeps_to_surge(surge: int) -> None:
    """Processes never exceed max_size + surge."""
    most = 0

    def count(event: Event) -> None:
        nonlocal most
        most = max(most, len(pool.workers()))

    pool = Pool(commands, min_size=3, max_size=3, surge=surge, on_event=count, stderr="discard")
    async with pool:
        await pool.restart()
        assert exits(pool) == {"restarted": 3}
        assert pool.stats().idle == 3
    assert most <= 3 + surge


async def test_a_restart_that_fails_leaves_the_old_ones_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New code that does not start is told, and the old code goes on."""
    module = tmp_path / "restarted_kittens.py"
    module.write_text("import asyncpool\n@asyncpool.command\ndef version(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Pool("restarted_kittens", min_size=2, max_size=2, stderr="discard") as pool:
        pids = {info.pid for info in pool.workers()}
        module.write_text("raise RuntimeError('new code that does not start')\n")
        with pytest.raises(WorkerStartError, match="new code that does not start"):
            await pool.restart()
        assert await pool.run("version") == 1
        assert pids <= {info.pid for info in pool.workers()}
        module.write_text("import asyncpool\n@asyncpool.command\ndef version(): return 22\n")
        await pool.restart()
        assert await pool.run("version") == 22


async def test_a_restart_asked_for_when_another_has_failed_ends_too() -> None:
    """Who is told first may ask again before the other is told."""
    async with InlinePool(commands, max_size=1) as pool:

        async def again() -> None:
            with pytest.raises(WorkerStartError):
                await pool.restart()
            await pool.restart()

        with Faults(fail_starts=1):
            async with asyncio.timeout(20):
                first, second = await asyncio.gather(again(), pool.restart(), return_exceptions=True)
        assert first is None
        assert isinstance(second, WorkerStartError)
        assert await pool.run("echo", 1) == 1


async def test_restarts_at_the_same_time_both_end() -> None:
    """Each returns when those are gone that were there when it began."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        old = {info.pid for info in pool.workers()}
        await asyncio.gather(pool.restart(), pool.restart())
        assert old.isdisjoint({info.pid for info in pool.workers()})
        assert await pool.run("echo", 1) == 1


async def test_closing_ends_a_restart(gate: Gate) -> None:
    """It says that the pool was closed."""
    pool = Pool(commands, max_size=1, stderr="discard")
    await pool.start()
    call = asyncio.create_task(pool.run(gate.command, gate.path))
    await eventually(gate.reached)
    restarting = asyncio.create_task(pool.restart())
    await eventually(lambda: pool.stats().retiring == 1)
    await pool.aclose(0)
    with pytest.raises(PoolClosed):
        await restarting
    with pytest.raises(PoolClosed):
        await call


@pytest.mark.parametrize("act", [Pool.restart, lambda pool: pool.resize(max_size=2)], ids=["restart", "resize"])
async def test_only_an_open_pool_can_be_changed(act: Callable) -> None:
    """Before the start and after the end there is nothing to restart or resize."""
    pool = Pool(commands, max_size=1)
    with pytest.raises(PoolClosed, match="not started yet"):
        await act(pool)
    async with pool:
        pass
    with pytest.raises(PoolClosed, match="closed"):
        await act(pool)


async def test_resize_grows_and_shrinks(gate: Gate) -> None:
    """To min_size at once, to max_size on demand; those that are too many finish what they have."""
    async with Pool(commands, min_size=1, max_size=1, stderr="discard") as pool:
        await pool.resize(min_size=3, max_size=4)
        assert pool.stats().idle == 3
        calls = [asyncio.create_task(pool.run(gate.command, gate.path, number)) for number in range(5)]
        await eventually(lambda: len(gate.reached()) == 4)
        await pool.resize(min_size=1, max_size=2)
        stats = pool.stats()
        assert (stats.busy, stats.retiring, stats.waiting) == (2, 2, 1)
        gate.open()
        assert await asyncio.gather(*calls) == list(range(5))
        await eventually(lambda: exits(pool).get("resized") == 2)
        assert len(pool.workers()) == 2


async def test_resize_stops_those_that_are_starting() -> None:
    """A worker that nobody needs any more is not waited for."""
    pool = Pool("tests.support.slow_start", min_size=0, max_size=2, stderr="discard")  # two start at once anywhere
    await pool.start()
    calls = [asyncio.create_task(pool.run("now")) for _ in range(3)]
    await eventually(lambda: pool.stats().starting == 2)
    await pool.resize(max_size=1)
    await eventually(lambda: exits(pool) == {"resized": 1})
    assert (pool.stats().starting, pool.stats().waiting) == (1, 3)
    await pool.aclose(0)
    await asyncio.wait(calls)
    assert all(isinstance(call.exception(), PoolClosed) for call in calls)


async def test_resize_of_a_pool_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first worker that fails is told; those that are there serve on."""
    module = tmp_path / "resized_kittens.py"
    module.write_text("import asyncpool\n@asyncpool.command\ndef version(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Pool("resized_kittens", max_size=1, stderr="discard") as pool:
        module.write_text("raise RuntimeError('broken since')\n")
        with pytest.raises(WorkerStartError, match="broken since"):
            await pool.resize(min_size=2, max_size=2)
        assert await pool.run("version") == 1


@pytest.mark.parametrize(
    ("sizes", "error", "words"),
    [
        ({"min_size": 3}, ValueError, "min_size=3 is above max_size=2"),
        ({"max_size": 0}, ValueError, "at least 1"),
        ({"min_size": 1.5}, TypeError, "integer"),
    ],
)
async def test_sizes_that_cannot_be_are_refused(sizes: dict, error: type[Exception], words: str) -> None:
    """With the words of the constructor, and nothing is changed."""
    async with Pool(commands, min_size=1, max_size=2, stderr="discard") as pool:
        with pytest.raises(error, match=words):
            await pool.resize(**sizes)
        assert len(pool.workers()) == 1
