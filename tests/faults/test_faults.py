"""A zoo of bad workers in one table: what each does, and what its caller gets.

After each: the next call succeeds, a neighbour saw nothing, the parent has not grown, nothing is left.
"""

import asyncio
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asyncpool import (
    AsyncPoolError,
    CommandError,
    CommandTimeout,
    Event,
    Pool,
    ProtocolError,
    WorkerCrashed,
    WorkerStartError,
)
from tests.support.processes import children, memory
from tests.support.waiting import eventually

WORKERS = Path(__file__).parent / "workers"
IN_PYTHON = "python_gone_bad"  # a module for a Python worker; all others are programs
GROWTH = 20 * 2**20  # bytes that the parent may grow by, whatever a worker does


def program(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-B", str(WORKERS / f"{name}.py"), *arguments]


@dataclass
class Bad:
    """One animal: which worker it is, and what its caller gets at a call named "bad".

    Attributes:
        name: Its file in workers/.
        error: What the call raises. None: it is answered.
        text: What the error says.
        way: What a worker of many ways is to do.
        answer: What the call returns.
        timeout: The call's, in seconds.
        started: The error's.
        attributes: Others of the error's.
        lives: The worker serves on; else it is replaced.
    """

    name: str
    error: type[AsyncPoolError] | None = None
    text: str | None = None
    way: str = ""
    answer: Any = None
    timeout: float | None = None
    started: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)
    lives: bool = False

    @property
    def program(self) -> list[str]:
        return program(self.name, *([self.way] if self.way else []))

    def pool(self, size: int) -> Pool:
        options: dict[str, Any] = {"min_size": size, "max_size": size, "timeout": self.timeout, "stderr": "discard"}
        if self.name == IN_PYTHON:
            return Pool(f"tests.faults.workers.{self.name}", max_message=2**20, **options)
        return Pool(program=self.program, max_message=2**20, **options)

    async def meet(self, pool: Pool) -> None:
        """Make the bad call, and see that what comes of it is what the table says."""
        if self.error is None:
            assert await pool.run("bad", self.way) == (self.way if self.answer is None else self.answer)
            return
        with pytest.raises(self.error, match=self.text) as caught:
            await pool.run("bad", self.way)
        assert caught.value.started is self.started
        for name, value in self.attributes.items():
            assert getattr(caught.value, name) == value


def way(way: str, error: type[AsyncPoolError] | None = None, text: str | None = None, **more: Any) -> Bad:
    return Bad("misbehaves", error, text, way, **more)


def in_python(way: str, error: type[AsyncPoolError] | None = None, text: str | None = None, **more: Any) -> Bad:
    return Bad(IN_PYTHON, error, text, way, **more)


TOO_LONG = r"timeout of 0\.3 s"

# worker | its caller's error | what that says
AT_START = [
    Bad("dies_at_boot", WorkerStartError, "(?s)exited with code 1 before it was ready.*no API key"),
    Bad("exits_0_at_boot", WorkerStartError, "exited with code 0 before it was ready"),
    Bad("hangs_at_boot", WorkerStartError, r"was not ready within [0-9.]+ s \(start_timeout\)"),
    Bad("wrong_version", WorkerStartError, "Ready for version 2 of the protocol"),
    Bad(
        "prints_first",
        WorkerStartError,
        r"broke the protocol: .*b['\"]Loading model\.\.\.\\n.*did the program print to stdout\?",
    ),
]

