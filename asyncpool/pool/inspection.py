"""Snapshots of a running pool."""

from __future__ import annotations

from asyncpool.pool.memory import resident
from asyncpool.pool.stats import Counters, PoolStats, State, WorkerInfo
from asyncpool.pool.supervisor import Supervisor
from asyncpool.pool.worker import Worker


def snapshot(supervisor: Supervisor | None, counters: Counters) -> PoolStats:
    """Return all numbers of a pool as they are between two steps of its event loop."""
    scheduler = None if supervisor is None else supervisor.scheduler
    idle = 0 if scheduler is None else scheduler.idle()
    opened = () if supervisor is None else supervisor.ledger.open
    running = sum(call.worker is not None for call in opened)
    on_leases = sum(call.worker is None and call.lease is not None for call in opened)
    return PoolStats(
        starting=0 if scheduler is None else len(scheduler.starting),
        idle=idle,
        busy=0 if scheduler is None else scheduler.live - len(scheduler.starting) - idle,
        retiring=0 if scheduler is None else len(scheduler.retiring),
        waiting=0 if scheduler is None else len(scheduler.waiting) + len(scheduler.bound) + on_leases,
        running=running,
        submitted=counters.submitted,
        outcomes=dict(counters.outcomes),
        attempts=counters.attempts,
        spawned=0 if scheduler is None else scheduler.spawned,
        exited=dict(counters.exited),
        wait_time=counters.wait_time.snapshot(),
        run_time=counters.run_time.snapshot(),
    )


def worker_infos(supervisor: Supervisor) -> list[WorkerInfo]:
    """Return what is known of each worker, the oldest first."""
    now = supervisor.loop.time()
    return [_info(supervisor, worker, now) for worker in supervisor.workers.values()]


def _info(supervisor: Supervisor, worker: Worker, now: float) -> WorkerInfo:
    return WorkerInfo(
        id=worker.number,
        pid=worker.pid,
        slot=worker.slot,
        state=_state(supervisor, worker.number),
        calls=worker.handed,
        age=now - worker.born,
        rss=resident(worker.pid),
        command=next((call.title for call in worker.calls.values()), None),
        language=worker.language,
        stderr_dropped=worker.stderr_dropped,
    )


def _state(supervisor: Supervisor, number: int) -> State:
    scheduler = supervisor.scheduler
    if number in scheduler.starting:
        return "starting"
    if number in scheduler.retiring:
        return "retiring"
    return "busy" if scheduler.tickets(number) else "idle"
