"""A zoo of bad workers in one table: what each does, and what its caller gets.

After each: the next call succeeds where the worker can serve at all, a neighbour saw nothing, nothing is left.
"""

import asyncio
import os
import resource
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asyncpool import (
    AsyncPoolError,
    CommandTimeout,
    Pool,
    ProtocolError,
    WorkerCrashed,
    WorkerStartError,
)
from tests.support.processes import children
from tests.support.waiting import eventually

WORKERS = Path(__file__).parent / "workers"


def program(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-B", str(WORKERS / f"{name}.py"), *arguments]


@dataclass
class Bad:
    """One animal: how it is started, and what its caller gets at a call named "bad"."""

    name: str
    error: type[AsyncPoolError]
    text: str
    way: str = ""
    timeout: float | None = None
    started: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def program(self) -> list[str]:
        return program(self.name, *([self.way] if self.way else []))


def way(way: str, error: type[AsyncPoolError], text: str, **more: Any) -> Bad:
    return Bad("misbehaves", error, text, way, **more)


AT_START = [
    Bad("dies_at_boot", WorkerStartError, "(?s)exited with code 1 before it was ready.*no API key"),
    Bad("exits_0_at_boot", WorkerStartError, "exited with code 0 before it was ready"),
    Bad("hangs_at_boot", WorkerStartError, r"was not ready within 0\.5 s \(start_timeout\)"),
    Bad("wrong_version", WorkerStartError, "Ready for version 2 of the protocol"),
    Bad(
        "prints_first",
        WorkerStartError,
        r"broke the protocol: .*b['\"]Loading model\.\.\.\\n.*did the program print to stdout\?",
    ),
]

IN_A_CALL = [
    Bad("prints_later", ProtocolError, r"b['\"]purring now\\n.*"),
    Bad("half_a_frame", WorkerCrashed, "exited with code 0 while it ran bad"),
    way("oversized", ProtocolError, r"a length of 4,294,967,295 bytes, above the limit of 1,048,576"),
    way("oversized by one", ProtocolError, r"a length of 1,048,577 bytes, above the limit of 1,048,576"),
    way("zero", ProtocolError, "impossible lengths"),
    way("body above total", ProtocolError, "impossible lengths"),
    way("ff", ProtocolError, r"\\xff\\xff"),
    way("no messagepack", ProtocolError, "not a message"),
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
    way("closes and lives on", WorkerCrashed, "closed its end of the connection and lived on"),
    way("half closes and lives on", CommandTimeout, "ran longer", timeout=0.5),  # descriptor 0 is the same socket
    way("shuts down its writing", WorkerCrashed, "closed its end of the connection and lived on"),
    way("segfault", WorkerCrashed, "was killed by SIGSEGV", attributes={"signal": 11, "exit_code": None}),
    way("exits 0", WorkerCrashed, "exited with code 0", attributes={"signal": None, "exit_code": 0}),
    way("stops itself", CommandTimeout, r"timeout of 0\.5 s", timeout=0.5),
    way("ignores SIGTERM", CommandTimeout, r"timeout of 0\.5 s", timeout=0.5),
    way("dribbles", CommandTimeout, r"timeout of 0\.5 s", timeout=0.5),
    way("forks and dies", WorkerCrashed, "exited with code 3"),
    way("says why and dies", WorkerCrashed, "(?s)exited with code 7.*boom-123", attributes={"stderr": "boom-123\n"}),
]


def names(bad: Bad) -> str:
    return f"{bad.name} {bad.way}".strip()


@pytest.mark.parametrize("bad", AT_START, ids=names)
async def test_what_a_worker_does_wrong_at_its_start_is_told(bad: Bad) -> None:
    """start() raises its class and its words within seconds; nothing is left."""
    async with asyncio.timeout(10):
        with pytest.raises(bad.error, match=bad.text) as caught:
            await Pool(program=bad.program, min_size=1, max_size=1, start_timeout=0.5, stderr="discard").start()
        assert caught.value.started is False
        assert children() == {}
        async with Pool(program=bad.program, min_size=0, max_size=2, start_timeout=0.5, stderr="discard") as pool:
            with pytest.raises(WorkerStartError, match=bad.text):
                await pool.run("echo", 1)


@pytest.mark.parametrize("bad", IN_A_CALL, ids=names)
async def test_what_a_worker_does_wrong_in_a_call_is_that_calls_error(bad: Bad) -> None:
    """The call fails with its class and its words; the next call, a neighbour and a lease see nothing of it."""
    async with (
        asyncio.timeout(20),
        Pool(
            program=bad.program, min_size=2, max_size=2, max_message=2**20, timeout=bad.timeout, stderr="discard"
        ) as pool,
        pool.acquire() as neighbour,
    ):
        with pytest.raises(bad.error, match=bad.text) as caught:
            await pool.run("bad", 1)
        assert type(caught.value) is bad.error
        assert caught.value.started is bad.started
        for name, value in bad.attributes.items():
            assert getattr(caught.value, name) == value
        assert [await pool.run("echo", number) for number in range(5)] == list(range(5))
        assert await neighbour.run("echo", "neighbour") == "neighbour"
        assert pool.stats().spawned == 3


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("bad", IN_A_CALL, ids=names)
async def test_a_bad_worker_serves_the_calls_that_wait(bad: Bad) -> None:
    """Two bad calls among ten on one worker: eight answers, in a pool of one."""
    async with (
        asyncio.timeout(20),
        Pool(
            program=bad.program, min_size=1, max_size=1, max_message=2**20, timeout=bad.timeout, stderr="discard"
        ) as pool,
    ):
        calls = [pool.run("bad" if number in (3, 4) else "echo", number) for number in range(10)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [number for number in results if isinstance(number, int)] == [0, 1, 2, 5, 6, 7, 8, 9]
        assert [type(results[3]), type(results[4])] == [bad.error] * 2


async def test_two_replies_are_one_answer_and_the_end_of_that_worker() -> None:
    """The first reply is the call's, right as it is; the second costs the worker its place, and nobody anything."""
    async with Pool(program=program("misbehaves", "replies twice"), max_size=1, stderr="discard") as pool:
        for number in range(5):
            assert await pool.run("bad", 1) == "bad"
            assert await pool.run("echo", number) == number
        await eventually(lambda: pool.stats().exited.get("protocol") == 5)
        assert set(pool.stats().outcomes) == {"ok"}


async def test_an_unsolicited_reply_costs_an_idle_worker_its_place() -> None:
    """Nobody had called: it is replaced, and the next call goes to its successor."""
    async with Pool(program=program("unsolicited"), max_size=1, stderr="discard") as pool:
        assert await pool.run("bad", 1) == 1
        await eventually(lambda: pool.stats().exited.get("protocol") == 1)
        assert await pool.run("echo", 2) == 2


async def test_bytes_one_by_one_are_as_good_as_frames() -> None:
    """However the stream is cut, a right worker is right."""
    async with Pool(program=program("byte_by_byte"), max_size=1, stderr="discard") as pool:
        for value in (1, "x" * 3000, [None] * 50):
            assert await pool.run("echo", value) == value


async def test_what_the_protocol_leaves_open_is_no_fault() -> None:
    """Kinds from 64 up, appended elements, logs, and updates of a running call that nobody listens to."""
    async with Pool(program=program("odd_but_right"), max_size=1, stderr="discard") as pool:
        assert await asyncio.gather(*(pool.run("echo", number) for number in range(50))) == list(range(50))
        assert pool.stats().spawned == 1


async def test_a_flood_of_50_megabytes_on_stderr_is_drained() -> None:
    """Without a newline for long: the call ends, the neighbour serves meanwhile, the parent's memory stays flat."""
    async with Pool(program=program("floods_stderr"), min_size=2, max_size=2, stderr="discard") as pool:
        assert await pool.run("echo", 0) == 0
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        flood = asyncio.create_task(pool.run("bad", "done"))
        number = 0
        while not flood.done():
            assert await pool.run("echo", number) == number
            number += 1
        assert await flood == "done"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


async def test_an_oversized_length_allocates_nothing() -> None:
    """2**32 - 1 bytes announced, 128 MiB allowed: refused before anything is allocated."""
    async with Pool(program=program("misbehaves", "oversized"), max_size=1, stderr="discard") as pool:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ProtocolError, match="above the limit of 134,217,728"):
            await pool.run("bad")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "-inf"])
async def test_a_commands_own_timeout_that_is_no_time_harms_nobody(seconds: str) -> None:
    """A foreign worker offers it in Ready: refused, or taken for no limit; never a broken timer or a killed call."""
    async with asyncio.timeout(10):
        try:
            async with Pool(program=program("bad_defaults", seconds), max_size=1, stderr="discard") as pool:
                assert [await pool.run("echo", number) for number in range(5)] == list(range(5))
        except WorkerStartError as error:
            assert "timeout" in str(error)  # noqa: PT017 # the other right answer


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
    """A worker that no test uses would rot."""
    used = {bad.name for bad in AT_START + IN_A_CALL}
    here = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for path in WORKERS.glob("*.py"):
        assert path.stem in used or path.stem == "speak" or f'"{path.stem}' in here, path.stem
