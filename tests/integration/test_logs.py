"""What a worker logs is logged by the application, as if it had been logged there."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from asyncpool import Pool
from asyncpool.pool import journal
from tests.conftest import Gate
from tests.support import bare, logging_commands
from tests.support.logging_commands import logger
from tests.support.waiting import eventually


class Records(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)

    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.all]


@pytest.fixture
def records() -> Iterator[Records]:
    """What arrives at the root logger, whose level is INFO."""
    handler, root = Records(), logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def one(**options: Any) -> Pool:
    return Pool(logging_commands, **{"max_size": 1, "stderr": "discard", "name": "cats", **options})


async def test_a_record_arrives_whole(records: Records) -> None:
    """Name, level, text, place, time, extra values, and which pool, worker, process and call it is of."""
    before = time.time()
    async with one() as pool:
        pid = await pool.run("log", logging.INFO, "%s purrs %d times, 100%%", "Tom", 3)
        await pool.run("log", logging.INFO, "again")
    assert records.texts() == ["Tom purrs 3 times, 100%", "again"]
    record, again = records.all
    assert (record.name, record.levelname, record.args) == ("tests.kittens", "INFO", ())
    assert (record.filename, record.module, record.funcName) == ("logging_commands.py", "logging_commands", "log")
    assert record.pathname == logging_commands.__file__
    assert before <= record.created <= time.time()
    assert (record.cat, record.lives, record.name_of) == ("Tom", 9, {"a": [1]})
    assert not hasattr(record, "self")
    assert record.bed == "/basket"  # what a record cannot hold, and a call could, is text
    assert (record.asyncpool_pool, record.asyncpool_worker, record.asyncpool_pid) == ("cats", 1, pid)
    assert (record.process, record.processName, record.threadName) == (pid, "cats worker 1", "MainThread")
    assert again.asyncpool_call == record.asyncpool_call + 1
    text = logging.Formatter("%(levelname)s %(name)s %(module)s:%(message)s", "%Y").format(record)
    assert text == "INFO tests.kittens logging_commands:Tom purrs 3 times, 100%"


async def test_an_exception_arrives_as_text(records: Records) -> None:
    """Its traceback is formatted in the worker; there is no exc_info that could be looked into."""
    async with one() as pool:
        await pool.run("log_exception")
    record = records.all[-1]
    assert record.exc_info is None
    assert record.exc_text.endswith("KeyError: 'lost'")
    assert "in log_exception" in record.stack_info
    formatted = logging.Formatter().format(record)
    assert formatted.startswith("not found\nTraceback")
    assert "KeyError: 'lost'\nStack (most recent call last):" in formatted


async def test_a_call_is_preceded_by_its_records(records: Records) -> None:
    """When the caller has its answer, the application has the records."""
    async with one() as pool:
        for number in range(50):
            await pool.run("log", logging.ERROR, "number %d", number)
            assert records.texts()[-1] == f"number {number}"


async def test_the_applications_levels_hold(records: Records) -> None:
    """By its root level workers send nothing for nothing; by a logger's own level it takes no less."""
    logging.getLogger().setLevel(logging.ERROR)
    async with one() as pool:
        assert await pool.run("level_and_handlers") == [logging.ERROR, logging.ERROR, ["Handler"]]
        await pool.run("log", logging.WARNING, "too little")
        await pool.run("log", logging.ERROR, "enough")
        logger.setLevel(logging.CRITICAL)
        try:
            await pool.run("log", logging.ERROR, "not any more")
        finally:
            logger.setLevel(logging.NOTSET)
        logging.disable(logging.CRITICAL)
        try:
            await pool.run("log", logging.CRITICAL, "nothing at all")
        finally:
            logging.disable(logging.NOTSET)
    assert records.texts() == ["enough"]


async def test_no_records_without_logs(records: Records, capfd: pytest.CaptureFixture[str]) -> None:
    """``logs=False``: the worker's logging is its own affair, and goes where it always did."""
    async with one(logs=False, stderr="forward") as pool:
        assert await pool.run("level_and_handlers") == [logging.WARNING, logging.WARNING, []]
        await pool.run("log", logging.ERROR, "purr")
    assert records.texts() == []
    assert "imported\npurr\n" in capfd.readouterr().err


async def test_records_know_their_call_among_several(records: Records) -> None:
    """In async commands that run at a time, also from their threads; in a thread of a plain one."""
    async with one(concurrency=4) as pool:
        ids = await asyncio.gather(*(pool.run("log_slowly", f"{number}") for number in range(4)))
        found = {record.getMessage(): record.asyncpool_call for record in records.all}
        assert found == {str(number): ids[number] for number in range(4)}
        assert await pool.run("log_from_a_thread", "thread") == records.all[-1].asyncpool_call
        assert records.all[-1].threadName == "helper"


