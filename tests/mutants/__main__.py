"""``make mutants``: break each promise in a copy of the package, and see that a test notices.

First the named tests must pass as the code is; then each mutant, alone in a copy of its own, must make one fail.
Ends with 1 when a mutant survives, and with 2 when the tests fail without one or a name is unknown.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import MUTANTS, ROOT, Mutant

COPIED = ("asyncpool", "tests", "pyproject.toml")
ORIGIN = "integration/test_origin.py"  # fails where anything but the copy is imported
AT_A_TIME = 2
LIMIT = 300.0  # seconds for the tests of one mutant
LIMIT_OF_ALL = 1200.0  # seconds for all tests without a mutant
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)
TEST_FAILED = 1  # pytest's exit code; others: it was interrupted, found no such test, or could not import one


@dataclass(frozen=True)
class Run:
    """How tests ended.

    Attributes:
        code: Pytest's exit code; None: it had to be stopped.
        output: What it printed.
        seconds: How long it took.
    """

    code: int | None
    output: str
    seconds: float

    @property
    def caught(self) -> str | None:
        """The test that failed; None where none did, also where they could not be run to their end."""
        found = FAILED.search(self.output)
        return found[1] if self.code == TEST_FAILED and found else None

    @property
    def told(self) -> str:
        """What to make of a run that caught nothing."""
        if self.code == 0:
            return "SURVIVED"
        return (
            "HUNG" if self.code is None or "+ Timeout +" in self.output else f"BROKEN (pytest ended with {self.code})"
        )


def main() -> int:
    """Do it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make mutants ARGS=", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants, or parts of their names; default: all")
    parser.add_argument("--list", action="store_true", help="only show what there is")
    options = parser.parse_args()
    chosen = [each for each in MUTANTS if not options.names or any(name in each.name for name in options.names)]
    if not chosen:
        print("no mutant has such a name; see make mutants ARGS=--list")
        return 2
    if options.list:
        print("\n".join(f"{each.promise:2}  {each.name:26}  {each.breaks}" for each in chosen))
        return 0
    nodes = sorted({ORIGIN, *(node for each in chosen for node in each.tests)})
    print(f"{len(nodes)} tests without a mutant ...", flush=True)
    plain = tested(nodes, None, LIMIT_OF_ALL, f"--numprocesses={AT_A_TIME}", "--maxfail=3")
    if plain.code != 0:
        print(plain.output, "These tests must pass before mutants mean anything.", sep="\n")
        return 2
    print(f"... pass ({plain.seconds:.0f} s)", flush=True)
    runs = all_tested(chosen)
    print("\n" + table(runs))
    survivors = [mutant for mutant, run in runs.items() if run.caught is None]
    for mutant in survivors:
        print(f"\n{mutant.name} ({mutant.breaks}):\n{runs[mutant].output[-3000:]}")
    print(f"\n{len(runs) - len(survivors)} of {len(runs)} mutants were caught")
    return 1 if survivors else 0


def all_tested(mutants: Iterable[Mutant]) -> dict[Mutant, Run]:
    """Test each mutant, a few at a time, and tell how it goes."""
    threads = ThreadPoolExecutor(AT_A_TIME)
    try:
        running = {threads.submit(tested, each.tests, each, LIMIT): each for each in mutants}
        done: dict[Mutant, Run] = {}
        for future in as_completed(running):
            mutant, run = running[future], future.result()
            done[mutant] = run
            verdict = "caught" if run.caught else run.told
            print(f"[{len(done)}/{len(running)}] {mutant.name}: {verdict} ({run.seconds:.1f} s)", flush=True)
        return {mutant: done[mutant] for mutant in running.values()}
    finally:
        threads.shutdown(cancel_futures=True)  # after Ctrl-C, which pytest hears too, begin no other


def tested(nodes: Iterable[str], mutant: Mutant | None, limit: float, *options: str) -> Run:
    """Run tests in a copy of the repository, with a mutant's change or without."""
    with tempfile.TemporaryDirectory(prefix="asyncpool-mutant-") as place:
        root = Path(place).resolve()
        for name in COPIED:
            copy(ROOT / name, root / name)
        if mutant is not None:
            mutant.apply(root)
        return pytest(root, nodes, limit, *(options or ("-n0", "-x")))


def copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder without what was made of it."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def pytest(root: Path, nodes: Iterable[str], limit: float, *options: str) -> Run:
    """Run tests of the repository at *root*; what takes longer than *limit* seconds is stopped."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", "-rfE", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, *options, *(f"tests/{node}" for node in nodes)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    code: int | None
    try:
        output, _ = process.communicate(timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()  # the workers of its pools go with it
        output, _ = process.communicate()
        code = None
    return Run(code, output, time.monotonic() - began)


def table(runs: dict[Mutant, Run]) -> str:
    """Return what happened, one line for each mutant."""
    rows = [("promise", "mutant", "caught by", "seconds")]
    for mutant, run in runs.items():
        caught = run.told if run.caught is None else run.caught.removeprefix("tests/")
        rows.append((str(mutant.promise), mutant.name, caught, f"{run.seconds:.1f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
