"""Lifespans: what a worker sets up before it says that it is ready, and clears away when it ends."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncpool import Event, PayloadError, Pool, WorkerCrashed, WorkerStartError
from tests.conftest import Gate
from tests.support import async_lifespans, coroutines, failing_lifespans, lifespans
from tests.support.waiting import eventually, steps

SYNC = ["enter first", "enter second"]
ASYNC = ["enter plain", "enter ticking"]
KINDS = {lifespans.__name__: SYNC, async_lifespans.__name__: ASYNC}


def left(entered: list[str]) -> list[str]:
    return [f"leave {line.split()[1]}" for line in reversed(entered)]


@pytest.fixture(params=KINDS)
def module(request: pytest.FixtureRequest) -> str:
    """A module of plain lifespans, and one in which some are async."""
    name: str = request.param
    return name


class Trace:
    """What the lifespans have written down."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def lines(self) -> list[str]:
        try:
            return Path(self.path).read_text().splitlines()
        except FileNotFoundError:
            return []


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return Trace(tmp_path / "trace")


@contextlib.asynccontextmanager
async def one(module: str, trace: Trace, config: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Pool]:
    plan = {"trace": trace.path, **(config or {})}
    options = {"max_size": 1, "surge": 0, "stderr": "discard", **options}
    async with Pool(module, config=plan, **options) as pool:
        yield pool


def pid(pool: Pool) -> int:
    (info,) = pool.workers()
    assert info.pid is not None
    return info.pid


@pytest.fixture
def write_module(tmp_path: Path) -> Iterator[Any]:
    """Write a module that workers find."""
    sys.path.insert(0, str(tmp_path))

    def write(name: str, text: str, head: str = "") -> str:
        (tmp_path / f"{name}.py").write_text(f"{head}import asyncpool, contextlib, sys\n{text}")
        return name

    yield write
    sys.path.remove(str(tmp_path))


async def test_lifespans_are_entered_before_ready_and_left_in_reverse(module: str, trace: Trace) -> None:
    """When the pool is started they are entered, in order; when it is closed they are left."""
    async with one(module, trace) as pool:
        assert trace.lines() == KINDS[module]
        await pool.run(os.getpid)
        assert trace.lines() == KINDS[module]
    assert trace.lines() == KINDS[module] + left(KINDS[module])
    assert pool.stats().exited == {"closed": 1}


async def test_modules_are_entered_in_the_order_that_they_are_listed(trace: Trace) -> None:
    """An imported lifespan counts in the module that defines it, and once."""
    modules = [async_lifespans, lifespans]
    async with Pool(*modules, config={"trace": trace.path}, max_size=1, stderr="discard"):
        assert trace.lines() == ASYNC + SYNC
    assert trace.lines()[4:] == left(ASYNC + SYNC)


async def test_commands_find_what_a_lifespan_has_set_up(trace: Trace) -> None:
    """In the module's own globals."""
    async with one(lifespans.__name__, trace) as pool:
        assert await pool.run(lifespans.what_is_held) == ["first", "second"]


async def test_an_async_lifespan_lives_on_the_loop_of_the_commands(trace: Trace) -> None:
    """Its tasks run while the worker is idle; async commands share its loop; plain ones are served too."""
    async with one(async_lifespans.__name__, trace) as pool:
        assert await pool.run(async_lifespans.same_loop) is True
        before = await pool.run(async_lifespans.ticked)
        await asyncio.sleep(0.05)
        assert await pool.run(async_lifespans.ticked) > before


async def test_a_task_of_a_lifespan_is_below_no_call() -> None:
    """Neither below the one that runs, nor in doubt among several: what it asks, emits and logs is its own."""
    records: list[Any] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("tests.kittens").addHandler(handler)
    try:
        async with Pool(failing_lifespans, max_size=1, concurrency=2, stderr="discard") as pool:
            for calls in (1, 2):
                found = await asyncio.gather(*(pool.run("what_was_seen") for _ in range(calls)))
                assert {tuple(each) for each in found[0]} == {(0, 0)}
            async with pool.stream("what_was_seen") as updates:
                assert [each async for each in updates] == []
    finally:
        logging.getLogger("tests.kittens").removeHandler(handler)
    assert {record.asyncpool_call for record in records} == {None}


