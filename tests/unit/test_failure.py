"""Exceptions as plain data: what a caller can catch, read, copy and pickle of what happened in the worker."""

import asyncio
import copy
import errno
import pickle
import sys
import traceback
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


def test_attributes_that_are_too_much_together_arrive_as_far_as_they_fit():
    """In their order; what is small enough comes after one that was not."""
    raised = Plain("x")
    raised.first, raised.second, raised.third, raised.code = b"1" * 60_000, b"2" * 6_000, b"3" * 5_000, 7
    error = after(raised)
    assert (error.first, error.third, error.code) == (raised.first, raised.third, 7)
    assert not hasattr(error, "second")


def test_attributes_arrive_that_fill_all_the_room_there_is():
    """Their names count, and the header of their map."""
    raised = Plain("x")
    for number in range(100):
        setattr(raised, f"cat{number}" * 10, b"x" * 1000)
    found = len(vars(after(raised))) - len(vars(after(Plain("x"))))
    assert 50 < found < 64


def test_an_attribute_whose_name_cannot_travel_is_left_out():
    """It costs itself, not the others."""
    raised = Plain("x")
    vars(raised).update({"\ud800": 1, "good": 7})
    assert after(raised).good == 7


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


def test_an_error_is_told_though_tracebacks_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no descriptor or memory is left, the module that formats them cannot be imported any more."""
    monkeypatch.setitem(sys.modules, "traceback", None)
    info = failure.describe(ValueError("why"))
    assert (info.qualname, info.message) == ("ValueError", "why")
    assert "cannot be shown: ModuleNotFoundError" in info.traceback


# --- the story ---


class Herd(ExceptionGroup):
    """A group of an application, whose construction takes more than a group's."""

    def __new__(cls, code: int, errors: list[Exception]) -> "Herd":
        made = super().__new__(cls, f"herd {code}", errors)
        made.code = code
        return made

    def __init__(self, code: int, errors: list[Exception]) -> None:
        super().__init__(f"herd {code}", errors)


def chained(error: BaseException, cause: BaseException | None = None, context: BaseException | None = None):
    """Return *error* with what it came from."""
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = cause is not None
    return error


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def depth_of(error: BaseException | None) -> int:
    steps = 0
    while error is not None:
        steps, error = steps + 1, error.__cause__ or error.__context__
    return steps


def test_notes_arrive_before_the_workers_traceback():
    """What was added with add_note() is there in its order; ours comes last."""
    raised = Plain("x")
    raised.add_note("first")
    raised.add_note("half of \ud800")
    error = after(raised)
    assert error.__notes__[:2] == ["first", "half of \\ud800"]
    assert [note for note in error.__notes__ if note.startswith("In worker")] == error.__notes__[2:]
    assert shown(error).count("first") == 1


@pytest.mark.parametrize("notes", [7, "text", [object(), None], {"a": 1}, [b"x"]], ids=range(5))
def test_notes_that_are_none_do_no_harm(notes):
    """Whatever stands in __notes__, the error arrives with the worker's traceback."""
    raised = Plain("x")
    raised.__dict__["__notes__"] = notes
    assert len(after(raised).__notes__) == 1


