"""Exceptions as plain data: what a caller can catch, read, copy and pickle of what happened in the worker."""

import asyncio
import copy
import errno
import pickle
import sys
import types
from typing import ClassVar

import msgspec
import pytest
from msgspec import Raw

from asyncpool.errors import (
    ArgumentError,
    AsyncPoolError,
    CommandError,
    PoolClosed,
    ResultError,
    UnknownCommand,
    WorkerCrashed,
)
from asyncpool.protocol import failure, messages, payload
from asyncpool.protocol.messages import ErrorInfo, Failure

PID = 4242


def travel(info: ErrorInfo) -> ErrorInfo:
    """Send a description over the wire."""
    message = messages.decode_to_parent(messages.encode(Failure(1, info)))
    assert isinstance(message, Failure)
    return message.error


def after(error: BaseException) -> CommandError:
    """Raise *error* in the worker, and return what the caller gets."""
    held = None
    try:
        raise error
    except BaseException as raised:
        held = raised
    return failure.rebuild(travel(described(held)), PID)


def described(error: BaseException) -> ErrorInfo:
    """Describe *error*; where that raises, fail without showing an exception that refuses to be shown."""
    info = problem = None
    try:
        info = failure.describe(error)
    except BaseException as second:
        problem = type(second).__name__
    assert problem is None, f"describe() raised {problem}"
    assert info is not None
    return info


class Plain(Exception):
    """An ordinary exception of an application."""


class TwoArguments(Exception):
    """One whose construction takes more than its args tell."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class Watching(Exception):
    """One that runs code whenever it is subclassed."""

    subclasses: ClassVar[list[type]] = []

    def __init_subclass__(cls, **options: object) -> None:
        Watching.subclasses.append(cls)


class Watched(Watching):
    """A subclass of it."""


class Setter(Exception):
    """One that runs code whenever an attribute is set."""

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError("code of the user's ran")


class Meta(type):
    """A metaclass."""


class WithMeta(Exception, metaclass=Meta):
    """One whose class is not made by type."""


class NoText(Exception):
    """One that cannot be shown."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class Several(ValueError, KeyError):
    """One with two built-in bases."""


class Slotted(Exception):
    """One with slots."""

    __slots__ = ("code",)


class Properties(Exception):
    """One whose names are those that CommandError has."""

    message = property(lambda self: 1 / 0)
    traceback = property(lambda self: 1 / 0)


