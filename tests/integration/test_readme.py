"""The README's example runs as it is pasted, with the interpreter that has asyncpool and nothing else."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_readmes_example_prints_what_it_says(tmp_path: Path) -> None:
    """Two files, pasted into a folder, started from another one."""
    kittens, app = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "kittens.py").write_text(kittens)
    (tmp_path / "app.py").write_text(app)
    promised = re.search(r"`python app.py` prints (.*)\.\n", README)
    assert promised is not None
    ran = subprocess.run([sys.executable, tmp_path / "app.py"], capture_output=True, text=True, timeout=30, check=False)
    assert (re.findall(r"`(.*?)`", promised[1]), "") == (ran.stdout.splitlines(), ran.stderr)
