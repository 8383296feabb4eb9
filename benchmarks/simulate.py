"""What does the scheduler do with ten thousand workers and a million calls? Its real code on a fake clock.

It shows: what one call costs the scheduler as the pool grows, which must stay flat; how long calls wait, which must be
what queueing theory says; and the laws that are looked at after every event, in a calm pool and in one where workers
crash, hang and fail to start, callers give up, and idle workers are retired. Ends with 1 when anything is not as it
must be.
"""

import argparse
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import erlang
import harness
from chart import Line, Panel, line_chart
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from simulation import CHUNKS, OF_A_CALL, Behaviour, BrokenLaw, Simulation

from asyncpool.pool.policy import Limits

HEADLINE = "Waiting for a worker: the scheduler against queueing theory"
ARRIVALS = 200.0  # calls a simulated second, whatever the size of the pool
FLAT = 4.0  # times the cost in the smallest pool: the larger one no longer fits into the processor's caches
OFTEN = 200  # a method that was asked less often than this in a pool has no figure worth a judgement
STUDENT = {0.95: 2.262, 0.999: 4.781}  # of ten seeds: half the width of the confidence interval, in standard errors
TINY = 1e-3  # mean service times; a wait that theory gives below it may be seen by no call at all


# --- what a call costs as the pool grows -----------------------------------------------------------------------------


@dataclass
class Run:
    """One scenario with one size of the pool."""

    scenario: str
    workers: int
    outcomes: dict[str, int] = field(default_factory=dict)
    retired: dict[str, int] = field(default_factory=dict)  # workers that were asked to end, by cause
    events: int = 0
    spawned: int = 0
    per_call: float = 0.0  # seconds, as all below: from submission to outcome
    per_call_in_all: float = 0.0  # with what is done meanwhile for workers that idle, end, and start
    per_question: dict[str, float] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    broken: str | None = None


def calm(workers: int, _: int) -> tuple[Limits, Behaviour]:
    """All defaults; nine of ten workers are busy on average, and those that are idle for long are pinged."""
    return Limits(workers, workers), Behaviour(ARRIVALS, 0.9 * workers / ARRIVALS)


def trouble(workers: int, calls: int) -> tuple[Limits, Behaviour]:
    """All that can go wrong does, and in the middle no worker can be started for a while."""
    middle = calls / ARRIVALS / 2
    behaviour = Behaviour(
        ARRIVALS,
        0.8 * workers / ARRIVALS,
        crashes=0.01,
        moved=0.2,
        retried=0.2,
        leases=0.02,
        cancelled=0.01,
        silent=0.001,
        starts_failing=0.05,
        outage=(middle, middle + min(60.0, middle / 2)),
        unrest=min(300.0, middle / 4),
    )
    limits = Limits(
        max(1, workers // 2),
        workers,
        idle_timeout=20.0,
        health_interval=7.0,
        max_calls=200,
        max_lifetime=max(10.0, workers / 20),  # so many starts a second that two at a time are enough
    )
    return limits, behaviour


SCENARIOS: dict[str, Callable[[int, int], tuple[Limits, Behaviour]]] = {"calm": calm, "trouble": trouble}


def simulate(scenario: str, workers: int, calls: int, seed: int, advance: Callable[[], None]) -> Run:
    """Run one scenario; *advance* is called CHUNKS times."""
    run = Run(scenario, workers)
    limits, behaviour = SCENARIOS[scenario](workers, calls)
    simulation = Simulation(limits, behaviour, calls, seed, metered=True, after_chunk=advance)
    try:
        simulation.run()
    except BrokenLaw as broken:
        run.broken = str(broken)
        return run
    costs = simulation.costs
    run.outcomes, run.events = dict(simulation.outcomes), simulation.events
    run.spawned, run.retired = simulation.scheduler.spawned, dict(simulation.retired)
    run.per_call, run.per_call_in_all = costs.per_call(OF_A_CALL), costs.per_call()
    run.per_question = costs.per_question()
    run.asked = {name: sum(chunk[name].asked for chunk in costs.chunks) for name in run.per_question}
    return run


def growth(runs: Sequence[Run]) -> dict[str, float]:
    """How many times the cost in the smallest pool each method costs in the largest, of those that were asked often."""
    found: dict[str, float] = {}
    for scenario in SCENARIOS:
        ordered = [run for run in runs if run.scenario == scenario and run.broken is None]
        for name in {name for run in ordered for name in run.per_question}:
            costs = [run.per_question[name] for run in ordered if run.asked.get(name, 0) >= OFTEN]
            if len(costs) > 1 and costs[0] > 0:
                found[f"{scenario}: {name}"] = costs[-1] / costs[0]
        if len(ordered) > 1:
            found[f"{scenario}: a call"] = ordered[-1].per_call / ordered[0].per_call
    return found


# --- how long calls wait ---------------------------------------------------------------------------------------------


@dataclass
class Point:
    """Many seeds of one load on one number of workers; times in mean service times."""

    workers: int
    utilisation: float
    waits: list[float] = field(default_factory=list)  # the mean of each seed
    shares: list[float] = field(default_factory=list)  # of the calls that waited
    broken: str | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.waits)

    @property
    def share(self) -> float:
        return statistics.fmean(self.shares)

    @property
    def theory(self) -> float:
        return erlang.mean_wait(self.workers, self.utilisation)

    def within(self, confidence: float) -> float:
        """Half the width of the confidence interval."""
        return STUDENT[confidence] * statistics.stdev(self.waits) / math.sqrt(len(self.waits))

    @property
    def agrees(self) -> bool:
        return abs(self.mean - self.theory) <= self.within(0.999) + TINY


