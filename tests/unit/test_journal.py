"""A worker's lines as records of logging: bounded in number and in time."""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import msgspec
import pytest

from asyncpool.pool.journal import LINES, SPENT, Journal, logger
from tests.support.fake_loop import Loop


class Handler(logging.Handler):
    """Keeps what it is given, and then does what the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.levels: list[int] = []
        self.then = lambda: None

    def handle(self, record: logging.LogRecord) -> bool:
        self.texts.append(record.getMessage())
        self.levels.append(record.levelno)
        self.then()
        return True


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handler]:
    handler = Handler()
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(handler)
    logger.manager._clear_cache()  # type: ignore[attr-defined] # it remembers levels
    yield handler
    logger.removeHandler(handler)
    logger.manager._clear_cache()  # type: ignore[attr-defined]


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def journal(loop: Loop, handler: Handler, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """A journal whose handlers take the time of the loop's clock."""
    monkeypatch.setattr(time, "monotonic", loop.time)
    monkeypatch.setattr("asyncpool.pool.journal._preemptions", lambda: 0)
    return Journal(loop, "cats", 1, lambda: (77, 5))


def test_each_line_is_a_record(journal: Journal, handler: Handler) -> None:
    """However it ends; what is no text is shown."""
    assert journal.write(b"one\ntwo\r\n\xff\n\nlast") == 0
    assert handler.texts == [f"cats worker 1: {line}" for line in ("one", "two", "\ufffd", "", "last")]
    assert set(handler.levels) == {logging.INFO}


def test_lines_beyond_the_bound_are_suppressed_and_told(journal: Journal, handler: Handler, loop: Loop) -> None:
    """1,000 a second; when the second is over their number is logged, without a further line."""
    assert journal.write(b"12345\n" * (LINES + 7)) == 42
    assert journal.write(b"12345\n") == 6
    assert len(handler.texts) == LINES
    loop.now = 1.0
    loop.turn()
    assert handler.texts[LINES:] == [
        "cats worker 1: 8 lines suppressed (above 1000 a second, or the handlers are slow)"
    ]
    assert handler.levels[-1] == logging.WARNING
    assert journal.write(b"again\n") == 0
    assert handler.texts[-1] == "cats worker 1: again"
    assert not loop.watches


def test_the_number_precedes_the_next_line(journal: Journal, handler: Handler, loop: Loop) -> None:
    """Also where the line comes before the timer."""
    journal.write(b"\n" * (LINES + 1))
    loop.now = 5.0
    journal.write(b"next\n")
    assert [text.split(": ")[1][:7] for text in handler.texts[-2:]] == ["1 lines", "next"]
    assert not loop.watches


def test_the_number_is_told_at_the_end(journal: Journal, handler: Handler, loop: Loop) -> None:
    """The worker is gone before the second is over: no timer is left."""
    journal.write(b"\n" * (LINES + 3))
    journal.close()
    journal.close()
    assert "3 lines suppressed" in handler.texts[-1]
    assert len(handler.texts) == LINES + 1
    assert not loop.watches


def test_a_slow_handler_gets_a_share_of_the_time(journal: Journal, handler: Handler, loop: Loop) -> None:
    """A tenth of each second, and not one line more."""

    def dawdle() -> None:
        loop.now += 0.03

    handler.then = dawdle
    journal.write(b"\n" * 50)
    assert len(handler.texts) == 4
    assert loop.now == pytest.approx(0.12)
    assert loop.now >= SPENT
    journal.close()


def test_what_others_take_of_a_busy_processor_is_no_handlers_fault(
    journal: Journal, handler: Handler, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the thread was preempted, only what it worked counts."""

    def take_long() -> None:
        loop.now += 0.03

    handler.then = take_long
    monkeypatch.setattr("asyncpool.pool.journal._preemptions", itertools.count().__next__)
    assert journal.write(b"\n" * 20) == 0
    assert len(handler.texts) == 20


def test_a_handler_that_raises_gets_every_line(journal: Journal, handler: Handler) -> None:
    """One that fails on a line is given the next."""

    def fail() -> None:
        raise RuntimeError("no")

    handler.then = fail
    assert journal.write(b"one\ntwo\nthree\n") == 0
    assert len(handler.texts) == 3


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The loggers that logging keeps: the test's own are forgotten at its end."""
    known = dict(logging.root.manager.loggerDict)
    monkeypatch.setattr(logging.root.manager, "loggerDict", known)
    return known


def sent(name: str, level: int = logging.ERROR) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode({"name": name, "level": level, "message": name, "time": 1.0}))


