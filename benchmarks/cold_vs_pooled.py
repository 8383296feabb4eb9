"""Is it worth it? A fresh process for every request, against a warm one from the pool.

Both run the same functions, those of cold_worker.py. They take turns, cold, pooled, cold, pooled, so that whatever
else the machine does meets both alike.
"""

import argparse
import asyncio
import functools
import itertools
import math
import os
import resource
import statistics
import struct
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cold_worker
import harness
import msgspec
from chart import Bar, Group, log_chart
from figures import Budget, Figures
from rich.console import Console
from rich.table import Table

import asyncpool
from asyncpool.pool.memory import resident

HEADLINE = "A cold process per request against the pool"
TITLES = {"trivial": "trivial command", "with_numpy": "numpy command", "slow_import": "200 ms import"}
COMMANDS: dict[Callable[[int], object], tuple[int, int]] = {  # cold requests of a round, one and many at a time
    cold_worker.trivial: (25, 100),
    cold_worker.with_numpy: (10, 50),
    cold_worker.slow_import: (5, 20),
}
POOLED = {1: 5000, 10: 10_000, 100: 20_000}  # at a time: requests of a round to the pool
MIB = 2**20

Command = Callable[[int], object]


@dataclass
class Usage:
    """What all processes together used for some requests."""

    seconds: float  # of a processor
    memory: float  # bytes of the pages that had to be mapped: of files, or found and cleared

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.seconds - other.seconds, self.memory - other.memory)

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.seconds + other.seconds, self.memory + other.memory)

    def per_thousand(self, requests: int) -> "Usage":
        return Usage(1000 * self.seconds / requests, 1000 * self.memory / requests)


@dataclass
class Side:
    """Cold or pooled: a batch of each round, and what they used."""

    batches: list[harness.Batch] = field(default_factory=list)
    used: list[Usage] = field(default_factory=list)  # per 1,000 requests

    def summary(self) -> harness.Summary:
        return harness.summarize(self.batches)

    def usage(self) -> Usage:
        """The median of the rounds."""
        middle = statistics.median
        return Usage(middle(each.seconds for each in self.used), middle(each.memory for each in self.used))


@dataclass
class Case:
    """A command, how many requests for it are under way at a time, and what was measured of it."""

    command: Command
    at_a_time: int
    cold_requests: int  # of one round
    pooled_requests: int
    cold: Side = field(default_factory=Side)
    pooled: Side = field(default_factory=Side)
    opened: list[float] = field(default_factory=list)  # s to open a pool, get one answer and close it, of each round
    resident: list[int] = field(default_factory=list)  # bytes of memory of a worker after each round
    resident_cold: int = 0  # bytes at most of a cold process

    @property
    def title(self) -> str:
        return TITLES[self.command.__name__]

    @property
    def p50_ratio(self) -> float:
        """How many times sooner a request is done; a cold one is when its process has ended."""
        return harness.median_ratio(*([each.p50 for each in side.batches] for side in (self.cold, self.pooled)))

    @property
    def rate_ratio(self) -> float:
        """How many times as many requests a second are served."""
        return harness.median_ratio(*([each.per_second for each in side.batches] for side in (self.pooled, self.cold)))

    @property
    def break_even(self) -> int | None:
        """With how many requests, one after another, a pool that is opened for them costs no more time."""
        if not self.opened:
            return None
        cold, pooled = self.cold.summary().p50, self.pooled.summary().p50
        return math.ceil((statistics.median(self.opened) - pooled) / (cold - pooled))


def cases(scale: float = 1.0, most: int = 100) -> list[Case]:
    """All that is measured, up to *most* at a time. *scale* makes the rounds shorter or longer."""

    def case(command: Command, at_a_time: int) -> Case:
        cold, pooled = COMMANDS[command][at_a_time > 1], POOLED[at_a_time]
        return Case(command, at_a_time, max(at_a_time, round(cold * scale)), max(at_a_time, round(pooled * scale)))

    wanted = [at_a_time for at_a_time in POOLED if at_a_time <= most]
    return [case(command, at_a_time) for at_a_time, command in itertools.product(wanted, COMMANDS)]


