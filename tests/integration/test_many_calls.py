"""The page on many calls, and the progress bars: each example runs as it stands and prints what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import ROOT

PAGE = (ROOT / "docs" / "how-to" / "many-calls.md").read_text()
MODULE, *_ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = re.findall(r"```python\n((?:(?!```).)*)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
PROGRESS = ROOT / "docs" / "examples" / "progress"


def run(*command: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=30, check=False, env=env
    )


def test_every_example_of_the_page_is_run() -> None:
    """All but the module of commands have their output beside them."""
    assert len(EXAMPLES) == PAGE.count("```python") - 1


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_prints_what_it_says(tmp_path: Path, number: int) -> None:
    """Pasted beside the module, and started from elsewhere."""
    example, output = EXAMPLES[number]
    (tmp_path / "kittens.py").write_text(MODULE)
    (tmp_path / "app.py").write_text(example)
    ran = run(tmp_path / "app.py")
    expected = re.escape(output).replace(re.escape("...\n"), "(.*\n)*")  # a line of dots stands for any lines
    assert re.fullmatch(expected, ran.stdout), ran.stdout
    assert ran.stderr == ""


def test_tqdm_counts_every_result() -> None:
    """Its bar ends at the number of items."""
    ran = run(PROGRESS / "with_tqdm.py")
    assert re.fullmatch(r"\d+ purr at 29 Hz\n", ran.stdout), ran.stderr
    assert "200/200" in ran.stderr


def test_rich_counts_every_result_and_draws_itself(tmp_path: Path) -> None:
    """Both bars end at their number; the picture shows what the committed one shows."""
    picture = tmp_path / "progress.svg"
    ran = run(PROGRESS / "with_rich.py", picture)
    assert (ran.returncode, ran.stderr) == (0, "")
    for text in (picture.read_text(), (ROOT / "docs" / "images" / "progress.svg").read_text()):
        assert "200/200" in text
        assert "120/120" in text
