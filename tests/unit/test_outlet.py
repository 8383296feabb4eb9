"""The application's own stderr: written to when it can be, and never waited for."""

import gzip
import io
import os
import pty
import select
import signal
import socket
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncpool.pool import outlet as module
from asyncpool.pool.outlet import BACKLOG, Outlet
from tests.support.fake_loop import Loop

LINE = b"x" * 99 + b"\n"
NOTE = b"asyncpool: %d bytes of worker stderr were dropped\n"


class Reader:
    """The other end of an application's stderr, which reads when the test says so."""

    def __init__(self, reads: int, writes: int) -> None:
        self.reads, self.writes = reads, writes
        self.stream = open(writes, "w", closefd=False)  # noqa: SIM115

    def read(self) -> bytes:
        """Return what is there now."""
        data = b""
        while self.reads >= 0 and select.select([self.reads], [], [], 0)[0]:
            piece = os.read(self.reads, 2**20)
            if not piece:
                break
            data += piece
        return data

    def go_away(self) -> None:
        os.close(self.reads)
        self.reads = -1

    def close(self) -> None:
        for descriptor in {self.reads, self.writes} - {-1}:
            os.close(descriptor)


def pipe() -> Reader:
    return Reader(*os.pipe())


def terminal() -> Reader:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    return Reader(ours, theirs)


def sockets() -> Reader:
    ours, theirs = socket.socketpair()
    return Reader(ours.detach(), theirs.detach())


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    """A write that blocks fails its test; without this it would hold up the whole suite."""

    def fail(_number: int, _frame: object) -> None:
        pytest.fail("it blocks")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    assert not loop.watches


@pytest.fixture
def outlet() -> Outlet:
    """An outlet with one worker."""
    outlet = Outlet()
    outlet.join()
    return outlet


@pytest.fixture
def into(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], Reader]], Reader]]:
    """Make sys.stderr lead to a reader."""
    readers: list[Reader] = []

    def lead(make: Callable[[], Reader]) -> Reader:
        readers.append(make())
        monkeypatch.setattr(sys, "stderr", readers[-1].stream)
        return readers[-1]

    yield lead
    for reader in readers:
        reader.close()


