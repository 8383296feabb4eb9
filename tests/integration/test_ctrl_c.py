"""Ctrl-C in a terminal, a real one: it reaches the application alone, which decides."""

import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.support.processes import TAG, tagged
from tests.support.scripts import PREAMBLE, ROOT, noise
from tests.support.waiting import eventually_now

LOOPS = ("asyncio", "uvloop")
CTRL_C = b"\x03"
LIMIT = 10.0  # seconds

# Make the terminal the controlling one of this session, as a login does, then become the program.
LOGIN = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A program in the foreground of a terminal of its own; what it writes there is read to the end."""

    def __init__(self, path: Path, text: str, *arguments: str, **env: str) -> None:
        path.write_text(PREAMBLE + textwrap.dedent(text))
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOGIN, sys.executable, "-X", "dev", str(path), *arguments],
            start_new_session=True,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **env},
        )
        os.close(theirs)
        self.text = ""

    def read_until(self, mark: str) -> None:
        while mark not in self.text:
            assert self._read(), self.text

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self, *, pressing_after: float | None = None) -> int:
        """Read to the end and return the exit code; press Ctrl-C once more where nothing comes for so many seconds."""
        while True:
            if pressing_after is not None and not select.select([self._ours], [], [], pressing_after)[0]:
                self.press(CTRL_C)
                pressing_after = None
            if not self._read():
                break
        os.close(self._ours)
        return self.process.wait(LIMIT)

    def _read(self) -> bool:
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            return False
        self.text += data.decode()
        return bool(data)


def nobody_is_left() -> bool:
    return eventually_now(lambda: not tagged(os.environ[TAG]), 2.0)


PLAIN = """
    async def main():
        async with Pool("tests.support.commands", min_size=4, max_size=4, stderr="forward") as pool:
            calls = [pool.run("wait_at", sys.argv[1], number) for number in range(4)]
            await asyncio.gather(*calls)
    RUN(main())
"""

CAUGHT = """
    async def main():
        async with Pool("tests.support.commands", min_size=4, max_size=4, stderr="forward") as pool:
            calls = [asyncio.create_task(pool.run("wait_at", sys.argv[1], number)) for number in range(4)]
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
            print("ready", flush=True)
            await stop.wait()
            print("caught", flush=True)
            print("results", await asyncio.gather(*calls), flush=True)
    RUN(main())
"""

STUBBORN = """
    async def main():
        async with Pool("tests.support.commands", min_size=4, max_size=4, stderr="forward") as pool:
            calls = [asyncio.create_task(pool.run("wait_at", sys.argv[1], number)) for number in range(4)]
            try:
                await asyncio.gather(*calls)
            except asyncio.CancelledError:
                print("caught", flush=True)
                await asyncio.wait([asyncio.create_task(pool.run("sleep", 60))])
    RUN(main())
"""


def reached(tmp_path: Path) -> bool:
    """Tell whether all four calls run."""
    path = tmp_path / "gate.reached"
    return eventually_now(lambda: path.exists() and len(path.read_text().split()) == 4)


@pytest.mark.parametrize("loop", LOOPS)
def test_without_a_handler_the_program_ends(tmp_path: Path, loop: str) -> None:
    """Within two seconds, with the application's own traceback and none of a worker, and nobody is left."""
    terminal = Terminal(tmp_path / "app.py", PLAIN, str(tmp_path / "gate"), LOOP=loop)
    assert reached(tmp_path)
    began = time.monotonic()
    terminal.press(CTRL_C)
    code = terminal.end()
    assert time.monotonic() - began < 2
    assert code == -signal.SIGINT, terminal.text
    assert terminal.text.rstrip().endswith("KeyboardInterrupt")
    assert terminal.text.count("\nKeyboardInterrupt") == 1, terminal.text  # asyncio shows the cancellation before it
    assert terminal.text.count("Traceback (most recent call last)") == 2, terminal.text
    assert noise(terminal.text) == []
    assert nobody_is_left()


@pytest.mark.parametrize("loop", LOOPS)
def test_an_application_that_catches_it_has_its_calls_served(tmp_path: Path, loop: str) -> None:
    """The workers have not heard it: all four calls complete."""
    terminal = Terminal(tmp_path / "app.py", CAUGHT, str(tmp_path / "gate"), LOOP=loop)
    terminal.read_until("ready")
    assert reached(tmp_path)
    terminal.press(CTRL_C)
    terminal.read_until("caught")
    (tmp_path / "gate").touch()
    assert terminal.end() == 0, terminal.text
    assert "results [0, 1, 2, 3]" in terminal.text
    assert "Traceback" not in terminal.text
    assert nobody_is_left()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("text", ["PLAIN", "STUBBORN"])
def test_pressed_twice_nobody_is_left(tmp_path: Path, loop: str, text: str) -> None:
    """At once, or the second time when the application hangs in its own cleanup.

    The second KeyboardInterrupt is raised wherever the program is. Where that is within asyncio, between taking a
    handle out of its queue and running it, a task whose future is cancelled is never woken, and asyncio.run waits for
    it for ever: seen in 3 of 129 runs on a busy machine, and without a pool too. The third then ends it.
    """
    terminal = Terminal(tmp_path / "app.py", globals()[text], str(tmp_path / "gate"), LOOP=loop)
    assert reached(tmp_path)
    terminal.press(CTRL_C)
    if text == "STUBBORN":
        terminal.read_until("caught")
    terminal.press(CTRL_C)
    assert terminal.end(pressing_after=LIMIT) != 0
    assert nobody_is_left()
