"""SIGTERM: what was accepted is served, what is new is refused, and the application ends by itself with code 0."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import TAG, tagged
from tests.support.scripts import ROOT, Script, noise
from tests.support.waiting import eventually_now

LOOPS = ("asyncio", "uvloop")

SERVES = """
    from asyncpool import graceful_shutdown

    async def main():
        gate, grace, signals = sys.argv[1], float(sys.argv[2]), (signal.SIGTERM, signal.SIGINT)
        pool = Pool("tests.support.commands", min_size=2, max_size=2, stderr="discard")
        async with pool, graceful_shutdown(pool, grace=grace, signals=signals) as stop:
            calls = [asyncio.create_task(pool.run("wait_at", gate, number)) for number in range(6)]
            print("busy", flush=True)
            await stop.wait()
            await asyncio.sleep(0)
            try:
                await pool.run("echo", 1)
            except PoolClosed as error:
                print("refused", error.started, flush=True)
            await asyncio.sleep(60)
        print(stop.requested, *(call.exception() or call.result() for call in calls))
        left = pool.stats()
        assert left.outcomes.get("crashed") is None and not left.exited.get("crashed"), left
        print({name: count for name, count in left.exited.items() if name == "left"})
    RUN(main())
    print("after")
"""


def serving(tmp_path: Path, loop: str, grace: float) -> tuple[Script, Path]:
    """Start the application and return when two of its six calls run."""
    gate = tmp_path / "gate"
    script = Script(tmp_path / "app.py", SERVES, str(gate), str(grace), LOOP=loop)
    assert script.line() == "busy"
    reached = tmp_path / "gate.reached"
    assert eventually_now(lambda: reached.exists() and len(reached.read_text().split()) == 2)
    return script, gate


def workers_of(application: int) -> list[int]:
    """Return the processes that the application has started."""
    return [pid for pid in tagged(os.environ[TAG]) if pid != application]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("whom", ["the application", "every process"])
def test_sigterm_lets_accepted_calls_end(tmp_path: Path, loop: str, whom: str) -> None:
    """Sent to the application alone, or to all as systemd does: six of six calls return, new ones are refused."""
    script, gate = serving(tmp_path, loop, 20)
    for pid in [script.process.pid, *(workers_of(script.process.pid) if whom == "every process" else [])]:
        os.kill(pid, signal.SIGTERM)
    assert script.line() == "refused False"
    gate.touch()
    ended = script.wait()
    assert (ended.code, noise(ended.err)) == (0, []), ended.err
    said, left, after = ended.out.splitlines()
    assert said == "True 0 1 2 3 4 5"
    assert left == ("{'left': 2}" if whom == "every process" else "{}")
    assert after == "after"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("signals", [1, 2])
def test_what_outlasts_the_grace_is_stopped(tmp_path: Path, loop: str, signals: int) -> None:
    """The calls that hang get PoolClosed when the grace is over; a second signal ends the grace."""
    script, _ = serving(tmp_path, loop, 0.3 if signals == 1 else 600)
    began = time.monotonic()
    script.process.send_signal(signal.SIGTERM)
    assert script.line() == "refused False"
    if signals == 2:
        script.process.send_signal(signal.SIGINT)
    ended = script.wait()
    assert time.monotonic() - began < 10
    assert (ended.code, noise(ended.err)) == (0, []), ended.err
    said, _, after = ended.out.splitlines()
    assert said.startswith("True the pool was closed while")
    assert said.count("the pool was closed") == 6
    assert after == "after"


BLOCKS = """
    from asyncpool import graceful_shutdown
    pool = Pool("tests.support.commands", max_size=1, stderr="discard")

    async def main():
        async with pool, graceful_shutdown(pool):
            print("ready", flush=True)
            {body}
    {run}
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_signal_before_and_after_the_block_kills_as_ever(tmp_path: Path, loop: str) -> None:
    """Handlers are there within the block only."""
    text = BLOCKS.format(body="pass", run="RUN(main()); print('after', flush=True); time.sleep(60)")
    script = Script(tmp_path / "app.py", text, LOOP=loop)
    assert [script.line(), script.line()] == ["ready", "after"]
    script.process.send_signal(signal.SIGTERM)
    assert script.wait().code == -signal.SIGTERM


@pytest.mark.parametrize("loop", LOOPS)
def test_a_body_that_refused_calls_end_fails_but_stops_no_accepted_call(tmp_path: Path, loop: str) -> None:
    """PoolClosed leaves the block by itself: what was accepted is served before it goes on."""
    body = """
            call = asyncio.create_task(pool.run("wait_at", sys.argv[1], 7))
            call.add_done_callback(lambda call: print("served", call.result()))
            while True:
                await asyncio.sleep(0.005)
                try:
                    await pool.options(acquire_timeout=0.01).run("echo")
                except TimeoutError:
                    pass
                except PoolClosed:
                    print("refused", flush=True)
                    raise
    """.strip()
    text = BLOCKS.format(body=body, run="RUN(main())")
    script = Script(tmp_path / "app.py", text, str(tmp_path / "gate"), LOOP=loop)
    assert script.line() == "ready"
    assert eventually_now((tmp_path / "gate.reached").exists)
    script.process.send_signal(signal.SIGTERM)
    assert script.line() == "refused"
    (tmp_path / "gate").touch()
    ended = script.wait()
    assert (ended.code, ended.out) == (1, "served 7\n"), ended.err
    assert ended.err.rstrip().splitlines()[-1].startswith("asyncpool.errors.PoolClosed")


GUIDE = (ROOT / "docs" / "how-to" / "stop-on-sigterm.md").read_text()
KITTENS = """
import asyncpool

@asyncpool.command
def pet_kitten(name: str) -> str:
    return f"{name} purrs"
"""


def guided(tmp_path: Path, number: int, *command: str) -> subprocess.Popen[str]:
    """Start one of the guide's programs, as it is pasted."""
    (tmp_path / "kittens.py").write_text(KITTENS)
    (tmp_path / "app.py").write_text(re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[number])
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-u", *command],
        cwd=tmp_path,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_the_guides_program_ends_in_peace(tmp_path: Path) -> None:
    """Pasted and started, it serves until SIGTERM, goes on after the block, and exits with code 0."""
    with guided(tmp_path, 0, "app.py") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Tom purrs\n"
        process.terminate()
        assert set(process.stdout.read().splitlines()[:-1]) <= {"Tom purrs"}
        assert process.wait() == 0


def test_the_guides_service_closes_its_pool(tmp_path: Path) -> None:
    """uvicorn owns the signal: the lifespan ends, and the pool with it."""
    with guided(tmp_path, 1, "-m", "uvicorn", "app:app", "--port", "0", "--timeout-graceful-shutdown", "15") as process:
        assert process.stdout is not None
        assert "Uvicorn running" in next(line for line in process.stdout if "running" in line)
        assert workers_of(process.pid)
        process.terminate()
        said = process.stdout.read()
        assert "Application shutdown complete" in said
        assert "Warning" not in said
