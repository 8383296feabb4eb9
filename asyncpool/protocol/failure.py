"""Exceptions <-> plain data.

The worker describes, the parent rebuilds. Nothing is unpickled, imported or run to rebuild an error: the class is
looked for among what this process has imported already, and of its construction only the part written in C runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

import msgspec

from asyncpool.errors import (
    ArgumentError,
    AsyncPoolError,
    CommandError,
    ResultError,
    UnknownCommand,
)
from asyncpool.protocol import payload
from asyncpool.protocol.messages import MAIN, NOTHING, ErrorInfo

LONGEST = 64 * 1024  # characters of a message or a traceback that travel

_ORIGINS: dict[str, type[CommandError]] = {
    "unknown_command": UnknownCommand,
    "argument": ArgumentError,
    "result": ResultError,
    "cancelled": CommandError,
}
_NEVER = (StopIteration, StopAsyncIteration, AsyncPoolError)  # raised as themselves, these would mean something else
_USER_CODE = ("__init_subclass__", "__getattr__", "__getattribute__", "__setattr__")
_HEAP_TYPE = 1 << 9  # of type.__flags__: the class was made by a class statement, not in C

# Read past whatever a class has put in front of them.
_ARGS: Callable[[BaseException], tuple[Any, ...]] = vars(BaseException)["args"].__get__
_DICT: Callable[[BaseException], dict[str, Any]] = vars(BaseException)["__dict__"].__get__
_TRACEBACK: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__

_duals: dict[type[Exception], type[CommandError]] = {}


def refusal(origin: str, message: str) -> ErrorInfo:
    """Describe a call that was refused at the worker's edge, or a result that cannot travel."""
    kind = _ORIGINS[origin]
    return ErrorInfo(origin, kind.__module__, kind.__qualname__, clean(message))


def describe(error: BaseException, *, skip_frames: int = 0) -> ErrorInfo:
    """Return *error* as plain data; never raises.

    Args:
        error: What a command raised.
        skip_frames: Number of innermost callers (our own) that the traceback leaves out.
    """
    kind = type(error)
    return ErrorInfo(
        "raised",
        "__main__" if kind.__module__ == MAIN else clean(str(kind.__module__)),
        clean(kind.__qualname__),
        _text(error),
        _traceback(error, skip_frames),
        _travelling(_args(error)),
        _travelling(_plain_attributes(error)),
    )


def shorten(info: ErrorInfo, longest: int) -> ErrorInfo:
    """Return *info* with its message cut to so many characters, and without what is not needed."""
    return ErrorInfo(info.origin, info.module, info.qualname, info.message[:longest])


def rebuild(info: ErrorInfo, pid: int | None) -> CommandError:
    """Return the error that *info* describes.

    Args:
        info: What the worker said.
        pid: The worker's process id.
    """
    error = _instance(info)
    error.type_name = f"{info.module}.{info.qualname}" if info.module != "builtins" else info.qualname
    error.message = info.message
    error.traceback = info.traceback
    error.worker_pid = pid
    if info.traceback:
        BaseException.add_note(error, f"In worker {pid}:\n{info.traceback.rstrip()}")  # not the class's own
    return error


def _instance(info: ErrorInfo) -> CommandError:
    if info.origin in _ORIGINS:
        return _ORIGINS[info.origin](info.message)
    given = _decoded(info.args)
    args: tuple[Any, ...] = tuple(given) if isinstance(given, list) else (info.message,)
    found = _find(info.module, info.qualname)
    if found is None or not _eligible(found):
        return CommandError(*args)
    try:
        return _construct(_dual(found), args, _decoded(info.attributes))
    except Exception:  # a class that refuses costs its type, never the error
        return CommandError(*args)


def _find(module: str, qualname: str) -> type[Any] | None:
    """Return the class of this name from the modules that are imported already, by vars(): no module code runs."""
    place: Any = sys.modules.get(module)
    for name in qualname.split("."):
        try:
            place = vars(place).get(name)
        except TypeError:
            return None
    return place if type(place) is type else None