async def test_a_task_of_a_lifespan_that_fails_is_the_workers_end(tmp_path: Path) -> None:
    """Its calls crash, so that those which may be are run again; its own error stands in what they are told."""
    exits: list[Event] = []
    async with Pool(failing_lifespans, max_size=1, concurrency=2, stderr="discard", on_event=exits.append) as pool:
        neighbour = asyncio.create_task(pool.options(retries=1).run("waits_once", str(tmp_path / "begun")))
        await eventually((tmp_path / "begun").exists)
        with pytest.raises(WorkerCrashed) as caught:
            await pool.run("let_it_fail")
        assert caught.value.started
        assert "the feed is gone" in caught.value.stderr
        assert await neighbour == 2
        assert [event.exit_code for event in exits if event.kind == "exited"] == [1]


async def test_plain_ones_are_left_though_a_thread_of_an_async_command_hangs(trace: Trace) -> None:
    """The interpreter waits for that thread; they do not."""
    async with one(lifespans.__name__, trace) as pool:
        assert await pool.run(coroutines.leaves_a_thread_behind, 60) is None
    assert trace.lines() == SYNC + left(SYNC)


async def test_aclose_at_once_leaves_them_too(module: str, trace: Trace) -> None:
    """A pool whose block ends by an exception."""
    with pytest.raises(ZeroDivisionError):
        async with one(module, trace):
            raise ZeroDivisionError
    assert trace.lines() == KINDS[module] + left(KINDS[module])


async def test_a_recycled_and_a_restarted_worker_leaves_them(module: str, trace: Trace) -> None:
    """Each worker has its own life."""
    async with one(module, trace, max_calls=1) as pool:
        await pool.run(os.getpid)
        await eventually(lambda: len(trace.lines()) == 6)
        await pool.restart()
        assert len(trace.lines()) == 10
    whole = KINDS[module] + left(KINDS[module])
    assert trace.lines() == whole * 3


async def test_a_worker_that_gets_sigterm_leaves_them_and_takes_no_more_calls(
    module: str, trace: Trace, gate: Gate
) -> None:
    """A call that comes while it is slow to leave is served by another worker; code 0 counts as left, not crashed."""
    config = {"leave": "slow", "gate": gate.path}
    async with one(module, trace, config, surge=1) as pool:
        old = pid(pool)
        os.kill(old, signal.SIGTERM)
        await eventually(lambda: "slow" in trace.lines())
        assert await pool.run(os.getpid) != old
        gate.open()
        await eventually(lambda: pool.stats().exited == {"left": 1})
        assert [line for line in trace.lines() if line.startswith("leave")] == left(KINDS[module])


async def test_closing_lets_a_worker_leave_that_got_sigterm(module: str, trace: Trace, gate: Gate) -> None:
    """As systemd sends it to all of a service: the application closes the pool while its workers leave already."""
    async with one(module, trace, {"leave": "slow", "gate": gate.path}) as pool:
        os.kill(pid(pool), signal.SIGTERM)
        await eventually(lambda: "slow" in trace.lines())
        closing = asyncio.create_task(pool.aclose())
        await steps(5)
        gate.open()
        await closing
        assert [line for line in trace.lines() if line.startswith("leave")] == left(KINDS[module])


async def test_a_failing_lifespan_fails_the_start(module: str, trace: Trace) -> None:
    """Its traceback is in the error; what was entered before it is left; also for an error that the wire may raise."""
    for enter, said in (("fail", "ValueError: told to"), ("reset", "ConnectionResetError: a server's")):
        with pytest.raises(WorkerStartError) as caught:
            async with one(module, trace, {"enter": enter}):
                pytest.fail("it started")
        assert said in caught.value.stderr
        assert "Traceback" in caught.value.stderr
        assert caught.value.exit_code == 1
        assert trace.lines()[-2:] == [KINDS[module][0], left(KINDS[module])[-1]]


async def test_a_lifespan_that_exits_fails_the_start(module: str, trace: Trace) -> None:
    """With its own exit code."""
    with pytest.raises(WorkerStartError) as caught:
        async with one(module, trace, {"enter": "exit"}):
            pytest.fail("it started")
    assert caught.value.exit_code == 3


