"""The context managers around a worker's life.

Law 1: they are entered in the order of the modules and of their definition, and left in reverse, each once.
Law 2: one that fails to be entered fails the start, and those before it are left with its exception.
Law 3: what one raises when it is left is written to stderr, and keeps no other from being left.
Law 4: all async ones are entered and left by one task, as cancel scopes demand.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Raw

from asyncpool.commands import LIFESPAN_MARK
from asyncpool.protocol import edge
from asyncpool.protocol.messages import NOTHING
from asyncpool.protocol.payload import Codec
from asyncpool.worker.registry import StartFailure, defined

Exit = tuple[Any, Any, Any]
NO_ERROR: Exit = (None, None, None)


class Lifespan:
    """What the worker's modules have around its life.

    Args:
        modules: What the worker imported.
        codec: Decodes the config.
        config: The pool's, for those that take it.

    Raises:
        StartFailure: One takes what there is not, or the config does not fit its annotation.
    """

    def __init__(self, modules: Iterable[types.ModuleType], codec: Codec, config: Raw) -> None:
        makers = [maker for module in modules for maker in defined(module, _is_marked)]
        self.count: int = len(makers)
        self.wants_loop: bool = any(map(_may_be_async, makers))
        self._makers = [(maker, _arguments(maker, codec, config)) for maker in makers]
        self._entered: list[Any] = []

    def enter(self) -> None:
        """Enter all of them; there is no event loop, and none of them wants one."""
        try:
            for maker, arguments in self._makers:
                manager = maker(*arguments)
                manager.__enter__()
                self._entered.append(manager)
        except BaseException as error:
            self.leave((type(error), error, error.__traceback__))
            raise

    def leave(self, error: Exit = NO_ERROR) -> None:
        """Leave all that were entered."""
        while self._entered:
            try:
                self._entered.pop().__exit__(*error)
            except BaseException as second:
                _report(second, error)

    async def enter_on_loop(self) -> None:
        """Enter all of them on the running event loop."""
        try:
            for maker, arguments in self._makers:
                manager = maker(*arguments)
                if _is_async(manager):
                    await manager.__aenter__()
                else:
                    manager.__enter__()
                self._entered.append(manager)
        except BaseException as error:
            await self.leave_on_loop((type(error), error, error.__traceback__))
            raise

    async def leave_on_loop(self, error: Exit = NO_ERROR) -> None:
        """Leave all that were entered on the running event loop."""
        while self._entered:
            manager = self._entered.pop()
            try:
                if _is_async(manager):
                    await manager.__aexit__(*error)
                else:
                    manager.__exit__(*error)
            except BaseException as second:
                _report(second, error)


def _is_marked(value: Any) -> bool:
    """Say whether it is a lifespan; what inherits or wraps one is none."""
    return getattr(value, "__dict__", {}).get(LIFESPAN_MARK) is value


def _may_be_async(maker: Any) -> bool:
    """Say whether calling *maker* may give an async context manager: of a plain function nobody knows before."""
    if isinstance(maker, type):
        return hasattr(maker, "__aenter__")
    return not inspect.isgeneratorfunction(inspect.unwrap(maker))


def _is_async(manager: Any) -> bool:
    return hasattr(type(manager), "__aenter__")


def _arguments(maker: Callable[..., Any], codec: Codec, config: Raw) -> list[Any]:
    """Return what *maker* is called with: nothing, or the config."""
    title = f"lifespan {maker.__module__}.{maker.__qualname__}"
    parameters = list(inspect.signature(maker).parameters.values())
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    required = [each.name for each in named if each.default is each.empty]
    if len(required) > 1 or (required and named[0].kind is named[0].KEYWORD_ONLY):
        raise StartFailure(
            f"{title} takes {', '.join(required)}; it may take one positional argument, Pool(config=...)"
        )
    if not named or named[0].kind is named[0].KEYWORD_ONLY or (config == NOTHING and not required):
        return []
    name, annotation = named[0].name, named[0].annotation
    try:
        annotation = Any if annotation is inspect.Parameter.empty else edge.resolve(maker, annotation)
        return [codec.decoder(annotation).decode(config)]
    except Exception as error:  # resolving and decoding run the user's own code
        missing = " Pool(config=) was not given." if config == NOTHING else ""
        raise StartFailure(f"{title}: Pool(config=) does not fit its parameter {name!r}: {error}.{missing}") from None


def _report(error: BaseException, reason: Exit) -> None:
    if error is reason[1]:
        return  # a context manager that lets pass what it was left with
    import traceback

    text = "".join(traceback.format_exception(error))
    sys.stderr.write(f"asyncpool: a lifespan raised when it was left:\n{text}")