async def test_records_and_updates_keep_their_order(records: Records) -> None:
    """A stream's records arrive with its updates."""
    async with one() as pool, pool.stream("log_and_yield", 30) as updates:
        async for number in updates:
            assert f"line {number}" in records.texts()
    assert len(records.all) == 30


async def test_what_cannot_be_put_into_words_harms_nobody(records: Records, capfd: pytest.CaptureFixture[str]) -> None:
    """A wrong format is told on the worker's stderr, as logging does; what is too long is cut."""
    async with one(stderr="forward") as pool:
        await pool.run("log_hostile")
    assert "--- Logging error ---" in capfd.readouterr().err
    half, long = records.all[-2:]
    assert half.getMessage().startswith("half of \\ud800 it yyy")
    assert half.getMessage().endswith("... (100,013 characters)")
    assert len(half.getMessage()) < 10_000
    assert (long.short, hasattr(long, "long")) == (1, False)


async def test_half_characters_lose_no_record_wherever_they_are(
    records: Records, capfd: pytest.CaptureFixture[str]
) -> None:
    """Names of loggers, threads, files, functions and extra values are cleaned and cut as the message is."""
    async with one(stderr="forward") as pool:
        await pool.run("log_from_odd_places")
    assert "Logging error" not in capfd.readouterr().err
    for half, long in [
        [record.threadName for record in records.all if record.getMessage() == "thread"],
        [record.name for record in records.all if record.getMessage() == "name"],
        [record.pathname for record in records.all if record.getMessage() == "pathname"],
        [record.funcName for record in records.all if record.getMessage() == "funcName"],
    ]:
        assert half == "half \\udcff"
        assert long.startswith("yyy")
        assert long.endswith("... (100,000 characters)")
        assert len(long) < 5000
    half, long = [record for record in records.all if record.getMessage() == "key"]
    assert (vars(half)["half \\udcff"], half.other, long.other) == (1, 2, 2)


async def test_large_integers_travel_as_text(records: Records) -> None:
    """A call takes them, and a record cannot hold them; one that Python gives no text of is left out."""
    async with one() as pool:
        await pool.run("log_integers")
    (record,) = records.all
    assert (record.large, record.below, record.small) == (f"{2**70}", f"[-{2**70}]", 2**60)
    assert not hasattr(record, "huge")


