"""Which commands a worker has, and how a call finds its function."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any

from asyncpool.commands import MARK, Defaults
from asyncpool.protocol import failure
from asyncpool.protocol.edge import kind
from asyncpool.protocol.messages import MAIN, CommandInfo
from asyncpool.protocol.payload import Codec
from asyncpool.worker import script

Reference = str | tuple[str, str]  # a registered name, or (module, qualified name)


class NotFound(LookupError):
    """No such command; says what there is."""


class StartFailure(Exception):
    """The worker cannot start; says what to do."""


class Entry:
    """A function with the decoder of its arguments."""

    __slots__ = ("decode", "function")

    def __init__(self, function: Callable[..., Any], codec: Codec, *, strict: bool, typed: bool = True) -> None:
        from asyncpool.protocol.edge import Signature

        self.function: Callable[..., Any] = function
        self.decode: Callable[..., tuple[list[Any], dict[str, Any]]] = Signature(
            function, strict=strict, typed=typed, codec=codec
        ).decode


class Registry:
    """The commands of the worker's modules, and every other importable function.

    Args:
        modules: What the worker imported; their marked functions become commands by name.
        registered_only: True refuses all other functions.
        codec: Decodes arguments and encodes results.

    Raises:
        StartFailure: Two commands have one name, or an annotation of a command cannot be used.
    """

    def __init__(
        self, modules: Iterable[types.ModuleType], *, registered_only: bool, codec: Codec | None = None
    ) -> None:
        self.codec: Codec = Codec(imports=True) if codec is None else codec
        self._registered_only = registered_only
        self.entries: dict[Reference, Entry] = {}
        self.commands: list[CommandInfo] = []
        for module in modules:
            for function in defined(module, lambda value: _mark(value) is not None):
                self._register(function, getattr(function, MARK))

    def find(self, reference: Reference) -> Entry:
        """Return the entry of a command.

        Raises:
            NotFound: There is none, or it may not be called.
        """
        entry = self.entries.get(reference)
        if entry is None:
            if isinstance(reference, str):
                raise NotFound(f"no command {reference!r}; {self._meant(reference)}this worker has {self._names()}")
            entry = self.entries[reference] = self._resolve(*reference)
        return entry

    def _register(self, function: Callable[..., Any], defaults: Defaults) -> None:
        for other in self.commands:
            if other.name == defaults.name:
                raise StartFailure(
                    f"two commands are named {other.name!r}: {other.module}.{other.qualname} and "
                    f"{function.__module__}.{function.__qualname__}. Give one of them @command(name=...)"
                )
        try:
            entry = Entry(function, self.codec, strict=True, typed=defaults.typed)
        except TypeError as error:
            raise StartFailure(str(error)) from None
        info = CommandInfo(
            defaults.name,
            "__main__" if function.__module__ == MAIN else function.__module__,  # as the parent calls it
            function.__qualname__,
            defaults.timeout,
            defaults.retries,
            kind(function),
            defaults.cooperative,
            defaults.cancel_grace,
            defaults.on_cancel,
        )
        self.commands.append(info)
        self.entries[info.name] = self.entries[info.module, info.qualname] = entry

    def _resolve(self, module: str, qualname: str) -> Entry:
        where = f"{module}:{qualname}"
        try:
            found: Any = script.module(module)
            for name in qualname.split("."):
                found = getattr(found, name)
        except BaseException as error:  # importing runs the user's code, which may also sys.exit()
            text = f"cannot find {where} in the worker: {type(error).__qualname__}: {failure.text(error)}"
            if module == "__main__" and isinstance(error, AttributeError):
                text += '; in a worker, what stands under `if __name__ == "__main__":` is not there: define it above'
            raise NotFound(text) from error
        if not callable(found):
            raise NotFound(f"{where} is {type(found).__qualname__}, which cannot be called")
        mark = _mark(found)
        if self._registered_only and mark is None:
            raise NotFound(f"{where} is not a @command, and this pool takes registered_only; it has {self._names()}")
        return Entry(found, self.codec, strict=False, typed=mark is None or mark.typed)

    def _meant(self, name: str) -> str:
        from difflib import get_close_matches  # only who mistypes waits for it

        close = get_close_matches(name, [info.name for info in self.commands], n=1)
        return f"did you mean {close[0]!r}? " if close else ""

    def _names(self) -> str:
        names = ", ".join(sorted(info.name for info in self.commands))
        return names or "no commands: mark them with @asyncpool.command in a module that the pool is given"


def _mark(value: Any) -> Defaults | None:
    try:
        mark = getattr(value, MARK, None)
    except Exception:  # a proxy of what is there only later, as a web framework's `request`
        return None
    return mark if isinstance(mark, Defaults) else None


def defined(module: types.ModuleType, is_meant: Callable[[Any], bool]) -> list[Any]:
    """Return the callables that *module* itself defines and *is_meant* takes, each once, however many names it has."""

    def is_one(value: Any) -> bool:
        try:
            return callable(value) and is_meant(value) and getattr(value, "__module__", None) == module.__name__
        except Exception:  # see above
            return False

    return list({id(value): value for value in tuple(vars(module).values()) if is_one(value)}.values())
