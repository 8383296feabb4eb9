"""Classes that are both CommandError and the exception's own.

Law: nothing is unpickled, imported or run to make one. The class is looked for among what this process has imported
already, and of its construction only the part written in C runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from asyncpool.errors import AsyncPoolError, CommandError

_NEVER = (StopIteration, StopAsyncIteration, AsyncPoolError)  # raised as themselves, these would mean something else
_USER_CODE = ("__init_subclass__", "__getattr__", "__getattribute__", "__setattr__")
_HEAP_TYPE = 1 << 9  # of type.__flags__: the class was made by a class statement, not in C
_GROUP_MESSAGE = vars(BaseExceptionGroup)["message"].__get__

_duals: dict[type[Exception], type[CommandError]] = {}


def make(module: str, qualname: str, args: tuple[Any, ...], attributes: Any) -> CommandError:
    """Return an error of the class of this name and of CommandError; a plain one where that cannot be."""
    found = _find(module, qualname)
    if found is None or not _eligible(found) or issubclass(found, BaseExceptionGroup):
        return CommandError(*args)
    try:
        return _construct(_dual(found), args, attributes)
    except Exception:  # a class that refuses costs its type, never the error
        return CommandError(*args)


def make_group(
    module: str, qualname: str, message: str, members: Sequence[CommandError], attributes: Any
) -> CommandError:
    """Return a group of these errors, of the class of this name where that is an ExceptionGroup."""
    found = _find(module, qualname)
    if found is not None and issubclass(found, ExceptionGroup) and _eligible(found):
        try:
            return _construct(_dual(found), (message, list(members)), attributes)
        except Exception:
            pass
    return _construct(_dual(ExceptionGroup), (message, list(members)), attributes)


def is_plain(name: Any) -> bool:
    """Return whether an attribute of this name may travel: not what Python or CommandError keep under it."""
    return isinstance(name, str) and not name.startswith("__") and name != "args" and not hasattr(CommandError, name)


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
    if not issubclass(cls, Exception) or issubclass(cls, _NEVER):
        return False
    return not any(
        base.__flags__ & _HEAP_TYPE and any(name in vars(base) for name in _USER_CODE) for base in cls.__mro__
    )


def _dual(cls: type[Exception]) -> type[CommandError]:
    """Return the class that is both CommandError and *cls*, made once."""
    made = _duals.get(cls)
    if made is None:
        names: dict[str, Any] = {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__reduce__": _reduce,
        }
        if issubclass(cls, BaseExceptionGroup):
            names |= {"__str__": BaseExceptionGroup.__str__, "derive": _derive}
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
        vars(error).update({name: value for name, value in attributes.items() if is_plain(name)})
    return error


def _derive(group: Any, members: Sequence[Exception]) -> Any:
    """Return a group of some of the members, as ``except*`` asks for: it, too, is a CommandError."""
    part = _construct(type(group), (_GROUP_MESSAGE(group), list(members)), None)
    vars(part).update({name: value for name, value in vars(group).items() if name != "__notes__"})  # Python copies them
    return part


def _reduce(error: CommandError) -> tuple[Any, ...]:
    """Let pickle and copy make the dual class anew: it cannot be found by name."""
    return _restore, (type(error).__bases__[1], error.args), dict(vars(error))


def _restore(cls: type[Exception], args: tuple[Any, ...]) -> CommandError:
    return _construct(_dual(cls), args, None)
