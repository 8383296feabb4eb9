"""What a caller names as a command -> what travels: a name, or (module, qualified name)."""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from asyncpool.errors import PayloadError
from asyncpool.protocol.messages import MAIN

Reference = str | tuple[str, str]

NO_SCRIPT = (
    "a prompt, a notebook, `python -c` or standard input (a __main__ without a file), which workers cannot import: "
    "write it into a module (in a notebook by %%writefile kittens.py as the first line of its cell), import it from "
    "there, and pass Pool(...) that module"
)


def main_script() -> str:
    """Return where workers find what runs here as ``__main__``.

    Returns:
        The absolute path of its file, or its name where it was started by ``python -m``; "" when it has neither.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return absolute(file) if isinstance(file, str) and os.path.isfile(file) else ""


def absolute(path: object) -> str:
    """Return a path that a worker can be told.

    Returns:
        "" for what is no text or relative to a working directory that is gone, which Python's own imports pass over as
        well, and for what is not UTF-8, as which it would have to travel.
    """
    if not isinstance(path, str):
        return ""
    try:
        return os.path.abspath(path).encode().decode()
    except (OSError, UnicodeEncodeError):
        return ""


def unroll(
    command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Take ``functools.partial`` apart: its function travels by name, its arguments with the call's own."""
    while isinstance(command, functools.partial):
        args = command.args + args
        kwargs = {**command.keywords, **kwargs}
        command = command.func
    return command, args, kwargs


def reference(function: Any) -> tuple[str, str]:
    """Return the module and the qualified name under which a worker finds *function*.

    Raises:
        PayloadError: It cannot be found by them; says what to do.
    """
    if not callable(function):
        raise PayloadError(
            f"a command is a function or the name of one, not {function!r}: "
            "pass the function itself and its arguments after it, as in run(function, 1, 2)"
        )
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, types.ModuleType):  # a function written in C
        module = owner.__name__
    elif isinstance(owner, type):  # a classmethod; one written in C does not know its module
        module = owner.__module__
    elif owner is not None:
        raise PayloadError(
            f"{_title(function)} is bound to an object, which stays in this process: "
            "pass a module-level function, and what it needs as arguments"
        )
    if not isinstance(module, str) or not isinstance(qualname, str):
        raise PayloadError(f"{function!r} has no module and name under which a worker could find it")
    if "<lambda>" in qualname:
        raise PayloadError(f"a lambda has no name under which a worker could find it: def it in a module ({module})")
    if "<locals>" in qualname:
        raise PayloadError(
            f"{_title(function)} is defined inside a function, where a worker cannot find it: "
            "move it to the top of its module, and what it closes over into its arguments"
        )
    if module in ("__main__", MAIN):
        module = "__main__"
        if not main_script():
            raise PayloadError(f"{qualname} is defined in {NO_SCRIPT}")
        sys.modules.setdefault(MAIN, sys.modules[module])  # for what workers pickle
    _verify(function, module, qualname)
    return module, qualname


def _verify(function: Any, module: str, qualname: str) -> None:
    found: Any = sys.modules.get(module)
    if found is None:
        return  # imported by other means; the worker will say whether it finds it
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if found is not function and found != function:
        raise PayloadError(
            f"{module}.{qualname} is not the function that was passed (a decorator or an assignment replaced it): "
            "a worker would run another one. Use functools.wraps in the decorator, or give the function its own name"
        )


def _title(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