IN_A_CALL = [
    # Odd, but right: the call is answered, and the worker stays.
    Bad("byte_by_byte", lives=True),
    Bad("odd_but_right", lives=True),
    Bad("floods_stderr", lives=True),
    in_python("floods stdout", lives=True),
    in_python("leaks memory", lives=True),  # what max_memory makes of it is a matter of recycling
    # The call is answered, and the worker goes.
    way("replies twice", answer="bad"),
    Bad("unsolicited"),
    # What it sends is no frame, no message, or none that it may send.
    Bad("prints_later", ProtocolError, r"b['\"]purring now\\n.*"),
    Bad("half_a_frame", WorkerCrashed, "exited with code 0 while it ran bad"),
    way("oversized", ProtocolError, r"a length of 4,294,967,295 bytes, above the limit of 1,048,576"),
    way("oversized by one", ProtocolError, r"a length of 1,048,577 bytes, above the limit of 1,048,576"),
    way("zero", ProtocolError, "impossible lengths"),
    way("body above total", ProtocolError, "impossible lengths"),
    way("ff", ProtocolError, r"\\xff\\xff"),
    way("no messagepack", ProtocolError, "not a message"),
    way("bad value", ProtocolError, "not a message"),
    way("nested", ProtocolError, "not a message"),
    way("map", ProtocolError, "not a message"),
    way("trailing bytes", ProtocolError, "not a message"),
    way("unknown kind", ProtocolError, "not a message"),
    way("parent's kind", ProtocolError, "not a message"),
    way("short message", ProtocolError, "not a message"),
    way("wrong types", ProtocolError, "not a message"),
    way("wrong id", ProtocolError, "a reply to call [0-9]+, which it does not have"),
    way("ready again", ProtocolError, "Ready for a second time"),
    way("unsolicited pong", ProtocolError, "an answer to ping 77, which was not sent"),
    way("update of nobody", ProtocolError, "an update of call [0-9]+, which it does not have"),
    way("update without its buffers", ProtocolError, r"0 bytes behind a message that tells of buffers of \[5\] bytes"),
    way("result without its buffers", ProtocolError, r"0 bytes behind a message that tells of buffers of \[5\] bytes"),
    way("prints a lot", ProtocolError, "did the program print to stdout"),
    # It ends, or its connection does.
    way("closes and lives on", WorkerCrashed, "closed its end of the connection and lived on"),
    way("shuts down its writing", WorkerCrashed, "closed its end of the connection and lived on"),
    way("exits 0", WorkerCrashed, "exited with code 0", attributes={"signal": None, "exit_code": 0}),
    way("says why and dies", WorkerCrashed, "(?s)exited with code 7.*boom-123", attributes={"stderr": "boom-123\n"}),
    way("is killed", WorkerCrashed, "SIGKILL .*perhaps by the OOM killer", attributes={"signal": 9, "reason": None}),
    way("forks and dies", WorkerCrashed, "exited with code 3"),
    in_python("forks one that holds all", WorkerCrashed, "exited with code 3"),
    in_python("exits 0", WorkerCrashed, "exited with code 0", attributes={"signal": None, "exit_code": 0}),
    in_python("segfaults", WorkerCrashed, r"(?s)SIGSEGV.*python_gone_bad\.py", attributes={"signal": 11}),
    # It does not end.
    way("half closes and lives on", CommandTimeout, TOO_LONG, timeout=0.3),  # descriptor 0 is the same socket
    way("stops itself", CommandTimeout, TOO_LONG, timeout=0.3),
    way("ignores SIGTERM", CommandTimeout, TOO_LONG, timeout=0.3),
    way("dribbles", CommandTimeout, TOO_LONG, timeout=0.3),
    in_python("spins in C", CommandTimeout, TOO_LONG, timeout=0.3),
    in_python("ignores every signal", CommandTimeout, TOO_LONG, timeout=0.3),
    # It raises what ends other programs: only the call ends.
    in_python("raises BaseException", CommandError, "base", attributes={"type_name": "BaseException"}, lives=True),
    in_python("exits by sys.exit", CommandError, "3", attributes={"type_name": "SystemExit"}, lives=True),
    in_python("runs out of memory", CommandError, attributes={"type_name": "MemoryError"}, lives=True),
    in_python("leaks descriptors", CommandError, "Too many open files", lives=True),
]


def names(bad: Bad) -> str:
    return f"{bad.name} {bad.way}".strip()


@pytest.mark.parametrize("bad", AT_START, ids=names)
async def test_what_a_worker_does_wrong_at_its_start_is_told(bad: Bad) -> None:
    """start() raises its class and its words within seconds; nothing is left. A call that needs a start is told too."""
    assert bad.error is not None
    async with asyncio.timeout(10):
        with pytest.raises(bad.error, match=bad.text) as caught:
            await Pool(program=bad.program, min_size=1, max_size=1, start_timeout=0.5, stderr="discard").start()
        assert caught.value.started is False
        assert children() == {}
        async with Pool(program=bad.program, min_size=0, max_size=2, start_timeout=0.5, stderr="discard") as pool:
            with pytest.raises(bad.error, match=bad.text) as caught:
                await pool.run("echo", 1)
            assert caught.value.started is False


@pytest.mark.parametrize("bad", AT_START, ids=names)
async def test_what_a_worker_does_wrong_at_its_start_disturbs_nobody(bad: Bad, tmp_path: Path) -> None:
    """A neighbour serves meanwhile; a call waits for it, and is served by the first worker that starts well."""
    well, events = tmp_path / "well", list[Event]()
    well.touch()
    async with (
        asyncio.timeout(20),
        Pool(
            program=program("until_it_is_well", str(well), str(WORKERS / f"{bad.name}.py")),
            max_size=2,
            start_timeout=1.5,
            stderr="discard",
            on_event=events.append,
        ) as pool,
        pool.acquire() as neighbour,
    ):
        well.unlink()
        call = asyncio.create_task(pool.run("echo", "served"))
        served = 0
        while not any(event.kind == "start_failed" for event in events):
            assert await neighbour.run("echo", served) == served
            served += 1
            await asyncio.wait([call], timeout=0.01)
        assert re.search(bad.text or "", str(next(event.reason for event in events if event.kind == "start_failed")))
        assert not call.done()
        well.touch()
        assert await call == "served"
        assert await neighbour.run("echo", "neighbour") == "neighbour"