def test_the_cause_is_an_error_that_can_be_asked():
    """``raise ... from``: the cause is of both types, and the context is that same error."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as raised:
        error = failure.rebuild(travel(failure.describe(raised)), PID)
    assert isinstance(error.__cause__, KeyError)
    assert isinstance(error.__cause__, CommandError)
    assert (error.__cause__.args, error.__cause__.type_name, error.__cause__.worker_pid) == (
        ("inner",),
        "KeyError",
        PID,
    )
    assert error.__context__ is error.__cause__
    assert error.__suppress_context__ is True


def test_the_context_is_an_error_that_can_be_asked():
    """What was being handled is there too, and shown as Python would."""
    error = after(chained(ValueError("outer"), context=KeyError("inner")))
    assert error.__cause__ is None
    assert isinstance(error.__context__, KeyError)
    assert error.__suppress_context__ is False
    assert "During handling" in shown(error)


def test_a_suppressed_context_stays_suppressed():
    """``raise ... from None`` hides the context from prints, not from who asks."""
    raised = chained(ValueError("outer"), context=KeyError("inner"))
    raised.__suppress_context__ = True
    error = after(raised)
    assert isinstance(error.__context__, KeyError)
    assert "KeyError" not in shown(error)


def test_cause_and_context_may_differ():
    """Both are kept where they are two errors."""
    error = after(chained(ValueError("outer"), cause=KeyError("cause"), context=OSError("context")))
    assert (type(error.__cause__).__name__, type(error.__context__).__name__) == ("KeyError", "OSError")


def test_a_chain_without_one_is_empty():
    """An error that came from nothing has neither cause nor context."""
    error = after(ValueError("alone"))
    assert (error.__cause__, error.__context__, error.__suppress_context__) == (None, None, False)


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_chain_is_bounded(link):
    """At most ten steps travel, of chains of any length."""
    raised = last = Plain(0)
    for number in range(1, 5000):
        following = Plain(number)
        setattr(last, link, following)
        last = following
    assert depth_of(after(raised)) == failure.DEEPEST + 1


def test_no_more_is_sent_than_is_read():
    """The worker itself stops after ten steps, in chains and in groups."""
    chain = nested = Plain(0)
    for number in range(1, 30):
        chain, nested = chained(Plain(number), cause=chain), ExceptionGroup(str(number), [nested])
    for raised, link in ((chain, "cause"), (nested, "members")):
        steps, info = 0, failure.describe(raised)
        while following := getattr(info, link):
            steps, info = steps + 1, following[0] if link == "members" else following
        assert steps == failure.DEEPEST


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_circle_is_cut(link, length):
    """Errors that came from each other are told once each."""
    errors = [Plain(number) for number in range(length)]
    for number, error in enumerate(errors):
        setattr(error, link, errors[(number + 1) % length])
    assert depth_of(failure.rebuild(travel(failure.describe(errors[0])), PID)) == length


def test_a_group_keeps_its_shape():
    """A group is a group of errors of both types, nested as they were; except* finds them."""
    error = after(ExceptionGroup("all", [ValueError("a"), ExceptionGroup("inner", [KeyError("b"), Plain("c")])]))
    assert isinstance(error, ExceptionGroup)
    assert isinstance(error, CommandError)
    assert (error.message, str(error)) == ("all", "all (2 sub-exceptions)")
    first, inner = error.exceptions
    assert isinstance(first, ValueError)
    assert isinstance(inner, ExceptionGroup)
    assert [type(each).__name__ for each in inner.exceptions] == ["KeyError", "Plain"]
    caught: list[BaseException] = []
    try:
        try:
            raise error
        except* (ValueError, Plain) as found:
            caught.append(found)
    except CommandError as rest:
        caught.append(rest)
    found, rest = caught
    assert [str(each) for each in (found.exceptions[0], found.exceptions[1].exceptions[0])] == ["a", "c"]
    assert isinstance(rest, ExceptionGroup)
    assert [str(each) for each in rest.exceptions[0].exceptions] == ["'b'"]
    for leaf in (*found.exceptions, *found.exceptions[1].exceptions, *rest.exceptions):
        assert isinstance(leaf, CommandError)


def test_a_part_of_a_group_tells_where_it_came_from():
    """What except* hands out is a CommandError with the group's notes, worker and type, of its own length."""
    whole = after(ExceptionGroup("all", [ValueError("a"), KeyError("b")]))
    part = whole.subgroup(ValueError)
    assert isinstance(part, CommandError)
    assert (part.type_name, part.worker_pid, part.message) == ("ExceptionGroup", PID, "all")
    assert str(part) == "all (1 sub-exception)"
    assert part.__notes__ == whole.__notes__
    assert part.__notes__ is not whole.__notes__
    assert not hasattr(whole.derive([ValueError("b")]), "__notes__")  # as Python's own


def test_a_group_of_ones_own_is_itself():
    """Its class is found, its __new__ and __init__ do not run, its attributes are there."""
    error = after(Herd(7, [ValueError("a")]))
    assert isinstance(error, Herd)
    assert (error.code, error.message) == (7, "herd 7")
    assert isinstance(error.subgroup(ValueError), Herd)


