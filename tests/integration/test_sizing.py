"""How many workers there are, and who is served when."""

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from asyncpool import Event, Pool, PoolFull
from asyncpool.pool import config
from asyncpool.pool.cpus import usable_cpus
from tests.conftest import Gate
from tests.support import commands
from tests.support.processes import children
from tests.support.waiting import eventually, steps


async def hold(pool: Pool, gate: Gate, count: int) -> list[asyncio.Task[Any]]:
    """Return *count* calls, each of which has come to the gate in a worker of its own."""
    before = len(gate.reached())
    calls = [asyncio.create_task(pool.run("wait_at", gate.path, number)) for number in range(count)]
    await eventually(lambda: len(gate.reached()) == before + count)
    return calls


async def test_a_pool_starts_with_min_size_and_grows_to_max_size_on_demand(gate: Gate) -> None:
    """Workers are started for calls that wait, never more than max_size, and all calls are served."""
    async with Pool(commands, min_size=1, max_size=3, stderr="discard") as pool:
        assert len(pool.workers()) == len(children()) == 1
        calls = [asyncio.create_task(pool.run("wait_at", gate.path, number)) for number in range(6)]
        await eventually(lambda: len(gate.reached()) == 3)
        assert (pool.stats().busy, pool.stats().waiting, pool.stats().running) == (3, 3, 3)
        assert len(children()) == 3
        gate.open()
        assert await asyncio.gather(*calls) == list(range(6))
        assert pool.stats().spawned == 3


async def test_a_pool_does_not_grow_while_one_worker_is_enough() -> None:
    """Calls one after the other need one worker."""
    async with Pool(commands, min_size=1, max_size=4, stderr="discard") as pool:
        for number in range(200):
            assert await pool.run("echo", number) == number
        assert pool.stats().spawned == 1


async def test_what_is_idle_for_long_is_retired_down_to_min_size(gate: Gate) -> None:
    """After idle_timeout the extra workers go quietly, min_size stay; on demand the pool grows again."""
    events: list[Event] = []
    async with Pool(
        commands, min_size=1, max_size=3, idle_timeout=0.2, on_event=events.append, stderr="discard"
    ) as pool:
        for _ in range(2):
            calls = await hold(pool, gate, 3)
            gate.open()
            await asyncio.gather(*calls)
            gate.close()
            await eventually(lambda: len(pool.workers()) == 1)
            assert len(children()) == 1
        survivor = pool.workers()[0].pid
        await eventually(lambda: pool.workers()[0].age > 0.5)
        assert [info.pid for info in pool.workers()] == [survivor]
        assert dict(pool.stats().exited) == {"retired": 4}
        assert {event.exit_code for event in events if event.kind == "exited"} == {0}


async def test_min_size_zero_starts_on_demand_and_ends_with_nothing() -> None:
    """No call, no process; the first call starts one; idle, it goes; the next call works again."""
    async with Pool(commands, min_size=0, max_size=2, idle_timeout=0.1, stderr="discard") as pool:
        for number in range(3):
            assert children() == {}
            assert await pool.run("echo", number) == number
            await eventually(lambda: pool.workers() == [])
        assert pool.stats().spawned == 3


async def test_idle_workers_are_used_last_in_first_out(gate: Gate) -> None:
    """The warmest serves next, so that the others grow cold and can be retired."""
    async with Pool(commands, min_size=3, max_size=3, stderr="discard") as pool:
        calls = await hold(pool, gate, 3)
        gate.open()
        await asyncio.gather(*calls)
        assert len({await pool.run("pid") for _ in range(50)}) == 1


async def test_calls_are_served_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """One worker, 500 calls, some of them cancelled: the trace of the rest is in order."""
    trace = tmp_path / "trace"
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        calls = [asyncio.create_task(pool.run("append", str(trace), str(number))) for number in range(500)]
        await steps(1)
        for number in range(7, 500, 7):
            calls[number].cancel()
        await asyncio.wait(calls)
    assert trace.read_text().split() == [str(n) for n in range(500) if n % 7 or n == 0]


