"""The benchmarks run and write what they should; how fast anything is, no test says."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.often import ALL
from tests.support.scripts import ROOT

pytestmark = pytest.mark.timeout(180)


SVG = "{http://www.w3.org/2000/svg}"


def run(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str, code: int = 0, first: Path = ROOT) -> str:
    """Run a benchmark to its end, with modules found in *first* before all others; returns what it showed."""
    monkeypatch.setenv("PYTHONPATH", f"{first}:{ROOT}")
    quick = [] if script == "report.py" else ["--quick"]
    command = [sys.executable, str(ROOT / "benchmarks" / script), *quick, *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=170)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


def texts(chart: Path) -> list[str | None]:
    """Return what is written in a chart."""
    root = ElementTree.parse(chart).getroot()
    assert root.tag == f"{SVG}svg"
    return [element.text for element in root.iter(f"{SVG}text")]


def broken(folder: Path, script: str, mistake: str) -> Path:
    """Return a folder that makes Python run *mistake* before *script*, and only before that."""
    lines = f"import sys\nif any({script!r} in each for each in sys.orig_argv):\n{textwrap.indent(mistake, '    ')}"
    (folder / "sitecustomize.py").write_text(lines)
    return folder


@pytest.mark.skipif(not ALL, reason="150 cold processes; what it writes is the same on each Python")
def test_cold_vs_pooled_writes_well_formed_json_and_svg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case stands in the table, in the JSON with all figures, and in the chart with its title."""
    results, chart = tmp_path / "deeper" / "results.json", tmp_path / "deeper" / "chart.svg"
    shown = run(monkeypatch, "cold_vs_pooled.py", "--rounds", "1", "--json", str(results), "--svg", str(chart))
    written = json.loads(results.read_text())
    assert written["machine"].keys() == {"cpu", "cores", "python", "kernel", "loop", "asyncpool", "commit", "date"}
    assert [(case["command"], case["at_a_time"]) for case in written["cases"]] == [
        (command, at_a_time) for at_a_time in (1, 10) for command in ("trivial", "with_numpy", "slow_import")
    ]
    for case in written["cases"]:
        assert case["p50_ratio"] > 0
        assert case["rate_ratio"] > 0
        for process in ("cold", "pooled"):
            assert 0 < case[process]["p50"] <= case[process]["p99"]
            assert case[process]["requests"] >= case["at_a_time"]
            assert case[process]["per_1000"]["seconds"] > 0
        assert case["cold"]["per_1000"]["seconds"] > case["pooled"]["per_1000"]["seconds"]
        assert case["cold"]["per_1000"]["memory"] > case["pooled"]["per_1000"]["memory"]
        assert 2**22 < case["resident"]["cold"] < 2**28
        assert (case["break_even"] is not None) == (case["at_a_time"] == 1)
        if case["command"] == "slow_import":
            assert case["cold"]["per_1000"]["seconds"] > 200  # s; its import alone
    written_on_it = texts(chart)
    assert all(written_on_it.count(title) == 2 for title in ("trivial command", "numpy command", "200 ms import"))
    assert "When does a pool pay?" in shown
    assert "pooled" in shown


