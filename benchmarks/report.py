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


def page(found: dict[str, Results], missing: Sequence[str]) -> str:
    """The whole page."""
    parts = [HEAD.strip(), *_origin(found), *_budgets(found), *_losses(found)]
    for name, results in found.items():
        parts += _section(name, results)
    if missing:
        parts += ["## Not measured", f"There are no results of {', '.join(f'`{name}.py`' for name in missing)}."]
    return "\n\n".join(parts) + "\n"


HEAD = """
# Performance

<!-- Written by `make bench`; changes made here are lost. -->

Every figure on this page is measured side by side with what it is compared with: the contenders take turns, round by
round, and a ratio is the median over the rounds. Repeat it with `make bench`.
"""


def _origin(found: dict[str, Results]) -> list[str]:
    """Where the figures come from; once, when all were measured together."""
    lines = {name: harness.machine_line(results["machine"]) for name, results in found.items()}
    parts = ["\n".join(f"- `{name}.py`: {line}" for name, line in lines.items())]
    if any(results.get("quick") for results in found.values()):
        parts.append("**Some of these are from short rounds (`--quick`): a first impression, not a measurement.**")
    return parts


def _budgets(found: dict[str, Results]) -> list[str]:
    budgets = [Budget(**each) for results in found.values() for each in results.get("budgets", [])]
    if not budgets:
        return []
    table = Figures("", ["", "against", "budget", "measured", ""], words=2, rows=[each.cells() for each in budgets])
    missed = sum(each.met is False for each in budgets)
    verdict = "All that were measured are met." if not missed else f"{missed} of {len(budgets)} are missed."
    return ["## Budgets", f"What the design allows, as ratios of asyncpool to others. {verdict}", table.markdown()]


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


def read(folder: Path) -> tuple[dict[str, Results], list[str]]:
    """The results that are there, in the order of the page, and the names of those that are not."""
    files = {name: folder / f"{name}.json" for name in TITLES if (harness.HERE / f"{name}.py").exists()}
    found = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    return found, [name for name in files if name not in found]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = "folder of JSON (default: benchmarks/results)"
    parser.add_argument("--results", type=Path, default=harness.RESULTS, metavar="FOLDER", help=results)
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="default: docs/explanation/")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    found, missing = read(chosen.results)
    if not found:
        sys.exit(
            f"There are no results in {chosen.results}. Run `make bench`, which measures and then writes the page."
        )
    chosen.page.parent.mkdir(parents=True, exist_ok=True)
    chosen.page.write_text(page(found, missing))
    print(f"Page: {chosen.page}")


if __name__ == "__main__":
    main()
