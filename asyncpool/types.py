"""A user's own types on the wire. What a worker's module imports for it is this one file, which imports nothing.

Law 1: a class has at most one code, and a code at most one class.
Law 2: a value travels by the very class that was registered; a subclass would arrive as its base.
"""

from __future__ import annotations

TYPE_CHECKING = False  # mypy and pyright take the name for true; importing typing costs a worker 7 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

FIRST, LAST = 64, 127  # ext codes that are the applications'

_CONTAINERS = (dict, list, tuple, set, frozenset)
_BUILTIN = (type(None), bool, int, float, complex, str, bytes, bytearray, memoryview, object)
_STANDARD = {"datetime", "uuid", "decimal", "pathlib", "msgspec"}
_FIELDS = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__", "_member_map_")  # the last: an Enum


class Registered:
    """How values of one class are written and read."""

    __slots__ = ("cls", "code", "decode", "encode")

    def __init__(self, cls: type[Any], code: int, encode: Callable[[Any], Any], decode: Callable[[bytes], Any]) -> None:
        self.cls: type[Any] = cls
        self.code: int = code
        self.encode: Callable[[Any], Any] = encode
        self.decode: Callable[[bytes], Any] = decode


by_class: dict[type[Any], Registered] = {}
by_code: dict[int, Registered] = {}


def register_type(cls: type[T], *, encode: Callable[[T], bytes], decode: Callable[[bytes], T], code: int) -> None:
    """Let values of a class of your own travel, as arguments and as results, annotated or not.

    Both sides must register it alike: call this in the module that defines the class, which the application and the
    workers import.

    Args:
        cls: The class. Its subclasses are not meant: register them too, each with a code of its own.
        encode: Makes the bytes that travel from a value.
        decode: Makes the value again from these bytes. It runs on what the other side sent: let it check that.
        code: A number from 64 to 127, which no other class has. It is the MessagePack ext code, by which workers
            in other languages know the type.

    Raises:
        TypeError: *cls* is not a class, or is of a kind that travels already (a dataclass, an Enum, a subclass of
            dict, ...); *encode* or *decode* cannot be called.
        ValueError: *code* is out of range, or the code or the class is registered already.
    """
    _check(cls, encode, decode, code)
    _refuse_what_travels(cls)
    _refuse_what_is_taken(cls, code)
    entry = Registered(cls, code, encode, decode)
    by_class[cls] = by_code[code] = entry


def _check(cls: Any, encode: Any, decode: Any, code: Any) -> None:
    if not isinstance(cls, type):
        raise TypeError(f"register_type() takes a class, not {cls!r}")
    if not callable(encode) or not callable(decode):
        raise TypeError(f"register_type({cls.__qualname__}): encode= and decode= take functions")
    if not isinstance(code, int) or isinstance(code, bool) or not FIRST <= code <= LAST:
        raise ValueError(
            f"register_type({cls.__qualname__}): code= takes a number from {FIRST} to {LAST}, not {code!r}"
        )


def _refuse_what_travels(cls: type[Any]) -> None:
    if (
        cls in _BUILTIN
        or issubclass(cls, _CONTAINERS)
        or cls.__module__.partition(".")[0] in _STANDARD
        or any(hasattr(cls, name) for name in _FIELDS)
    ):
        raise TypeError(
            f"{cls.__qualname__} travels already, as the reference's table of values says, and encode= would never "
            "be asked: annotate with it, or wrap it in a plain class"
        )


def _refuse_what_is_taken(cls: type[Any], code: int) -> None:
    for other in (by_class.get(cls), by_code.get(code)):
        if other is not None and not _is_reloaded(other, cls, code):
            raise ValueError(
                f"register_type({cls.__qualname__}, code={code}): code {other.code} is that of {title(other.cls)} "
                "already. Each class is registered once, with a code that no other class has"
            )
    for old in [each for each, entry in by_class.items() if entry.code == code]:
        del by_class[old]


def _is_reloaded(other: Registered, cls: type[Any], code: int) -> bool:
    """Return whether *cls* is what a second import of its module made of the same class statement."""
    return other.cls is not cls and other.code == code and title(other.cls) == title(cls)


def title(cls: type[Any]) -> str:
    """Return the full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"
