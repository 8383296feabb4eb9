"""The typed face of what a pool does beside one awaited call: many of them, and those in the background."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, Literal, ParamSpec, TypeVar, overload

from asyncpool.pool.caller import Caller
from asyncpool.pool.calls import Calls
from asyncpool.pool.leases import Acquisition
from asyncpool.pool.options import Options
from asyncpool.pool.results import Results, results
from asyncpool.pool.stream import Stream
from asyncpool.pool.submission import Submissions

A = TypeVar("A")  # an item
D = TypeVar("D")  # the result of commands called by name
P = ParamSpec("P")
T = TypeVar("T")


class ManyCalls(Calls[D]):
    """Runs commands, also for many items, in the background, and on a leased worker.

    Args:
        caller: Makes the calls.
        options: What they ask for.
        submissions: Holds those in the background.
    """

    def __init__(self, caller: Caller, options: Options, submissions: Submissions) -> None:
        self._caller = caller
        self._options = options
        self._submissions = submissions

    @overload
    def map(
        self,
        command: str,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[False] = False,
    ) -> Results[D]: ...
    @overload
    def map(
        self,
        command: Callable[[A], Generator[Any, Any, T]],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[False] = False,
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        command: Callable[[A], AsyncIterator[Any]],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[False] = False,
    ) -> Results[None]: ...
    @overload
    def map(
        self,
        command: Callable[[A], Iterator[Any]],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[False] = False,
    ) -> Results[Any]: ...
    @overload
    def map(
        self,
        command: Callable[[A], Coroutine[Any, Any, T]],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[False] = False,
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        command: Callable[[A], T],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[False] = False,
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        command: str,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[True],
    ) -> Results[D | Exception]: ...
    @overload
    def map(
        self,
        command: Callable[[A], Generator[Any, Any, T]],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[True],
    ) -> Results[T | Exception]: ...
    @overload
    def map(
        self,
        command: Callable[[A], AsyncIterator[Any]],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[True],
    ) -> Results[Exception | None]: ...
    @overload
    def map(
        self,
        command: Callable[[A], Iterator[Any]],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[True],
    ) -> Results[Any]: ...
    @overload
    def map(
        self,
        command: Callable[[A], Coroutine[Any, Any, T]],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[True],
    ) -> Results[T | Exception]: ...
    @overload
    def map(
        self,
        command: Callable[[A], T],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: Literal[True],
    ) -> Results[T | Exception]: ...
    def map(
        self,
        command: Any,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        window: int | None = None,
        chunk: int = 1,
        return_exceptions: bool = False,
    ) -> Results[Any]:
        """Run a command for each of many items, and take the results as they come.

        ``async with pool.map(pet_kitten, names) as purrs:`` begins; ``async for purr in purrs`` takes the results. The
        items are pulled lazily: neither an endless source nor a slow consumer fills memory. The calls wait in the queue
        like all others, however long that takes (``acquire_timeout`` is not theirs), and are held back where the pool
        would refuse them with PoolFull. Leaving the block stops what runs; what waits never runs.

        Args:
            command: As for ``run``; it gets each item as its one positional argument.
            items: What to run it for. An error that it raises is raised after the results of the items before it.
                Plain ones are pulled on the event loop, so they must not block.
            ordered: True gives the results in the order of the items, False as they are done.
            window: Items that may be pulled without their result being taken. Default: 4 * *chunk* for each call that
                the pool's workers can run at a time. However large, two such calls at most are with the pool.
            chunk: Items that go to a worker together, one after another, each answered as soon as it is done: worth it
                for commands that take less than a millisecond. ``timeout`` then counts once for each item, and a worker
                that dies leaves no doubt about more than one: the items after it have ``.started`` False. A chunk is
                sent when it is full, when it fills the window, or when the items end. A foreign program gets
                single items.
            return_exceptions: True gives the error of an item in the place of its result. False raises it there, which
                ends the map.

        Raises:
            TypeError: *items* cannot be iterated, or a number is no integer.
            ValueError: A number is below 1, or the options have ``on_update``.
            PayloadError, PoolClosed: When the block is entered, as ``run`` does.
            All others: In the place of the item, as ``run`` does.
        """
        return results(
            self._caller,
            command,
            items,
            self._options,
            ordered=ordered,
            window=window,
            chunk=chunk,
            return_exceptions=return_exceptions,
        )

    @overload
    def submit(self, command: str, /, *args: Any, **kwargs: Any) -> asyncio.Task[D]: ...
    @overload
    def submit(
        self, command: Callable[P, Generator[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[T]: ...
    @overload
    def submit(
        self, command: Callable[P, AsyncIterator[Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[None]: ...
    @overload
    def submit(
        self, command: Callable[P, Iterator[Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[Any]: ...
    @overload
    def submit(
        self, command: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[T]: ...
    @overload
    def submit(self, command: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Task[T]: ...
    def submit(self, command: Any, /, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """Run a command in the background.

        The pool holds the task until it is done, and ``aclose`` waits for it within its grace. A failure that nobody
        awaits or asks for is logged to the logger ``asyncpool`` when the task is gone. Cancelling the task stops the
        command.

        Args:
            command: As for ``run``.
            args: As for ``run``.
            kwargs: As for ``run``.

        Returns:
            A task that ends as ``run`` would.

        Raises:
            PoolFull, PoolClosed, PayloadError: At once; nothing was begun.
        """
        return self._submissions.add(self._caller, command, args, kwargs, self._options)

    def acquire(self) -> Acquisition:
        """Lease a worker for several calls: ``async with pool.acquire() as worker``, or await it and ``release``.

        Leaving the block with a call still running kills that worker. Waits in the same queue as calls do.

        Raises:
            PoolFull, AcquireTimeout, WorkerStartError, PoolClosed: As ``run`` does, when it is awaited.
            PoolError: The task that asks holds all workers already and would wait for ever.
        """
        return Acquisition(self._caller.leases, self._options.acquire_timeout)

    def _call(self, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        return self._caller.run(command, args, kwargs, self._options)

    def _stream(self, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any, Any]:
        return self._caller.stream(command, args, kwargs, self._options)
