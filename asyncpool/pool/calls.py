"""The typed face of everything that runs commands: the pool, its options, a lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, ParamSpec, TypeVar, overload

from asyncpool.pool.stream import Stream

D = TypeVar("D")  # the result of commands called by name
P = ParamSpec("P")
T = TypeVar("T")
Y = TypeVar("Y")  # an update


class Calls(Generic[D]):
    """Runs commands; the result has the type that the command's annotations say."""

    @overload
    async def run(self, command: str, /, *args: Any, **kwargs: Any) -> D: ...
    @overload
    async def run(self, command: Callable[P, Generator[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def run(self, command: Callable[P, AsyncIterator[Any]], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    async def run(self, command: Callable[P, Iterator[Any]], /, *args: P.args, **kwargs: P.kwargs) -> Any: ...
    @overload
    async def run(self, command: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def run(self, command: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def run(self, command: Any, /, *args: Any, **kwargs: Any) -> Any:  # one coroutine less than an ``async def``
        """Run a command in a warm worker and return its result.

        The worker is freed by its own reply, not by the caller. Cancelling this call while it waits withdraws it: the
        command never runs. Cancelling it while the command runs stops the command: one that is async, a generator or
        cooperative is asked to and keeps its worker, if it stops within ``cancel_grace``; else the worker is killed
        and replaced. The call then returns once the command runs no more, after ``cancel_grace`` + 1 seconds at most.

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
            AcquireTimeout: No worker came free within ``acquire_timeout`` seconds; with ``retries``, maybe after a run
                that crashed.
            CommandTimeout: The command ran longer than its timeout and was stopped.
            WorkerCrashed: The worker ended while it had the call.
            WorkerStartError: No worker is live, and none can be started.
            ProtocolError: The worker sent something else than frames.
            PoolClosed: The pool is not started, closing, closed, or this is a forked child.
        """
        return self._call(command, args, kwargs)

    @overload
    def stream(self, command: str, /, *args: Any, **kwargs: Any) -> Stream[Any, D]: ...
    @overload
    def stream(
        self, command: Callable[P, Generator[Y, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Stream[Y, T]: ...
    @overload
    def stream(
        self, command: Callable[P, AsyncIterator[Y]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Stream[Y, None]: ...
    @overload
    def stream(self, command: Callable[P, Iterator[Y]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[Y, Any]: ...
    @overload
    def stream(
        self, command: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Stream[Any, T]: ...
    @overload
    def stream(self, command: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Stream[Any, T]: ...
    def stream(self, command: Any, /, *args: Any, **kwargs: Any) -> Stream[Any, Any]:
        """Run a command and take what it yields, or sends with ``asyncpool.emit``, while it runs.

        ``async with pool.stream(groom, names) as updates:`` submits it; ``async for update in updates`` takes its
        updates; ``updates.result`` is what it returned. A slow consumer makes the command wait: at most 64 updates,
        or about 1 MiB of them, are under way, and the time that it waits for them does not count against its timeout.
        Leaving the block before the end stops the command.

        Args:
            command: As for ``run``.
            args: As for ``run``.
            kwargs: As for ``run``.

        Raises:
            PayloadError, PoolFull, PoolClosed: When the block is entered, as ``run`` does.
            All others: Where the updates end, as ``run`` does.
        """
        return self._stream(command, args, kwargs)

    def _stream(self, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any, Any]:
        raise NotImplementedError

    def _call(self, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        raise NotImplementedError
