"""The tree of errors: who catches what, and what each one says about whether the command ran."""

import copy
import pickle

import pytest

from asyncpool import errors
from asyncpool.errors import (
    AcquireTimeout,
    ArgumentError,
    AsyncPoolError,
    CommandError,
    CommandTimeout,
    PayloadError,
    PoolClosed,
    PoolError,
    PoolFull,
    ProtocolError,
    ResultError,
    UnknownCommand,
    WorkerCrashed,
    WorkerError,
    WorkerStartError,
)

TREE = {
    AsyncPoolError: Exception,
    PoolError: AsyncPoolError,
    PoolClosed: PoolError,
    PoolFull: PoolError,
    AcquireTimeout: PoolError,
    CommandTimeout: PoolError,
    PayloadError: PoolError,
    WorkerError: AsyncPoolError,
    WorkerStartError: WorkerError,
    WorkerCrashed: WorkerError,
    ProtocolError: WorkerError,
    CommandError: AsyncPoolError,
    UnknownCommand: CommandError,
    ArgumentError: CommandError,
    ResultError: CommandError,
}


@pytest.mark.parametrize(("error", "base"), TREE.items())
def test_the_tree_is_as_the_design_has_it(error: type, base: type):
    """Each error stands below one other of the tree."""
    assert base is error.__bases__[0]


def test_the_tree_is_whole():
    """There is no error beside those of the design."""
    found = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert TREE.keys() == found


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (AcquireTimeout, TimeoutError),
        (CommandTimeout, TimeoutError),
        (PayloadError, TypeError),
        (UnknownCommand, TypeError),
        (ArgumentError, TypeError),
        (ResultError, TypeError),
    ],
)
def test_some_errors_are_built_in_ones_too(error: type, builtin: type):
    """``except TimeoutError`` and ``except TypeError`` catch what a reader would expect."""
    assert issubclass(error, builtin)


@pytest.mark.parametrize("error", [*TREE])
def test_every_error_tells_whether_the_command_may_have_run(error: type):
    """``started`` is on every class: False means that the command provably never ran."""
    may_have_run = error in (CommandTimeout, CommandError, ResultError)
    assert may_have_run is error().started


def test_started_can_be_told_where_it_depends():
    """A closed pool and a crashed worker may or may not have begun the command."""
    assert PoolClosed("x", started=True).started
    assert WorkerCrashed("x", started=True).started
    assert not WorkerCrashed("x").started


@pytest.mark.parametrize("error", [error for error in TREE if not issubclass(error, (CommandError, WorkerError))])
def test_an_error_says_what_it_was_given(error: type):
    """str() of an error is its message."""
    assert str(error("what to do")) == "what to do"


@pytest.mark.parametrize("error", [UnknownCommand, ArgumentError, ResultError, CommandError])
def test_a_command_error_that_a_test_makes_says_what_it_was_given(error: type):
    """Users make these in their own tests: also without a worker the text is shown."""
    assert "what happened" in str(error("what happened"))


def test_a_command_error_names_the_type_and_what_it_said():
    """A plain CommandError is all that tells of a class that could not be rebuilt."""
    error = CommandError()
    error.type_name, error.message = "app.Error", "no milk"
    assert str(error) == "app.Error: no milk"


def test_a_worker_error_carries_how_the_worker_ended():
    """Process id, exit code, signal, stderr and reason are attributes, not only text."""
    error = WorkerCrashed("it died", pid=7, exit_code=None, signal=9, stderr="oops", reason="stopped", started=True)
    assert (
        str(error),
        error.pid,
        error.exit_code,
        error.signal,
        error.stderr,
        error.reason,
        error.started,
    ) == ("it died", 7, None, 9, "oops", "stopped", True)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "error",
    [
        PoolClosed("closed", started=True),
        PoolFull("full"),
        AcquireTimeout("late"),
        CommandTimeout("long"),
        PayloadError("bad"),
        WorkerCrashed("died", pid=7, signal=9, stderr="oops", started=True),
        WorkerStartError("no", exit_code=3),
        ProtocolError("print", reason="x"),
        UnknownCommand("x"),
    ],
    ids=repr,
)
def test_errors_can_be_copied_and_pickled(error, duplicate):
    """An error may cross a process or a queue of the application's."""
    twin = duplicate(error)
    assert (type(error), str(error), error.args, vars(error)) == (type(twin), str(twin), twin.args, vars(twin))
