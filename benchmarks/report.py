"""Writes the page of results, docs/explanation/performance.md, from the JSON that the benchmarks left.

It knows nothing of the single benchmarks: each tells its question, its tables, its chart, its budgets and where it
loses in the same words (`finish` of harness.py). One that did not run is named as missing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
from figures import Budget, Figures

PAGE = harness.HERE.parent / "docs" / "explanation" / "performance.md"
TITLES = {
    "cold_vs_pooled": "A process per request, or a pool?",
    "call_overhead": "What a call costs",
    "makeup": "What a call is made of",
    "large_values": "Large values",
    "updates": "Updates of a running command",
    "scale": "Much of it",
    "floors": "The floors",
}

Results = dict[str, Any]
Run = dict[str, Results]  # by the name of the benchmark


def page(runs: Sequence[Run], missing: Sequence[str]) -> str:
    """The whole page; the tables are the last run's."""
    found = runs[-1]
    parts = [HEAD.strip(), *_origin(runs), *_budgets(runs), *_losses(found)]
    for name, results in found.items():
        parts += _section(name, results)
    if missing:
        parts += ["## Not measured", f"There are no results of {', '.join(f'`{name}.py`' for name in missing)}."]
    return "\n\n".join(parts) + "\n"


HEAD = """
# Performance

<!-- Written by `make bench`; changes made here are lost. -->

Each ratio on this page is of two that were measured side by side: the contenders take turns, round by round, and a
ratio is the median over the rounds. Repeat it with `make bench`, or `make bench RUNS=3`.
"""


def _origin(runs: Sequence[Run]) -> list[str]:
    """Where the figures come from."""
    machines = {name: results["machine"] for name, results in runs[-1].items()}
    parts = ["\n".join(f"- `{name}.py`: {harness.machine_line(machine)}" for name, machine in machines.items())]
    if len(runs) > 1:
        parts.append(f"These are of the last of {len(runs)} runs in a row, and the tables below with them.")
    every = [results for run in runs for results in run.values()]
    if len({results["machine"]["commit"] for results in every}) > 1:
        parts.append("**They are not all of the same commit.**")
    if any(results.get("quick") for results in every):
        parts.append("**Some of these are from short rounds (`--quick`): a first impression, not a measurement.**")
    return parts


def _budgets(runs: Sequence[Run]) -> list[str]:
    """Each budget with what was measured in each run."""
    by_budget: dict[tuple[str, str], dict[int, Budget]] = {}
    for number, run in enumerate(runs):
        for each in (Budget(**told) for results in run.values() for told in results.get("budgets", [])):
            by_budget.setdefault((each.what, each.against), {})[number] = each
    if not by_budget:
        return []
    rows = []
    for of in by_budget.values():
        figures = [of[number].told() if number in of else "" for number in range(len(runs))]
        rows.append([*next(iter(of.values())).words(), *figures, _verdict([*of.values()])])
    columns = ["measured"] if len(runs) == 1 else [f"run {number}" for number in range(1, len(runs) + 1)]
    table = Figures("", ["", "against", "budget", *columns, ""], words=2, rows=rows)
    missed = sum(any(each.met is False for each in of.values()) for of in by_budget.values())
    verdict = "All that were measured are met." if not missed else f"{missed} of {len(by_budget)} are missed."
    verdict = verdict.replace("missed", "missed, or were once") if missed and len(runs) > 1 else verdict
    return ["## Budgets", f"What the design allows, as ratios of asyncpool to others. {verdict}", table.markdown()]


def _verdict(of: Sequence[Budget]) -> str:
    """Of one budget, over all runs."""
    met = [each.met for each in of if each.met is not None]
    if not met:
        return ""
    return "met" if all(met) else "missed" if not any(met) else f"met in {sum(met)} of {len(met)}"


def _losses(found: dict[str, Results]) -> list[str]:
    losses = [each for results in found.values() for each in results.get("losses", [])]
    told = "\n".join(f"- {each}" for each in losses) or "Nowhere in this run."
    return ["## Where asyncpool loses", told]


def _section(name: str, results: Results) -> list[str]:
    question = " ".join((results.get("question") or "").split())
    parts = [f"## {TITLES.get(name, name)}", question]
    if results.get("chart"):
        parts.append(f"![{TITLES.get(name, name)}](../images/{results['chart']})")
    for each in results.get("tables", []):
        table = Figures(**each)
        parts += [f"### {table.title}", table.markdown()]
    return parts


def read(folder: Path) -> Run:
    """The results that are there, in the order of the page."""
    files = {name: folder / f"{name}.json" for name in TITLES}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = "folder of JSON, of one run each (default: benchmarks/results)"
    parser.add_argument("--results", type=Path, nargs="+", default=[harness.RESULTS], metavar="FOLDER", help=results)
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="default: docs/explanation/")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    runs = [found for folder in chosen.results if (found := read(folder))]
    if not runs:
        sys.exit(
            f"There are no results in {', '.join(map(str, chosen.results))}. "
            "Run `make bench`, which measures and then writes the page."
        )
    chosen.page.parent.mkdir(parents=True, exist_ok=True)
    chosen.page.write_text(page(runs, [name for name in TITLES if name not in runs[-1]]))
    print(f"Page: {chosen.page}")


if __name__ == "__main__":
    main()