async def test_10_000_mixed_calls_with_cancels_start_in_the_order_of_their_submission(tmp_path: Path) -> None:
    """Calls, calls with options, and leases, a tenth of them cancelled while the queue is served: nobody overtakes."""
    trace, count, chance = tmp_path / "trace", 10_000, random.Random(44)

    async with Pool(commands, max_size=1, stderr="discard") as pool:

        async def leased(number: int) -> None:
            async with pool.acquire() as worker:
                await worker.run("append", str(trace), str(number))

        ways = [
            lambda number: pool.run("append", str(trace), str(number)),
            lambda number: pool.options(timeout=60).run(commands.append, str(trace), str(number)),
            leased,
        ]
        calls = [asyncio.create_task(chance.choice(ways)(number)) for number in range(count)]
        cancelled = set(chance.sample(range(count), count // 10))
        while pool.stats().submitted < 100:
            await steps(1)
        for number in sorted(cancelled):  # those at the head of the queue are served meanwhile
            calls[number].cancel()
            if number % 50 == 0:
                await steps(1)
        await asyncio.wait(calls)
        assert not any(call.cancelled() for number, call in enumerate(calls) if number not in cancelled)
    started = [int(line) for line in trace.read_text().split()]
    assert started == sorted(started)
    assert set(started) >= set(range(count)) - cancelled
    assert len(started) < count


async def test_short_calls_never_wait_behind_a_long_one(gate: Gate) -> None:
    """No call is sent ahead to a busy worker: with one of two workers held, 50 calls pass through the other."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        [held] = await hold(pool, gate, 1)
        assert await asyncio.gather(*(pool.run("echo", number) for number in range(50))) == list(range(50))
        assert not held.done()
        gate.open()
        await held


async def test_a_freed_worker_serves_the_head_of_the_queue_not_who_comes_next(gate: Gate, tmp_path: Path) -> None:
    """A task that calls again at once after its answer does not overtake those who wait."""
    trace = tmp_path / "trace"
    async with Pool(commands, max_size=1, stderr="discard") as pool:

        async def greedy() -> None:
            await pool.run("wait_at", gate.path)
            await pool.run("append", str(trace), "greedy")

        first = asyncio.create_task(greedy())
        await eventually(gate.reached)
        waiting = [asyncio.create_task(pool.run("append", str(trace), str(number))) for number in range(3)]
        await steps(2)
        gate.open()
        await asyncio.gather(first, *waiting)
    assert trace.read_text().split() == ["0", "1", "2", "greedy"]


async def test_beyond_max_waiting_calls_are_refused_at_once(gate: Gate) -> None:
    """PoolFull: nothing was sent; those that wait are served; with room again, calls are taken again."""
    async with Pool(commands, max_size=2, min_size=2, max_waiting=3, stderr="discard") as pool:
        held = await hold(pool, gate, 2)
        waiting = [asyncio.create_task(pool.run("echo", number)) for number in range(3)]
        await steps(2)
        for refused in (pool.run("echo"), pool.options(timeout=1).run("echo"), pool.acquire()):
            with pytest.raises(
                PoolFull, match=r"3 calls already wait \(max_waiting\); the pool is 0 idle, 2 busy"
            ) as caught:
                await refused
            assert caught.value.started is False
        waiting.pop().cancel()
        await steps(2)
        waiting.append(asyncio.create_task(pool.run("echo", 2)))
        await steps(2)
        with pytest.raises(PoolFull):
            await pool.run("echo")
        gate.open()
        assert await asyncio.gather(*waiting) == [0, 1, 2]
        await asyncio.gather(*held)
        assert pool.stats().outcomes == {"ok": 5, "cancelled": 1, "rejected": 3}


async def test_max_waiting_zero_takes_what_workers_can_take_now(gate: Gate) -> None:
    """Calls that a free or startable worker can take do not count as waiting."""
    async with Pool(commands, min_size=1, max_size=3, max_waiting=0, stderr="discard") as pool:
        calls = [asyncio.create_task(pool.run("wait_at", gate.path, number)) for number in range(5)]
        await eventually(lambda: len(gate.reached()) == 3)
        refused = [call for call in calls if call.done()]
        assert refused == calls[3:]
        for call in refused:
            with pytest.raises(PoolFull, match=r"no worker is free, and none may wait \(max_waiting=0\)"):
                await call
        gate.open()
        assert await asyncio.gather(*calls[:3]) == [0, 1, 2]


async def test_a_successor_starts_while_its_predecessor_still_ends(gate: Gate) -> None:
    """Within max_size + surge: a cancelled call's place is taken before its worker's funeral is over."""
    most = 0
    async with Pool(commands, min_size=2, max_size=2, surge=1, stderr="discard") as pool:

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(children()))
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        for _ in range(15):
            call = asyncio.create_task(pool.run("wait_at", gate.path))
            count = len(gate.reached())
            await eventually(lambda count=count: len(gate.reached()) > count)  # type: ignore[misc]
            call.cancel()
            await asyncio.wait([call])
        watching.cancel()
        await asyncio.wait([watching])
    assert 2 <= most <= 3


async def test_processes_never_exceed_max_size_and_surge_without_surge(gate: Gate) -> None:
    """With surge=0 a successor starts only when its predecessor is reaped."""
    most: list[int] = []

    def watch(_event: Event) -> None:
        most.append(len(children()))

    async with Pool(commands, min_size=2, max_size=2, surge=0, on_event=watch, stderr="discard") as pool:
        for _ in range(10):
            with pytest.raises(Exception, match="SIGKILL"):
                await pool.run("crash")
        await eventually(lambda: pool.stats().idle == 2)
    assert max(most) <= 2


async def test_a_pool_with_slow_starts_serves_with_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that takes long to start holds up nobody: the live one serves all calls meanwhile."""
    go = tmp_path / "go"
    (tmp_path / "slow_kittens.py").write_text(
        "import asyncpool, os, time\n"
        f"if os.path.exists({str(go)!r}):\n"
        "    time.sleep(30)\n"
        "@asyncpool.command\ndef purr(n: int): return n\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Pool("slow_kittens", min_size=1, max_size=3, stderr="discard") as pool:
        go.touch()
        assert await asyncio.gather(*(pool.run("purr", n) for n in range(100))) == list(range(100))
        assert pool.stats().starting >= 1
        assert pool.stats().idle == 1
        began = time.monotonic()
    assert time.monotonic() - began < 5, "closing waited for workers that were starting"


async def test_many_calls_at_once_are_served_by_few_workers() -> None:
    """5,000 calls in the queue of two workers."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        answers = await asyncio.gather(*(pool.run("echo", number) for number in range(5000)))
        assert answers == list(range(5000))
        assert pool.stats().spawned == 2


def machine(monkeypatch: pytest.MonkeyPatch, root: Path, cpus: int, files: dict[str, str]) -> None:
    """Let this process have an affinity of so many processors, and the control groups that *files* tell of."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
    monkeypatch.setattr(config, "usable_cpus", lambda: usable_cpus(root))


MACHINES = {
    "affinity": (3, 3, {}),
    "version 2": (
        64,
        3,
        {"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "250000 100000\n"},
    ),
    "version 1": (
        64,
        2,
        {
            "proc/self/cgroup": "4:memory:/app\n3:cpu,cpuacct:/app\n",
            "sys/fs/cgroup/cpu/app/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/app/cpu.cfs_period_us": "100000\n",
        },
    ),
    "nested": (
        64,
        3,
        {
            "proc/self/cgroup": "0::/slice/app/inner\n",
            "sys/fs/cgroup/slice/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/slice/app/cpu.max": "max 100000\n",
            "sys/fs/cgroup/slice/app/inner/cpu.max": "800000 100000\n",
        },
    ),
}


@pytest.mark.parametrize(("cpus", "expected", "files"), MACHINES.values(), ids=MACHINES)
async def test_the_default_size_is_what_this_process_may_use(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, expected: int, files: dict[str, str]
) -> None:
    """max_size=None: one worker for each processor that affinity and quotas leave, no more and no less."""
    machine(monkeypatch, tmp_path / "root", cpus, files)
    async with Pool(commands, surge=3, stderr="discard") as pool:
        calls = [asyncio.create_task(pool.run("wait_at", gate.path, number)) for number in range(2 * expected)]
        await eventually(lambda: len(gate.reached()) == expected)
        stats = pool.stats()
        assert (stats.busy, stats.starting, stats.waiting) == (expected, 0, expected)
        gate.open()
        assert await asyncio.gather(*calls) == list(range(2 * expected))
        assert pool.stats().spawned == expected


@pytest.mark.parametrize(("cpus", "at_once"), [(1, 2), (3, 3)])
async def test_few_workers_start_at_once_however_many_are_wanted(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, at_once: int
) -> None:
    """As many as there are processors, and two at least; in the end all are there."""
    machine(monkeypatch, tmp_path / "root", cpus, {})
    starting: list[int] = []

    def count(_event: Event) -> None:
        starting.append(pool.stats().starting)

    pool = Pool(commands, min_size=0, max_size=8, on_event=count, stderr="discard")
    async with pool:
        calls = [asyncio.create_task(pool.run("wait_at", gate.path, number)) for number in range(20)]
        await eventually(lambda: len(gate.reached()) == 8, within=20)
        gate.open()
        assert await asyncio.gather(*calls) == list(range(20))
    assert max(starting) == at_once
