"""pydantic's models <-> plain data. pydantic is imported by whoever defines a model, never by this file."""

from __future__ import annotations

import sys
from typing import Any


def is_model(cls: Any) -> bool:
    """Return whether *cls* is a class of pydantic's models."""
    main = sys.modules.get("pydantic.main")
    base = None if main is None else vars(main).get("BaseModel")
    return base is not None and isinstance(cls, type) and issubclass(cls, base)


def to_plain(model: Any) -> Any:
    """Return what the model's class can be made of again."""
    return model.model_dump(round_trip=True, by_alias=True)  # round_trip: without computed fields


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