async def test_a_flood_is_bounded_and_told(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 a second; how many more there were is told at the end of the call."""
    monkeypatch.setattr(journal, "SPENT", 60.0)  # however slow this machine is
    async with one() as pool:
        await pool.run("log_many", 3000)
        (told,) = [record for record in records.all if "log records dropped" in record.getMessage()]
        assert (told.name, told.levelname) == ("asyncpool.worker", "WARNING")
        lines = [text for text in records.texts() if text.startswith("line")]
        assert len(lines) >= 1000
        assert int(told.getMessage().split()[0]) + len(lines) == 3000


async def test_a_blocked_application_blocks_no_command(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loop reads nothing for a while: the command logs on, what is too much is dropped and told."""
    monkeypatch.setattr(journal, "SPENT", 60.0)  # however slow this machine is
    async with one() as pool:
        call = asyncio.create_task(pool.run("log_many", 990, 8000))  # more than the kernel's buffers hold
        await asyncio.sleep(0)
        time.sleep(1.5)  # noqa: ASYNC251 # that is the point
        assert await call < 1.2
        before = len(records.all)  # what was waiting went ahead of the result
        assert await pool.run("level_and_handlers")
        (told,) = records.texts()[before:]
        assert "log records dropped" in told


async def test_slow_handlers_do_not_hold_up_the_loop(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get a tenth of each second, as those of stderr lines do."""
    monkeypatch.setattr(records, "emit", lambda _record: time.sleep(0.02))
    async with one() as pool:
        began = time.monotonic()
        await pool.run("log_many", 900)
        assert time.monotonic() - began < 2.0


async def test_a_finalizer_that_logs_while_an_answer_is_written(records: Records) -> None:
    """It runs in the middle of anything, also where the wire is locked: nothing waits for itself."""
    async with one() as pool, asyncio.timeout(20):
        for _ in range(10):
            assert len(await pool.run("log_in_a_finalizer")) == 3_000_000
    assert "from a finalizer" in records.texts()


async def test_a_forked_child_writes_nothing_to_the_wire(records: Records, capfd: pytest.CaptureFixture[str]) -> None:
    """It has no wire; its records go where they would without a pool."""
    async with one(stderr="forward") as pool:
        assert await pool.run("log_in_a_fork") == 0
        assert await pool.run("log", logging.ERROR, "after") > 0
    assert records.texts() == ["after"]
    assert "from a fork\n" in capfd.readouterr().err


async def test_the_users_own_handlers_stay(records: Records) -> None:
    """And ours stays beside them, though logging.config takes it away."""
    async with one() as pool:
        assert await pool.run("configure", "dictConfig") == ["NullHandler"]
        assert await pool.run("configure", "") == ["NullHandler", "Handler"]
        await pool.run("log", logging.INFO, "still here")
    assert records.texts()[-1] == "still here"


async def test_records_of_a_pool_in_a_worker_arrive_once(records: Records) -> None:
    """They go up from worker to worker, and are tagged as of ours."""
    async with one() as pool, asyncio.timeout(20):
        await pool.run("nested", "from far below")
    assert records.texts().count("from far below") == 1
    (record,) = [record for record in records.all if record.getMessage() == "from far below"]
    assert (record.asyncpool_pool, record.cat) == ("cats", "Tom")


async def test_last_words_arrive(records: Records) -> None:
    """What a worker logged before it was killed is not lost."""
    async with one() as pool:
        pid = await pool.run("log", logging.ERROR, "last words")
        os.kill(pid, signal.SIGKILL)
    assert "last words" in records.texts()


async def test_stderr_lines_are_tagged(records: Records, gate: Gate) -> None:
    """With pool, worker, process and, while one runs, the call."""
    async with Pool("tests.support.commands", max_size=1, stderr="log", name="cats") as pool:
        await pool.run("say_stderr", b"before\n")
        call = asyncio.create_task(pool.run("stop_at", gate.path))
        (pid,) = await eventually(gate.reached)
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait([call])
    (line,) = [record for record in records.all if record.getMessage().endswith("before")]
    assert line.getMessage() == "cats worker 1: before"
    assert (line.asyncpool_pool, line.asyncpool_worker, line.asyncpool_pid) == ("cats", 1, pid)


HOSTILE = [
    None,
    [],
    {},
    {"name": "a"},
    {"name": 7, "level": 20, "message": "no", "time": 1.0},
    {"name": "a", "level": "INFO", "message": "no", "time": 1.0},
    {"name": "a", "level": 2**70, "message": "no", "time": 1.0},
    {"name": "a", "level": 20, "message": "no", "time": 1.0, "extra": [1]},
    {"name": "a", "level": 20, "message": "no", "time": float("nan")},
]


def test_a_worker_that_says_nonsense_harms_nobody(records: Records, subtests: pytest.Subtests) -> None:
    """What is no record is dropped; what stands for something in a record cannot be given by its extra values."""
    loop = asyncio.new_event_loop()
    try:
        made = journal.Journal(loop, "cats", 1, lambda: (77, None))
        for record in HOSTILE:
            with subtests.test(record=record):
                try:
                    data = msgspec.msgpack.encode(record)
                except OverflowError:
                    continue
                made.record(msgspec.Raw(data))
        assert records.texts() == []
        extra = {"args": [1], "exc_info": True, "msg": "%d", "asyncpool_pid": 1, "own": 2, "message": "x"}
        sent = {"name": "a", "level": 20, "message": "%s", "time": 1.5, "extra": extra}
        made.record(msgspec.Raw(msgspec.msgpack.encode(sent)))
        made.record(msgspec.Raw(b"\xc1"))
    finally:
        loop.close()
    (record,) = records.all
    assert (record.getMessage(), record.own, record.asyncpool_pid, record.exc_info) == ("%s", 2, 77, None)


async def test_a_worker_does_not_import_logging_by_itself(records: Records) -> None:
    """It is looked for after each import."""
    async with Pool("tests.support.bare", max_size=1, stderr="discard") as pool:
        assert "logging" not in await pool.run("modules")
        await pool.run(logging.error, "heard")
        assert "logging" in await pool.run("modules")
    assert records.texts() == ["heard"]
    assert sys.modules["logging"] is logging


@pytest.mark.parametrize(("function", "first"), [(logging_commands.log_item, 0), (bare.log_item, 1)])
async def test_the_first_chunk_loses_no_record(records: Records, function: Callable[[int], None], first: int) -> None:
    """The module is imported for it, and imports logging; or the first item does, whose own record finds no handler."""
    async with Pool(max_size=1, stderr="discard") as pool, pool.map(function, range(8), chunk=4) as done:
        assert [each async for each in done] == [None] * 8
    assert records.texts() == [f"item {number}" for number in range(first, 8)]
