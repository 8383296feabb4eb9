"""The tutorial is done as a reader does it: each file written, each command run in order, each output compared."""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.pages import blocks, chapters, file_name
from tests.support.scripts import LIMIT, ROOT

PAGE = "tutorial.md"
CHAPTERS = chapters(PAGE)
SERVICE = ["A web service", "SIGTERM"]  # one goes on where the other ends
ALONE = [title for title in CHAPTERS if title not in SERVICE and "sh" in dict(blocks(PAGE, title))]
SESSIONS = [*([title] for title in ALONE), SERVICE]
PORT = "8000"  # the reader's
VARYING = re.compile(r"\b(worker|pid) \d+|passed in [\d.]+s")  # numbers in what is printed


class Reader:
    """Somebody who works in a folder with two terminals, the second for a service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed = ""  # by the commands since the last block of text
        self.service: subprocess.Popen[str] | None = None
        # It listens before the service starts: a request that comes too early waits in it.
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvicorn cannot know that its --fd is TCP
        self.port = str(self.listening.getsockname()[1])

    def take(self, language: str, text: str) -> None:
        """Do what a block says."""
        if language == "python":
            (self.folder / file_name(text)).write_text(text)
        elif language == "sh":
            for line in text.splitlines():
                self.type(line.replace(PORT, self.port))
        elif language == "text":
            assert VARYING.sub("N", self.printed) == VARYING.sub("N", text)
            self.printed = ""
        else:
            assert language == "console", "the tutorial has a block that nothing tests"

    def type(self, line: str) -> None:
        """Run one command, as the tutorial has it."""
        program, *arguments = shlex.split(line)
        if program == "uvicorn":
            self.service = self.start("-m", "uvicorn", *arguments, "--fd", str(self.listening.fileno()))
        elif program == "curl":
            method = "POST" if "POST" in arguments else "GET"
            self.printed += httpx2.request(method, arguments[-1], timeout=LIMIT, trust_env=False).text + "\n"
        elif program == "pkill":
            assert self.service is not None
            self.service.terminate()
            self.printed = self.service.communicate(timeout=LIMIT)[0]
        else:
            assert program == "python"
            with self.start(*arguments) as process:
                self.printed += process.communicate(timeout=LIMIT)[0]
            assert process.returncode == 0, self.printed

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the Python of the tests in the folder; its output and its errors go to one place."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            pass_fds=[self.listening.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> None:
        """Leave no service behind."""
        self.listening.close()
        if self.service is not None:
            self.service.kill()
            self.service.communicate()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.end()


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session[-1].replace(" ", "-"))
def test_a_chapter_works_as_it_is_pasted(reader: Reader, session: list[str]) -> None:
    """With the files of the chapters before it, each command prints what stands below it."""
    for title in CHAPTERS[: CHAPTERS.index(session[0])]:
        for language, text in blocks(PAGE, title):
            if language == "python":
                reader.take(language, text)
    for title in session:
        for language, text in blocks(PAGE, title):
            reader.take(language, text)
    assert reader.printed == "", "the tutorial does not say what its last command prints"


def test_the_chapters_have_all_the_blocks() -> None:
    """No block stands before the first chapter, and one is not run: the folder and what is installed."""
    assert [each for title in CHAPTERS for each in blocks(PAGE, title)] == blocks(PAGE)
    assert [language for language, _ in blocks(PAGE)].count("console") == 1