def test_a_group_of_an_unknown_class_is_still_a_group():
    """Where the class cannot be found, the shape stays and the name is told."""
    local = type("Local", (ExceptionGroup,), {})
    error = after(local("all", [ValueError("a")]))
    assert isinstance(error, ExceptionGroup)
    assert error.type_name.endswith("Local")
    assert isinstance(error.exceptions[0], ValueError)


def test_what_is_no_exception_never_escapes_in_a_group():
    """A BaseExceptionGroup arrives as an ordinary group, its KeyboardInterrupt as a plain CommandError."""
    error = after(BaseExceptionGroup("all", [KeyboardInterrupt("k"), ValueError("a"), asyncio.CancelledError()]))
    assert isinstance(error, ExceptionGroup)
    assert error.type_name == "BaseExceptionGroup"
    assert [type(each) for each in error.exceptions if not isinstance(each, ValueError)] == [CommandError] * 2
    assert [each.type_name for each in error.exceptions] == [
        "KeyboardInterrupt",
        "ValueError",
        "asyncio.exceptions.CancelledError",
    ]


def test_a_group_is_bounded_in_width():
    """Of a thousand members a hundred errors' worth travel, and a last one says how many are left out."""
    error = after(ExceptionGroup("many", [Plain(number) for number in range(1000)]))
    assert len(error.exceptions) == failure.MOST
    assert "901 further errors of this group are left out" in str(error.exceptions[-1])
    assert type(error.exceptions[-1]) is CommandError


def test_a_group_is_bounded_in_depth():
    """What is nested too deeply ends in an error that names the group."""
    nested: Exception = Plain("innermost")
    for number in range(30):
        nested = ExceptionGroup(str(number), [nested])
    error = after(nested)
    for _ in range(failure.DEEPEST):
        error = error.exceptions[0]
    assert type(error) is CommandError
    assert error.type_name == "ExceptionGroup"


def test_one_error_twice_in_a_group_is_there_twice():
    """The number of members is kept also where they are one object."""
    twin = Plain("twin")
    assert [str(each) for each in after(ExceptionGroup("two", [twin, twin])).exceptions] == ["twin", "twin"]


def test_members_have_causes_of_their_own():
    """The story of each member travels with it."""
    error = after(ExceptionGroup("all", [chained(ValueError("a"), cause=KeyError("why"))]))
    assert isinstance(error.exceptions[0].__cause__, KeyError)


def test_a_huge_story_is_still_small():
    """A hundred members of 10 MB each do not travel as a gigabyte."""
    text = "x" * 10_000_000
    info = failure.describe(ExceptionGroup("all", [Plain(text) for _ in range(200)]))
    assert len(messages.encode(Failure(1, info))) < 6_000_000
    assert "10,000,000 characters" in str(failure.rebuild(travel(info), PID).exceptions[5])


