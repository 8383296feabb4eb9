"""What the benchmarks share: batches of timed calls, percentiles, the machine, and results as table and JSON."""

import asyncio
import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import asyncpool

T = TypeVar("T")
RESULTS = Path(__file__).parent / "results"

Request = Callable[[int], Awaitable[object]]  # makes one request that carries this number


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


async def batch(request: Request, count: int, at_a_time: int) -> Batch:
    """Let *at_a_time* clients make *count* requests in all, each client its next one once it has its answer."""
    latencies: list[float] = []
    numbers = iter(range(count))
    clock = time.perf_counter

    async def client() -> None:
        for number in numbers:
            start = clock()
            await request(number)
            latencies.append(clock() - start)

    start = clock()
    if at_a_time == 1:
        await client()
    else:
        async with asyncio.TaskGroup() as clients:
            for _ in range(at_a_time):
                clients.create_task(client())
    return Batch(latencies, clock() - start)


def summarize(batches: Sequence[Batch]) -> Summary:
    """Percentiles of all requests together; the rate is the median of the rounds."""
    latencies = [latency for each in batches for latency in each.latencies]
    rate = statistics.median(each.per_second for each in batches)
    return Summary(percentile(latencies, 50), percentile(latencies, 99), rate, len(latencies))


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the rounds: the two of one round ran one right after the other, on the same mood of the machine."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


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
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def machine_line(of: dict[str, Any]) -> str:
    """The same in one line."""
    cores = f"{of['cores']} cores" if of["cores"] != 1 else "1 core"
    return (
        f"{of['cpu']}, {cores}, {of['kernel']}, {of['python']}, {of['loop']} loop, "
        f"asyncpool {of['asyncpool']}, {of['date']}"
    )


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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write results where other programs can read them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
