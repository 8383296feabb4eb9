"""pydantic's models <-> plain data. pydantic is imported by whoever defines a model, never by this file."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any

_OPAQUE = ("url", "multi-host-url")  # the kinds of pydantic's schemas whose values are objects also in a dump
_RESTS = ("ipaddress", "pydantic", "pydantic_core")  # whose objects may rest in a dump


def is_model(cls: Any) -> bool:
    """Return whether *cls* is a class of pydantic's models."""
    main = sys.modules.get("pydantic.main")
    base = None if main is None else vars(main).get("BaseModel")
    return base is not None and isinstance(cls, type) and issubclass(cls, base)


def to_plain(model: Any) -> Any:
    """Return what the model's class can be made of again."""
    cls = model.__class__
    dumped = model.model_dump(round_trip=True, by_alias=not _has_two_names(cls))  # round_trip: no computed fields
    return _without_rests(dumped) if _leaves_rests(cls) else dumped


@functools.lru_cache(maxsize=512)
def _leaves_rests(cls: Any) -> bool:
    """Say whether a dump may hold objects (addresses, URLs, secrets): most models pay for no second look at theirs."""
    return any("serialization" in node or node.get("type") in _OPAQUE for node in _schemas(cls))


@functools.lru_cache(maxsize=512)
def _has_two_names(cls: Any) -> bool:
    """Say whether a field, also of a model within, is written under an alias by which it is not read."""
    for node in _schemas(cls):
        written, read = node.get("serialization_alias"), node.get("validation_alias")
        if isinstance(written, str) and written != read and [written] not in (read if isinstance(read, list) else []):
            return True
    return False


def _schemas(cls: Any) -> Iterator[dict[str, Any]]:
    """Yield pydantic's schema of a model, and each within it."""
    found: list[Any] = [cls.__pydantic_core_schema__]
    seen: set[int] = set()  # what a default holds may contain itself
    while found:
        node = found.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if type(node) is dict:
            yield node
            found.extend(node.values())
        elif type(node) in (list, tuple):
            found.extend(node)


def _without_rests(value: Any) -> Any:
    """Return what was dumped with every such object as what pydantic makes it of again; a secret as what it hides."""
    if isinstance(value, dict):
        return {_without_rests(key): _without_rests(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_without_rests(each) for each in value]
    if not any(base.__module__.partition(".")[0] in _RESTS for base in type(value).__mro__):
        return value
    if hasattr(value, "get_secret_value"):
        return _without_rests(value.get_secret_value())
    return str(value) if type(value).__module__ == "ipaddress" or hasattr(value, "unicode_string") else value


def from_plain(cls: Any, value: Any) -> Any:
    """Return the model.

    Raises:
        ValueError: pydantic says what does not fit.
    """
    try:
        return cls.model_validate(value, by_alias=True, by_name=True)
    except ValueError as error:
        if cls.model_config.get("val_json_bytes", "utf8") != "utf8":
            raise
        try:  # a strict model takes a list for a set, or a string for a UUID, only from JSON
            return cls.model_validate_json(_json(value), by_alias=True, by_name=True)
        except ValueError:
            raise error from None


def _json(value: Any) -> bytes:
    """Return what came as JSON; raises ValueError where bytes in it are no text, for which JSON has no word."""
    made: bytes = sys.modules["pydantic_core"].to_json(value, bytes_mode="utf8", inf_nan_mode="constants")
    return made