def _eligible(cls: type[Any]) -> bool:
    if not issubclass(cls, Exception) or issubclass(cls, (*_NEVER, BaseExceptionGroup)):
        return False
    return not any(
        base.__flags__ & _HEAP_TYPE and any(name in vars(base) for name in _USER_CODE) for base in cls.__mro__
    )


def _dual(cls: type[Exception]) -> type[CommandError]:
    """Return the class that is both CommandError and *cls*, made once."""
    made = _duals.get(cls)
    if made is None:
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__reduce__": _reduce}
        made = _duals[cls] = type(cls.__name__, (CommandError, cls), names)
    return made


def _construct(dual: type[CommandError], args: tuple[Any, ...], attributes: Any) -> CommandError:
    """Make an instance without running a class statement's ``__new__`` or ``__init__``."""
    base: type[Any] = dual
    while base.__flags__ & _HEAP_TYPE:
        base = base.__base__  # type: ignore[assignment] # only object has none
    error: CommandError
    try:  # in C: one or the other sets errno, filename and their like
        error = base.__new__(dual, *args)
        base.__init__(error, *args)
    except Exception:  # it insists on other arguments; what it would have set is unknown
        error = base.__new__(dual)  # type: ignore[call-overload] # of which class, only the run knows
    if not issubclass(dual, OSError):  # whose args leave out the file names that it was made with
        error.args = args
    if isinstance(attributes, dict):
        vars(error).update({name: value for name, value in attributes.items() if _is_plain(name)})
    return error


def _is_plain(name: Any) -> bool:
    """Return whether an attribute of this name may travel: not what Python or CommandError keep under it."""
    return isinstance(name, str) and not name.startswith("__") and name != "args" and not hasattr(CommandError, name)


def _decoded(data: msgspec.Raw) -> Any:
    """Return what a worker says, or None where a foreign worker says what cannot be read."""
    try:
        return payload.decode(data)
    except Exception:
        return None


def _reduce(error: CommandError) -> tuple[Any, ...]:
    """Let pickle and copy make the dual class anew: it cannot be found by name."""
    return _restore, (type(error).__bases__[1], error.args), dict(vars(error))


def _restore(cls: type[Exception], args: tuple[Any, ...]) -> CommandError:
    return _construct(_dual(cls), args, None)


def clean(text: str) -> str:
    """Return *text* bounded, and without lone surrogates, which cannot be encoded."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}... ({len(text):,} characters)"
    return text.encode(errors="backslashreplace").decode()


def _args(error: BaseException) -> list[Any]:
    """Return what the exception can be made with again."""
    if issubclass(type(error), OSError):  # isinstance() would ask the class's own __class__
        return list(OSError.__reduce__(cast("OSError", error))[1])  # with the file names
    return list(_ARGS(error))


def _text(error: BaseException) -> str:
    try:
        return clean(str(error))
    except BaseException as second:  # the user's __str__
        return f"<its str() raised {type(second).__qualname__}>"


def _traceback(error: BaseException, skip_frames: int) -> str:
    place = _TRACEBACK(error)
    for _ in range(skip_frames):
        place = place.tb_next if place is not None else None
    try:
        import traceback  # only now: it costs a start 3 ms, and where no descriptor is left it cannot be imported

        return clean("".join(traceback.format_exception(type(error), error, place)))
    except BaseException as second:  # it calls the user's __str__ and __repr__
        return f"<its traceback cannot be shown: {type(second).__qualname__}>"


def _travelling(value: Any) -> msgspec.Raw:
    """Return *value* encoded, or nothing when it cannot travel or is too large to be part of an error."""
    try:
        encoded = payload.encode(value)
    except Exception:
        return NOTHING
    return msgspec.Raw(encoded) if len(encoded) <= LONGEST else NOTHING


def _plain_attributes(error: BaseException) -> dict[str, Any]:
    """Return the instance attributes, of which those that cannot travel are left out."""
    attributes: dict[Any, Any] = _DICT(error)
    return {name: value for name, value in attributes.items() if _is_plain(name) and _travelling(value) is not NOTHING}