def test_logging_keeps_no_logger_for_a_workers_names(journal: Journal, known: dict[str, Any]) -> None:
    """However many there are, of however many parts: workers choose them, and logging forgets none."""
    before = set(known)
    handler = Handler()
    logging.root.addHandler(handler)
    names = [*(f"job.{number}" for number in range(500)), ".".join("x" * 5000)]
    try:
        for name in names:
            journal.record(sent(name))
    finally:
        logging.root.removeHandler(handler)
    assert handler.texts == names
    assert set(known) == before


def test_a_name_of_very_many_parts_is_looked_up_in_a_moment(journal: Journal, known: dict[str, Any]) -> None:
    """It would be the loop's time: what lies so deep that nobody has a logger there is not looked for."""
    handler = Handler()
    logging.getLogger("deep").addHandler(handler)
    began = time.thread_time()
    journal.record(sent("deep" + ".x" * 100_000))
    assert time.thread_time() - began < 1.0  # all its parts would take several
    assert len(handler.texts) == 1


class Counted(logging.Logger):
    """A logger class of the application's."""

    handled: ClassVar[list[tuple[str, str]]] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.handled.append((self.name, record.name))
        super().handle(record)


NAMES = (
    *("a", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e", "other", "root.b"),
    *("", "root", "a.", ".a.b", "a..b.c", "a.b..c", "...c"),
)


def nothing() -> None:
    """Leave all as it is."""


def level_of_the_parent() -> None:
    logging.getLogger("a").setLevel(logging.CRITICAL)
    logging.getLogger("a.b.c").setLevel(logging.DEBUG)


def handler_and_no_propagation() -> None:
    logging.getLogger("a.b").propagate = False


def filter_of_the_parent() -> None:
    """Filters of loggers hold for their own records only."""
    logging.getLogger("a.b").addFilter(lambda _record: False)


def disabled() -> None:
    """So does this."""
    logging.getLogger("a.b").disabled = True


def only_a_place_is_held() -> None:
    logging.getLogger("a").setLevel(logging.CRITICAL)
    logging.getLogger("a.b.c.d")


def all_levels_disabled() -> None:
    logging.disable(logging.ERROR)


def a_class_of_its_own() -> None:
    logging.setLoggerClass(Counted)


def a_class_of_the_managers() -> None:
    logging.getLogger("a.b").setLevel(logging.INFO)
    logging.root.manager.setLoggerClass(Counted)


def odd_dots() -> None:
    """As logging itself takes them."""
    for name in ("a.", ".a", "a..b", "..", "a.b.."):
        logging.getLogger(name).propagate = False


@pytest.mark.parametrize(
    "configure",
    [
        nothing,
        level_of_the_parent,
        handler_and_no_propagation,
        filter_of_the_parent,
        disabled,
        only_a_place_is_held,
        all_levels_disabled,
        a_class_of_its_own,
        a_class_of_the_managers,
        odd_dots,
    ],
)
def test_records_go_where_the_loggers_of_their_names_would_bring_them(
    configure: Callable[[], None], journal: Journal, known: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Levels, handlers, filters and classes hold as if logging had made those loggers."""
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root.manager, "loggerClass", None)
    monkeypatch.setattr(Counted, "handled", [])
    came: list[tuple[str, str, int]] = []

    class Here(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            came.append((str(self.name), record.name, record.levelno))

    def outcome(log: Callable[[str, int], object]) -> list[object]:
        Counted.handled.clear()
        came.clear()
        for name in NAMES:
            for level in (logging.DEBUG, logging.WARNING, logging.ERROR, logging.CRITICAL):
                log(name, level)
        return [*came, *Counted.handled]

    def by_logging(name: str, level: int) -> None:
        there = logging.getLogger(name)
        if there.isEnabledFor(level):
            there.handle(logging.makeLogRecord({"name": name, "levelno": level}))
        for made in set(known) - configured:  # between two dots it would come to stand above others
            del known[made]

    before, configured = set(known), set[str]()
    try:
        configure()
        for logger in (logging.root, *(known[name] for name in set(known) - before)):
            if isinstance(logger, logging.Logger):
                handler = Here()
                handler.name = logger.name
                logger.addHandler(handler)
        configured.update(known)
        found = outcome(lambda name, level: journal.record(sent(name, level)))
        assert set(known) == configured
        assert found == outcome(by_logging)
    finally:
        logging.setLoggerClass(logging.Logger)
        logging.disable(logging.NOTSET)