@pytest.mark.parametrize("bad", IN_A_CALL, ids=names)
async def test_what_a_worker_does_wrong_in_a_call_is_that_calls_affair(bad: Bad) -> None:
    """The call has the outcome of the table; the calls of a neighbour meanwhile, and the next ones, are answered."""
    async with asyncio.timeout(20), bad.pool(2) as pool, pool.acquire() as neighbour:
        complaints: list[Any] = []  # to the loop's exception handler: what goes wrong is the call's affair
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        before = most = memory()
        meeting = asyncio.create_task(bad.meet(pool))
        served = 0
        while not meeting.done():
            assert await neighbour.run("echo", served) == served
            served += 1
            most = max(most, memory())
            await asyncio.wait([meeting], timeout=0.01)
        await meeting
        if bad.error is None and not bad.lives:  # it misbehaves while it is idle
            await eventually(lambda: pool.stats().exited.get("protocol") == 1)
        assert [await pool.run("echo", number) for number in range(5)] == list(range(5))
        assert await neighbour.run("echo", "neighbour") == "neighbour"
        assert most - before < GROWTH
        await eventually(lambda: pool.stats().spawned == (2 if bad.lives else 3))
        assert not complaints


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("bad", [bad for bad in IN_A_CALL if bad.name != "floods_stderr"], ids=names)
async def test_a_bad_worker_serves_the_calls_that_wait(bad: Bad) -> None:
    """Two bad calls among ten on one worker: eight answers, in a pool of one."""
    async with asyncio.timeout(20), bad.pool(1) as pool:
        calls = [bad.meet(pool) if number in (3, 4) else pool.run("echo", number) for number in range(10)]
        results = await asyncio.gather(*calls)
        assert [number for number in results if number is not None] == [0, 1, 2, 5, 6, 7, 8, 9]


async def test_two_replies_are_one_answer_and_the_end_of_that_worker() -> None:
    """The first reply is the call's, right as it is; the second costs the worker its place, and nobody anything."""
    async with Pool(program=program("misbehaves", "replies twice"), max_size=1, stderr="discard") as pool:
        for number in range(5):
            assert await pool.run("bad", 1) == "bad"
            assert await pool.run("echo", number) == number
        await eventually(lambda: pool.stats().exited.get("protocol") == 5)
        assert set(pool.stats().outcomes) == {"ok"}


async def test_a_second_reply_does_no_harm_to_the_next_call() -> None:
    """It comes when the next call is on the wire: the worker is killed, and the call, which it never read, is moved."""
    async with Pool(program=program("misbehaves", "replies again later"), max_size=1, stderr="discard") as pool:
        for number in range(5):
            assert await pool.run("bad", 1) == "bad"
            assert await pool.run("echo", number) == number
        assert pool.stats().exited == {"protocol": 5}
        assert pool.stats().outcomes == {"ok": 10}
        assert pool.stats().attempts == 15


async def test_bytes_one_by_one_are_as_good_as_frames() -> None:
    """However the stream is cut, a right worker is right."""
    async with Pool(program=program("byte_by_byte"), max_size=1, stderr="discard") as pool:
        for value in (1, "x" * 3000, [None] * 50):
            assert await pool.run("echo", value) == value


async def test_an_oversized_length_allocates_nothing() -> None:
    """2**32 - 1 bytes announced, 128 MiB allowed: refused before anything is allocated."""
    async with Pool(program=program("misbehaves", "oversized"), max_size=1, stderr="discard") as pool:
        before = memory()
        with pytest.raises(ProtocolError, match="above the limit of 134,217,728"):
            await pool.run("bad")
        assert memory() - before < GROWTH


@pytest.mark.parametrize("what", ["timeout", "cancel_grace"])
@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "-inf", "inf"])
async def test_a_commands_own_time_that_is_none_harms_nobody(what: str, seconds: str) -> None:
    """A foreign worker offers it in Ready: refused, and told; never a broken timer or a command without an end."""
    pool = Pool(program=program("bad_defaults", what, seconds), max_size=1, stderr="discard")
    async with asyncio.timeout(10):
        with pytest.raises(WorkerStartError, match=f"Ready with a {what} of"):
            await pool.start()


async def test_a_worker_that_moves_its_child_out_of_the_group_is_not_waited_for() -> None:
    """The contract: a process that left the group is not ours; it holds all descriptors, and holds up nothing."""
    async with asyncio.timeout(10):
        async with Pool(program=program("misbehaves", "forks, lets go and dies"), max_size=1, stderr="discard") as pool:
            with pytest.raises(WorkerCrashed, match="exited with code 3"):
                await pool.run("bad")
            assert await pool.run("echo", 1) == 1
    for pid in _escaped():
        os.kill(pid, 9)


def _escaped() -> list[int]:
    from tests.support.processes import TAG, tagged

    return list(tagged(os.environ[TAG]))


def test_every_animal_of_the_zoo_is_in_a_table() -> None:
    """A worker, or a way of one, that no test uses would rot."""
    used = {bad.name for bad in AT_START + IN_A_CALL}
    here = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    for path in WORKERS.glob("*.py"):
        assert path.stem in used or path.stem == "speak" or f'"{path.stem}' in here, path.stem
        for case in re.findall('case "(.+)":', path.read_text()):
            assert f'"{case}"' in here, f"{path.stem} {case}"
