"""A running command that sends updates, from its caller's view.

Law 1: a slow consumer stops the command: it may send only as many updates as it has credit for.
Law 2: credit is given back when updates are taken, many at a time.
Law 3: while the command waits for credit, its time does not count.
Law 4: what is left in the buffer when the caller leaves counts as taken, and so does whatever still comes: a command
       that may finish must not wait for credit that nobody would give.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from asyncpool.errors import PoolError
from asyncpool.pool.call import Call
from asyncpool.pool.reply import refused
from asyncpool.protocol import payload
from asyncpool.protocol.messages import MOST_BYTES, Update

if TYPE_CHECKING:
    from asyncpool.pool.deadline import Deadline

WINDOW = 64  # updates that may be on their way or not taken; with 16 half as many come in a second

Y = TypeVar("Y")  # an update
T = TypeVar("T")  # the result


class Begun(Protocol):
    """A call that was submitted."""

    @property
    def call(self) -> Call:
        """The call itself."""
        raise NotImplementedError

    @property
    def updates(self) -> payload.Decodes:
        """What decodes its updates."""
        raise NotImplementedError

    def outcome(self) -> Coroutine[Any, Any, Any]:
        """Wait for its result."""
        raise NotImplementedError

    def stop(self) -> Coroutine[Any, Any, None]:
        """Stop its command, and wait until it runs no more."""
        raise NotImplementedError


class Stream(Generic[Y, T]):
    """The updates of a command, and its result: what ``async with pool.stream(...) as updates`` gives.

    Iterate with ``async for``. An error of the command is raised where the updates end. Leaving the block before that
    stops the command; a generator or async command keeps its warm worker then.
    """

    def __init__(self, begin: Callable[[Stream[Any, Any]], Begun]) -> None:
        self._begin = begin
        self._begun: Begun | None = None
        self._received: deque[Update] = deque()
        self._sizes: deque[int] = deque()  # bytes of the updates for which no credit was given back
        self._bytes = 0  # of all of those
        self._taken = 0  # of those, the ones that were taken
        self._credit = WINDOW  # updates that the command may still send, as far as is known here
        self._paused: Deadline | None = None
        self._ended = False
        self._left = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._outcome: T | None = None
        self._has_outcome = False
        self.delivered: bool = False

    # --- the caller's face -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Stream[Y, T]:
        self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.leave()

    def enter(self) -> Call:
        """Submit the call."""
        if self._begun is not None:
            raise PoolError("this stream() is entered already: each `async with` wants one of its own")
        self._begun = self._begin(self)
        return self._begun.call

    async def leave(self) -> None:
        """Stop the command, unless it has ended."""
        if self._begun is None:
            return
        self.let_go()
        if not self._ended:
            await self._begun.stop()

    def __aiter__(self) -> Stream[Y, T]:
        return self

    async def __anext__(self) -> Y:
        begun = self._entered()
        while not self._received or self._left:
            if self._has_outcome:
                raise StopAsyncIteration
            if self._left:
                raise PoolError("the block of this stream() was left: its updates can only be read within it")
            if self._ended:
                await self._finish(begun)
            else:
                await self._change()
        update = self._received.popleft()
        self.delivered = True
        self._take(begun.call, 1)
        try:
            value: Y = (
                begun.updates.decode_with(update.value, update.buffers)
                if update.buffers
                else begun.updates.decode(update.value)
            )
        except Exception as error:  # decoding runs the user's own __post_init__
            raise refused(begun.call, "sent an update that its annotation does not say", error) from None
        return value

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    @property
    def result(self) -> T:
        """What the command returned.

        Raises:
            PoolError: The updates were not read to their end.
        """
        if not self._has_outcome:
            raise PoolError("there is no result yet: read the updates to their end first, with `async for`")
        return self._outcome  # type: ignore[return-value] # None only where it is the result

    def _entered(self) -> Begun:
        if self._begun is None:
            raise PoolError("enter it first: `async with pool.stream(...) as updates`")
        return self._begun

    async def _finish(self, begun: Begun) -> None:
        if not self._has_outcome:
            self._outcome = await begun.outcome()
            self._has_outcome = True

    # --- credit ------------------------------------------------------------------------------------------------------

    def _let_go(self, call: Call) -> None:
        count = len(self._received)
        self._received.clear()
        self._take(call, count)

    def _take(self, call: Call, number: int) -> None:
        """So many updates were taken; give credit back when it is worth a frame."""
        self._taken += number
        if self._taken < WINDOW // 2 and self._bytes < MOST_BYTES // 2:
            return
        count, self._taken = self._taken, 0
        for _ in range(count):
            self._bytes -= self._sizes.popleft()
        self._credit += count
        if self._paused is not None:
            if self._paused is call.deadline:
                self._paused.go_on()
            self._paused = None
        if call.worker is not None:
            call.worker.credit(call, count)

    # --- what the pool tells -----------------------------------------------------------------------------------------

    def feed(self, update: Update) -> bool:
        """Take in an update; False: the command had no credit for it."""
        begun = self._begun
        if begun is None or self._credit <= 0 or self._bytes >= MOST_BYTES:
            return False
        size = update.size
        self._sizes.append(size)
        self._bytes += size
        self._credit -= 1
        if self._credit <= 0 or self._bytes >= MOST_BYTES:
            self._pause(begun.call)
        if self._left:
            self._take(begun.call, 1)
        else:
            self._received.append(update)
            self._wake()
        return True

    def let_go(self) -> None:
        """Nobody reads them any more: what comes counts as taken (law 4)."""
        self._left = True
        self._wake()  # another task that iterates learns of it
        if self._begun is not None and not self._ended:
            self._let_go(self._begun.call)

    def again(self) -> None:
        """The command is run again: what nobody has seen of its last run is forgotten."""
        self._received.clear()
        self._sizes.clear()
        self._bytes, self._taken, self._credit, self._paused = 0, 0, WINDOW, None

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._wake()

    def _pause(self, call: Call) -> None:
        """The command waits for us: that does not count."""
        if self._paused is None and call.deadline is not None and not call.asked_to_stop:
            call.deadline.pause()
            self._paused = call.deadline

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
