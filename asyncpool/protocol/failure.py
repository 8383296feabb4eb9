"""Exceptions <-> plain data: the worker describes, the parent rebuilds.

An exception travels with its story: the notes on it, what it was raised from, what was being handled, what it groups.

Law 1: describing and rebuilding never raise, whatever the exception's class or a foreign worker does.
Law 2: a story is bounded in depth, in number and in length; what is cut says so or is left out, the error itself never.
Law 3: each frame is told once: in the note of the error that passed through it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

import msgspec

from asyncpool.errors import ArgumentError, CommandError, ResultError, UnknownCommand
from asyncpool.protocol import dual, payload
from asyncpool.protocol.messages import MAIN, NOTHING, ErrorInfo

LONGEST = 64 * 1024  # characters of a message or a traceback that travel
SHORTER = 8 * 1024  # the same of an exception that another one came from, or holds
NAME = 1024  # characters of the name of a class or its module
DEEPEST = 10  # steps from an exception to a cause of a cause, or to a member of a member
MAP_HEADER = 5  # bytes of MessagePack's, at most
MOST = 100  # exceptions that one failure tells of; also notes of one exception

_PACKAGE = __file__.rpartition("/protocol/")[0] + "/"

_ORIGINS: dict[str, type[CommandError]] = {
    "unknown_command": UnknownCommand,
    "argument": ArgumentError,
    "result": ResultError,
    "cancelled": CommandError,
}


def _past(name: str, cls: type = BaseException) -> Any:
    """Return the descriptor of a built-in attribute: it is read past whatever a class has put in front of it."""
    return vars(cls)[name]


_ARGS: Callable[[BaseException], tuple[Any, ...]] = _past("args").__get__
_DICT: Callable[[BaseException], dict[str, Any]] = _past("__dict__").__get__
_TRACEBACK: Callable[[BaseException], TracebackType | None] = _past("__traceback__").__get__
_CAUSE, _CONTEXT, _SUPPRESS = _past("__cause__"), _past("__context__"), _past("__suppress_context__")
_MEMBERS: Callable[[BaseException], tuple[BaseException, ...]] = _past("exceptions", BaseExceptionGroup).__get__
_GROUP_MESSAGE: Callable[[BaseException], str] = _past("message", BaseExceptionGroup).__get__


# --- the worker's side -----------------------------------------------------------------------------------------------


def refusal(origin: str, message: str) -> ErrorInfo:
    """Describe a call that was refused at the worker's edge, or a result that cannot travel."""
    kind = _ORIGINS[origin]
    return ErrorInfo(origin, kind.__module__, kind.__qualname__, clean(message))


def stopped(error: BaseException | None = None) -> ErrorInfo:
    """Describe a command that was stopped; never raises. Where it heard so is told, but for our own frames."""
    info = refusal("cancelled", "the command was stopped")
    if error is None:
        return info
    try:
        import traceback  # only now: it costs a start 3 ms, and where no descriptor is left it cannot be imported

        theirs = [each for each in traceback.extract_tb(_TRACEBACK(error)) if not each.filename.startswith(_PACKAGE)]
        info.traceback = clean("".join(traceback.format_list(theirs)))
    except BaseException:  # it reads the source, perhaps by a loader of the user's
        info.traceback = ""
    return info


def describe(error: BaseException, *, skip_frames: int = 0) -> ErrorInfo:
    """Return *error* as plain data, with its story; never raises.

    Args:
        error: What a command raised.
        skip_frames: Number of innermost callers (our own) that the traceback leaves out.
    """
    place = _TRACEBACK(error)
    for _ in range(skip_frames):
        place = place.tb_next if place is not None else None
    info = _Story().tell(error, 0, LONGEST)
    info.traceback = _formatted(error, place)
    if info.notes or info.members or info.cause or info.context:  # then it tells of more than this exception
        info.frames = clean(_frames(error, place, info.message))
    return info


def shorten(info: ErrorInfo, longest: int) -> ErrorInfo:
    """Return *info* with its message cut to so many characters, and without its story and its members."""
    return ErrorInfo(info.origin, info.module, info.qualname, info.message[:longest])


