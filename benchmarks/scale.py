"""Does it stay fast when there is much of it? Waiting calls, workers, leases, and a pool that has to grow.

A call's time with 100,000 others waiting is held against its time with 100 waiting, round by round. What a waiting call
takes of memory is measured first, in a process that has not used any yet, with the task that waits for it.
"""

import argparse
import asyncio
import gc
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import harness
from chart import Bar, Group, log_chart
from cold_worker import nap, trivial
from figures import Budget, Figures
from rich.console import Console

import asyncpool
from asyncpool.pool.memory import resident

HEADLINE = "A call's time, by how many wait"
WAITING = (100, 1_000, 10_000, 100_000)
WORKERS = (2, 20, 200)
GROWN = 16  # workers
NAP = 0.05  # seconds that a call of a growing pool takes
LEASES = 2_000


@dataclass
class Measured:
    """Everything that was measured; a value of each round, in seconds where nothing else is said."""

    bytes_waiting: float = 0.0  # of one waiting call
    per_call: dict[int, list[float]] = field(default_factory=dict)  # by how many wait
    workers: dict[int, list[dict[str, float]]] = field(default_factory=dict)  # by how many there are
    leases_per_second: list[float] = field(default_factory=list)
    growth: list[dict[str, float]] = field(default_factory=list)


def pool(workers: int, **options: Any) -> asyncpool.Pool:
    return asyncpool.Pool("cold_worker", **{"min_size": workers, "max_size": workers, **options})


def own_memory() -> int:
    """Bytes of resident memory of this process."""
    found = resident(os.getpid())
    assert found is not None
    return found


async def memory_of_waiting(calls: int) -> float:
    """Return the bytes of one waiting call, its task and its coroutines included."""
    async with pool(1) as busy:
        for number in range(1000):
            await busy.run(trivial, number)
        blocking = asyncio.create_task(busy.run(nap, 60.0))
        await asyncio.sleep(0.1)
        gc.collect()
        before = own_memory()
        waiting = [asyncio.create_task(busy.run(trivial, number)) for number in range(calls)]
        await asyncio.sleep(0)
        assert busy.stats().waiting == calls
        gc.collect()
        per_call = (own_memory() - before) / calls
        for each in (*waiting, blocking):
            each.cancel()
        await asyncio.gather(blocking, *waiting, return_exceptions=True)
    return per_call


def memory_of_waiting_alone(calls: int, loop: str) -> float:
    """The same in a process of its own."""
    return harness.run(lambda: memory_of_waiting(calls), loop)


async def time_with_waiting(waiting: int, calls: int) -> float:
    """Return the time of one of so many calls while *waiting* others wait."""
    clock = time.perf_counter
    stamps: list[float] = []  # when the first of them began, and when the last was answered
    async with pool(2) as served:
        await asyncio.gather(*(served.run(trivial, number) for number in range(200)))
        left = iter(range(waiting + calls))  # until so many are answered, each client has another one to make
        answered = 0

        async def client() -> None:
            nonlocal answered
            for number in left:
                await served.run(trivial, number)
                if answered in (0, calls):
                    stamps.append(clock())
                answered += 1

        await asyncio.gather(*(client() for _ in range(waiting)))
    return (stamps[1] - stamps[0]) / calls


async def time_of_workers(workers: int, calls: int) -> dict[str, float]:
    """Start so many workers, let them serve, and close the pool."""
    many = pool(workers)
    clock = time.perf_counter
    began = clock()
    await many.start()
    ready = clock()
    await asyncio.gather(*(many.run(trivial, number) for number in range(calls)))
    served = clock()
    await many.aclose()
    return {
        "start": ready - began,
        "per_call": (served - ready) / calls,
        "close": clock() - served,
    }


async def rate_of_leases(leases: int) -> float:
    """Return the leases per second, of one call each, that four tasks take of two workers."""
    async with pool(2) as lent:
        left = iter(range(leases))

        async def client() -> None:
            for number in left:
                async with lent.acquire() as worker:
                    await worker.run(trivial, number)

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(4)))
        return leases / (time.perf_counter() - started)


async def growth() -> dict[str, float]:
    """Let a pool of one worker meet many calls; returns when it had grown, and how many started at a time."""
    async with pool(1, max_size=GROWN) as growing:
        started = time.perf_counter()
        calls = [asyncio.create_task(growing.run(nap, NAP)) for _ in range(20 * GROWN)]
        starting, grown = 0, 0.0
        while not all(each.done() for each in calls):
            stats = growing.stats()
            starting = max(starting, stats.starting)
            if not grown and stats.idle + stats.busy >= GROWN:
                grown = time.perf_counter() - started
            await asyncio.sleep(0.005)
        await asyncio.gather(*calls)
        return {"seconds": grown, "at_a_time": starting, "spawned": growing.stats().spawned}


