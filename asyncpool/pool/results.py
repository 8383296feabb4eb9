"""The results of one command for many items: what ``async with pool.map(...) as results`` gives.

Law 1: an item is pulled only while fewer than *window* are pulled whose result was not taken: so a slow consumer stops
       the source, and neither an endless source nor an endless wait fills memory.
Law 2: of those, at most AHEAD times as many calls are with the pool as its workers can run: others get their turn.
Law 3: the pool is never asked for more than it takes: the map holds back where a call would be refused with PoolFull.
Law 4: every pulled item has one place, and each place gets one outcome: a result, or an error.
Law 5: one task pulls. It ends with the block, as does every call.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import AsyncIterable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, TypeVar

from msgspec import Raw

from asyncpool.errors import AsyncPoolError, PayloadError, PoolError, ProtocolError
from asyncpool.pool.call import Call, Reply
from asyncpool.pool.caller import Begun, Caller
from asyncpool.pool.chunk import MOST_BYTES, Answers
from asyncpool.pool.config import count
from asyncpool.pool.options import Options
from asyncpool.pool.reference import unroll
from asyncpool.pool.supervisor import Supervisor
from asyncpool.protocol import failure
from asyncpool.protocol.messages import Failure

AHEAD = 2  # calls with the pool for each that its workers can run: one runs, one is there when that is done
WINDOW = 2 * AHEAD  # items pulled, for each that the workers can run, when nothing else is said

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class Place:
    """Where the outcome of one item belongs."""

    __slots__ = ("begun", "number", "outcome")

    def __init__(self, number: int) -> None:
        self.number: int = number  # of the item, from 0
        self.begun: Begun | None = None
        self.outcome: Reply | BaseException | None = None

    def open(self) -> Any:
        """Return the result, or raise the error."""
        if isinstance(self.outcome, BaseException):
            self.tell(self.outcome)
            raise self.outcome
        assert self.begun is not None
        assert self.outcome is not None
        try:
            return self.begun.open(self.outcome)
        except Exception as error:
            self.tell(error)
            raise

    def tell(self, error: BaseException) -> None:
        """Say in a note whose error it is."""
        whose = f"This is item {self.number} of a map, counted from 0."
        if whose not in getattr(error, "__notes__", ()):
            BaseException.add_note(error, whose)  # not the class's own


class Results(Generic[T]):
    """The results of a command for each of many items: what ``async with pool.map(...) as results`` gives.

    Iterate with ``async for``. Leaving the block stops what still runs; what waits never runs.
    """

    def __init__(
        self,
        caller: Caller,
        command: Any,
        items: Iterable[Any] | AsyncIterable[Any],
        options: Options,
        *,
        ordered: bool,
        window: int | None,
        chunk: int,
    ) -> None:
        self._caller = caller
        self._command: Any = command
        self._first: tuple[Any, ...] = ()  # arguments before the item
        self._named: dict[str, Any] = {}
        if not isinstance(command, str):
            self._command, self._first, self._named = unroll(command, (), {})
        self._items = items
        self._options = options
        self._concurrency = caller.config.concurrency
        self._ordered = ordered
        self._asked_window = window
        self._chunk = chunk
        self._supervisor: Supervisor | None = None
        self._pulling: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None  # of the source or the pool, raised when all results are taken
        self._over = False  # nothing more is pulled
        self._ended = False  # nothing more is given
        self._pulled = 0  # items so far
        self._untaken = 0  # items that were pulled and whose result was not taken
        self._places: deque[Place] = deque()  # of them: all, in order, or else those that are done
        self._calls: dict[Begun, None] = {}  # with the pool
        self._batch: list[tuple[Place, Raw]] = []  # of the next chunk
        self._batch_bytes = 0
        self._news = asyncio.Event()  # for the consumer
        self._demand = asyncio.Event()  # for who pulls

    # --- the consumer's face -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Results[T]:
        if self._pulling is not None:
            raise PoolError("this map() is entered already: each `async with` wants one of its own")
        self._supervisor = self._caller.check(self._command)
        self._pulling = asyncio.create_task(self._pull(self._supervisor), name=f"asyncpool map {self._command}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pulling is None or self._supervisor is None:
            return
        self._end()
        self._pulling.cancel()
        self._places.clear()
        calls = [begun.call for begun in self._calls]
        answered = [call for call in calls if _is_answered(call)]
        self._calls.clear()
        try:  # those first: a worker that ends an answered one would take them next
            await self._caller.abandon(self._supervisor, *(call for call in calls if call not in answered))
            await self._let_end([call.future for call in answered])
        finally:
            await self._caller.abandon(self._supervisor, *answered)
            await asyncio.wait([self._pulling])

    async def _let_end(self, answered: list[asyncio.Future[Reply]]) -> None:
        """Wait for the ends of chunks whose items are all answered: they are on the way, and not to be cancelled."""
        if answered:
            await asyncio.wait(answered, timeout=self._caller.config.cancel_grace)

    def __aiter__(self) -> Results[T]:
        return self

    async def __anext__(self) -> T:
        if self._pulling is None:
            raise PoolError("enter it first: `async with pool.map(...) as results`")
        while not self._ended:
            if self._places and self._places[0].outcome is not None:
                result: T = self._take(self._places.popleft())
                return result
            if self._over and not self._untaken:
                self._ended = True
                if self._failure is not None:
                    raise self._failure
                break
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    def _take(self, place: Place) -> Any:
        self._untaken -= 1
        self._demand.set()
        try:
            return place.open()
        except Exception as error:
            if self._options.return_exceptions:
                return error
            self._end()
            raise

    def _end(self) -> None:
        self._ended = self._over = True
        self._news.set()

    # --- the source --------------------------------------------------------------------------------------------------

    async def _pull(self, supervisor: Supervisor) -> None:
        """Pull items as far as the window allows, and make calls of them."""
        try:
            await self._wait_for_demand(supervisor)
            if isinstance(self._items, AsyncIterable):
                async for item in self._items:
                    await self._take_in(item, supervisor)
            else:
                for item in self._items:
                    await self._take_in(item, supervisor)
            await self._ship(supervisor)
        except (Exception, asyncio.CancelledError) as error:
            if self._ended:
                raise
            await self._ship_the_rest(supervisor, error)
        finally:
            self._over = True
            self._news.set()

    async def _ship_the_rest(self, supervisor: Supervisor, error: BaseException) -> None:
        """The source has failed: what it gave before is worth its results."""
        self._failure = error
        try:
            await self._ship(supervisor)
        except Exception:
            pass  # the items' places tell it

    async def _take_in(self, item: Any, supervisor: Supervisor) -> None:
        place = Place(self._pulled)
        self._pulled += 1
        self._untaken += 1
        if self._ordered:
            self._places.append(place)
        if self._chunk == 1:
            await self._begin(supervisor, [place], (*self._first, item))
        else:
            await self._pack(supervisor, place, item)
        await self._wait_for_demand(supervisor)

    async def _wait_for_demand(self, supervisor: Supervisor) -> None:
        """Return when one more item may be pulled."""
        while not self._over:
            slots = supervisor.scheduler.limits.max_size * self._concurrency
            window = self._asked_window or WINDOW * slots * self._chunk
            if self._batch and len(self._batch) == self._untaken >= window:  # nothing else will make room
                await self._ship(supervisor)
            if self._untaken < window and len(self._calls) < AHEAD * slots:
                return
            self._demand.clear()
            await self._demand.wait()
        raise asyncio.CancelledError

    # --- calls -------------------------------------------------------------------------------------------------------

    async def _begin(self, supervisor: Supervisor, places: list[Place], args: Any, *, chunk: bool = False) -> None:
        """Submit a call as soon as the pool takes it."""
        if supervisor.scheduler.full and not self._over:
            await supervisor.room.wait()
        if self._over:  # the map has ended meanwhile
            supervisor.room.look()  # it was this map's turn, and it takes no room
            raise asyncio.CancelledError
        answers = Answers(self._answered, places) if chunk else None
        try:
            items = len(places) if chunk else 0
            begun = self._caller.begin(
                self._command, args, self._named, self._options, updates=answers, items=items, background=True
            )
        except Exception as error:
            for number, place in enumerate(places):
                self._settle(place, error if number == 0 else _its_own(error))
            if isinstance(error, PayloadError):
                supervisor.room.look()  # it was this map's turn, and it takes no room
                return
            raise
        self._calls[begun] = None
        for place in places:
            place.begun = begun
        if answers is not None:
            answers.call = begun.call
        begun.call.future.add_done_callback(lambda future: self._done(begun, places, future))

    async def _pack(self, supervisor: Supervisor, place: Place, item: Any) -> None:
        """Put an item into the chunk that is being made; send that when it is full."""
        try:
            raw = Raw(self._caller.codec.encode((*self._first, item)))
        except Exception as error:  # encoding runs the user's own properties
            self._settle(place, PayloadError(f"item {place.number} of the map cannot travel: {failure.text(error)}"))
            return
        size = len(memoryview(raw))
        most = min(MOST_BYTES, self._caller.config.max_message // 2)
        if self._batch_bytes + size > most:
            try:
                await self._ship(supervisor)
            except Exception as error:  # of those before it; it would be in no batch and in no call
                self._settle(place, _its_own(error))
                raise
        self._batch.append((place, raw))
        self._batch_bytes += size
        if len(self._batch) >= self._chunk or self._batch_bytes > most:
            await self._ship(supervisor)

    async def _ship(self, supervisor: Supervisor) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            await self._begin(supervisor, [place for place, _ in batch], [raw for _, raw in batch], chunk=True)

    # --- outcomes ----------------------------------------------------------------------------------------------------

    def _done(self, begun: Begun, places: list[Place], future: asyncio.Future[Reply]) -> None:
        """A call has its outcome, which is that of all its places that have none."""
        self._calls.pop(begun, None)
        self._demand.set()
        if future.cancelled():
            return
        error = future.exception()
        left = [place for place in places if place.outcome is None]
        for number, place in enumerate(left):
            if error is not None:
                self._settle(place, error if number == 0 else _unstarted(error))
            elif begun.call.items and not isinstance(future.result(), Failure):
                self._settle(place, ProtocolError(f"the worker left out {len(left)} items of a chunk", started=True))
            else:
                self._settle(place, future.result())

    def _answered(self, place: Place, outcome: Reply | Exception) -> None:
        """The worker has answered an item of a chunk."""
        if place.outcome is None:
            self._settle(place, outcome)

    def _settle(self, place: Place, outcome: Reply | BaseException) -> None:
        if self._ended:
            return
        place.outcome = outcome
        if not self._ordered:
            self._places.append(place)
        self._news.set()


def results(
    caller: Caller,
    command: Any,
    items: Any,
    options: Options,
    *,
    ordered: bool,
    window: int | None,
    chunk: int,
    return_exceptions: bool,
) -> Results[Any]:
    """Return the results of a map; it begins when they are entered.

    Raises:
        TypeError, ValueError: As ``Pool.map`` says.
    """
    if not isinstance(items, (Iterable, AsyncIterable)):
        raise TypeError(f"map() takes something to iterate over, not {items!r}")
    if options.on_update is not None:
        raise ValueError("map() has no place for on_update=: run or stream the commands that send updates")
    options = replace(options, acquire_timeout=None, return_exceptions=return_exceptions or options.return_exceptions)
    window = None if window is None else count("window", window, 1)
    chunk = count("chunk", chunk, 1) if caller.config.program is None else 1
    return Results(caller, command, items, options, ordered=ordered, window=window, chunk=chunk)


def _unstarted(error: BaseException) -> BaseException:
    """Return the error for an item of a chunk that came after the one which the worker ended with."""
    its_own = _its_own(error)
    if isinstance(its_own, AsyncPoolError):
        its_own.started = False
    return its_own


def _its_own(error: E) -> E:
    """Return a copy for another item, whose notes are not those of the first."""
    its_own = copy.copy(error)
    if hasattr(error, "__notes__"):
        its_own.__notes__ = list(error.__notes__)
    return its_own


def _is_answered(call: Call) -> bool:
    """Say whether a call is a chunk with an answer for each item: there is nothing left to be stopped."""
    return isinstance(call.updates, Answers) and call.updates.complete
