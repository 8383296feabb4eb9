"""How the end of a worker is told."""

import signal

import pytest

from asyncpool.errors import WorkerCrashed, WorkerStartError
from asyncpool.pool.obituary import Obituary
from asyncpool.pool.oom import OomKills


def crash(**known) -> WorkerCrashed:
    facts = {"number": 3, "pid": 42, "exit_code": None, "reason": None, "stderr": "", **known}
    return Obituary(**facts).error(WorkerCrashed, "while it ran pet", started=True)


@pytest.mark.parametrize(
    ("exit_code", "said", "code", "number"),
    [
        (0, "exited with code 0", 0, None),
        (3, "exited with code 3", 3, None),
        (-signal.SIGSEGV, "was killed by SIGSEGV", None, signal.SIGSEGV),
        (-signal.SIGKILL, "OOM killer", None, signal.SIGKILL),
        (-50, "was killed by", None, 50),
        (-1000, "was killed by signal 1000", None, 1000),
        (None, "nobody knows how", None, None),
    ],
)
def test_the_end_is_told_in_words_and_numbers(exit_code, said, code, number):
    """An exit code or a signal, never both; the text names the worker and what it did at the time."""
    error = crash(exit_code=exit_code)
    assert said in str(error)
    assert "worker 3 (pid 42)" in str(error)
    assert "while it ran pet" in str(error)
    assert (code, number, True) == (error.exit_code, error.signal, error.started)


def test_what_the_pool_did_is_told_first():
    """A worker that the pool has stopped did not die of the OOM killer."""
    error = crash(exit_code=-signal.SIGKILL, reason="was stopped because of a test")
    assert "was stopped because of a test" in str(error)
    assert "OOM" not in str(error)
    assert (error.reason, error.signal) == ("was stopped because of a test", signal.SIGKILL)


def test_the_end_of_stderr_is_shown():
    """The last lines tell why; all that was kept is an attribute."""
    error = crash(exit_code=1, stderr="first\n" + "x" * 5000 + "\nImportError: no such thing\n")
    assert str(error).endswith("ImportError: no such thing")
    assert "first" not in str(error)
    assert error.stderr.startswith("first")


def test_without_stderr_nothing_is_promised():
    """An empty stderr is not shown."""
    assert "stderr" not in str(crash(exit_code=1))


def test_a_worker_that_was_never_spawned_has_no_pid():
    """It is known by its number."""
    error = Obituary(3, None, None, "could not be spawned: no such file", "").error(
        WorkerStartError, "before it was ready"
    )
    assert str(error).startswith("worker 3 could not be spawned: no such file")
    assert (error.pid, error.started) == (None, False)


@pytest.mark.parametrize(
    ("kills", "said"),
    [
        (OomKills(1, 512 * 2**20), "counts 1 more OOM kill, so the kernel was out of memory, its limit is 512 MiB)"),
        (OomKills(3, None), "counts 3 more OOM kills, so the kernel was out of memory)"),
        (None, "(not by this pool: perhaps by the OOM killer, or by hand)"),
    ],
)
def test_a_kill_for_want_of_memory_is_told(kills, said):
    """With the limit, where both are known; else nothing is claimed."""
    assert said in str(crash(exit_code=-signal.SIGKILL, oom=kills))


def test_only_a_sigkill_is_laid_to_the_kernel():
    """A segfault at the time of a kill is still a segfault."""
    assert "OOM" not in str(crash(exit_code=-signal.SIGSEGV, oom=OomKills(1, None)))