class _Story:
    """Tells of an exception and of those around it, within bounds."""

    def __init__(self) -> None:
        self._told: set[int] = set()  # exceptions, by id: they are all held by the first
        self._left = MOST

    def tell(self, error: BaseException, depth: int, longest: int) -> ErrorInfo:
        """Return *error* as data; the traceback of the first is left to the caller."""
        self._told.add(id(error))
        self._left -= 1
        module, qualname, message = _title(error, longest)
        info = ErrorInfo(
            "raised",
            module,
            qualname,
            message,
            clean(_frames(error, _TRACEBACK(error), message), longest) if depth else "",
            _travelling(_args(error), longest),
            _travelling(_plain_attributes(error, longest - MAP_HEADER), longest),
            _notes(error, longest),
        )
        if depth < DEEPEST:
            if _is_group(error):
                info.members = self._members(_MEMBERS(error), depth)
            self._add_chain(info, error, depth)
        return info

    def _add_chain(self, info: ErrorInfo, error: BaseException, depth: int) -> None:
        info.suppress_context = _SUPPRESS.__get__(error)
        cause, context = _CAUSE.__get__(error), _CONTEXT.__get__(error)
        info.cause = self._once(cause, depth)
        if context is not cause:
            info.context = self._once(context, depth)

    def _once(self, error: BaseException | None, depth: int) -> ErrorInfo | None:
        """Return *error* as data unless it is told already: a circle ends there."""
        if error is None or id(error) in self._told or self._left <= 0:
            return None
        return self.tell(error, depth + 1, SHORTER)

    def _members(self, errors: tuple[BaseException, ...], depth: int) -> list[ErrorInfo]:
        told: list[ErrorInfo] = []
        for error in errors:
            if self._left <= 0:
                text = f"{len(errors) - len(told):,} further errors of this group are left out"
                return [*told, ErrorInfo("raised", CommandError.__module__, CommandError.__qualname__, text)]
            told.append(self.tell(error, depth + 1, SHORTER))
        return told


def clean(text: str, longest: int = LONGEST) -> str:
    """Return *text* bounded, and without lone surrogates, which cannot be encoded."""
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text):,} characters)"
    return text.encode(errors="backslashreplace").decode()


def _title(error: BaseException, longest: int) -> tuple[str, str, str]:
    """Return the module and the name of an exception's class, and its text."""
    kind = type(error)
    if kind is CommandError:
        given, message = _DICT(error).get("type_name"), _DICT(error).get("message")
        if given and type(given) is str and type(message) is str:  # it came from a pool in this worker
            module, _, name = given.rpartition(".")
            return clean(module or "builtins", NAME), clean(name, NAME), clean(message, longest)
    module = "__main__" if kind.__module__ == MAIN else clean(str(kind.__module__), NAME)  # as the parent calls it
    return module, clean(kind.__qualname__, NAME), clean(text(error), longest)


def _is_group(error: BaseException) -> bool:
    return issubclass(type(error), BaseExceptionGroup)  # isinstance() would ask the class's own __class__


def _args(error: BaseException) -> list[Any]:
    """Return what the exception can be made with again; of a group, its members travel apart."""
    if issubclass(type(error), OSError):
        return list(OSError.__reduce__(cast("OSError", error))[1])  # with the file names
    return [_GROUP_MESSAGE(error)] if _is_group(error) else list(_ARGS(error))


def text(error: BaseException) -> str:
    """Return what an exception says, whatever its class does."""
    try:
        return str.__str__(str(error))  # no subclass
    except BaseException as second:  # the user's __str__
        return f"<its str() raised {type(second).__qualname__}>"