async def test_a_lifespan_that_hangs_ends_at_start_timeout(module: str, trace: Trace) -> None:
    """As any start that takes too long."""
    with pytest.raises(WorkerStartError, match=r"not ready within 0\.7 s \(start_timeout\)"):
        async with one(module, trace, {"enter": "hang"}, start_timeout=0.7):
            pytest.fail("it started")


@pytest.mark.parametrize("leave", ["fail", "exit"])
async def test_a_lifespan_that_raises_at_the_end_is_told_and_no_crash(
    module: str, trace: Trace, leave: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its traceback is on the worker's stderr, the others are left all the same, and nothing counts as crashed."""
    async with one(module, trace, {"leave": leave}, stderr="forward") as pool:
        old = pid(pool)
        os.kill(old, signal.SIGTERM)
        await eventually(lambda: pool.stats().exited == {"left": 1})
        await pool.run(os.getpid)  # its successor is ready
    assert pool.stats().exited == {"left": 1, "closed": 1}
    err = capfd.readouterr().err
    assert err.count("asyncpool: a lifespan raised when it was left:\nTraceback") == 2
    assert ("ValueError: told to" if leave == "fail" else "SystemExit: 3") in err
    assert trace.lines().count(left(KINDS[module])[-1]) == 2


async def test_a_lifespan_that_hangs_at_the_end_is_killed(
    module: str, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After LIFESPAN_GRACE, both when it was asked to end and when it leaves by itself; aclose() ends."""
    monkeypatch.setattr("asyncpool.pool.worker.LIFESPAN_GRACE", 0.3)
    async with one(module, trace, {"leave": "hang"}) as pool:
        os.kill(pid(pool), signal.SIGTERM)
        await eventually(lambda: sum(pool.stats().exited.values()) == 1)
        assert await pool.run(os.getpid)
        began = time.monotonic()
    assert 0.3 <= time.monotonic() - began < 3
    assert trace.lines().count("hangs") == 2


async def test_a_lifespan_gets_longer_to_end_than_a_worker_without(module: str, trace: Trace, gate: Gate) -> None:
    """One that needs more than the second of an ordinary stop is left to its end."""
    async with one(module, trace, {"leave": "slow", "gate": gate.path}):
        asyncio.get_running_loop().call_later(1.4, gate.open)
    assert trace.lines()[-2:] == left(KINDS[module])


async def test_a_worker_without_lifespans_gets_none_of_their_time() -> None:
    """Stopped while it hangs at its end, it is killed after a second."""
    async with Pool(max_size=1, stderr="discard") as pool:
        os.kill(pid(pool), signal.SIGSTOP)
        began = time.monotonic()
    assert time.monotonic() - began < 4


PARAMETERS = """
import pathlib
seen = []
def note(value): seen.append(value)

@asyncpool.lifespan
@contextlib.contextmanager
def typed(where: pathlib.Path | None):
    note(["typed", type(where).__name__, str(where)])
    yield

@asyncpool.lifespan
@contextlib.contextmanager
def untyped(config):
    note(["untyped", type(config).__name__, config])
    yield

@asyncpool.lifespan
@contextlib.contextmanager
def default(size: int = 3, *, also: bool = True):
    note(["default", size])
    yield

@asyncpool.lifespan
@contextlib.contextmanager
def none():
    note(["none", asyncpool.call_context().slot, asyncpool.call_context().id])
    yield

@asyncpool.command
def told(): return seen
"""


async def test_parameters_get_the_config(write_module: Any) -> None:
    """By their annotation; plain without one; a default holds where there is no config; slot is known."""
    name = write_module("takes_config", PARAMETERS)
    async with Pool(name, max_size=1, stderr="discard") as pool:
        assert await pool.run("told") == [
            ["typed", "NoneType", "None"],
            ["untyped", "NoneType", None],
            ["default", 3],
            ["none", 0, 0],
        ]
    name = write_module("takes_path", PARAMETERS.replace("size: int = 3", "size=3"))
    async with Pool(name, config=Path("/a"), max_size=1, stderr="discard") as pool:
        assert await pool.run("told") == [
            ["typed", type(Path()).__name__, "/a"],
            ["untyped", type(Path()).__name__, Path("/a")],
            ["default", Path("/a")],
            ["none", 0, 0],
        ]


REFUSED = [
    ("def two(a, b): yield", "a config", r"lifespan \w+\.two takes a, b; it may take one"),
    ("def named(*, a): yield", "a config", r"\.named takes a; it may take one positional argument"),
    ("def number(a: int): yield", "text", r"does not fit its parameter 'a': Expected `int`, got `str`"),
    ("def number(a: int): yield", None, r"Expected `int`, got `\w+`\. Pool\(config=\) was not given"),
    ("def unknown(a: NoSuchName): yield", 1, r"does not fit its parameter 'a': name 'NoSuchName' is not defined"),
    ("def foreign(a: type(sys)): yield", 1, r"does not fit its parameter 'a'"),
]


async def test_a_config_that_does_not_fit_fails_the_start(write_module: Any, subtests: pytest.Subtests) -> None:
    """It names the lifespan, the parameter, and what was expected."""
    for number, (text, config, said) in enumerate(REFUSED):
        head = "from __future__ import annotations\n" if "NoSuchName" in text else ""
        marked = f"@asyncpool.lifespan\n@contextlib.contextmanager\n{text}\n"
        name = write_module(f"refused_{number}", marked, head)
        with subtests.test(text=text), pytest.raises(WorkerStartError, match=said):
            await Pool(name, config=config, max_size=1, stderr="discard").start()


async def test_what_gives_no_context_manager_fails_the_start(write_module: Any) -> None:
    """A plain function may make a context manager, of either kind; where it does not, its traceback says so."""
    made = "@asyncpool.lifespan\ndef made():\n    return {}\n@asyncpool.command\ndef echo(a): return a\n"
    for number, text in enumerate(("contextlib.nullcontext()", "open(sys.executable)")):
        name = write_module(f"makes_{number}", made.format(text))
        async with Pool(name, max_size=1, stderr="discard") as pool:
            assert await pool.run("echo", 1) == 1
    with pytest.raises(WorkerStartError, match="__enter__"):
        await Pool(write_module("makes_none", made.format("7")), max_size=1, stderr="discard").start()


def test_a_config_that_cannot_travel_is_refused_by_the_constructor() -> None:
    """Before any process is started."""
    with pytest.raises(PayloadError, match=r"config= cannot travel to the workers: a 'object' cannot travel"):
        Pool(config=object())
    with pytest.raises(PayloadError, match=r"config= takes 600,005 bytes, above 524,288: pass the name of a file"):
        Pool(config=b"x" * 600_000)


async def test_the_largest_config_arrives(write_module: Any) -> None:
    """Half a MiB less its header."""
    text = PARAMETERS.replace("pathlib.Path | None", "bytes").replace(", str(where)", "").replace("size: int", "size")
    name = write_module("large_config", text.replace('["default", size]', '["default"]').replace(", config]", "]"))
    async with Pool(name, config=b"x" * (2**19 - 5), max_size=1, stderr="discard") as pool:
        assert (await pool.run("told"))[0] == ["typed", "bytes"]


async def test_closing_lets_a_worker_leave_that_was_asked_to_already(module: str, trace: Trace, gate: Gate) -> None:
    """A recycled worker that is slow to leave has its time, as every other."""
    told: list[tuple[int | None, str | None]] = []
    config = {"leave": "slow", "gate": gate.path}

    def tell(event: Event) -> None:
        if event.kind == "exited":
            told.append((event.exit_code, event.reason))

    async with one(module, trace, config, surge=1, on_event=tell) as pool:
        assert await pool.run(os.getpid) > 0
        restarting = asyncio.create_task(pool.restart())
        await eventually(lambda: "slow" in trace.lines())
        closing = asyncio.create_task(pool.aclose())
        await eventually(lambda: trace.lines().count("slow") == 2)
        gate.open()
        await closing
        await asyncio.wait([restarting])
        restarting.exception()
    assert told == [(0, "was asked to end")] * 2
