"""The application's own script, its ``__main__``, as a module of a worker.

Law 1: it runs here at most once, under another name than ``__main__``, so that what it guards is not run.
Law 2: what it does not guard starts nothing: while it is imported, neither a pool nor an event loop can be started.
Law 3: no module starts a pool while a worker imports it: the script may be imported under its own name, too.
"""

from __future__ import annotations

import _thread
import importlib
import os
import sys
import types
from typing import Any

from asyncpool import commands
from asyncpool.protocol.messages import MAIN

known_as: str = ""  # Hello's: the absolute path of its file, or its name after python -m
_failures: list[BaseException] = []  # of the one time that it was imported


def module(name: str) -> types.ModuleType:
    """Return the module *name*, imported; ``__main__`` is the application's script."""
    if name == "__main__":
        return _main()
    if name in sys.modules:
        return importlib.import_module(name)
    with _Importing():  # it may be the script under its own name, or import it
        return importlib.import_module(name)


def _main() -> types.ModuleType:
    for failure in _failures:
        raise ImportError(f"the script {known_as} could not be imported: {failure!r}")
    made = sys.modules.get(MAIN)
    if made is None:
        made = types.ModuleType(MAIN)
        before = sys.modules["__main__"]
        # Under both names: the one is that of what it defines, the other stands in what the application has pickled.
        sys.modules[MAIN] = sys.modules["__main__"] = made
        try:
            _run(made)
        except BaseException as error:
            _failures.append(error)
            del sys.modules[MAIN]
            sys.modules["__main__"] = before
            raise
    return made


def _run(made: types.ModuleType) -> None:
    code: Any
    if os.path.isabs(known_as):
        made.__file__ = known_as
        with open(known_as, "rb") as file:
            code = compile(file.read(), known_as, "exec", dont_inherit=True)
    else:
        import importlib.util

        spec = importlib.util.find_spec(known_as) if known_as else None
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"the application's script {known_as!r} is not there", name="__main__")
        code = spec.loader.get_code(known_as)  # type: ignore[attr-defined]
        made.__spec__, made.__file__, made.__package__ = spec, spec.origin, spec.parent
    with _Unguarded():
        exec(code, vars(made))


class _Importing:
    """Lets no pool be started by what is imported in this thread: each of its workers would start another."""

    def __enter__(self) -> None:
        self._thread = _thread.get_ident()
        self._is_first = self._thread not in commands.importing_in  # else it is imported by another module
        commands.importing_in.add(self._thread)

    def __exit__(self, *_error: object) -> None:
        if self._is_first:
            commands.importing_in.discard(self._thread)


class _Unguarded(_Importing):
    """Lets not even an event loop be started by a script that is imported."""

    def __enter__(self) -> None:
        super().__enter__()
        import asyncio  # the script will, or it has no pool

        self._runner = asyncio.Runner
        self._run = asyncio.Runner.run
        asyncio.Runner.run = _refuse  # type: ignore[method-assign,assignment]

    def __exit__(self, *_error: object) -> None:
        super().__exit__()
        self._runner.run = self._run  # type: ignore[method-assign]


def _refuse(_runner: object, coroutine: Any, **_options: Any) -> None:
    coroutine.close()
    raise RuntimeError(commands.UNGUARDED)
