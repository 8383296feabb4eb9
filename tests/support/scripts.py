"""Programs that use a pool, run as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]  # where the package and the tests are
LIMIT = 30.0  # seconds; what hangs is made to show its stack then, and killed
SOON = 8  # whole seconds in which a program ends whose event loop has ended, whatever its pool was doing
FORBIDDEN = ("never retrieved", "was destroyed", "Exception ignored", "Event loop is closed", "returncode 255")

PREAMBLE = f"""\
import asyncio, os, signal, sys, time
import uvloop
from asyncpool import Pool, PoolClosed
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
ENDS = lambda: signal.alarm({SOON})  # called where a program begins to end: what takes longer is killed
RUN = {{"asyncio": asyncio.run, "uvloop": uvloop.run}}[os.environ.get("LOOP", "asyncio")]
"""


@dataclass
class Ended:
    """How a program ended; ``code`` is None when it had to be killed because it hung."""

    code: int | None
    out: str
    err: str


class Script:
    """A running program."""

    def __init__(
        self,
        path: Path,
        text: str,
        *arguments: str,
        before: str = "",
        dev: bool = True,
        cwd: Path | None = None,
        new_group: bool = False,
        under: tuple[str, ...] = (),
        **env: str,
    ) -> None:
        path.write_text(PREAMBLE + before + textwrap.dedent(text))
        self.process = subprocess.Popen(
            [*under, sys.executable, *(["-X", "dev"] if dev else []), str(path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            process_group=0 if new_group else None,
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        )

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def wait(self, limit: float = LIMIT) -> Ended:
        """Wait for its end and return what it said."""
        with self.process:
            try:
                out, err = self.process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGABRT)  # faulthandler, which -X dev enables, writes the stacks
                try:
                    out, err = self.process.communicate(timeout=2)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    out, err = self.process.communicate()
                return Ended(None, out, err)
        return Ended(self.process.returncode, out, err)


def run(path: Path, text: str, *arguments: str, dev: bool = True, cwd: Path | None = None, **env: str) -> Ended:
    """Run a program to its end."""
    return Script(path, text, *arguments, dev=dev, cwd=cwd, **env).wait()


# To import what a program needs takes longer than most programs of a table run: a parent does it once and forks.
FORKING = """\
import faulthandler, json
import anyio._backends._asyncio
for number, arguments in enumerate(json.loads(sys.argv[1])):
    if os.fork() == 0:
        for descriptor, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{kind}", os.O_WRONLY | os.O_CREAT), descriptor)
        faulthandler.register(signal.SIGALRM, chain=True)  # what hangs shows its stacks, and dies
        signal.alarm(LIMIT)
        sys.argv[1:] = arguments
        break
    code = os.waitstatus_to_exitcode(os.wait()[1])
    print("" if code == -signal.SIGALRM else code, flush=True)
    if code == -signal.SIGALRM:
        sys.exit()  # where one hangs, the others may
else:
    sys.exit()
"""


def forked(folder: Path, text: str, table: list[list[str]], **env: str) -> list[Ended]:
    """Run a program to its end with each line of arguments, one after the other; nothing comes after one that hung."""
    forking = FORKING.replace("LIMIT", f"{LIMIT:.0f}")
    parent = Script(folder / "app.py", text, json.dumps(table), before=forking, cwd=folder, **env)
    ended = parent.wait(LIMIT * (len(table) + 1))
    assert ended.code == 0, ended
    codes = [int(line) if line else None for line in ended.out.splitlines()]
    return [
        Ended(code, (folder / f"{number}.out").read_text(), (folder / f"{number}.err").read_text())
        for number, code in enumerate(codes)
    ]


def noise(err: str) -> list[str]:
    """Return the lines on stderr that no user should ever see."""
    return [line for line in err.splitlines() if any(word in line for word in FORBIDDEN)]
