"""A worker's lines as records of logging: bounded in number and in time."""

import itertools
import logging
import time
from collections.abc import Iterator

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
