"""What is a call made of? The bytecodes that the application's interpreter runs for a call that does nothing, counted
by the interpreter itself, file by file: no clock, so no noise. One call after another, and 100 at a time, which wait
for two workers. What the kernel and libraries in C do is not in it.
"""

import argparse
import asyncio
import functools
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import harness
from figures import Figures
from rich.console import Console

import asyncpool

OURS = f"{Path(asyncpool.__file__).parent}/"
THEIRS = f"{Path(asyncio.__file__).parent.parent}/"
CLIENTS = (1, 100)
TOOL = sys.monitoring.PROFILER_ID if sys.version_info >= (3, 12) else 0


@dataclass
class Counted:
    """Bytecodes of each piece of code, and how often it was entered."""

    bytecodes: Counter[CodeType] = field(default_factory=Counter)
    entered: Counter[CodeType] = field(default_factory=Counter)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what runs meanwhile."""
        events = sys.monitoring.events

        def run(code: CodeType, _offset: int) -> None:
            self.bytecodes[code] += 1

        def enter(code: CodeType, _offset: int) -> None:
            self.entered[code] += 1

        sys.monitoring.use_tool_id(TOOL, "makeup")
        sys.monitoring.register_callback(TOOL, events.INSTRUCTION, run)
        for event in (events.PY_START, events.PY_RESUME):
            sys.monitoring.register_callback(TOOL, event, enter)
        sys.monitoring.set_events(TOOL, events.INSTRUCTION | events.PY_START | events.PY_RESUME)
        try:
            yield
        finally:
            sys.monitoring.set_events(TOOL, 0)
            sys.monitoring.free_tool_id(TOOL)

    def by_file(self, of: Counter[CodeType]) -> Counter[str]:
        """Sum up by the file that the code stands in."""
        files: Counter[str] = Counter()
        for code, count in of.items():
            files[_place(code)] += count
        return files


async def count(clients: int, calls: int) -> Counted:
    """Let so many clients make so many calls each, and count when they do it again."""
    counted = Counted()
    async with asyncpool.Pool(min_size=2, max_size=2) as pool:

        async def client(calls: int) -> None:
            for number in range(calls):
                await pool.run(abs, number)

        async def all_of_them() -> None:
            await asyncio.gather(*(client(calls) for _ in range(clients)))

        await all_of_them()
        with counted.counting():
            await all_of_them()
    return counted


def _place(code: CodeType) -> str:
    if code.co_filename.startswith(OURS):
        return code.co_filename.removeprefix(OURS)
    if code.co_filename.startswith(THEIRS):
        return "Python's library (asyncio, selectors)"
    return "the caller, and what is not Python's"


def figures(clients: int, counted: Counted, calls: int) -> Figures:
    told = "one call after another" if clients == 1 else f"{clients} calls at a time"
    table = Figures(f"Bytecodes of a call, {told}", ["file", "bytecodes", "functions entered"], own="all")
    entered, bytecodes = counted.by_file(counted.entered), counted.by_file(counted.bytecodes)
    for place, number in bytecodes.most_common():
        table.add(place, f"{number / calls:,.0f}", f"{entered[place] / calls:.1f}")
    table.add("all", f"{bytecodes.total() / calls:,.0f}", f"{entered.total() / calls:.1f}")
    return table


def options() -> argparse.Namespace:
    return harness.parser(__doc__, "makeup", "few calls").parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    if sys.version_info < (3, 12):
        console.print("Not measured: makeup.py counts by sys.monitoring, which is new in Python 3.12")
        return
    calls = 10 if chosen.quick else 100  # of each client
    machine = harness.machine("asyncio")
    harness.say_machine(console, machine)
    tables, results = [], []
    with harness.progress(console, len(CLIENTS)) as advance:
        for clients in CLIENTS:
            counted = harness.run(functools.partial(count, clients, calls), "asyncio")
            tables.append(figures(clients, counted, clients * calls))
            results.append({"clients": clients, "files": _per_call(counted, clients * calls)})
            advance()
    written: dict[str, Any] = {"benchmark": "makeup", "machine": machine, "counts": results}
    harness.finish(console, chosen, written, tables)


def _per_call(counted: Counted, calls: int) -> dict[str, float]:
    return {place: number / calls for place, number in counted.by_file(counted.bytecodes).items()}


if __name__ == "__main__":
    main()
