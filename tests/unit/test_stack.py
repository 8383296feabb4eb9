"""The stacks of a worker: read from what faulthandler writes."""

import os
import tempfile

import pytest

from asyncpool.errors import CommandTimeout
from asyncpool.pool.stack import Stack, innermost, stack_or_none, tell

THREAD = """\
Thread 0x00007f3829fa56c0 (most recent call first):
  File "/usr/lib/python3.13/threading.py", line 982 in run
  File "/usr/lib/python3.13/threading.py", line 1002 in _bootstrap
"""
MAIN = """\
Current thread 0x00007f382aa06b80 (most recent call first):
  File "/app/kittens.py", line 12 in spin
  File "/app/kittens.py", line 20 in pet
"""
TRACEBACK = """\
  File "/app/kittens.py", line 20, in pet
    spin()
  File "/app/kittens.py", line 12, in spin
    await sleep(60)
"""
OURS = """\
  File "/app/lib/asyncpool/worker/serve.py", line 66 in _attempt
  File "/app/lib/asyncpool/worker/__main__.py", line 29 in main
  File "<string>", line 1 in <module>
"""


def read(text: str) -> str:
    stack = Stack()
    try:
        os.write(stack.child_end, text.encode())
        return stack.read()
    finally:
        stack.close()
        stack.close()  # may be closed again


def test_the_worker_programs_own_frames_are_left_out() -> None:
    """What stands below the command is the same for every command; other threads are shown whole."""
    assert read(f"{THREAD}\n{MAIN}{OURS}") == f"{THREAD}\n{MAIN}".rstrip()


def test_frames_of_ours_above_the_command_are_kept() -> None:
    """A command that calls into the package, or a file of that name, is shown as it is."""
    above = MAIN.replace("  File", '  File "/lib/asyncpool/worker/emit.py", line 3 in emit\n  File', 1)
    assert read(above + OURS) == above.rstrip()


def test_nothing_written_is_no_stack() -> None:
    """A worker that could not write anything has left an empty file."""
    assert read("") == ""


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        (MAIN, "kittens.py:12 spin"),
        (TRACEBACK, "kittens.py:12 spin"),
        (f"{THREAD}\n{MAIN}", "kittens.py:12 spin"),
        (f"{MAIN}\n{THREAD}".replace("Current thread", "Thread"), "threading.py:982 run"),
        (MAIN.replace("/app/kittens.py", "/lib/re/__init__.py"), "re/__init__.py:12 spin"),
        (MAIN.replace("12", "???"), "kittens.py:??? spin"),
        (f"{THREAD}\n...\n", None),
        ("Current thread 0x00007f382aa06b80 (most recent call first):\n  <no Python frame>\n", None),
        ("", None),
    ],
)
def test_the_place_is_the_main_threads(stack: str, place: str | None) -> None:
    """The main thread began first, and stands last; with more than 100 threads it is not shown, and not guessed."""
    assert innermost(stack) == place


def test_the_error_tells_the_place_and_notes_the_stack() -> None:
    """An ordinary traceback shows both."""
    error = CommandTimeout("pet ran too long and was stopped")
    tell(error, MAIN, 42)
    assert str(error) == "pet ran too long and was stopped in kittens.py:12 spin"
    assert error.__notes__ == [f"In worker 42, when it was stopped:\n{MAIN}"]
    assert error.stack == MAIN


def test_without_a_stack_the_error_stays_as_it_is() -> None:
    """Nothing is promised that is not there."""
    error = CommandTimeout("pet ran too long and was stopped")
    tell(error, "", 42)
    assert (str(error), error.stack, hasattr(error, "__notes__")) == ("pet ran too long and was stopped", "", False)


@pytest.mark.parametrize("missing", [OSError, AttributeError])
def test_a_system_without_memfd_has_a_file(monkeypatch: pytest.MonkeyPatch, missing: type[Exception]) -> None:
    """macOS has no memfd_create, and a sandbox may forbid it: a file without a name does as well."""

    def refuse(_name: str) -> int:
        raise missing

    monkeypatch.setattr(os, "memfd_create", refuse)
    before = set(os.listdir(tempfile.gettempdir()))
    assert read(MAIN) == MAIN.rstrip()
    assert not [name for name in set(os.listdir(tempfile.gettempdir())) - before if "asyncpool" in name]


def test_a_system_without_any_file_has_no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that cannot be written to keeps no worker from starting."""

    def refuse(*_arguments: object, **_options: object) -> int:
        raise OSError("no")

    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert stack_or_none() is None
