"""A million calls through a real pool while workers crash, hang, leak and are replaced, and callers give up.

Each call's answer is checked, the pool's numbers are held against an account of our own, and memory, descriptors,
threads and processes must be as flat at the end as at the beginning. Each event loop gets a process of its own, with
-X dev -W error, in which nothing may appear on stderr. Ends with 1, and says why, when anything is off.

A crash, a timeout and most cancels cost the start of a worker; that is most of the time that a run takes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harness
from chart import Line, Panel, line_chart
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

LOAD = Path(__file__).with_name("soak_load.py")
HEADLINE = "Soak: crashes, cancels, timeouts, recycling and resizing throughout"
STEPS = 100  # of the progress bar, for each loop
ENOUGH = 10_000  # calls; before that the pool was not resized often enough to compare first and last fifth
STDERR_SHOWN = 2000  # bytes
# What the medians of the last fifth of the samples may exceed those of the first fifth by: share, and absolute.
ALLOWED = {
    "rss": (0.10, 8 * 2**20),  # bytes; the allocator's moods
    "descriptors": (0.0, 8),  # a worker has about six, and the pool is resized all the time
    "threads": (0.0, 2),  # asyncio of 3.11 has one for each child
    "processes": (0.0, 1),
    "tasks": (0.0, 3),
}

Result = dict[str, Any]


def run(loop: str, calls: int, seed: int, advance: Callable[[], None]) -> Result:
    """Soak one loop in a process of its own; *advance* is called up to STEPS times."""
    command = [sys.executable, "-X", "dev", "-W", "error", str(LOAD)]
    command += ["--calls", str(calls), "--seed", str(seed), "--loop", loop]
    result: Result = {"loop": loop, "wrong": [], "faults": 0}
    shown = 0
    with tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said = json.loads(line)
                result.update(said.get("result", {}))
                while shown < STEPS * said.get("done", 0) // calls:
                    shown += 1
                    advance()
        stderr.seek(0)
        noise = stderr.read()
    result["wrong"] = judge(result, process.returncode, noise)
    return result


def judge(result: Result, code: int, noise: str) -> list[str]:
    """Everything that is off, in words."""
    wrong = [str(fault) for fault in result["wrong"]]
    if result["faults"] > len(wrong):
        wrong.append(f"and {result['faults'] - len(wrong):,} more faults")
    if code != 0:
        wrong.append(f"the process ended with {code}")
    if noise:
        wrong.append(f"on stderr stood: {noise[:STDERR_SHOWN].strip()}")
    samples = result.get("samples", [])
    if result.get("calls", 0) >= ENOUGH:
        for what, (share, absolute) in ALLOWED.items():
            first, last = fifths(samples, what)
            if last > first * (1 + share) + absolute:
                wrong.append(f"{what} grew from {first:,.0f} in the first fifth to {last:,.0f} in the last")
    return wrong


def fifths(samples: Sequence[dict[str, float]], what: str) -> tuple[float, float]:
    """The medians of the first fifth, without the first samples, and of the last."""
    values = [sample[what] for sample in samples]
    fifth = len(values) // 5
    return statistics.median(values[fifth // 4 : fifth]), statistics.median(values[-fifth:])


# --- results ---------------------------------------------------------------------------------------------------------


def tables(results: Sequence[Result]) -> list[Table]:
    """The figures, the outcomes and the exits by cause, a column for each loop."""
    done = [result for result in results if "calls" in result]
    figures = _table("Figures", done)
    figures.add_row("calls", *(f"{result['calls']:,}" for result in done))
    figures.add_row("time", *(f"{result['elapsed']:,.0f} s" for result in done))
    figures.add_row("calls/s", *(harness.digits(result["per_second"]) for result in done))
    figures.add_row("p50 of a call that does nothing", *(harness.duration(result["p50"]) for result in done))
    figures.add_row("p99", *(harness.duration(result["p99"]) for result in done))
    figures.add_row("attempts", *(f"{result['attempts']:,}" for result in done))
    figures.add_row("workers spawned", *(f"{result['spawned']:,}" for result in done))
    figures.add_row("resizes and restarts", *(f"{result['changes']:,}" for result in done))
    figures.add_row("of these not done within 2 s", *(f"{result['impatient']:,}" for result in done))
    figures.add_row("leases of a leaving worker", *(f"{result['leases_lost']:,}" for result in done))
    for what in ALLOWED:
        changes = []
        for result in done:
            first, last = fifths(result["samples"], what) if len(result["samples"]) >= 5 else (0, 0)
            unit, name = (2**20, " MiB") if what == "rss" else (1, "")
            changes.append(f"{first / unit:,.0f} to {last / unit:,.0f}{name}")
        figures.add_row(f"{what}, first and last fifth", *changes)
    found = [figures]
    for title, key in (
        ("Calls by kind", "kinds"),
        ("Calls by outcome", "outcomes"),
        ("Workers by cause of exit", "exited"),
    ):
        counted = _table(title, done)
        for name in dict.fromkeys(name for result in done for name in result[key]):
            counted.add_row(name.replace("_", " "), *(f"{result[key].get(name, 0):,}" for result in done))
        found.append(counted)
    return found


def _table(title: str, results: Sequence[Result]) -> Table:
    shown = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    shown.add_column("", min_width=34)
    for result in results:
        shown.add_column(result["loop"], justify="right", min_width=18)
    return shown


def as_svg(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """What was seen over the course of the calls."""

    def lines(what: str, unit: float) -> list[Line]:
        return [
            Line(result["loop"], [(sample["done"], sample[what] / unit) for sample in result["samples"]])
            for result in results
            if result.get("samples")
        ]

    panels = [
        Panel("calls/s", lines("per_second", 1)),
        Panel("memory of the parent, MiB", lines("rss", 2**20)),
        Panel("descriptors", lines("descriptors", 1)),
        Panel("worker processes", lines("processes", 1)),
    ]
    subtitle = "the lulls, in which the pool falls idle, and the starts of workers are part of calls/s"
    return line_chart(HEADLINE, subtitle, panels, "calls", harness.machine_line(machine))


def options() -> argparse.Namespace:
    parser = harness.parser(__doc__, "soak", "a thousand calls: does it work at all?")
    parser.add_argument("--calls", type=int, help="on each loop (default: 1,000,000; with --quick 1,000)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop", "both"), default="both", help="default: both")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    calls = chosen.calls or (1_000 if chosen.quick else 1_000_000)
    loops = ("asyncio", "uvloop") if chosen.loop == "both" else (chosen.loop,)
    machine = harness.machine(chosen.loop)
    harness.say_machine(console, machine)
    harness.spare_the_children()
    with harness.progress(console, len(loops) * STEPS) as advance:
        results = [run(loop, calls, chosen.seed, advance) for loop in loops]
    drawable = all(result.get("samples") for result in results)
    told = {"benchmark": "soak", "machine": machine, "seed": chosen.seed, "loops": results}
    svg = (lambda: as_svg(results, machine)) if drawable else None
    harness.finish(console, chosen, told, tables(results), svg)
    wrong = [f"{result['loop']}: {fault}" for result in results for fault in result["wrong"]]
    harness.exit_with(console, wrong)


if __name__ == "__main__":
    main()
