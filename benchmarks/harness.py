"""What the benchmarks share: batches of timed calls, percentiles, the machine, options, and how results are told."""

import argparse
import asyncio
import contextlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import anyio
from figures import Budget, Figures
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import asyncpool

T = TypeVar("T")
HERE = Path(__file__).parent
RESULTS = HERE / "results"
IMAGES = HERE.parent / "docs" / "images"
LOOPS = ("asyncio", "uvloop")

Request = Callable[[Any], Awaitable[object]]  # makes one request with this argument, mostly a number


@dataclass(frozen=True)
class Took:
    """What a request returns that timed itself: some of what it does is not part of the question."""

    seconds: float


@dataclass
class Batch:
    """Some requests that were made together: how long each took, and all of them, in seconds."""

    latencies: list[float]
    elapsed: float

    @property
    def p50(self) -> float:
        return percentile(self.latencies, 50)

    @property
    def p99(self) -> float:
        return percentile(self.latencies, 99)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.elapsed


@dataclass
class Summary:
    """All rounds of one contender."""

    p50: float
    p99: float
    per_second: float
    requests: int


async def batch(request: Request, count: int, at_a_time: int, seconds: float = math.inf) -> Batch:
    """Let *at_a_time* clients make *count* requests in all, each client its next one once it has its answer.

    After *seconds* no client begins another one: a slow contender shall not make the whole run long. Runs on asyncio
    and on trio.
    """
    latencies: list[float] = []
    numbers = iter(range(count))
    clock = time.perf_counter
    started = clock()
    last = started + seconds

    async def client() -> None:
        for number in numbers:
            start = clock()
            answer = await request(number)
            end = clock()
            latencies.append(answer.seconds if type(answer) is Took else end - start)
            if end > last:
                break

    if at_a_time == 1:
        await client()
    else:
        async with anyio.create_task_group() as clients:
            for _ in range(at_a_time):
                clients.start_soon(client)
    return Batch(latencies, clock() - started)


def summarize(batches: Sequence[Batch]) -> Summary:
    """Percentiles of all requests together; the rate is the median of the rounds."""
    latencies = [latency for each in batches for latency in each.latencies]
    rate = statistics.median(each.per_second for each in batches)
    return Summary(percentile(latencies, 50), percentile(latencies, 99), rate, len(latencies))


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of each round: the two of one round ran close to each other, on the same mood of the machine."""
    return [a / b for a, b in zip(above, below, strict=True)]


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the rounds."""
    return statistics.median(ratios(above, below))


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least *percent* % of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


# --- running ---------------------------------------------------------------------------------------------------------


def run(main: Callable[[], Coroutine[Any, Any, T]], loop: str) -> T:
    """Run on a fresh event loop of the named kind."""
    spare_the_children()
    # Under -X dev it would be on: record the stack of every callback, and complain of each that takes long.
    with asyncio.Runner(debug=False, loop_factory=_loop_factory(loop)) as runner:
        return runner.run(main())


def spare_the_children() -> None:
    """Unset what would slow every child: the first makes each compile its modules anew, the second each print."""
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        os.environ.pop(name, None)


def _loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if loop == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


@contextlib.contextmanager
def progress(console: Console, steps: int) -> Iterator[Callable[[], None]]:
    """Show a bar, and give what moves it by one step.

    It is redrawn only then: the thread that usually does it would disturb what is measured.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("measuring", total=steps)
        bar.refresh()
        yield lambda: bar.update(task, advance=1, refresh=True)


# --- results ---------------------------------------------------------------------------------------------------------


def machine(loop: str) -> dict[str, Any]:
    """What the figures were measured on, and when."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "loop": loop,
        "asyncpool": asyncpool.__version__,
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def machine_line(of: dict[str, Any]) -> str:
    """The same in one line."""
    cores = f"{of['cores']} cores" if of["cores"] != 1 else "1 core"
    commit = f" at {of['commit']}" if of["commit"] else ""
    return (
        f"{of['cpu']}, {cores}, {of['kernel']}, {of['python']}, {of['loop']} loop, "
        f"asyncpool {of['asyncpool']}{commit}, {of['date']}"
    )