FLOORS = [
    "floor, one child",
    "asyncpool",
    "floor, same codec",
    "blocking echo, pipe",
    "blocking echo, socketpair",
]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_call_overhead_writes_well_formed_json_and_svg(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every contender has its figures, on either loop; asyncpool is held against each."""
    results, chart = tmp_path / "results.json", tmp_path / "chart.svg"
    arguments = ("--rounds", "1", "--loop", loop, "--peers", "ProcessPool", "--json", str(results), "--svg", str(chart))
    run(monkeypatch, "call_overhead.py", *arguments)
    written = json.loads(results.read_text())
    (measured,) = written["loops"]
    assert measured["machine"]["loop"] == loop
    assert [each["name"] for each in measured["contenders"]] == [*FLOORS, "ProcessPoolExecutor"]
    for each in measured["contenders"]:
        assert each["remark"] == ""
        assert each["one"]["p50"] > 0
        assert (each["hundred"] is None) == each["name"].startswith("blocking")  # it can do only one at a time
        assert (each["p50_ratios"] == []) == (each["name"] == "asyncpool")
    assert [each["name"] for each in measured["bound"]] == ["floor, one child", "asyncpool", "floor, same codec"]
    assert {"asyncpool", "ProcessPoolExecutor"} <= set(texts(chart))
    judged = {each["against"]: each["measured"] for each in written["budgets"]}
    assert judged["ProcessPoolExecutor"] > 0
    assert judged["anyio.to_process"] is None  # it was not asked for


def test_a_peer_that_fails_is_shown_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither dropped nor does it keep the others from being measured."""
    (tmp_path / "loky.py").write_text("raise ModuleNotFoundError(\"No module named 'loky'\")")
    (tmp_path / "pebble.py").write_text("1 / 0")
    (tmp_path / "mpire.py").write_text("import os; os._exit(3)")
    remarks = {
        "loky": "not measured: No module named 'loky'",
        "pebble": "failed: ZeroDivisionError: division by zero",
        "mpire": "failed: has ended: it said nothing",
    }
    results = tmp_path / "results.json"
    arguments = ("--rounds", "1", "--loop", "asyncio", "--peers", ",".join(remarks), "--json", str(results))
    shown = run(monkeypatch, "call_overhead.py", *arguments, first=tmp_path)
    contenders = json.loads(results.read_text())["loops"][0]["contenders"]
    assert {each["name"]: each["remark"] for each in contenders} == {**dict.fromkeys(FLOORS, ""), **remarks}
    assert all((each["one"] is None) == (each["name"] in remarks) for each in contenders)
    for name, remark in remarks.items():
        assert f"{name}: {remark}" in " ".join(shown.split())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")
def test_makeup_writes_well_formed_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file of the pool that a call goes through has its bytecodes; they hardly vary, for they are counted."""
    results = tmp_path / "results.json"
    shown = run(monkeypatch, "makeup.py", "--json", str(results))
    written = json.loads(results.read_text())
    assert [each["clients"] for each in written["counts"]] == [1, 100]
    for each in written["counts"]:
        assert {"pool/scheduler.py", "pool/connection.py", "protocol/wire.py"} <= each["files"].keys()
        assert 10 < each["files"]["protocol/wire.py"] < 200
    assert "Bytecodes of a call, 100 calls at a time" in shown


def test_updates_writes_well_formed_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool and the floor have their rates on both loops."""
    results = tmp_path / "results.json"
    run(monkeypatch, "updates.py", "--json", str(results))
    written = json.loads(results.read_text())
    assert [(each["machine"]["loop"], each["rates"].keys()) for each in written["loops"]] == [
        (loop, {"floor", "asyncpool"}) for loop in ("asyncio", "uvloop")
    ]
    assert all(rate > 0 for each in written["loops"] for rates in each["rates"].values() for rate in rates)
    assert [table["rows"][0][2] for table in written["tables"]] == ["1.00 x", "1.00 x"]


def test_scale_writes_well_formed_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of waiting calls and of workers has its figures."""
    results = tmp_path / "results.json"
    shown = run(monkeypatch, "scale.py", "--loop", "asyncio", "--json", str(results))
    written = json.loads(results.read_text())
    assert [table["rows"][0][0] for table in written["tables"]] == ["1", "1"]
    (measured,) = written["loops"]
    assert len(measured["measured"]["per_call"]) == 4
    assert all(each["spawned"] >= 16 for each in measured["measured"]["growth"])
    assert {each["measured"] > 0 for each in written["budgets"]} == {True}
    assert "leases a second" in shown


def test_floors_writes_well_formed_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every floor has its figures, and the start of a worker is held against that of an interpreter."""
    results = tmp_path / "results.json"
    run(monkeypatch, "floors.py", "--rounds", "1", "--loop", "asyncio", "--json", str(results))
    written = json.loads(results.read_text())
    floors = written["loops"][0]["floors"]
    assert all(each["figures"]["p50"] > 0 for each in floors)
    names = {each["name"] for each in floors}
    assert {"os.fork()", "python -c pass", 'python -c "import msgspec"', "memcpy of 64 MiB"} <= names
    assert [budget["measured"] > 0 for budget in written["budgets"]] == [True, True]  # held against its end, and not


# --- report ----------------------------------------------------------------------------------------------------------

RESULTS = {
    "question": "What does it cost?\n\nA lot.\n",
    "quick": False,
    "chart": "floors.svg",
    "machine": {
        "cpu": "Some CPU",
        "cores": 2,
        "python": "CPython 3.13.0",
        "kernel": "Linux 6",
        "loop": "asyncio",
        "asyncpool": "1.0",
        "commit": "abc123",
        "date": "today",
    },
    "tables": [
        {
            "title": "Times",
            "columns": ["", "p50"],
            "rows": [["asyncpool", "1 µs"], ["slow one", ""]],
            "caption": "",
            "own": "asyncpool",
            "words": 1,
            "notes": ["slow one: failed: hangs"],
        }
    ],
    "budgets": [
        {"what": "a call", "against": "the floor", "limit": 1.3, "measured": 1.2, "at_least": False},
        {"what": "many", "against": "the best", "limit": 5, "measured": 4.0, "at_least": True},
        {"what": "many", "against": "absent", "limit": 5, "measured": None, "at_least": True},
        {"what": "many", "against": "also absent", "limit": 5, "measured": None, "at_least": False},
    ],
    "losses": ["Somebody is faster."],
}


def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *runs: dict[str, object]) -> str:
    folders = []
    for number, results in enumerate(runs):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        (folders[-1] / "floors.json").write_text(json.dumps(results))
    page = tmp_path / "page.md"
    run(monkeypatch, "report.py", "--results", *map(str, folders), "--page", str(page))
    return page.read_text()


