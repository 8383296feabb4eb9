"""pathlib's paths <-> the data of an ext value.

pathlib is imported by whoever uses it, and when a path arrives: at each start of a worker it would cost 2.6 ms.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CODE = 2  # of the ext value that is a path: the file system's bytes
_TRAVEL = ("PosixPath", "PurePosixPath")  # a subclass, or a path of another system, would arrive as something else


def classes() -> tuple[type, ...]:
    """Return the classes whose values travel; none while nobody has imported pathlib, whole."""
    names = _loaded()
    return tuple(names[each] for each in _TRAVEL if each in names)


def travels(cls: type) -> bool:
    """Return whether values of *cls* travel as paths; the name first, since every value without a rule is asked for."""
    return cls.__name__ in _TRAVEL and cls in classes()


def is_path_class(cls: type) -> bool:
    """Return whether a path can be made into one of *cls*."""
    base = _loaded().get("PurePath")
    return base is not None and issubclass(cls, base)


def _loaded() -> dict[str, Any]:
    pathlib = sys.modules.get("pathlib")
    return {} if pathlib is None else vars(pathlib)


def encode(path: Any) -> bytes:
    """Return the bytes of a path."""
    return str(path).encode(errors="surrogateescape")


def decode(data: memoryview) -> Path:
    """Return the path that the bytes name."""
    from pathlib import Path

    return Path(bytes(data).decode(errors="surrogateescape"))
