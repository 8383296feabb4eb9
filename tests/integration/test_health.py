"""Death is an event; silence is only suspect where nothing else is to be heard."""

import asyncio
import os
import signal
import time

import pytest

from asyncpool import Event, Pool, PoolFull
from tests.conftest import Gate
from tests.support import commands
from tests.support.processes import there
from tests.support.waiting import eventually


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV], ids=lambda each: each.name)
async def test_the_death_of_an_idle_worker_is_noticed_at_once(number: signal.Signals) -> None:
    """Without a call, without a ping: a successor is there."""
    events: list[Event] = []
    async with Pool(
        commands, min_size=2, max_size=2, health_interval=None, on_event=events.append, stderr="discard"
    ) as pool:
        victim = pool.workers()[0].pid
        assert victim is not None
        os.kill(victim, number)
        await eventually(lambda: sum(event.kind == "ready" for event in events) == 3)
        assert not there(victim)
        assert pool.stats().idle == 2
        [ended] = [event for event in events if event.kind == "exited"]
        heeded = number == signal.SIGTERM  # an idle worker leaves then, with exit code 0
        assert (ended.pid, ended.exit_code) == (victim, 0 if heeded else -number)
        assert pool.stats().exited == {"left" if heeded else "crashed": 1}


async def test_a_stopped_idle_worker_is_found_by_its_ping_and_no_call_is_lost() -> None:
    """SIGSTOP an idle worker: it is replaced within two periods, and calls meanwhile all succeed.

    A period is health_interval and health_timeout. What others have of the machine's time does not count: a pass of
    the loop that takes longer than usual, since a deadline is put off by as much.
    """
    interval, timeout, usual = 0.2, 0.3, 0.02  # seconds
    async with Pool(
        commands, min_size=2, max_size=2, health_interval=interval, health_timeout=timeout, stderr="discard"
    ) as pool:
        calls = [await pool.run("echo", number) for number in range(10)]
        assert calls == list(range(10))
        victim = pool.workers()[0].pid
        assert victim is not None
        served = {await pool.run("pid") for _ in range(5)}
        if victim in served:  # the warmest serves all calls: stop the other
            victim = pool.workers()[1].pid
            assert victim is not None
        os.kill(victim, signal.SIGSTOP)
        number = 0
        began = passed = time.monotonic()
        late = 0.0
        while there(victim):
            assert await pool.run("echo", number) == number
            number += 1
            await asyncio.sleep(0.005)
            now = time.monotonic()
            late += max(0.0, now - passed - usual)
            passed = now
            assert now - began < 2 * (interval + timeout) + late, "the stopped worker is not found in time"
        await eventually(lambda: pool.stats().idle == 2)
        assert pool.stats().exited == {"unhealthy": 1}
        assert pool.stats().outcomes == {"ok": pool.stats().submitted}


async def test_check_on_acquire_finds_a_stopped_worker_before_it_gets_a_call() -> None:
    """Each idle worker is pinged before it is used: a stopped one gets no call."""
    async with Pool(
        commands, min_size=2, max_size=2, check_on_acquire=True, health_timeout=0.3, stderr="discard"
    ) as pool:
        for _ in range(3):
            await eventually(lambda: pool.stats().idle == 2)
            victim = pool.workers()[-1].pid
            assert victim is not None
            os.kill(victim, signal.SIGSTOP)
            assert await asyncio.gather(*(pool.run("echo", number) for number in range(6))) == list(range(6))
            async with pool.acquire() as first:
                assert first.pid != victim
            await eventually(lambda victim=victim: not there(victim))  # type: ignore[misc]
        assert set(pool.stats().outcomes) == {"ok"}


async def test_check_on_acquire_refuses_nobody_while_a_worker_is_idle() -> None:
    """With max_waiting=0 there is a place for as many calls as there are workers, whichever is being checked."""
    async with Pool(commands, min_size=2, max_size=2, check_on_acquire=True, max_waiting=0, stderr="discard") as pool:
        for number in range(20):
            assert await asyncio.gather(pool.run("echo", number), pool.run("echo", -1)) == [number, -1]
            three = await asyncio.gather(*[pool.run("echo", each) for each in range(3)], return_exceptions=True)
            assert three[:2] == [0, 1]
            assert isinstance(three[2], PoolFull)


async def test_check_on_acquire_survives_a_kill_of_all_workers() -> None:
    """Killed while they are being checked: the call waits for a successor."""
    async with Pool(commands, min_size=2, max_size=2, check_on_acquire=True, stderr="discard") as pool:
        for number in range(10):
            await eventually(lambda: pool.stats().idle == 2)
            call = asyncio.create_task(pool.run("echo", number))
            await asyncio.sleep(0)
            for info in pool.workers():
                assert info.pid is not None
                os.kill(info.pid, signal.SIGKILL)
            assert await call == number


async def test_check_on_acquire_gives_right_answers_under_load() -> None:
    """1,000 calls of many tasks through pinged workers; leases too."""
    async with Pool(commands, min_size=2, max_size=3, check_on_acquire=True, stderr="discard") as pool:

        async def lease(number: int) -> int:
            async with pool.acquire() as worker:
                answer: int = await worker.run("echo", number)
                return answer

        tasks = [lease(number) if number % 10 == 0 else pool.run("echo", number) for number in range(1000)]
        assert await asyncio.gather(*tasks) == list(range(1000))
        for number in range(50):
            assert await pool.run("echo", number) == number


async def test_a_busy_worker_is_never_declared_dead_for_its_silence() -> None:
    """It computes for many health intervals without a word: it survives."""
    async with Pool(commands, max_size=1, health_interval=0.05, health_timeout=0.1, stderr="discard") as pool:
        pid = await pool.run("pid")
        await pool.run("spin", 0.6)
        assert await pool.run("pid") == pid


async def test_idle_workers_that_answer_their_pings_stay() -> None:
    """Many pings later the same workers are there."""
    async with Pool(
        commands, min_size=2, max_size=2, health_interval=0.02, health_timeout=1.0, stderr="discard"
    ) as pool:
        pids = [info.pid for info in pool.workers()]
        await eventually(lambda: pool.workers()[0].age > 0.7)
        assert [info.pid for info in pool.workers()] == pids
        assert await asyncio.gather(*(pool.run("echo", number) for number in range(200))) == list(range(200))


async def test_calls_and_pings_that_cross_do_no_harm() -> None:
    """A ping for nearly every call: nobody loses an answer."""
    async with Pool(
        commands, min_size=1, max_size=1, health_interval=0.001, health_timeout=1.0, stderr="discard"
    ) as pool:
        for number in range(300):
            assert await pool.run("echo", number) == number
            if number % 3 == 0:
                await asyncio.sleep(0.001)
        assert pool.stats().spawned == 1


async def test_a_leased_worker_that_is_stopped_keeps_its_lease(gate: Gate) -> None:
    """A lease is busy: nobody pings it."""
    async with (
        Pool(commands, max_size=1, health_interval=0.05, health_timeout=0.1, stderr="discard") as pool,
        pool.acquire() as worker,
    ):
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        began = time.monotonic()
        await eventually(lambda: time.monotonic() - began > 0.5)
        os.kill(worker.pid, signal.SIGCONT)
        assert await worker.run("echo", 1) == 1


async def test_a_worker_that_takes_too_long_to_start_is_told() -> None:
    """start_timeout: WorkerStartError with the limit; the process is gone."""
    from asyncpool import WorkerStartError

    with pytest.raises(WorkerStartError, match=r"was not ready within 0\.3 s \(start_timeout\)"):
        await Pool("tests.support.slow_start", start_timeout=0.3, stderr="discard").start()
