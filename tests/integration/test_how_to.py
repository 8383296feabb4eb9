"""The examples of the how-to guides run as they are pasted, and print what the guides say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import blocks, file_name
from tests.support.scripts import LIMIT, ROOT


def examples() -> list[tuple[str, dict[str, str], str]]:
    """Return the name of each example, its files, and what it prints: files, then a block of text."""
    found: list[tuple[str, dict[str, str], str]] = []
    for name in ("worker-state", "logs", "errors", "values"):
        files: dict[str, str] = {}
        for language, text in blocks(f"how-to/{name}.md"):
            if language == "python":
                files[file_name(text)] = text
            elif language == "text":
                found.append((f"{name} {len(found)}", files, text))
                files = {}
        assert not files, f"{name}.md: an example does not say what it prints"
    return found


@pytest.mark.parametrize(("files", "said"), [rest for _, *rest in examples()], ids=[name for name, *_ in examples()])
def test_an_example_prints_what_it_says(tmp_path: Path, files: dict[str, str], said: str) -> None:
    """Its files, written into a folder; the workers' output goes to stderr, as do the logs."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ran = subprocess.run(
        [sys.executable, tmp_path / "app.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=LIMIT,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout + ran.stderr == said
