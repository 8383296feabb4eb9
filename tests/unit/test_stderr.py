"""A worker's stderr: drained whenever something is there, passed on in whole lines, its end kept."""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator

import pytest

from asyncpool.pool.journal import Journal
from asyncpool.pool.stderr import Stderr
from tests.support.fake_loop import Loop


class Pipe:
    """A worker's stderr, and the worker that writes to it."""

    def __init__(self, mode: str) -> None:
        self.loop = Loop()
        self.stderr = Stderr(self.loop, mode, Journal(self.loop, "kittens", 1, lambda: (None, None)))
        self.writes = os.dup(self.stderr.child_end)
        self.stderr.close_child_end()

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.writes, data[:32_768]) :]
            self.loop.turn()

    def close(self) -> None:
        if self.writes >= 0:
            os.close(self.writes)
            self.writes = -1
        self.stderr.close()


@pytest.fixture
def make() -> Iterator[Callable[[str], Pipe]]:
    pipes: list[Pipe] = []

    def build(mode: str) -> Pipe:
        pipes.append(Pipe(mode))
        return pipes[-1]

    yield build
    for pipe in pipes:
        pipe.close()
        pipe.close()  # may be closed again
        assert not pipe.loop.watches


def test_the_end_is_kept(make):
    """At most 8 KiB, and the last ones, whatever the mode."""
    pipe = make("discard")
    pipe.write(b"a" * 100_000 + b"the end\n")
    assert len(pipe.stderr.tail()) == 8192
    assert pipe.stderr.tail().endswith("the end\n")


def test_bytes_that_are_no_text_are_shown(make):
    """Nothing that a worker writes makes its crash report fail."""
    pipe = make("discard")
    pipe.write(b"caf\xe9\n")
    assert pipe.stderr.tail() == "caf\ufffd\n"


def test_whole_lines_are_forwarded(make, monkeypatch: pytest.MonkeyPatch):
    """Lines of many workers are not mixed: the rest of a line comes when it is complete, or at the end."""
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    pipe = make("forward")
    pipe.write(b"one\ntw")
    assert shown.getvalue() == "one\n"
    pipe.write(b"o\nthree")
    assert shown.getvalue() == "one\ntwo\n"
    pipe.close()
    assert shown.getvalue() == "one\ntwo\nthree"


def test_a_line_without_end_is_bounded(make, monkeypatch: pytest.MonkeyPatch):
    """A worker that never ends its line does not fill the parent's memory: it is passed on as it is."""
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    pipe = make("forward")
    pipe.write(b"x" * 300_000)
    assert len(shown.getvalue()) > 200_000


def test_lines_are_logged(make, caplog: pytest.LogCaptureFixture):
    """With "log" each line is a record that names its worker."""
    caplog.set_level(logging.INFO, "asyncpool.worker")
    pipe = make("log")
    pipe.write(b"one\ntwo\n")
    assert caplog.messages == ["kittens worker 1: one", "kittens worker 1: two"]


def test_discarded_output_is_not_shown(make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """With "discard" only the end is kept."""
    caplog.set_level(logging.DEBUG)
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    pipe = make("discard")
    pipe.write(b"quiet\n")
    assert (shown.getvalue(), caplog.messages, pipe.stderr.tail()) == ("", [], "quiet\n")


@pytest.mark.parametrize("broken", [None, "closed"])
def test_an_application_without_stderr_loses_nothing_else(make, monkeypatch: pytest.MonkeyPatch, broken):
    """A daemon has closed its stderr, or has none: the worker is drained all the same."""
    stream = None
    if broken:
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    pipe = make("forward")
    pipe.write(b"hello\n")
    assert pipe.stderr.tail() == "hello\n"


def test_what_lies_in_the_pipe_at_the_end_is_taken_in(make):
    """The last words of a worker that died are in its crash report."""
    pipe = make("discard")
    os.write(pipe.writes, b"last words\n")
    pipe.close()
    assert pipe.stderr.tail() == "last words\n"


def test_the_end_of_the_worker_ends_the_reading(make):
    """A pipe at its end is always readable: the loop is not made to spin on it."""
    pipe = make("discard")
    os.close(pipe.writes)
    pipe.writes = -1
    pipe.loop.turn()
    assert pipe.loop.readers == {}