WORKERS = (1, 2, 4, 16, 100)
UTILISATIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SEEDS = 10


def measure(point: Point, calls: int, seed: int) -> None:
    """One seed of one point. The busier the pool, the longer it takes to forget how it began."""
    limits = Limits(point.workers, point.workers, idle_timeout=None, health_interval=None)
    calls = calls * 5 if point.utilisation >= 0.9 else calls
    simulation = Simulation(limits, Behaviour(point.utilisation * point.workers, 1.0), calls, seed)
    try:
        simulation.run()
    except BrokenLaw as broken:
        point.broken = str(broken)
        return
    point.waits.append(simulation.waits.mean)
    point.shares.append(simulation.waits.share)


# --- results ---------------------------------------------------------------------------------------------------------


def cost_table(runs: Sequence[Run], calls: int) -> Table:
    """Microseconds by size of the pool."""
    sizes = sorted({run.workers for run in runs})
    caption = (
        f"Processor time of the scheduler, {calls:,} calls in each pool. A call: submit to outcome; all: also pings, "
        "starts and ends, of which a larger pool has more for each call. Times: in the largest / in the smallest"
    )
    shown = Table(title="Cost by workers in the pool, µs", caption=caption, box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("")
    for size in sizes:
        shown.add_column(f"{size:,}", justify="right")
    shown.add_column("times", justify="right")
    grown = growth(runs)
    for scenario in SCENARIOS:
        of_size = {run.workers: run for run in runs if run.scenario == scenario and run.broken is None}
        if not of_size:
            continue
        names = sorted({name for run in of_size.values() for name in run.per_question})
        rows: list[tuple[str, dict[int, float]]] = [
            ("a call", {size: run.per_call for size, run in of_size.items()}),
            ("all, by calls", {size: run.per_call_in_all for size, run in of_size.items()}),
        ]
        rows += [
            (name, {size: run.per_question[name] for size, run in of_size.items() if name in run.per_question})
            for name in names
        ]
        for title, figures in rows:
            factor = grown.get(f"{scenario}: {title}")
            style = "" if factor is None or factor <= FLAT else "bold red"
            shown.add_row(
                f"{scenario}: {title}" if title in ("a call", "all, by calls") else f"  {title}()",
                *(f"{figures[size] * 1e6:,.2f}" if size in figures else "" for size in sizes),
                "" if factor is None else f"{factor:.1f}",
                style=style,
                end_section=title == rows[-1][0],
            )
    return shown


def course_table(runs: Sequence[Run]) -> Table:
    """What happened in each run."""
    padding = (0, 0, 0, 1)
    shown = Table(title="Calls by outcome, workers by cause of retirement", box=SIMPLE_HEAD, padding=padding)
    outcomes = ("ok", "crashed", "cancelled", "not_started")
    causes = ("retired", "max_calls", "max_lifetime", "restarted", "resized")
    shown.add_column("")
    rows: dict[str, list[int]] = {name: [] for name in ("workers", *outcomes, "spawned", *causes, "events")}
    for run in runs:
        shown.add_column(run.scenario, justify="right")
        counted = {**run.outcomes, **run.retired, "workers": run.workers, "spawned": run.spawned, "events": run.events}
        for name, row in rows.items():
            row.append(counted.get(name, 0))
    for name, row in rows.items():
        shown.add_row(name.replace("_", " "), *(f"{figure:,}" for figure in row))
    return shown


def waiting_table(points: Sequence[Point]) -> Table:
    """Theory beside the simulation."""
    caption = "mean wait in mean service times, with the 95 % confidence interval; M/M/c: Erlang C"
    shown = Table(title="Wait for a worker", caption=caption, box=SIMPLE_HEAD, pad_edge=False)
    for name in ("workers", "busy", "waits: theory", "waits: seen", "wait: theory", "wait: seen", "±", ""):
        shown.add_column(name, justify="right")
    for point in points:
        if not point.waits:
            continue
        shown.add_row(
            str(point.workers),
            f"{point.utilisation:.0%}",
            f"{erlang.chance_of_waiting(point.workers, point.utilisation):.4f}",
            f"{point.share:.4f}",
            f"{point.theory:.4f}",
            f"{point.mean:.4f}",
            f"{point.within(0.95):.4f}",
            "" if point.agrees else "[bold red]differs[/]",
            end_section=point is not points[-1] and point.utilisation == points[-1].utilisation,
        )
    return shown


def as_json(
    runs: Sequence[Run], points: Sequence[Point], wrong: Sequence[str], calls: int, machine: dict[str, Any]
) -> dict[str, Any]:
    """The results for programs; costs in seconds, waits in mean service times."""
    return {
        "benchmark": "simulate",
        "machine": machine,
        "calls": calls,
        "runs": [vars(run) for run in runs],
        "growth": growth(runs),
        "waiting": [
            {
                "workers": point.workers,
                "utilisation": point.utilisation,
                "theory": point.theory,
                "mean": point.mean,
                "within": point.within(0.95),
                "share_theory": erlang.chance_of_waiting(point.workers, point.utilisation),
                "share": point.share,
            }
            for point in points
            if point.waits
        ],
        "wrong": list(wrong),
    }


def as_svg(points: Sequence[Point], machine: dict[str, Any]) -> str:
    """Lines: theory; dots: the simulation."""
    lines = []
    for workers in WORKERS:
        name = "1 worker" if workers == 1 else f"{workers} workers"
        least, most = UTILISATIONS[0], UTILISATIONS[-1]
        steps = [least + (most - least) * number / 60 for number in range(61)]
        curve = [(100 * busy, erlang.mean_wait(workers, busy)) for busy in steps]
        lines.append(Line(name, [(x, y) for x, y in curve if y >= TINY]))
        seen = [point for point in points if point.workers == workers and point.waits and point.theory >= TINY]
        dots = [(100 * point.utilisation, point.mean) for point in seen]
        lines.append(Line(name, dots, marks=True, spread=[point.within(0.95) for point in seen]))
    return line_chart(
        HEADLINE,
        "lines: Erlang C; dots: scheduler.py on a fake clock, with the 95 % confidence interval",
        [Panel("mean wait, in mean service times", lines, height=320, log=True)],
        "% of the workers busy, on average",
        harness.machine_line(machine),
    )


def what_is_wrong(runs: Sequence[Run], points: Sequence[Point], *, judge_cost: bool) -> list[str]:
    """Everything that is not as it must be, in words."""
    wrong = [f"{run.scenario}, {run.workers:,} workers: {run.broken}" for run in runs if run.broken]
    wrong += [
        f"{point.workers} workers, {point.utilisation:.0%} busy: {point.broken}" for point in points if point.broken
    ]
    wrong += [
        f"{point.workers} workers, {point.utilisation:.0%} busy: calls wait {point.mean:.4f} ± "
        f"{point.within(0.999):.4f}, and {point.theory:.4f} by theory"
        for point in points
        if not point.broken and not point.agrees
    ]
    if judge_cost:
        wrong += [
            f"{name} costs {factor:.1f} times as much in the largest pool as in the smallest (flat: up to {FLAT:g})"
            for name, factor in growth(runs).items()
            if factor > FLAT
        ]
    return wrong


def options() -> argparse.Namespace:
    parser = harness.parser(__doc__, "simulate", "small pools, few calls, no judgement on costs", chart="waiting")
    parser.add_argument("--calls", type=int, help="in each pool (default: 1,000,000; with --quick 5,000)")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    calls = chosen.calls or (5_000 if chosen.quick else 1_000_000)
    sizes = (10, 100) if chosen.quick else (10, 100, 1_000, 10_000)
    machine = harness.machine("no")
    harness.say_machine(console, machine)
    loads = UTILISATIONS[::2] if chosen.quick else UTILISATIONS
    points = [Point(workers, busy) for workers in WORKERS for busy in loads]
    with harness.progress(console, len(SCENARIOS) * len(sizes) * CHUNKS + len(points) * SEEDS) as advance:
        for point in points:
            for number in range(SEEDS):
                measure(point, 400 if chosen.quick else 20_000, chosen.seed + number)
                advance()
        pools = itertools.product(SCENARIOS, sizes)
        runs = [simulate(scenario, workers, calls, chosen.seed, advance) for scenario, workers in pools]
    wrong = what_is_wrong(runs, points, judge_cost=not chosen.quick)
    tables = [waiting_table(points), cost_table(runs, calls), course_table(runs)]
    results = as_json(runs, points, wrong, calls, machine)
    harness.finish(console, chosen, results, tables, lambda: as_svg(points, machine))
    harness.exit_with(console, wrong)


if __name__ == "__main__":
    main()