def test_the_page_says_what_was_measured_where_and_where_asyncpool_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables, chart, machine, commit, failures, budgets met and missed, losses, and what is missing."""
    page = report(tmp_path, monkeypatch, RESULTS)
    for line in (
        "- `floors.py`: Some CPU, 2 cores, Linux 6, CPython 3.13.0, asyncio loop, asyncpool 1.0 at abc123, today",
        "| a call | the floor | ≤ 1.3 x | 1.2 x | met |",
        "| many | the best | ≥ 5 x | 4 x | missed |",
        "| many | absent | ≥ 5 x | not measured |  |",
        "- Somebody is faster.",
        "What does it cost? A lot.",
        "![The floors](../images/floors.svg)",
        "| **asyncpool** | **1 µs** |",
        "Slow one: failed: hangs.",
    ):
        assert line in page.splitlines()
    assert "1 of 4 are missed" in page
    assert "no results of `cold_vs_pooled.py`, `call_overhead.py`" in page
    assert "first impression" not in page


def test_the_page_warns_of_short_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes the figures of a --quick run for a measurement."""
    assert "a first impression, not a measurement" in report(tmp_path, monkeypatch, {**RESULTS, "quick": True})


def test_the_page_tells_of_every_run_whether_a_budget_was_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is missed once is not met; the tables are the last run's."""
    once = [{**RESULTS["budgets"][0], "measured": 1.3004}, *RESULTS["budgets"][1:]]
    page = report(tmp_path, monkeypatch, {**RESULTS, "budgets": once}, RESULTS)
    for line in (
        "|  | against | budget | run 1 | run 2 |  |",
        "| a call | the floor | ≤ 1.3 x | 1.3004 x | 1.2 x | met in 1 of 2 |",
        "| many | the best | ≥ 5 x | 4 x | 4 x | missed |",
        "These are of the last of 2 runs in a row, and the tables below with them.",
    ):
        assert line in page.splitlines()
    assert "2 of 4 are missed, or were once" in page
    assert "not all of the same commit" not in page


def test_the_page_keeps_each_figure_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a benchmark failed in one of them."""
    page = report(tmp_path, monkeypatch, {**RESULTS, "budgets": RESULTS["budgets"][1:]}, RESULTS)
    assert "| a call | the floor | ≤ 1.3 x |  | 1.2 x | met |" in page.splitlines()


def test_the_page_says_when_its_figures_are_of_several_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were left from another time are not taken for this one's."""
    other = {**RESULTS, "machine": {**RESULTS["machine"], "commit": "def456"}}
    assert "They are not all of the same commit" in report(tmp_path, monkeypatch, other, RESULTS)


@pytest.mark.skipif(not ALL, reason="what it writes is the same on each Python")
def test_large_values_writes_well_formed_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every contender has its figures, and brought each value back as it was."""
    results = tmp_path / "results.json"
    small = ("--rounds", "1", "--mib", "1", "--loop", "asyncio")
    run(monkeypatch, "large_values.py", *small, "--json", str(results))
    (measured,) = json.loads(results.read_text())["loops"]
    contenders = {each["name"]: each for each in measured["contenders"] if not each["remark"]}
    assert {"asyncpool", "ProcessPoolExecutor", "anyio.to_process", "floor, old memory"} <= contenders.keys()
    for name, each in contenders.items():
        assert each["bytes"] > 0
        assert each["array"] > 0
        assert (each["late_most"] is None) == name.startswith("floor")


# --- simulate --------------------------------------------------------------------------------------------------------


def test_simulate_writes_well_formed_json_and_svg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both scenarios ran in each pool with all their calls, and calls waited as theory says."""
    results, chart = tmp_path / "results.json", tmp_path / "chart.svg"
    shown = run(monkeypatch, "simulate.py", "--calls", "2000", "--json", str(results), "--svg", str(chart))
    written = json.loads(results.read_text())
    assert written["wrong"] == []
    assert [(each["scenario"], each["workers"]) for each in written["runs"]] == [
        ("calm", 10),
        ("calm", 100),
        ("trouble", 10),
        ("trouble", 100),
    ]
    for each in written["runs"]:
        assert sum(each["outcomes"].values()) == 2000
        assert each["per_call"] > 0
    assert len(written["waiting"]) == 15
    alone = next(each for each in written["waiting"] if (each["workers"], each["utilisation"]) == (1, 0.5))
    assert alone["theory"] == pytest.approx(1.0)
    assert alone["mean"] == pytest.approx(1.0, abs=0.3)
    assert {"1 worker", "2 workers", "4 workers", "16 workers", "100 workers"} <= set(texts(chart))
    assert "Cost by workers" in shown


