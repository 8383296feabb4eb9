"""What a call costs, in instructions: what no other load on the machine can change, as it does times.

Held against the same frames over the same kind of socket with nothing that a pool adds, so that neither the Python nor
the machine matters much.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = (100, 600)
LIMIT = 110.0  # seconds; 5 on a quiet machine, each
# With one processor, since a worker that lingers makes as many instructions as it has time for.
PROGRAM = """
import asyncio, contextlib, functools, os, signal, sys
sys.path.insert(0, {benchmarks!r})
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from cold_worker import trivial
from peers import floors
import asyncpool
@contextlib.asynccontextmanager
async def pool():
    async with asyncpool.Pool("cold_worker", min_size=0, max_size=1) as pool:
        yield functools.partial(pool.run, trivial)
        await pool.run(signal.raise_signal, signal.SIGTERM)  # it leaves in its own time: killed, it would tell nothing
        while not pool.stats().exited:
            await asyncio.sleep(0.1)
async def main():
    async with {opened}() as request:
        for number in range({calls}):
            await request(number)
asyncio.run(main())
"""
COMMAND = re.compile(r"Command: (.*)")
COLLECTED = re.compile(r"Collected : (\d+)")

pytestmark = [
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind counts the instructions"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="counted on one Python alone: it takes a minute"),
    pytest.mark.timeout(4 * LIMIT),
]


def counted(folder: Path, opened: str, calls: int) -> tuple[int, int]:
    """Return the instructions of the application and of its children, for so many calls."""
    program = folder / f"{opened}_{calls}.py"
    program.write_text(PROGRAM.format(benchmarks=str(ROOT / "benchmarks"), opened=opened, calls=calls))
    command = [sys.executable, str(program)]
    environment = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    subprocess.run(command, check=True, timeout=LIMIT, env=environment)  # compiles what is not compiled yet
    tool = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=/dev/null"]
    logs = f"--log-file={folder}/{opened}_{calls}.%p"
    subprocess.run([*tool, logs, *command], check=True, timeout=LIMIT, env=environment)
    application, children = 0, 0
    for log in folder.glob(f"{opened}_{calls}.[0-9]*"):
        text = log.read_text()
        counts, whose = COLLECTED.search(text), COMMAND.search(text)
        assert counts is not None, text
        assert whose is not None, text
        if str(program) in whose[1]:
            application += int(counts[1])
        else:
            children += int(counts[1])
    return application, children


@pytest.fixture(scope="module")
def per_call(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, float]]:
    """Instructions of one call, by what is called: those of the application, and those of the workers."""
    folder = tmp_path_factory.mktemp("counts")
    runs = [(opened, calls) for opened in ("pool", "floors.codec") for calls in CALLS]
    with ThreadPoolExecutor(2) as threads:
        found = dict(zip(runs, threads.map(lambda run: counted(folder, *run), runs), strict=True))
    few, many = CALLS

    def per_call(opened: str, side: int) -> float:
        return (found[opened, many][side] - found[opened, few][side]) / (many - few)

    return {opened: (per_call(opened, 0), per_call(opened, 1)) for opened, _ in runs}


@pytest.mark.parametrize(("side", "most"), [(0, 1.7), (1, 2.4)], ids=["application", "worker"])
def test_a_call_costs_little_more_than_its_frames(
    per_call: dict[str, tuple[float, float]], side: int, most: float
) -> None:
    """Queue, limits, deadlines, counters, crash reports: they add less than the loop and the codec take anyway.

    In the worker it is a little more: its floor has no poll, no SIGTERM, no context of a call, no check of arguments.
    """
    ours, floor = per_call["pool"][side], per_call["floors.codec"][side]
    assert 10_000 < floor < ours < most * floor, (
        f"{ours:,.0f} instructions a call, {ours / floor:.2f} times the floor's"
    )