def _commit() -> str | None:
    """The commit of this working copy, with a mark when what is measured differs from it; None outside of one."""
    git = ["git", "-C", str(HERE.parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], check=True, capture_output=True, text=True)
        same = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "asyncpool", "benchmarks"], check=False)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("-dirty" if same.returncode else "")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def duration(seconds: float) -> str:
    """Three digits and a unit: 84.1 µs, 31.0 ms, 1.20 s."""
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 999.5:
            return f"{digits(seconds * factor)} {unit}"
    return f"{digits(seconds)} s"


def digits(value: float) -> str:
    """Three digits, and thousands with commas."""
    return f"{value:,.{max(0, 3 - len(str(int(value))))}f}"


# --- the script around it --------------------------------------------------------------------------------------------


def parser(
    doc: str | None, name: str, quick: str, *, svg: bool = True, chart: str | None = None, rounds: str | None = None
) -> argparse.ArgumentParser:
    """The options that every benchmark has: --quick (what it means is said by *quick*), --json, and mostly --svg.

    Its results are called *name*, and its chart *chart*, which is the same unless given. With *rounds*, which says how
    many there are by default, also --rounds and --loop, as `on_each_loop` wants it.
    """
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = RESULTS / f"{name}.json"
    options.add_argument("--quick", action="store_true", help=quick)
    options.add_argument("--json", type=Path, default=results, metavar="FILE", help="default: benchmarks/results/")
    options.set_defaults(svg=None, question=doc)
    if rounds:
        options.add_argument("--rounds", type=int, help=f"rounds (default: {rounds})")
        options.add_argument("--loop", choices=LOOPS, help="default: one after the other")
    if svg:
        drawn = IMAGES / f"{chart or name}.svg"
        told = "also draw a chart (docs/images/)"
        options.add_argument("--svg", type=Path, nargs="?", const=drawn, metavar="FILE", help=told)
    return options


@dataclass
class Told:
    """What a benchmark has to tell of one event loop."""

    results: dict[str, Any]
    tables: Sequence[Figures]
    budgets: Sequence[Budget]
    losses: Sequence[str] = ()
    svg: Callable[[], str] | None = None


def on_each_loop(
    console: Console, chosen: argparse.Namespace, results: dict[str, Any], of: Callable[[dict[str, Any]], Told]
) -> None:
    """Let *of* measure on the loop of the machine that it is given, and tell it all; the chart is the first loop's."""
    spare_the_children()
    told = []
    machines = [machine(loop) for loop in ([chosen.loop] if chosen.loop else LOOPS)]
    for each in machines:
        say_machine(console, each)
        told.append(of(each))
    loops = [{"machine": where, **each.results} for where, each in zip(machines, told, strict=True)]
    results.update(
        machine={**machines[0], "loop": " and ".join(each["loop"] for each in machines)},
        loops=loops,
        budgets=[asdict(budget) for each in told for budget in each.budgets],
        losses=[loss for each in told for loss in each.losses],
    )
    finish(console, chosen, results, [table for each in told for table in each.tables], told[0].svg)


def say_machine(console: Console, of: dict[str, Any]) -> None:
    """Tell what is measured on."""
    console.print(machine_line(of), style="dim", soft_wrap=True)


def finish(
    console: Console,
    chosen: argparse.Namespace,
    results: dict[str, Any],
    tables: Sequence[Figures | Table],
    svg: Callable[[], str] | None = None,
) -> None:
    """Show the tables; write those of figures with the other *results* as JSON, and the chart when it was asked for.

    Of the results report.py uses beside the tables: `machine`, `budgets` and `losses`.
    """
    figures = [each for each in tables if isinstance(each, Figures)]
    for each in tables:
        console.print("", each.shown() if isinstance(each, Figures) else each)
    drawn = chosen.svg if svg else None
    told = {"question": chosen.question, "quick": chosen.quick, "chart": drawn.name if drawn else None}
    write_json(chosen.json, {**results, **told, "tables": [asdict(each) for each in figures]})
    console.print("", f"Results: {chosen.json}", style="dim", soft_wrap=True)
    if svg and drawn:
        drawn.parent.mkdir(parents=True, exist_ok=True)
        drawn.write_text(svg())
        console.print(f"Chart: {drawn}", style="dim", soft_wrap=True)


def exit_with(console: Console, wrong: Sequence[str]) -> NoReturn:
    """End with 1 when anything is *wrong*, and say each thing."""
    for line in wrong:
        console.print(f"WRONG: {line}", style="bold red", soft_wrap=True, markup=False, highlight=False)
    sys.exit(1 if wrong else 0)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write results where other programs can read them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
