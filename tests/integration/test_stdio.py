"""What workers print and read never meets the frames."""

import asyncio
import contextlib
import io
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncpool import Pool, WorkerCrashed
from tests.support import commands
from tests.support.processes import TAG, children
from tests.support.scripts import noise, run
from tests.support.waiting import eventually


class Heard:
    """What came on sys.stderr of this process so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    @property
    def text(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def heard(capsys: pytest.CaptureFixture[str]) -> Heard:
    return Heard(capsys)


@contextlib.asynccontextmanager
async def one_worker(**options: Any) -> AsyncIterator[Pool]:
    async with Pool(commands, max_size=1, **options) as pool:
        yield pool


WAYS = [
    "print",
    "print without newline",
    "os.write",
    "os.system",
    "subprocess",
    "C",
    "C without newline",
    "sys.__stdout__",
    "stdout.buffer",
    "stderr",
]


async def test_nothing_that_a_command_prints_harms_a_result(heard: Heard, subtests: pytest.Subtests) -> None:
    """By Python, by C, by a child process: the results are right, and the text arrives on stderr."""
    async with one_worker() as pool:
        pid = await pool.run("pid")
        for number, how in enumerate(WAYS):
            with subtests.test(how=how):
                assert await pool.run("say", how, f"purr-{number}") == f"said purr-{number}"
                assert await pool.run("echo", number) == number
        assert await pool.run("pid") == pid
    for number, how in enumerate(WAYS):
        with subtests.test(arrived=how):
            assert f"purr-{number}" in heard.text


async def test_a_print_precedes_its_answer(heard: Heard) -> None:
    """A whole line that a command prints is there soon, long before the worker ends."""
    async with one_worker() as pool:
        await pool.run("say", "print", "soon")
        await eventually(lambda: "soon\n" in heard.text)
        await pool.run("say", "print without newline", "half")
        await pool.run("say", "print", " and whole")
        await eventually(lambda: "half and whole\n" in heard.text)


async def test_half_a_line_is_in_the_crash_report_of_a_later_call() -> None:
    """What a command printed is handed on before its answer, whatever becomes of the worker then."""
    async with one_worker(stderr="discard") as pool:
        await pool.run("say", "print without newline", "half a line")
        with pytest.raises(WorkerCrashed) as caught:
            await pool.run("crash")
        assert caught.value.stderr == "half a line"


async def test_text_in_the_shape_of_frames_is_only_text(heard: Heard) -> None:
    """Bytes that would be a reply, written to descriptor 1, are printed and not obeyed."""
    async with one_worker() as pool:
        forged = "\x09\x00\x00\x00\x09\x00\x00\x00\x93\x21\x01\x05"
        assert await pool.run("say", "os.write", forged) == f"said {forged}"
        assert [await pool.run("echo", number) for number in range(5)] == list(range(5))


async def test_standard_input_is_empty(subtests: pytest.Subtests) -> None:
    """A child's cat, a shell's read, input() and os.read find the end of input, not the next call."""
    async with one_worker(stderr="discard") as pool:
        for how, expected in (("cat", ""), ("input", ""), ("os.read", ""), ("shell", "b'1\\n'")):
            with subtests.test(how=how):
                reading = asyncio.create_task(pool.run("read", how))
                behind = [asyncio.create_task(pool.run("echo", number)) for number in range(20)]
                async with asyncio.timeout(5):
                    assert await reading == expected
                    assert await asyncio.gather(*behind) == list(range(20))


async def test_a_command_may_close_standard_output(heard: Heard) -> None:
    """sys.stdout closed, then even descriptors 0 and 1: later calls work, and so does what they do not print."""
    async with one_worker() as pool:
        pid = await pool.run("pid")
        await pool.run("close_stdout")
        assert await pool.run("echo", 1) == 1
        await pool.run("close_descriptors")
        assert await pool.run("whole", b"x" * 100_000) == b"x" * 100_000
        assert await pool.run("pid") == pid


async def test_print_at_import_and_at_exit_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    """Also before the worker is ready, by C libraries and by atexit functions."""
    (tmp_path / "loud_kittens.py").write_text(
        "import asyncpool, atexit, ctypes, os, logging, sys\n"
        "print('at import')\n"
        "ctypes.CDLL(None).puts(b'by C at import')\n"
        "ctypes.CDLL(None).fflush(None)\n"
        "os.system('echo by a shell at import')\n"
        "logging.basicConfig(stream=sys.stdout)\n"
        "atexit.register(print, 'at exit')\n"
        "@asyncpool.command\n"
        "def purr():\n    logging.warning('logged'); return 'purr'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Pool("loud_kittens", max_size=1) as pool:
        assert await pool.run("purr") == "purr"
    for text in ("at import", "by C at import", "by a shell at import", "logged", "at exit"):
        assert text in heard.text, text


@pytest.mark.parametrize("mode", ["forward", "log", "discard"])
@pytest.mark.parametrize("newline", [True, False])
async def test_a_flood_on_stderr_blocks_nobody(
    mode: Any, newline: bool, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """8 MB within a call, with and without newlines, while another worker serves: all answers are right."""
    caplog.set_level(logging.CRITICAL, "asyncpool.worker")
    async with Pool(commands, min_size=2, max_size=2, stderr=mode) as pool:
        flood = asyncio.create_task(pool.run("flood", 8 * 2**20, newline=newline))
        for number in range(50):
            assert await pool.run("echo", number) == number
        assert await flood == 8 * 2**20
    if mode == "forward":
        assert heard.text.count("x") == 8 * 2**20 - (8 * 2**10 if newline else 0)
    else:
        assert heard.text == ""


async def test_log_mode_logs_whole_lines_with_the_workers_label(caplog: pytest.LogCaptureFixture) -> None:
    """One record a line, on the logger asyncpool.worker; invalid UTF-8 is shown, not lost."""
    caplog.set_level(logging.INFO, "asyncpool.worker")
    async with one_worker(stderr="log", name="cats") as pool:
        await pool.run("say_stderr", b"first\nsecond\nhalf ")
        await pool.run("say_stderr", b"whole\n\xff\xfe\nlast without newline")
    records = [record for record in caplog.records if record.name == "asyncpool.worker"]
    assert [record.getMessage() for record in records] == [
        f"cats worker 1: {line}" for line in ("first", "second", "half whole", "\ufffd\ufffd", "last without newline")
    ]
    assert {record.levelno for record in records} == {logging.INFO}


async def test_forwarding_survives_a_stderr_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application has no stderr, a closed one, or one that raises: calls are not disturbed."""

    class Broken:
        def write(self, _text: str) -> None:
            raise OSError("full")

    class Odd:
        def write(self, _text: str) -> None:
            raise RuntimeError("odd")

    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, Broken(), Odd()):
        monkeypatch.setattr(sys, "stderr", stream)
        async with one_worker() as pool:
            await pool.run("say", "stderr", "to nobody")
            assert await pool.run("flood", 2**20) == 2**20
            assert await pool.run("echo", 1) == 1
        monkeypatch.undo()


