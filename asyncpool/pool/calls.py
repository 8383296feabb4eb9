"""The typed face of everything that runs commands: the pool, its options, a lease."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, overload

D = TypeVar("D")  # the result of commands called by name
P = ParamSpec("P")
T = TypeVar("T")


class Calls(Generic[D]):
    """Runs commands; the result has the type that the command's annotations say."""

    @overload
    async def run(self, command: str, /, *args: Any, **kwargs: Any) -> D: ...
    @overload
    async def run(self, command: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def run(self, command: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a command in a warm worker and return its result.

        The worker is freed by its own reply, not by the caller. Cancelling this call while it waits withdraws it: the
        command never runs. Cancelling it while the command runs kills the worker, which is replaced; the call then
        returns once the worker is gone, after ``cancel_grace`` + 1 seconds at most.

        Args:
            command: A ``@command`` of the pool's modules by its name, or any function that a worker can import.
            args: The command's positional arguments: anything that MessagePack can carry, dataclasses, Structs,
                datetimes, UUIDs, Enums, paths, complex numbers and integers of any size.
            kwargs: The command's keyword arguments; options of the pool never mix with them (see ``options``).

        Returns:
            What the command returned, decoded by its return annotation where it was given as a function.

        Raises:
            CommandError: The command raised; also an instance of the exception's own type where that is an ordinary
                one. UnknownCommand and ArgumentError: nothing ran. ResultError: its result cannot travel.
            PayloadError: The command or an argument cannot travel. No worker was touched.
            PoolFull: ``max_waiting`` calls already wait. Nothing was sent.
            AcquireTimeout: No worker came free within ``acquire_timeout`` seconds. The command never ran.
            CommandTimeout: The command ran longer than its timeout and was stopped.
            WorkerCrashed: The worker ended while it had the call.
            WorkerStartError: No worker is live, and none can be started.
            ProtocolError: The worker sent something else than frames.
            PoolClosed: The pool is not started, closing, closed, or this is a forked child.
        """
        return await self._call(command, args, kwargs)

    def _call(self, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        raise NotImplementedError