def _notes(error: BaseException, longest: int) -> list[str]:
    found = _DICT(error).get("__notes__")
    if type(found) is not list:
        return []
    return [clean(str.__str__(note), longest // 8) for note in found[:MOST] if issubclass(type(note), str)]


def _frames(error: BaseException, place: TracebackType | None, message: str) -> str:
    """Return the traceback of the exception alone, without its notes and members and those that it came from."""
    try:
        import traceback  # see above

        above = "".join(traceback.format_tb(place))
    except BaseException as second:  # it reads the source, perhaps by a loader of the user's
        above = f"  <its frames cannot be shown: {type(second).__qualname__}>\n"
    name = clean(type(error).__qualname__)
    header = "Traceback (most recent call last):\n" if above else ""
    return f"{header}{above}{name}: {message}\n" if message else f"{header}{above}{name}\n"


def _formatted(error: BaseException, place: TracebackType | None) -> str:
    """Return the traceback with all that Python itself would print."""
    try:
        import traceback  # see above

        return clean("".join(traceback.format_exception(type(error), error, place)))
    except BaseException as second:  # it calls the user's __str__ and __repr__
        return f"<its traceback cannot be shown: {type(second).__qualname__}>"


def _travelling(value: Any, longest: int) -> msgspec.Raw:
    """Return *value* encoded, or nothing when it cannot travel or is too large to be part of an error."""
    try:
        encoded = payload.encode(value)
    except Exception:
        return NOTHING
    return msgspec.Raw(encoded) if len(encoded) <= longest else NOTHING


def _plain_attributes(error: BaseException, left: int) -> dict[str, Any]:
    """Return the instance attributes, in order, but for those that cannot travel or are too large for what is left."""
    attributes: dict[str, Any] = {}
    for name, value in list(_DICT(error).items()):
        if dual.is_plain(name) and (encoded := _travelling({name: value}, left)) is not NOTHING:
            attributes[name] = value
            left -= len(memoryview(encoded)) - 1  # without the header of this map
    return attributes


# --- the parent's side -----------------------------------------------------------------------------------------------


def rebuild(info: ErrorInfo, pid: int | None, depth: int = 0) -> CommandError:
    """Return the error that *info* describes, with its story.

    Args:
        info: What the worker said.
        pid: The worker's process id.
        depth: Steps from the error that was raised.
    """
    members = [rebuild(each, pid, depth + 1) for each in info.members[: MOST + 1]] if depth < DEEPEST else []
    error = _instance(info, members)
    error.type_name = f"{info.module}.{info.qualname}" if info.module != "builtins" else info.qualname
    error.traceback = info.traceback
    error.worker_pid = pid
    for note in info.notes[:MOST]:
        BaseException.add_note(error, note)  # not the class's own
    told = info.frames or info.traceback
    if told:
        who = "the worker" if pid is None else f"worker {pid}"
        BaseException.add_note(error, f"In {who}:\n{told.rstrip()}")
    if depth < DEEPEST:
        _chain(error, info, pid, depth)
    return error


def _instance(info: ErrorInfo, members: list[CommandError]) -> CommandError:
    if info.origin in _ORIGINS:
        error = _ORIGINS[info.origin](info.message)
    else:
        given, attributes = _decoded(info.args), _decoded(info.attributes)
        args: tuple[Any, ...] = tuple(given) if isinstance(given, list) else (info.message,)
        if members:
            message = args[0] if args and isinstance(args[0], str) else info.message
            error = dual.make_group(info.module, info.qualname, message, members, attributes)
            error.message = message  # as a group's is, without the number of its members
            return error
        error = dual.make(info.module, info.qualname, args, attributes)
    error.message = info.message
    return error


def _chain(error: CommandError, info: ErrorInfo, pid: int | None, depth: int) -> None:
    """Set what the error was raised from, and what was being handled then."""
    context = None
    if info.cause is not None:
        context = rebuild(info.cause, pid, depth + 1)
        _CAUSE.__set__(error, context)
    if info.context is not None:
        context = rebuild(info.context, pid, depth + 1)
    _CONTEXT.__set__(error, context)
    _SUPPRESS.__set__(error, info.suppress_context)


def _decoded(data: msgspec.Raw) -> Any:
    """Return what a worker says, or None where a foreign worker says what cannot be read."""
    try:
        return payload.decode(data)
    except Exception:
        return None
