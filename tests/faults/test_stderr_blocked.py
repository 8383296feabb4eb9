"""A worker that floods its stderr, and an application that does not take it: nothing waits, nothing grows."""

import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from asyncpool import Pool
from asyncpool.pool.journal import LINES
from tests.support import commands
from tests.support.scripts import Script, noise
from tests.support.waiting import eventually

LOOPS = ("asyncio", "uvloop")
FLOOD = 50 * 2**20  # bytes

NOBODY_READS = """
    import json, resource

    async def tick(lags):
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - began - 0.01)

    async def main():
        async with Pool("tests.support.commands", min_size=2, max_size=2) as pool:
            lags = []
            ticker = asyncio.create_task(tick(lags))
            await pool.run("echo", 0)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            flood = asyncio.create_task(pool.run("flood", int(sys.argv[2])))
            calls = 0
            while not flood.done():
                assert await pool.run("echo", calls) == calls
                calls += 1
            await flood
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            dropped = sum(info.stderr_dropped for info in pool.workers())
            told = {"lag": max(lags), "grown": grown * 1024, "calls": calls, "dropped": dropped}
            print(json.dumps({**told, "blocking": os.get_blocking(2)}), flush=True)
            while not os.path.exists(sys.argv[1]):
                await asyncio.sleep(0.005)
            print(await pool.run("say", "stderr", "the last line"), flush=True)
            ticker.cancel()
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_an_application_whose_stderr_nobody_reads_goes_on(tmp_path: Path, loop: str) -> None:
    """50 MB into a full pipe: calls go on, no tick is late, no memory is taken; read at last, the rest comes."""
    flag = tmp_path / "read"
    script = Script(tmp_path / "app.py", NOBODY_READS, str(flag), str(FLOOD), dev=False, LOOP=loop)
    told = json.loads(script.line())
    assert told["lag"] < 0.2
    assert told["grown"] < 8 * 2**20
    assert told["calls"] > 10
    assert told["dropped"] > FLOOD - 2**20
    assert told["blocking"]
    assert script.process.stderr is not None
    lines = []
    while not (line := script.process.stderr.readline()).startswith("asyncpool:"):
        lines.append(line)
    assert line == f"asyncpool: {told['dropped']} bytes of worker stderr were dropped\n"
    assert {len(line) for line in lines} == {1024}
    assert 1024 * len(lines) + told["dropped"] == FLOOD
    flag.touch()
    ended = script.wait()
    assert (ended.code, ended.out.strip(), noise(ended.err)) == (0, "said the last line", [])
    assert ended.err == "the last line\n"


CLOSES = """
    async def main():
        async with Pool("tests.support.commands", max_size=1) as pool:
            await pool.run("flood", 2**20)
            began = time.monotonic()
        print(f"{time.monotonic() - began:.3f}", flush=True)
        async with Pool("tests.support.commands", max_size=1) as pool:
            print(await pool.run("echo", 1), flush=True)
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_pool_closes_though_nobody_reads_its_stderr(tmp_path: Path, loop: str) -> None:
    """What is left is given a moment, and dropped; the next pool works."""
    script = Script(tmp_path / "app.py", CLOSES, dev=False, LOOP=loop)
    assert float(script.line()) < 2
    assert script.line() == "1"
    assert script.wait().code == 0


CLOSED = """
    async def main():
        for close in (sys.stderr.close, lambda: os.close(2)):
            close()
            async with Pool("tests.support.commands", max_size=1) as pool:
                await pool.run("flood", 2**20)
                print(await pool.run("echo", 1), pool.workers()[0].stderr_dropped >= 2**20, flush=True)
    RUN(main())
"""


def test_an_application_without_stderr_goes_on(tmp_path: Path) -> None:
    """Its object is closed, then the descriptor too."""
    ended = Script(tmp_path / "app.py", CLOSED, dev=False).wait()
    assert (ended.code, ended.out) == (0, "1 True\n1 True\n")


class Slow(logging.Handler):
    """Takes its time, then raises."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.texts: list[str] = []

    def handle(self, record: logging.LogRecord) -> bool:
        self.texts.append(record.getMessage())
        time.sleep(self.seconds)
        raise RuntimeError("no")


@pytest.fixture
def slow(caplog: pytest.LogCaptureFixture) -> Iterator[Slow]:
    caplog.set_level(logging.INFO, "asyncpool.worker")
    logger = logging.getLogger("asyncpool.worker")
    handler = Slow(0.02)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_a_log_handler_that_is_slow_and_raises_holds_nobody_up(slow: Slow) -> None:
    """8,192 lines to one that takes 20 ms each: a share of each second is its own; the rest is suppressed and told."""
    async with Pool(commands, min_size=2, max_size=2, stderr="log") as pool:
        began = time.monotonic()
        flood = asyncio.create_task(pool.run("flood", 8 * 2**20))
        for number in range(50):
            assert await pool.run("echo", number) == number
        assert await flood == 8 * 2**20
        passed = time.monotonic() - began
        assert passed < 5
        assert len(slow.texts) <= 6 * (passed + 1)
        await eventually(lambda: sum(info.stderr_dropped for info in pool.workers()) > 7 * 2**20)
    told = [int(match[1]) for text in slow.texts if (match := re.search(r": (\d+) lines suppressed", text))]
    assert sum(told) + sum(text.endswith("x") for text in slow.texts) == 8192


async def test_a_quick_log_handler_is_not_called_without_bound(caplog: pytest.LogCaptureFixture) -> None:
    """1,000 records a second of one worker, while its neighbour's lines are logged."""
    caplog.set_level(logging.INFO, "asyncpool.worker")
    async with Pool(commands, min_size=2, max_size=2, stderr="log") as pool:
        began = time.monotonic()
        flood, said = await asyncio.gather(pool.run("flood", 8 * 2**20), pool.run("say", "stderr", "purr"))
        passed = time.monotonic() - began
    assert (flood, said) == (8 * 2**20, "said purr")
    messages = caplog.messages
    assert sum(text.endswith(": purr") for text in messages) == 1
    assert 0 < sum(text.endswith("x") for text in messages) <= LINES * (passed + 1)
    assert any("lines suppressed" in text for text in messages)


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[TextIO]:
    with open(tmp_path / "log", "w+") as file:
        yield file


async def test_nothing_is_counted_where_all_is_taken(log_file: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file takes 8 MB of lines, of no line and of bytes that are no text; discarded output is not counted either."""
    monkeypatch.setattr(sys, "stderr", log_file)
    async with Pool(commands, max_size=1) as pool:
        await pool.run("flood", 4 * 2**20)
        await pool.run("flood", 4 * 2**20, newline=False)
        await pool.run("say_stderr", b"caf\xe9 \xff\n")
        assert [info.stderr_dropped for info in pool.workers()] == [0]
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        await pool.run("flood", 2**20)
        assert [info.stderr_dropped for info in pool.workers()] == [0]
    monkeypatch.undo()
    text = os.pread(log_file.fileno(), 2**24, 0)
    assert len(text) == 8 * 2**20 + 7
    assert text.endswith(b"xcaf\xe9 \xff\n")