def test_simulate_ends_with_1_when_calls_wait_longer_than_theory_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No law is broken by a scheduler that leaves a worker unused; the table of waits finds it."""
    mistake = """
from asyncpool.pool.scheduler import Scheduler
init = Scheduler.__init__
def lazy(self, limits, *more):
    init(self, type(limits)(max(1, limits.min_size - 1), max(1, limits.max_size - 1)), *more)
Scheduler.__init__ = lazy
"""
    first = broken(tmp_path, "simulate.py", mistake)
    shown = run(monkeypatch, "simulate.py", "--calls", "500", "--json", str(tmp_path / "x.json"), code=1, first=first)
    assert "WRONG: 2 workers, 50% busy: calls wait" in shown


def test_simulate_ends_with_1_when_a_law_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler whose newest call goes first is named with its law."""
    mistake = """
from asyncpool.pool.scheduler import Scheduler
submit = Scheduler.submit
def overtake(self, ticket, now):
    actions = submit(self, ticket, now)
    if ticket in self.waiting:
        self.waiting.move_to_end(ticket, last=False)
    return actions
Scheduler.submit = overtake
"""
    results = tmp_path / "results.json"
    first = broken(tmp_path, "simulate.py", mistake)
    shown = run(monkeypatch, "simulate.py", "--calls", "500", "--json", str(results), code=1, first=first)
    assert "WRONG: calm, 10 workers: law 3: call" in shown
    assert any("law 3" in line for line in json.loads(results.read_text())["wrong"])


# --- soak ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_soak_writes_well_formed_json_and_svg(loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short soak finds nothing wrong, and everything that shall go wrong in it did."""
    results, chart = tmp_path / "results.json", tmp_path / "chart.svg"
    arguments = ("--calls", "300", "--seed", "2", "--loop", loop)  # one of its cancels comes at once
    shown = run(monkeypatch, "soak.py", *arguments, "--json", str(results), "--svg", str(chart))
    (measured,) = json.loads(results.read_text())["loops"]
    assert (measured["loop"], measured["wrong"]) == (loop, [])
    assert sum(measured["outcomes"].values()) == measured["calls"] >= 300
    assert {"ok", "failed", "cancelled", "timed_out", "crashed"} <= measured["outcomes"].keys()
    assert {"crashed", "timed_out", "closed"} <= measured["exited"].keys()
    assert sum(measured["exited"].values()) == measured["spawned"]
    assert measured["samples"][0].keys() >= {"done", "per_second", "rss", "descriptors", "threads", "processes"}
    assert {"calls/s", "descriptors", "worker processes", loop} <= set(texts(chart))
    assert "Workers by cause of exit" in shown


MISCOUNT = """
from asyncpool.pool.stats import Counters
count = Counters.count
Counters.count = lambda self, outcome: count(self, "ok" if outcome == "failed" else outcome)
"""
LEAK = """
import os
from asyncpool.pool.pool import Pool
start = Pool.start
async def leaky(self):
    os.dup(0)
    await start(self)
Pool.start = leaky
"""
CHATTER = "print('a stray line', file=sys.stderr)"


@pytest.mark.parametrize(
    ("mistake", "seen"),
    [
        (MISCOUNT, "outcome failed: 0 instead of"),
        (LEAK, "descriptors after the end"),
        (CHATTER, "on stderr stood: a stray line"),
    ],
    ids=["miscount", "leak", "chatter"],
)
def test_soak_ends_with_1_when_anything_is_off(
    mistake: str, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that do not add up, a descriptor that is left and a line on stderr are each told in words."""
    first = broken(tmp_path, "soak_load.py", mistake)
    arguments = ("--calls", "100", "--loop", "asyncio", "--json", str(tmp_path / "results.json"))
    shown = run(monkeypatch, "soak.py", *arguments, code=1, first=first)
    assert "WRONG: asyncio: " in shown
    assert seen in " ".join(shown.split())