def measure(loop: str, rounds: int, scale: float, advance: Callable[[], None]) -> Measured:
    """Do everything, in rounds."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        waiting = round(100_000 * scale)
        found = Measured(bytes_waiting=fresh.submit(memory_of_waiting_alone, waiting, loop).result())
    advance()
    for _ in range(rounds):
        for waiting in WAITING:
            calls = max(1, round(waiting * scale))
            taken = harness.run(lambda calls=calls: time_with_waiting(calls, round(20_000 * scale)), loop)
            found.per_call.setdefault(calls, []).append(taken)
            advance()
        found.leases_per_second.append(harness.run(lambda: rate_of_leases(round(LEASES * scale)), loop))
        advance()
        for workers in WORKERS:
            count = max(1, round(workers * scale))
            times = harness.run(lambda count=count: time_of_workers(count, round(20_000 * scale)), loop)
            found.workers.setdefault(count, []).append(times)
            advance()
        found.growth.append(harness.run(growth, loop))
        advance()
    return found


def middle(rounds: Sequence[dict[str, float]], name: str) -> float:
    """The median of one of the figures."""
    return statistics.median(each[name] for each in rounds)


# --- results ---------------------------------------------------------------------------------------------------------


def ratio(found: Measured, waiting: int) -> float:
    """A call's time with so many waiting over that with the fewest."""
    return harness.median_ratio(found.per_call[waiting], found.per_call[min(found.per_call)])


def tables(found: Measured, loop: str) -> list[Figures]:
    calls = Figures(
        f"Calls that wait, {loop} loop",
        ["calls waiting", "time of a call", "ratio"],
        caption="ratio: to the time with the fewest waiting, median of the rounds",
        notes=[f"one that waits takes {found.bytes_waiting:,.0f} bytes, with the task that waits for it"],
    )
    for waiting, taken in found.per_call.items():
        calls.add(f"{waiting:,}", harness.duration(statistics.median(taken)), f"{ratio(found, waiting):.2f} x")
    grown = harness.duration(middle(found.growth, "seconds"))
    workers = Figures(
        f"Workers, {loop} loop",
        ["workers", "start of all", "time of a call", "aclose()"],
        notes=[
            f"{statistics.median(found.leases_per_second):,.0f} leases a second, of one call each",
            f"a pool of 1 worker that meets {20 * GROWN} calls of {NAP * 1000:g} ms has {GROWN} after {grown}",
            f"it starts {middle(found.growth, 'at_a_time'):.0f} of them at a time",
        ],
    )
    for count, rounds in found.workers.items():
        workers.add(f"{count:,}", *(harness.duration(middle(rounds, name)) for name in ("start", "per_call", "close")))
    return [calls, workers]


def budgets(found: Measured, loop: str) -> list[Budget]:
    least, most = min(found.per_call), max(found.per_call)
    leases, workers = statistics.median(found.leases_per_second) / 1000, max(found.workers)
    return [
        Budget(f"time of a call, {most:,} waiting, {loop}", f"{least} waiting", 1.5, ratio(found, most)),
        Budget(f"memory of a waiting call, {loop}", "2 KiB", 1, found.bytes_waiting / 2048),
        Budget(f"aclose() of {workers:,} workers, {loop}", "1 s", 1, middle(found.workers[workers], "close")),
        Budget(f"leases, {loop}", "1,000 a second", 1, leases, at_least=True),
    ]


def as_svg(found: Measured, machine: dict[str, Any]) -> str:
    groups = []
    for waiting, taken in found.per_call.items():
        median = statistics.median(taken)
        groups.append(Group(f"{waiting:,} waiting", "", [Bar("median", median, harness.duration(median))]))
    return log_chart(HEADLINE, "median of the rounds", groups, harness.machine_line(machine))


def options() -> argparse.Namespace:
    hundredth = "a hundredth of everything: does it work at all?"
    return harness.parser(__doc__, "scale", hundredth, rounds="5; with --quick 1").parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    rounds = chosen.rounds or (1 if chosen.quick else 5)
    scale = 0.01 if chosen.quick else 1.0
    steps = 1 + rounds * (len(WAITING) + 1 + len(WORKERS) + 1)

    def of(machine: dict[str, Any]) -> harness.Told:
        loop = machine["loop"]
        with harness.progress(console, steps) as advance:
            found = measure(loop, rounds, scale, advance)
        results = {"measured": asdict(found)}
        return harness.Told(results, tables(found, loop), budgets(found, loop), svg=lambda: as_svg(found, machine))

    harness.on_each_loop(console, chosen, {"benchmark": "scale", "rounds": rounds}, of)


if __name__ == "__main__":
    main()