ORDINARY = [
    ValueError("no", 1),
    KeyError("key"),
    ZeroDivisionError("division by zero"),
    RecursionError("deep"),
    MemoryError(),
    TimeoutError("late"),
    FileNotFoundError(errno.ENOENT, "No such file"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    SyntaxError("bad", ("file.py", 1, 2, "text")),
    Plain("plain", 2**70),
    Plain(),
    TwoArguments(7, "seven"),
    Several("both"),
    Slotted("slots"),
    Properties("properties"),
]


# --- what can be caught ---


@pytest.mark.parametrize("raised", ORDINARY, ids=repr)
def test_an_ordinary_exception_is_both_itself_and_a_command_error(raised):
    """``except ValueError`` and ``except CommandError`` both work, and the bases of the type with it."""
    error = after(raised)
    assert isinstance(error, CommandError)
    assert isinstance(error, type(raised))
    assert type(error).__name__ == type(raised).__name__
    assert str(raised) == str(error) == error.message


@pytest.mark.parametrize("raised", [ValueError("no", 1), KeyError("key"), Plain("plain", 2**70), Plain()], ids=repr)
def test_args_arrive(raised):
    """What can travel of an exception's args is there again."""
    assert raised.args == after(raised).args


def test_an_os_error_keeps_its_errno():
    """Code that handles an OSError looks at errno and strerror; of the subclass it is the right one."""
    error = after(PermissionError(errno.EACCES, "Permission denied"))
    assert (error.errno, error.strerror) == (errno.EACCES, "Permission denied")
    assert isinstance(error, OSError)
    assert not isinstance(error, FileNotFoundError)


def test_an_os_error_keeps_its_file():
    """Its text names the file, and so does its attribute."""
    error = after(FileNotFoundError(errno.ENOENT, "No such file", "a.txt"))
    assert str(error) == "[Errno 2] No such file: 'a.txt'"
    assert error.filename == "a.txt"


def test_a_unicode_error_keeps_its_parts():
    """Attributes that the type in C holds are set as the args say."""
    error = after(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
    assert (
        error.encoding,
        error.object,
        error.start,
        error.end,
        error.reason,
    ) == ("utf-8", b"\xff", 0, 1, "invalid start byte")


def test_instance_attributes_arrive_without_running_init():
    """An __init__ that takes other arguments than args has is not called: its attributes travel instead."""
    error = after(TwoArguments(7, "seven"))
    assert (error.code, error.text, error.args) == (7, "seven", ("7: seven",))


def test_attributes_that_cannot_travel_are_left_out():
    """One object that cannot travel costs its attribute, not the error."""
    raised = Plain("x")
    raised.good, raised.bad = 7, object()
    error = after(raised)
    assert error.good == 7
    assert not hasattr(error, "bad")


def test_args_that_cannot_travel_leave_the_message():
    """Where the args cannot travel, the text of the exception stands for them."""
    raised = Plain(object)
    error = after(raised)
    assert isinstance(error, Plain)
    assert (str(raised),) == error.args


# --- what is never imitated ---


class Refuses(AsyncPoolError):
    """An error of a library that builds on asyncpool."""


@pytest.mark.parametrize(
    ("raised", "name"),
    [
        (StopIteration(3), "StopIteration"),
        (StopAsyncIteration(), "StopAsyncIteration"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(3), "SystemExit"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError("gone"), "asyncio.exceptions.CancelledError"),
        (PoolClosed("inner"), "asyncpool.errors.PoolClosed"),
        (WorkerCrashed("inner"), "asyncpool.errors.WorkerCrashed"),
        (UnknownCommand("inner"), "asyncpool.errors.UnknownCommand"),
        (Refuses("inner"), f"{__name__}.Refuses"),
        (Watched("x"), f"{__name__}.Watched"),
        (Setter("x"), f"{__name__}.Setter"),
        (WithMeta("x"), f"{__name__}.WithMeta"),
    ],
    ids=str,
)
def test_some_exceptions_are_a_plain_command_error(raised, name):
    """What would mean something else in the caller's process, or would run code to be built, is told by its name."""
    error = after(raised)
    assert CommandError is type(error)
    assert name == error.type_name
    assert str(error).startswith(name)


def test_no_code_of_the_users_runs_to_rebuild_an_error():
    """Neither __init_subclass__ nor __init__, __new__, __setattr__ or add_note of the class is called."""
    ran: list[str] = []

    class Loud(Exception):
        def __new__(cls, *args: object) -> "Loud":
            ran.append("__new__")
            return super().__new__(cls, *args)

        def __init__(self, *args: object) -> None:
            ran.append("__init__")

        def add_note(self, note: str) -> None:
            ran.append("add_note")

        def __str__(self) -> str:
            ran.append("__str__")
            return "loud"

        def __eq__(self, other: object) -> bool:
            ran.append("__eq__")
            return False

        __hash__ = None

    sys.modules[__name__].Loud = Loud
    Loud.__qualname__ = "Loud"
    try:
        info = failure.describe(Loud("x"))
        ran.clear()
        Watching.subclasses.clear()
        error = failure.rebuild(travel(info), PID)
        assert isinstance(error, Loud)
        assert str(error) == "loud"
        failure.rebuild(travel(failure.describe(Watched("x"))), PID)
    finally:
        del sys.modules[__name__].Loud
    assert [each for each in ran if each != "__str__"] == []  # describing shows it, and that is the worker's side
    assert Watching.subclasses == []


def test_a_class_that_this_process_has_not_imported_is_not_imported():
    """An unknown module stays unknown: the error is a plain CommandError with the name."""
    info = ErrorInfo("raised", "wave", "Error", "bad chunk")
    sys.modules.pop("wave", None)
    error = failure.rebuild(info, PID)
    assert CommandError is type(error)
    assert str(error) == "wave.Error: bad chunk"
    assert "wave" not in sys.modules


@pytest.mark.parametrize(
    ("module", "qualname"),
    [
        ("builtins", "NoSuchError"),
        ("builtins", "int"),
        ("builtins", "print"),
        ("builtins", "BaseException"),
        ("builtins", "__dict__.x"),
        ("builtins", "ValueError.__init__"),
        ("os", "system"),
        ("os", "path"),
        ("", ""),
        ("no such module", "x"),
        (__name__, "function.<locals>.Error"),
        ("asyncpool.errors", "CommandError"),
        ("asyncpool.errors", "PoolClosed"),
    ],
)
def test_a_name_that_is_no_ordinary_exception_is_a_plain_command_error(module, qualname):
    """Whatever a worker names, nothing but an ordinary exception class is taken from the modules."""
    assert CommandError is type(failure.rebuild(ErrorInfo("raised", module, qualname, "m"), PID))


def test_a_module_that_computes_its_attributes_is_not_asked():
    """Classes are looked up in vars(): a module's __getattr__ does not run."""
    module = types.ModuleType("lazy_module")
    module.__getattr__ = lambda name: pytest.fail("code of the module ran")
    sys.modules["lazy_module"] = module
    try:
        assert CommandError is type(failure.rebuild(ErrorInfo("raised", "lazy_module", "Error", "m"), PID))
    finally:
        del sys.modules["lazy_module"]


# --- what it tells ---


def test_the_error_tells_where_it_came_from():
    """Type, message, traceback and process id of the worker's exception are attributes; the traceback is a note."""
    error = after(Plain("purr"))
    assert (f"{__name__}.Plain", "purr", PID) == (error.type_name, error.message, error.worker_pid)
    assert "raise error" in error.traceback
    assert error.traceback.rstrip().endswith("Plain: purr")
    assert any(error.traceback.rstrip() in note for note in error.__notes__)
    assert str(PID) in error.__notes__[0]


def test_a_builtin_is_named_without_its_module():
    """``ValueError``, not ``builtins.ValueError``."""
    assert after(ValueError("x")).type_name == "ValueError"


def test_a_command_that_raised_has_started():
    """``started`` is the pool's word on whether the command may have had effects, whatever the exception says."""
    raised = Plain("x")
    raised.started = False
    assert after(raised).started is True
    assert after(StopIteration()).started is True


def test_the_pools_own_attributes_win():
    """An attribute of the exception cannot pass for what the pool tells."""
    raised = Plain("the text")
    raised.message, raised.worker_pid, raised.type_name, raised.traceback = "x", 1, "y", "z"
    error = after(raised)
    assert ("the text", PID, f"{__name__}.Plain") == (error.message, error.worker_pid, error.type_name)
    assert error.traceback != "z"


@pytest.mark.parametrize(
    ("origin", "kind", "started"),
    [("unknown_command", UnknownCommand, False), ("argument", ArgumentError, False), ("result", ResultError, True)],
)
def test_refusals_are_type_errors_that_tell_whether_anything_ran(origin, kind, started):
    """What the worker's edge refuses ran nothing; a result that cannot travel comes from a command that ran."""
    error = failure.rebuild(travel(failure.refusal(origin, "what is wrong")), PID)
    assert kind is type(error)
    assert isinstance(error, TypeError)
    assert ("what is wrong", started, PID) == (str(error), error.started, error.worker_pid)


def test_skipped_frames_are_not_shown():
    """The worker's own frames stand above the command's and tell nothing about it."""

    def command():
        raise Plain("x")

    try:
        command()
    except Plain as raised:
        whole, without, none = (failure.describe(raised, skip_frames=count) for count in (0, 1, 99))
    assert "in test_skipped_frames_are_not_shown" in whole.traceback
    assert "in test_skipped_frames_are_not_shown" not in without.traceback
    assert "in command" in without.traceback
    assert "Plain: x" in none.traceback


# --- copies ---


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deep", "pickle"],
)
@pytest.mark.parametrize("raised", [*ORDINARY, StopIteration(3)], ids=repr)
def test_an_error_can_be_copied_and_pickled(raised, duplicate):
    """The copy is of the same class and says the same: loggers, queues and other pools hand errors on."""
    error = after(raised)
    twin = duplicate(error)
    assert type(error) is type(twin)
    assert (str(error), error.args, vars(error)) == (str(twin), twin.args, vars(twin))


@pytest.mark.parametrize("origin", ["unknown_command", "argument", "result"])
def test_a_refusal_can_be_pickled(origin):
    """The same holds for what the worker's edge refuses."""
    error = failure.rebuild(failure.refusal(origin, "text"), PID)
    twin = pickle.loads(pickle.dumps(error))
    assert (type(error), str(error), vars(error)) == (type(twin), str(twin), vars(twin))


def test_two_errors_of_one_type_have_one_class():
    """The class that is both is made once: errors can be grouped by their type."""
    assert type(after(Plain(1))) is type(after(Plain(2)))


def test_two_errors_share_nothing():
    """Each error has its own args, attributes and notes."""
    first, second = after(Plain(1)), after(Plain(2))
    first.add_note("mine")
    assert first.args == (1,)
    assert second.args == (2,)
    assert len(second.__notes__) == 1


# --- what is hostile ---


def test_an_exception_that_cannot_be_shown_still_travels():
    """A __str__ that raises, even KeyboardInterrupt, costs the text and nothing else."""
    error = after(NoText())
    assert isinstance(error, NoText)
    assert "KeyboardInterrupt" in error.message


@pytest.mark.parametrize("name", ["args", "__dict__", "__traceback__", "__class__", "__notes__"])
def test_an_exception_that_refuses_to_be_looked_at_still_travels(name):
    """describe() never raises: the worker must answer whatever a command raised."""

    def refuse(self: object) -> None:
        raise RuntimeError("do not look")

    refusing = type("Refusing", (Exception,), {name: property(refuse)})
    assert "Refusing" in after(refusing("x")).type_name


def test_an_exception_without_working_attribute_access_still_travels():
    """Not even a __getattribute__ that always raises keeps the worker from answering."""

    class Closed(Exception):
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError(name)

    assert "Closed" in after(Closed("x")).type_name


@pytest.mark.parametrize("name", ["__module__", "__qualname__"])
def test_a_class_with_an_odd_name_still_travels(name):
    """A description can always be sent, also when the class says that it lives nowhere, or in no Unicode text."""
    odd = type("Odd", (Exception,), {})
    setattr(odd, name, "\ud800")
    assert CommandError is type(after(odd("x")))
    if name == "__module__":
        odd.__module__ = None
        assert CommandError is type(after(odd("x")))


def test_lone_surrogates_are_escaped():
    """Text that has no UTF-8 is shown with escapes."""
    assert after(Plain("a\ud800b")).message == "a\\ud800b"


def test_a_huge_message_is_cut():
    """An exception of 10 MB does not travel as 10 MB, and says how long it was."""
    raised = Plain("x" * 10_000_000)
    raised.attribute = "y" * 10_000_000
    info = failure.describe(raised)
    assert len(messages.encode(Failure(1, info))) < 500_000
    error = failure.rebuild(travel(info), PID)
    assert isinstance(error, Plain)
    assert "10,000,000 characters" in str(error)


def test_attributes_called_like_special_ones_do_no_harm():
    """What a worker sends as attributes cannot replace the error's class, args or methods."""
    info = ErrorInfo(
        "raised",
        "builtins",
        "ValueError",
        "text",
        "",
        Raw(payload.encode(["text"])),
        Raw(payload.encode({"__class__": "int", "args": 7, "__str__": "x", "__traceback__": "x"})),
    )
    error = failure.rebuild(info, PID)
    assert isinstance(error, ValueError)
    assert (error.args, str(error)) == (("text",), "text")


@pytest.mark.parametrize(
    ("args", "attributes"),
    [
        (b"\xd4\x63\x00", b"\xc0"),  # an unknown ext code
        (b"\x91\xa1\xff", b"\xc0"),  # no UTF-8
        (b"\x91" * 3000 + b"\x90", b"\xc0"),  # nested deeply
        (b"\x07", b"\x07"),  # neither array nor map
        (b"\x80", b"\x90"),
        (b"\xc0", b"\xd4\x63\x00"),
        (b"\xc0", payload.encode({"__notes__": 7})),
        (b"\xc0", payload.encode({1: 2})),
        (payload.encode([1, 2, 3, 4, 5, 6, 7]), payload.encode({"errno": "x"})),
    ],
)
@pytest.mark.parametrize("qualname", ["ValueError", "OSError", "UnicodeDecodeError", "NoSuchError"])
def test_whatever_a_worker_says_becomes_a_command_error(args, attributes, qualname):
    """A foreign worker's broken description costs details, never the error: nothing else is raised in its place."""
    info = ErrorInfo("raised", "builtins", qualname, "text", "Traceback", Raw(args), Raw(attributes))
    error = failure.rebuild(info, PID)
    assert isinstance(error, CommandError)
    assert "text" in str(error)


def test_an_origin_of_a_later_version_is_a_plain_failure():
    """An origin that this version does not know is read as an exception that was raised."""
    assert isinstance(failure.rebuild(ErrorInfo("tired", "builtins", "ValueError", "text"), PID), ValueError)


def test_the_description_has_no_code_in_it():
    """What travels is text and MessagePack: no pickle, no class."""
    body = messages.encode(Failure(1, failure.describe(TwoArguments(7, "seven"))))
    kind, number, (origin, module, qualname, message, _, args, attributes, *story) = msgspec.msgpack.decode(body)
    assert (34, 1, "raised", __name__, "TwoArguments", "7: seven") == (kind, number, origin, module, qualname, message)
    assert (args, attributes) == (["7: seven"], {"code": 7, "text": "seven"})
    assert story == [[], "", None, None, False, []]