def raise_in_frame(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Give *error* a traceback that shows this line."""
    try:
        raise error from cause
    except BaseException as raised:
        return raised


def test_each_traceback_is_shown_once():
    """Printed, a chain that ends in a group shows the frames of each error one time, and each message beside it."""
    cause = raise_in_frame(KeyError("the cause"))
    members = [raise_in_frame(ValueError("one")), raise_in_frame(Plain("two"), cause)]
    error = after(raise_in_frame(ExceptionGroup("all", members)))
    text = shown(error)
    assert text.count("In worker") == 4
    assert text.count("in raise_in_frame") == 4
    for title in ("the cause", "ValueError: one", "Plain: two"):
        assert title in text


def test_the_text_of_the_traceback_has_the_whole_story():
    """For a log, ``.traceback`` is what Python would have printed in the worker: causes, notes and members."""
    raised = raise_in_frame(ExceptionGroup("all", [ValueError("one")]), raise_in_frame(KeyError("the cause")))
    raised.add_note("a note")
    error = after(raised)
    for part in ("the cause", "direct cause", "ExceptionGroup: all (1 sub-exception)", "ValueError: one", "a note"):
        assert part in error.traceback


def test_a_plain_error_has_its_traceback_once_on_the_wire():
    """What has no story does not pay for it."""
    info = failure.describe(raise_in_frame(Plain("x")))
    assert info.frames == ""
    assert info.traceback.count("raise_in_frame") == 1


def test_a_story_can_be_copied_and_pickled():
    """A group and its members outlive a pickle; Python itself drops causes there."""
    error = after(ExceptionGroup("all", [ValueError("a"), Plain("b")]))
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert [(type(each), str(each)) for each in twin.exceptions] == [(type(e), str(e)) for e in error.exceptions]
    assert (str(twin), twin.message, twin.worker_pid) == (str(error), error.message, PID)


# --- through two pools ---


@pytest.mark.parametrize("raised", [ValueError("no", 1), KeyError("k"), Plain("x"), TwoArguments(7, "seven")], ids=repr)
def test_an_error_handed_on_by_a_worker_is_itself(raised):
    """What a pool in a worker raised arrives by its own type, with both workers' tracebacks."""
    once = after(raised)
    twice = after(once)
    assert type(twice) is type(once)
    assert (twice.type_name, twice.message, twice.args) == (once.type_name, once.message, once.args)
    assert sum(note.startswith("In worker") for note in twice.__notes__) == 2


def test_a_plain_error_handed_on_by_a_worker_keeps_its_name():
    """A type that the worker does not know is named by its own name, not as a CommandError within a CommandError."""
    once = failure.rebuild(ErrorInfo("raised", "wave", "Error", "bad chunk"), PID)
    twice = after(once)
    assert type(twice) is CommandError
    assert (twice.type_name, twice.message, str(twice)) == ("wave.Error", "bad chunk", "wave.Error: bad chunk")
    assert after(after(StopIteration(3))).type_name == "StopIteration"


def test_a_group_handed_on_by_a_worker_keeps_its_shape():
    """Groups pass through two pools like other errors."""
    twice = after(after(ExceptionGroup("all", [ValueError("a"), KeyboardInterrupt()][:1])))
    assert isinstance(twice, ExceptionGroup)
    assert (twice.type_name, twice.message) == ("ExceptionGroup", "all")
    assert isinstance(twice.exceptions[0], ValueError)


# --- hostile stories ---


@pytest.mark.parametrize(
    "info",
    [
        ErrorInfo("raised", "builtins", "ValueError", "x", members=[ErrorInfo("raised", "builtins", "KeyError", "k")]),
        ErrorInfo("raised", "os", "system", "x", members=[ErrorInfo("raised", "os", "system", "k")]),
        ErrorInfo("raised", "builtins", "ExceptionGroup", "x"),
        ErrorInfo("raised", "builtins", "BaseExceptionGroup", "x", args=Raw(b"\x92\x01\x90")),
        ErrorInfo("argument", "a", "b", "x", members=[ErrorInfo("raised", "builtins", "KeyError", "k")]),
        ErrorInfo("raised", "builtins", "ValueError", "x", cause=ErrorInfo("result", "a", "b", "c")),
        ErrorInfo("raised", "builtins", "ValueError", "x", notes=["n"] * 5000),
    ],
    ids=range(7),
)
def test_whatever_a_foreign_worker_tells_becomes_a_command_error(info):
    """A story that cannot be is read as far as it goes."""
    error = failure.rebuild(travel(info), PID)
    assert isinstance(error, CommandError)
    assert "x" in str(error)
    assert len(getattr(error, "__notes__", [])) <= failure.MOST


def test_a_foreign_workers_endless_story_is_cut():
    """Rebuilding goes no deeper than describing does."""
    info = ErrorInfo("raised", "builtins", "ValueError", "innermost")
    for _ in range(50):
        info = ErrorInfo("raised", "builtins", "ExceptionGroup", "x", cause=info, members=[info])
        info.members[0] = ErrorInfo("raised", "builtins", "ValueError", "leaf")
    assert depth_of(failure.rebuild(travel(info), PID)) == failure.DEEPEST + 1


def test_a_foreign_workers_endless_groups_are_cut():
    """Nor in groups within groups."""
    info = ErrorInfo("raised", "builtins", "ValueError", "innermost")
    for _ in range(50):
        info = ErrorInfo("raised", "builtins", "ExceptionGroup", "x", members=[info])
    error = failure.rebuild(travel(info), PID)
    for _ in range(failure.DEEPEST):
        error = error.exceptions[0]
    assert type(error) is CommandError
