"""The benchmarks run and write what they should; how fast anything is, no test says."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.scripts import ROOT

pytestmark = pytest.mark.timeout(120)


def run(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> str:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--quick", "--rounds", "1", *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_cold_vs_pooled_writes_well_formed_json_and_svg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case stands in the table, in the JSON with all figures, and in the chart with its title."""
    results, chart = tmp_path / "deeper" / "results.json", tmp_path / "deeper" / "chart.svg"
    shown = run(monkeypatch, "cold_vs_pooled.py", "--json", str(results), "--svg", str(chart))
    written = json.loads(results.read_text())
    assert written["machine"].keys() == {"cpu", "cores", "python", "kernel", "loop", "asyncpool", "date"}
    assert [(case["command"], case["at_a_time"]) for case in written["cases"]] == [
        ("trivial", 1),
        ("with_numpy", 1),
        ("trivial", 50),
        ("with_numpy", 50),
    ]
    for case in written["cases"]:
        assert case["p50_ratio"] > 0
        assert case["rate_ratio"] > 0
        for process in ("cold", "pooled"):
            assert 0 < case[process]["p50"] <= case[process]["p99"]
            assert case[process]["requests"] >= case["at_a_time"]
    root = ElementTree.parse(chart).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("trivial command") == texts.count("numpy command") == 2
    assert "pooled" in shown


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_call_overhead_writes_well_formed_json(loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every contender has its figures, on either loop."""
    results = tmp_path / "results.json"
    run(monkeypatch, "call_overhead.py", "--loop", loop, "--json", str(results))
    (measured,) = json.loads(results.read_text())["loops"]
    assert measured["machine"]["loop"] == loop
    assert [each["name"] for each in measured["contenders"]] == [
        "floor, one child",
        "asyncpool",
        "floor, same codec",
        "ProcessPoolExecutor",
        "anyio.to_process",
    ]
    assert all(each["one"]["p50"] > 0 and each["hundred"]["per_second"] > 0 for each in measured["contenders"])
