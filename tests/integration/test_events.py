"""What ``on_event`` is told."""

import asyncio
import os
import signal

import pytest

from asyncpool import Event, Pool, WorkerCrashed, WorkerStartError
from asyncpool.pool.stack import SIGNAL
from tests.conftest import Gate
from tests.support import commands
from tests.support.waiting import eventually


async def test_the_life_of_each_worker_is_told_in_order() -> None:
    """spawned, ready, exited: with the pool's name, the worker's number, its pid and its exit code."""
    events: list[Event] = []
    async with Pool(commands, min_size=2, max_size=2, name="cats", on_event=events.append, stderr="discard") as pool:
        pids = {info.id: info.pid for info in pool.workers()}
    assert {event.pool for event in events} == {"cats"}
    for number in (1, 2):
        own = [event for event in events if event.worker == number]
        assert [event.kind for event in own] == ["spawned", "ready", "exited"]
        assert {event.pid for event in own} == {pids[number]}
        assert [event.exit_code for event in own] == [None, None, 0]


async def test_how_a_worker_ended_is_told(gate: Gate) -> None:
    """Exit code or signal, and the reason where the pool ended it."""
    events: list[Event] = []
    async with Pool(commands, max_size=1, on_event=events.append, stderr="discard") as pool:

        async def exited(count: int) -> Event:
            await eventually(lambda: sum(event.kind == "exited" for event in events) >= count)
            return [event for event in events if event.kind == "exited"][-1]

        with pytest.raises(WorkerCrashed):
            await pool.run("exit_now", 7)
        assert ((await exited(1)).exit_code, (await exited(1)).reason) == (7, None)
        with pytest.raises(WorkerCrashed):
            await pool.run("crash", signal.SIGSEGV)
        assert ((await exited(2)).exit_code, (await exited(2)).reason) == (-signal.SIGSEGV, None)
        with pytest.raises(TimeoutError):
            await pool.options(timeout=0.1).run("sleep", 60)
        assert (await exited(3)).exit_code == -SIGNAL  # it dies of telling where it was
        assert "timeout of 0.1 s" in str((await exited(3)).reason)
        task = asyncio.create_task(pool.run("wait_at", gate.path))
        await eventually(gate.reached)
        task.cancel()
        await asyncio.wait([task])
        assert "the caller of wait_at was cancelled" in str((await exited(4)).reason)


async def test_a_failed_start_is_told() -> None:
    """start_failed with the reason, then exited; without a process there is no pid."""
    events: list[Event] = []
    with pytest.raises(WorkerStartError):
        await Pool(program=["/does/not/exist"], on_event=events.append, stderr="discard").start()
    assert [(event.kind, event.pid) for event in events] == [("start_failed", None), ("exited", None)]
    assert "could not be spawned" in str(events[0].reason)


async def test_events_come_as_things_happen_not_later() -> None:
    """At "spawned" the process is there; at "exited" it is gone, zombie and all."""
    seen: list[bool] = []

    def look(event: Event) -> None:
        if event.pid is not None:
            seen.append(os.path.exists(f"/proc/{event.pid}") is (event.kind != "exited"))

    async with Pool(commands, min_size=2, max_size=2, on_event=look, stderr="discard") as pool:
        with pytest.raises(WorkerCrashed):
            await pool.run("crash")
        await eventually(lambda: pool.stats().idle == 2)
    assert seen == [True] * 9
