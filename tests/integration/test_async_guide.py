"""The examples of the guide to async commands and streams print what it says, pasted as they are."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "how-to" / "async-commands-and-streams.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
PRINTED = [
    "9 for cats True\n",
    re.findall(r"```\n(Tom is.*?)```", GUIDE, re.DOTALL)[0],
    "home again\nTrue\n",
]


@pytest.mark.parametrize("number", range(3))
def test_the_guides_examples_print_what_they_say(number: int, tmp_path: Path) -> None:
    """A module, and one program for each chapter."""
    (tmp_path / "brushes.py").write_text(BLOCKS[0])
    (tmp_path / "app.py").write_text(BLOCKS[1:][number])
    app = [sys.executable, tmp_path / "app.py"]
    ran = subprocess.run(app, capture_output=True, text=True, timeout=30, check=False, env=_environment())
    assert (ran.stdout, ran.stderr) == (PRINTED[number], "")


def test_the_guide_has_no_other_example() -> None:
    """Each is run above, and what two of them print stands in a sentence."""
    assert len(BLOCKS) == 1 + len(PRINTED)
    assert "prints `9 for cats True`." in GUIDE
    assert "prints `home again` and `True`." in GUIDE


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