@pytest.fixture(params=["opened anew", "shared"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to write: a description of one's own, or the application's where the system allows no other."""
    if request.param == "shared":
        real = os.open

        def refuse(path: str, flags: int) -> int:
            if path.startswith("/proc/self/fd/"):
                raise PermissionError
            return real(path, flags)

        monkeypatch.setattr(os, "open", refuse)


KINDS = pytest.mark.parametrize("kind", [pipe, sockets])
ALL_KINDS = pytest.mark.parametrize("kind", [pipe, sockets, terminal])


@ALL_KINDS
def test_what_can_be_written_is_written_at_once(outlet, loop, into, kind) -> None:
    """Bytes as they came, also those that are no text; nothing is watched then."""
    reader = into(kind)
    assert outlet.write(b"one\n\xff\xfe", loop) == 0
    assert not loop.watches
    assert reader.read() == b"one\n\xff\xfe"


def flood(outlet: Outlet, loop: Loop, lines: int) -> int:
    """Write so many numbered lines of 100 bytes; returns the bytes that were dropped."""
    return sum(
        outlet.write(b"".join(b"%099d\n" % number for number in range(at, at + 100)), loop)
        for at in range(0, lines, 100)
    )


@pytest.mark.usefixtures("way")
@KINDS
def test_a_stderr_that_nobody_reads_blocks_nothing(outlet, loop, into, kind) -> None:
    """A bound is kept, whole lines beyond it are dropped; read at last, all of the rest comes, and their number."""
    reader = into(kind)
    dropped = flood(outlet, loop, 30_000)
    assert dropped > 2_000_000
    assert len(outlet._backlog) <= BACKLOG
    text = b""
    while loop.writers:
        loop.turn()
        text += reader.read()
    *lines, note = text.splitlines(keepends=True)
    assert lines == [b"%099d\n" % number for number in range(len(lines))]
    assert note == NOTE % dropped
    assert 100 * len(lines) + dropped == 3_000_000
    assert outlet.write(b"again\n", loop) == 0
    assert reader.read() == b"again\n"


def test_a_terminal_that_takes_no_more_blocks_nothing(outlet, loop, into) -> None:
    """Nobody reads the other side of it; it says that it can be written to though there is room for little."""
    reader = into(terminal)
    dropped = flood(outlet, loop, 30_000)
    text = b""
    while loop.writers:
        loop.turn()
        text += reader.read()
    assert text.endswith(NOTE % dropped)


@pytest.mark.usefixtures("way")
def test_the_applications_own_descriptor_stays_blocking(outlet, loop, into) -> None:
    """O_NONBLOCK belongs to the description, which others share: a print of the application would fail."""
    reader = into(pipe)
    flood(outlet, loop, 10_000)
    assert os.get_blocking(reader.writes)
    reader.go_away()
    loop.turn()


def test_once_something_was_dropped_all_is_until_it_is_told(outlet, loop, into) -> None:
    """Lines do not overtake the note of those that are missing before them."""
    reader = into(pipe)
    dropped = flood(outlet, loop, 10_000)
    reader.read()
    loop.turn()  # part of what was kept is written, so that there would be room again
    assert loop.writers
    assert outlet.write(b"late\n", loop) == 5
    while loop.writers:
        loop.turn()
        text = reader.read()
    assert text.endswith(NOTE % (dropped + 5))
    assert b"late" not in text


def test_the_note_has_a_line_of_its_own(outlet, loop, into) -> None:
    """Also after a line without end."""
    reader = into(pipe)
    while outlet.write(b"y" * 65_536, loop) == 0:
        pass
    text = b""
    while loop.writers:
        loop.turn()
        text += reader.read()
    assert text.endswith(b"y\n" + NOTE % 65_536)


@pytest.mark.usefixtures("way")
@KINDS
def test_a_reader_that_has_gone_away_ends_it(outlet, loop, into, kind) -> None:
    """Before or after something was kept: it is dropped, and nothing is watched for ever."""
    reader = into(kind)
    flood(outlet, loop, 10_000)
    assert loop.writers
    reader.go_away()
    loop.turn()
    assert not loop.watches
    assert outlet.write(LINE, loop) == len(LINE)


@pytest.mark.usefixtures("way")
def test_the_last_worker_does_not_wait_for_a_reader_that_hangs(outlet, loop, into) -> None:
    """It gives it a moment, then lets go of everything, while a neighbour keeps it."""
    into(pipe)
    outlet.join()
    flood(outlet, loop, 10_000)
    outlet.leave()
    assert loop.writers
    began = time.monotonic()
    outlet.leave()
    assert module.PARTING <= time.monotonic() - began < module.PARTING + 1
    assert not loop.watches


def test_the_last_words_reach_a_reader_that_reads(outlet, loop, into) -> None:
    """All that was kept, and the note."""
    reader = into(pipe)
    dropped = flood(outlet, loop, 10_000)
    expected = 1_000_000 - dropped + len(NOTE % dropped)
    texts: list[bytes] = []
    thread = threading.Thread(target=lambda: texts.append(_exactly(reader.reads, expected)))
    thread.start()
    outlet.leave()
    thread.join(5)
    assert texts[0].endswith(NOTE % dropped)


def _exactly(descriptor: int, size: int) -> bytes:
    text = b""
    while len(text) < size and select.select([descriptor], [], [], 2)[0]:
        text += os.read(descriptor, 4096)
    return text


def test_a_file_takes_everything(outlet, loop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After what is there, where the application's own description stands."""
    with open(tmp_path / "log", "w") as file:
        file.write("before\n")
        file.flush()
        monkeypatch.setattr(sys, "stderr", file)
        assert flood(outlet, loop, 10_000) == 0
        file.write("after\n")
    text = (tmp_path / "log").read_bytes()
    assert (text[:7], len(text), text[-6:]) == (b"before\n", 1_000_013, b"after\n")


class Wraps:
    """Behaves like the stderr that it wraps, and shows its text elsewhere, as a notebook does."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self.shown: list[str] = []
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self.shown.append(text)
        return len(text)


def test_an_object_that_only_behaves_like_a_file_is_written_to(outlet, loop, into, monkeypatch) -> None:
    """It may name a descriptor that its text does not go to."""
    reader = into(pipe)
    wraps = Wraps(reader.stream)
    monkeypatch.setattr(sys, "stderr", wraps)
    assert outlet.write(b"caf\xe9\n", loop) == 0
    assert (wraps.shown, reader.read()) == (["caf\ufffd\n"], b"")


def test_a_stream_that_changes_its_bytes_is_written_to(outlet, loop, monkeypatch, tmp_path: Path) -> None:
    """A compressed log has a descriptor, too."""
    with gzip.open(tmp_path / "log.gz", "wt") as file:
        monkeypatch.setattr(sys, "stderr", file)
        assert outlet.write(LINE, loop) == 0
    assert gzip.decompress((tmp_path / "log.gz").read_bytes()) == LINE


def test_a_stderr_that_cannot_be_written_to_drops(outlet, loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none, it is closed, or its descriptor is; nothing raises, and it is counted."""
    closed = open(os.devnull, "w")  # noqa: SIM115
    closed.close()
    reads, writes = os.pipe()
    stale = open(writes, "w", closefd=False)  # noqa: SIM115
    os.close(reads)
    os.close(writes)
    for stream in (None, closed, stale, io.StringIO()):
        if isinstance(stream, io.StringIO):
            stream.close()
        monkeypatch.setattr(sys, "stderr", stream)
        assert outlet.write(LINE, loop) == len(LINE)
    monkeypatch.undo()