async def test_utf8_that_is_cut_between_two_reads_is_not_torn(heard: Heard) -> None:
    """Lines arrive whole however the pipe cuts them."""
    text = ("ä€😺" * 50 + "\n") * 400
    async with one_worker() as pool:
        data = text.encode()
        for start in range(0, len(data), 4099):
            await pool.run("say_stderr", data[start : start + 4099])
    assert heard.text == text


async def test_workers_have_no_descriptor_of_one_another() -> None:
    """Whatever else the parent has open, a worker and its children see the first three and what they opened."""
    async with Pool(commands, min_size=3, max_size=3, stderr="discard") as pool:
        with socket.socket() as inheritable:
            inheritable.set_inheritable(True)
            async with Pool(commands, max_size=1, stderr="discard") as other:
                for each in (pool, other):
                    links = await each.run(_links)
                    sockets = [link for link in links if link.startswith("socket:")]
                    assert len(set(sockets)) <= 1, links
                    assert len([link for link in links if "memfd" not in link]) <= 9, links
                    assert len([link for link in links if "memfd" in link]) <= 1, links
                assert len(children()) == 4


def _links() -> list[str]:
    return [
        os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name.isdigit() and _is(name)
    ]


def _is(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


async def test_env_and_cwd_are_the_workers_own(tmp_path: Path) -> None:
    """env= replaces the environment, cwd= is where the worker runs."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", TAG) if name in os.environ}
    env = {**kept, "CAT": "Tom"}
    async with one_worker(env=env, cwd=tmp_path, stderr="discard") as pool:
        cwd, *lines = await pool.run("environment")
        assert cwd == str(tmp_path)
        assert {line.split("=")[0] for line in lines} - {"LC_CTYPE"} == set(env)


FORWARD = """
    async def main():
        async with Pool("tests.support.commands", max_size=1) as pool:
            print(await pool.run("say", "print", "to stderr"))
            print(await pool.run("say", "print without newline", "without newline"))
    RUN(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_programs_own_stdout_stays_clean(tmp_path: Path, loop: str) -> None:
    """Workers' prints go to stderr, so that the program can be part of a pipe."""
    ended = run(tmp_path / "app.py", FORWARD, LOOP=loop)
    assert (ended.code, noise(ended.err)) == (0, [])
    assert ended.out == "said to stderr\nsaid without newline\n"
    assert "to stderr\n" in ended.err
    assert "without newline" in ended.err