async def cold_request(command: Command, number: int) -> object:
    """Start a process, send it one frame, read one; it ends by itself."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-I", cold_worker.__file__, stdin=PIPE, stdout=PIPE)
    answer, _ = await process.communicate(_frame(command, number))
    return msgspec.msgpack.decode(answer[4:])


def _frame(command: Command, number: int) -> bytes:
    body = msgspec.msgpack.encode((command.__name__, number))
    return struct.pack("<I", len(body)) + body


async def measure(todo: Sequence[Case], rounds: int, advance: Callable[[], None] = lambda: None) -> None:
    """Fill in the cases, round by round; *advance* is called after each of the 2 * rounds * cases batches."""
    workers = len(os.sched_getaffinity(0))  # fair: as many processors as the cold processes may use
    async with asyncpool.Pool("cold_worker", min_size=workers, max_size=workers) as pool:
        for case in todo:
            await _warm_up(pool, case)
        for _ in range(rounds):
            for case in todo:
                cold = functools.partial(cold_request, case.command)
                await _batch(pool, case.cold, cold, case.cold_requests, case.at_a_time)
                advance()
                pooled = functools.partial(pool.run, case.command)
                await _batch(pool, case.pooled, pooled, case.pooled_requests, case.at_a_time)
                if case.at_a_time == 1:
                    case.opened.append(await _open_and_close(case.command, workers))
                    case.resident += [memory for each in pool.workers() if each.pid and (memory := resident(each.pid))]
                advance()


def _most_resident(command: Command) -> int:
    """What one cold process has of memory at its most, in bytes."""
    cold = [sys.executable, "-I", cold_worker.__file__, "--resident"]
    told = subprocess.run(cold, input=_frame(command, 7), stdout=PIPE, stderr=PIPE, check=True).stderr
    return int(told)


async def _batch(pool: asyncpool.Pool, side: Side, request: harness.Request, count: int, at_a_time: int) -> None:
    before = await _used(pool)
    side.batches.append(await harness.batch(request, count, at_a_time))
    side.used.append((await _used(pool) - before).per_thousand(count))


async def _used(pool: asyncpool.Pool) -> Usage:
    """By this process, the children that have ended, and the workers; idle ones add nothing."""
    ended, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    used = Usage(time.process_time(), (ended.ru_minflt + own.ru_minflt) * resource.getpagesize())
    used.seconds += ended.ru_utime + ended.ru_stime
    for seconds, pages in await pool.broadcast(cold_worker.usage):
        used += Usage(seconds, pages * resource.getpagesize())
    return used


async def _open_and_close(command: Command, workers: int) -> float:
    """What a pool costs the program that needs it once, in seconds."""
    start = time.perf_counter()
    async with asyncpool.Pool("cold_worker", min_size=workers, max_size=workers) as pool:
        await pool.run(command, 1)
    return time.perf_counter() - start


async def _warm_up(pool: asyncpool.Pool, case: Case) -> None:
    """Every worker has imported what it needs; both contenders give the same answer."""
    await harness.batch(functools.partial(pool.run, case.command), 500, at_a_time=50)
    case.resident_cold = _most_resident(case.command)
    cold, pooled = await cold_request(case.command, 7), await pool.run(case.command, 7)
    if cold != pooled:
        raise AssertionError(f"{case.command.__name__}(7) is {cold!r} in a cold process and {pooled!r} in the pool")


def measure_showing_progress(todo: Sequence[Case], rounds: int, loop: str, console: Console) -> None:
    """Measure on an event loop of its own, with a bar on the terminal."""
    with harness.progress(console, 2 * rounds * len(todo)) as advance:
        harness.run(lambda: measure(todo, rounds, advance), loop)


# --- results ---------------------------------------------------------------------------------------------------------


def table(measured: Sequence[Case]) -> Table:
    """The times for the terminal."""
    return times(measured).shown()


def times(measured: Sequence[Case]) -> Figures:
    """How soon an answer is there, and how many there are."""
    shown = Figures(
        HEADLINE,
        ["command", "process", "clients", "p50", "p99", "requests/s", "ratio"],
        caption="clients: requests at a time; p50, p99: of one request; ratio: of the p50, median of the rounds",
        notes=["a cold request is done when its process has ended; 100 at a time are one burst of 100"],
        words=2,
    )
    for case in measured:
        for name, side in (("cold", case.cold), ("pooled", case.pooled)):
            of, cold = side.summary(), name == "cold"
            first = [case.title, name, str(case.at_a_time)] if cold else ["", name, ""]
            figures = [harness.duration(of.p50), harness.duration(of.p99), harness.digits(of.per_second)]
            shown.add(*first, *figures, "" if cold else f"{case.p50_ratio:,.0f} x")
    return shown


def usages(measured: Sequence[Case]) -> Figures:
    """What the machine has to give for it."""
    shown = Figures(
        "What 1,000 requests use",
        ["command", "clients", "CPU, cold", "pooled", "page faults, cold", "pooled"],
        caption="CPU: processor time of all processes; page faults: times the size of a page, in all",
    )
    for case in measured:
        cold, pooled = case.cold.usage(), case.pooled.usage()
        seconds = [harness.duration(each.seconds) for each in (cold, pooled)]
        shown.add(case.title, str(case.at_a_time), *seconds, *(_mib(each.memory) for each in (cold, pooled)))
    return shown


def _mib(size: float) -> str:
    return f"{size / MIB:,.0f} MiB" if size >= 10 * MIB else f"{size / MIB:.1f} MiB"


def break_evens(measured: Sequence[Case]) -> Figures:
    """After how many calls a pool pays."""
    shown = Figures(
        "When does a pool pay?",
        ["command", "pool", "cold call", "call", "break-even", "resident, cold", "a worker"],
        caption="pool: opened, one call made, closed; call: each further one",
        notes=[
            "break-even: with so many calls, one after another, a pool opened for them costs no more time",
            "resident: memory of a cold process at its most, and of a worker as long as the pool is open",
        ],
    )
    for case in measured:
        if case.break_even is not None:
            seconds = (statistics.median(case.opened), case.cold.summary().p50, case.pooled.summary().p50)
            calls = "1 call" if case.break_even == 1 else f"{case.break_even} calls"
            resident = _mib(case.resident_cold), _mib(statistics.median(case.resident))
            shown.add(case.title, *map(harness.duration, seconds), calls, *resident)
    return shown


def budgets(measured: Sequence[Case]) -> list[Budget]:
    case = next(each for each in measured if each.command is cold_worker.trivial and each.at_a_time == 1)
    return [Budget("a call, one at a time", "a cold process per request", 500, case.p50_ratio, at_least=True)]


def losses(measured: Sequence[Case]) -> list[str]:
    """Where a pool is the wrong thing."""
    return [
        f"{case.title}: a program that makes fewer than {case.break_even} calls in all is done sooner without a pool."
        for case in measured
        if case.break_even is not None and case.break_even > 1
    ]


def as_json(measured: Sequence[Case], rounds: int, machine: dict[str, Any]) -> dict[str, Any]:
    """The results for programs; times in seconds."""
    return {
        "benchmark": "cold_vs_pooled",
        "machine": machine,
        "rounds": rounds,
        "cases": [
            {
                "command": case.command.__name__,
                "at_a_time": case.at_a_time,
                "cold": {**asdict(case.cold.summary()), "per_1000": asdict(case.cold.usage())},
                "pooled": {**asdict(case.pooled.summary()), "per_1000": asdict(case.pooled.usage())},
                "break_even": case.break_even,
                "resident": {"cold": case.resident_cold, "worker": case.resident},
                "p50_ratio": case.p50_ratio,
                "rate_ratio": case.rate_ratio,
            }
            for case in measured
        ],
        "budgets": [asdict(each) for each in budgets(measured)],
        "losses": losses(measured),
    }


def as_svg(measured: Sequence[Case], machine: dict[str, Any]) -> str:
    """The results as a chart for the README."""
    groups = []
    for case in measured:
        medians = {"cold": case.cold.summary().p50, "pooled": case.pooled.summary().p50}
        bars = [Bar(process, p50, harness.duration(p50)) for process, p50 in medians.items()]
        groups.append(Group(case.title, f"{case.at_a_time} at a time", bars, f"{case.p50_ratio:,.0f} x"))
    return log_chart(
        HEADLINE,
        "median time of one request; each line is ten times the one before",
        groups,
        harness.machine_line(machine),
    )


def options() -> argparse.Namespace:
    parser = harness.parser(__doc__, "cold_vs_pooled", "few and short rounds, up to 10 at a time: a first impression")
    parser.add_argument("--rounds", type=int, help="rounds (default: 7; with --quick 2)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="default: asyncio")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    rounds = chosen.rounds or (2 if chosen.quick else 7)
    measured = cases(0.1, most=10) if chosen.quick else cases()
    machine = harness.machine(chosen.loop)
    harness.say_machine(console, machine)
    measure_showing_progress(measured, rounds, chosen.loop, console)
    tables = [times(measured), usages(measured), break_evens(measured)]
    results = as_json(measured, rounds, machine)
    harness.finish(console, chosen, results, tables, lambda: as_svg(measured, machine))


if __name__ == "__main__":
    main()
