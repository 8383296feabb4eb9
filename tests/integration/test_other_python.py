"""``Pool(executable=...)``: the workers are of another environment, with libraries of their own."""

import asyncio
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from asyncpool import Pool
from tests.support.scripts import ROOT

COMMANDS = """
import asyncio
import json

import asyncpool
import only_there


@asyncpool.command
def where() -> list[str]:
    return json.loads(json.dumps([only_there.NAME, only_there.__name__]))


@asyncpool.command
async def slowly() -> str:
    await asyncio.sleep(0)
    return only_there.NAME
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    """Another environment, in which asyncpool and msgspec are found, and a module that this one has not."""
    place = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", place], check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)}))
    (packages / "asyncpool.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    (packages / "only_there.py").write_text("NAME = 'of the other one'\n")
    return str(place / "bin" / "python")


async def test_workers_of_another_python_keep_their_libraries_and_find_the_applications_folders(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its standard library, what is installed there, and the modules of the application."""
    (tmp_path / "other_commands.py").write_text(COMMANDS)
    monkeypatch.syspath_prepend(tmp_path)
    async with asyncio.timeout(30), Pool("other_commands", executable=python, max_size=1, stderr="discard") as pool:
        assert await pool.run("where") == ["of the other one", "only_there"]
        assert await pool.run("slowly") == "of the other one"
        with pytest.raises(ValueError, match="invalid literal"):
            await pool.run(int, "x")  # whose traceback needs the standard library
