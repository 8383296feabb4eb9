"""Is it worth it? A fresh process for every request, against a warm one from the pool.

Both run the same functions, those of cold_worker.py. They take turns, cold, pooled, cold, pooled, so that whatever
else the machine does meets both alike.
"""

import argparse
import asyncio
import functools
import os
import struct
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cold_worker
import harness
import msgspec
from chart import Bar, Group, log_chart
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import asyncpool

RESULTS = harness.RESULTS / "cold_vs_pooled.json"
CHART = Path(__file__).parents[1] / "docs" / "images" / "cold_vs_pooled.svg"
HEADLINE = "A cold process per request against the pool"
TITLES = {"trivial": "trivial command", "with_numpy": "numpy command"}

Command = Callable[[int], object]


@dataclass
class Case:
    """A command, how many requests for it are under way at a time, and what was measured of it."""

    command: Command
    at_a_time: int
    cold_requests: int  # of one round
    pooled_requests: int
    cold: list[harness.Batch] = field(default_factory=list)  # one of each round
    pooled: list[harness.Batch] = field(default_factory=list)

    @property
    def title(self) -> str:
        return TITLES[self.command.__name__]

    @property
    def p50_ratio(self) -> float:
        """How many times sooner the answer is there."""
        return harness.median_ratio([each.p50 for each in self.cold], [each.p50 for each in self.pooled])

    @property
    def rate_ratio(self) -> float:
        """How many times as many requests a second are served."""
        return harness.median_ratio([each.per_second for each in self.pooled], [each.per_second for each in self.cold])


def cases(scale: float = 1.0) -> list[Case]:
    """All that is measured. *scale* makes the rounds shorter or longer."""

    def case(command: Command, at_a_time: int, cold: int, pooled: int) -> Case:
        return Case(command, at_a_time, max(at_a_time, round(cold * scale)), max(at_a_time, round(pooled * scale)))

    return [
        case(cold_worker.trivial, 1, 25, 5000),
        case(cold_worker.with_numpy, 1, 10, 5000),
        case(cold_worker.trivial, 50, 100, 20_000),
        case(cold_worker.with_numpy, 50, 50, 20_000),
    ]


async def cold_request(command: Command, number: int) -> object:
    """Start a process, send it one frame, read one; it ends by itself."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-I", cold_worker.__file__, stdin=PIPE, stdout=PIPE)
    body = msgspec.msgpack.encode((command.__name__, number))
    answer, _ = await process.communicate(struct.pack("<I", len(body)) + body)
    return msgspec.msgpack.decode(answer[4:])


async def measure(todo: Sequence[Case], rounds: int, advance: Callable[[], None] = lambda: None) -> None:
    """Fill in the cases, round by round; *advance* is called after each of the 2 * rounds * cases batches."""
    workers = len(os.sched_getaffinity(0))  # fair: as many processors as the cold processes may use
    async with asyncpool.Pool("cold_worker", min_size=workers, max_size=workers) as pool:
        for case in todo:
            await _warm_up(pool, case)
        for _ in range(rounds):
            for case in todo:
                cold = functools.partial(cold_request, case.command)
                case.cold.append(await harness.batch(cold, case.cold_requests, case.at_a_time))
                advance()
                pooled = functools.partial(pool.run, case.command)
                case.pooled.append(await harness.batch(pooled, case.pooled_requests, case.at_a_time))
                advance()


async def _warm_up(pool: asyncpool.Pool, case: Case) -> None:
    """Every worker has imported what it needs; both contenders give the same answer."""
    await harness.batch(functools.partial(pool.run, case.command), 500, at_a_time=50)
    cold, pooled = await cold_request(case.command, 7), await pool.run(case.command, 7)
    if cold != pooled:
        raise AssertionError(f"{case.command.__name__}(7) is {cold!r} in a cold process and {pooled!r} in the pool")


def measure_showing_progress(todo: Sequence[Case], rounds: int, loop: str, console: Console) -> None:
    """Measure on an event loop of its own, with a bar on the terminal."""
    with harness.progress(console, 2 * rounds * len(todo)) as advance:
        harness.run(lambda: measure(todo, rounds, advance), loop)


# --- results ---------------------------------------------------------------------------------------------------------


def table(measured: Sequence[Case]) -> Table:
    """The results for the terminal."""
    caption = "p50, p99: time of one request; ratio: of the p50, median of the rounds"
    shown = Table(title=HEADLINE, caption=caption, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("command", "at a time", "process", "p50", "p99", "requests/s", "ratio"):
        shown.add_column(name, justify="left" if name in ("command", "process") else "right", no_wrap=True)
    for case in measured:
        cold, pooled = harness.summarize(case.cold), harness.summarize(case.pooled)
        shown.add_row(case.title, str(case.at_a_time), "cold", *_figures(cold))
        ratio = f"[bold green]{case.p50_ratio:,.0f} x[/]"
        shown.add_row("", "", "pooled", *_figures(pooled), ratio, end_section=True)
    return shown


def _figures(of: harness.Summary) -> tuple[str, str, str]:
    return harness.duration(of.p50), harness.duration(of.p99), harness.digits(of.per_second)


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
                "cold": asdict(harness.summarize(case.cold)),
                "pooled": asdict(harness.summarize(case.pooled)),
                "p50_ratio": case.p50_ratio,
                "rate_ratio": case.rate_ratio,
            }
            for case in measured
        ],
    }


def as_svg(measured: Sequence[Case], machine: dict[str, Any]) -> str:
    """The results as a chart for the README."""
    groups = []
    for case in measured:
        medians = {"cold": harness.summarize(case.cold).p50, "pooled": harness.summarize(case.pooled).p50}
        bars = [Bar(process, p50, harness.duration(p50)) for process, p50 in medians.items()]
        groups.append(Group(case.title, f"{case.at_a_time} at a time", bars, f"{case.p50_ratio:,.0f} x"))
    return log_chart(
        HEADLINE,
        "median time of one request; each line is ten times the one before",
        groups,
        harness.machine_line(machine),
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rounds and few of them: a first impression")
    parser.add_argument("--rounds", type=int, help="rounds (default: 7; with --quick 2)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="default: asyncio")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="default: benchmarks/results/")
    parser.add_argument(
        "--svg", type=Path, nargs="?", const=CHART, metavar="FILE", help="also draw a chart (docs/images/)"
    )
    return parser.parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    rounds = chosen.rounds or (2 if chosen.quick else 7)
    measured = cases(0.2 if chosen.quick else 1)
    machine = harness.machine(chosen.loop)
    console.print(harness.machine_line(machine), style="dim", soft_wrap=True)
    measure_showing_progress(measured, rounds, chosen.loop, console)
    console.print("", table(measured), "")
    harness.write_json(chosen.json, as_json(measured, rounds, machine))
    console.print(f"Results: {chosen.json}", style="dim", soft_wrap=True)
    if chosen.svg:
        chosen.svg.parent.mkdir(parents=True, exist_ok=True)
        chosen.svg.write_text(as_svg(measured, machine))
        console.print(f"Chart: {chosen.svg}", style="dim", soft_wrap=True)


if __name__ == "__main__":
    main()
