"""The life of a worker that has async commands: an event loop on the main thread, and a task for each of them.

Law 1: frames are read in the loop's thread, one at a time, whenever there is one; so Cancel is heard between two steps
       of a command.
Law 2: a plain command, or a generator, holds up the loop: the parent gives it the worker alone.
Law 3: at Stop, at the end of input and at SIGTERM, what runs is finished.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from msgspec import Raw

from asyncpool import commands
from asyncpool.protocol import failure, messages
from asyncpool.protocol.messages import Failure, Update
from asyncpool.worker.leave import Leave
from asyncpool.worker.lifespan import Lifespan
from asyncpool.worker.running import Running
from asyncpool.worker.session import Session

_current: contextvars.ContextVar[Running] = contextvars.ContextVar("asyncpool running call")
Begun = tuple[Running, Any]


def serve(session: Session, leave: Leave, begun: Begun | None = None) -> None:
    """Answer calls until Stop, the end of input or SIGTERM; *begun* is one whose coroutine is made already."""
    asyncio.run(_serve(session, leave, begun))


def live(session: Session, leave: Leave, lifespan: Lifespan, announce: Callable[[], None]) -> None:
    """Enter the lifespans, say that the worker is ready, serve, and leave them: all on one event loop."""
    asyncio.run(_live(session, leave, lifespan, announce))


async def _live(session: Session, leave: Leave, lifespan: Lifespan, announce: Callable[[], None]) -> None:
    await lifespan.enter_on_loop()
    try:
        announce()
        await _serve(session, leave, None)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone: nobody is left to tell
    finally:
        if lifespan.count:
            leave.hang_up(session.channel)
        await lifespan.leave_on_loop()


async def _serve(session: Session, leave: Leave, begun: Begun | None) -> None:
    async_session = AsyncSession(session)
    commands.runtime = async_session
    try:
        await async_session.serve(leave, begun)
    finally:
        commands.runtime = session


class AsyncSession(Session):
    """Goes on with a session on the running event loop."""

    def __init__(self, session: Session) -> None:
        self.__dict__.update(session.__dict__)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._granted = threading.Condition()  # for threads that wait for credit
        self._credits: dict[int, asyncio.Event] = {}  # for tasks that do
        self._ended = asyncio.Event()

    async def serve(self, leave: Leave, begun: Begun | None) -> None:
        """Answer calls."""
        self._loop.add_reader(self.channel.descriptor, self._readable)
        self._loop.add_reader(leave.descriptor, self._asked_to_leave, leave)
        try:
            if begun is not None:
                self._go_on(*begun)
            await self._ended.wait()
            if self._tasks:
                await asyncio.wait(self._tasks.values())
        finally:
            self._loop.remove_reader(self.channel.descriptor)
            self._loop.remove_reader(leave.descriptor)

    def _readable(self) -> None:
        self.read()
        self._begin_early()
        if self.stopping:
            self._end()

    def _begin_early(self) -> None:
        while self._early:
            self._go_on(*self.begin(self._early.pop(0)))

    def _asked_to_leave(self, leave: Leave) -> None:
        leave.drain()
        if leave.asked:
            self._end()

    def _end(self) -> None:
        """Read no more; what runs is finished, and without a parent nobody would take it."""
        self._loop.remove_reader(self.channel.descriptor)
        self._ended.set()

    def _go_on(self, running: Running, value: Any) -> None:
        """Answer a call that has begun, now or by a task."""
        if isinstance(value, (CoroutineType, AsyncGeneratorType)):
            self._credits[running.id] = asyncio.Event()
            task = self._loop.create_task(self._run(running, value), name=f"call {running.id}")
            self._tasks[running.id] = task
            return
        if isinstance(value, GeneratorType):
            value = self.stream(running, value)
        self.finish(running, value)

    async def _run(self, running: Running, work: Any) -> None:
        _current.set(running)
        value = await self._outcome(running, work)
        del self._tasks[running.id], self._credits[running.id]
        self.finish(running, value)

    async def _outcome(self, running: Running, work: Any) -> Any:
        try:
            if isinstance(work, AsyncGeneratorType):
                return await self._stream(running, work)
            return await work
        except asyncio.CancelledError as error:
            if running.stop:
                return Failure(running.id, failure.refusal("cancelled", "the command was stopped"))
            return self.describe(running.id, error, 1)
        except BaseException as error:  # also SystemExit and KeyboardInterrupt, which a task would not keep to itself
            return self.describe(running.id, error, 1)

    async def _stream(self, running: Running, generator: AsyncGeneratorType[Any, Any]) -> Any:
        try:
            async for update in generator:
                try:
                    body = self._update(running, update)
                except Exception as error:
                    return Failure(running.id, failure.refusal("result", f"an update cannot travel: {error}"))
                await self._send_update(running, body)
            return None
        finally:
            await generator.aclose()

    def _update(self, running: Running, update: Any) -> bytes:
        return (
            messages.encode(Update(running.id, Raw(self._registry.codec.encode(update)))) if running.listening else b""
        )

    async def _send_update(self, running: Running, body: bytes) -> None:
        if not running.listening:
            await asyncio.sleep(0)  # a Cancel may have come
            return
        while not running.may_send():
            event = self._credits[running.id]
            event.clear()
            await event.wait()
        running.sent(len(body))
        self.write(body)

    # --- Session -----------------------------------------------------------------------------------------------------

    def cancel(self, call: Running) -> None:
        """The command of a call shall stop: its task is cancelled."""
        call.stop = True
        with self._granted:
            self._granted.notify_all()
        task = self._tasks.get(call.id)
        if task is not None:
            task.cancel()

    def grant(self, call: Running, count: int) -> None:
        """The caller of a call has taken updates."""
        call.grant(count)
        with self._granted:
            self._granted.notify_all()
        event = self._credits.get(call.id)
        if event is not None:
            event.set()

    def wait_for_credit(self, running: Running) -> None:
        """Return once the caller takes an update, or the call shall stop."""
        if threading.get_ident() == self._thread:
            super().wait_for_credit(running)
            self._loop.call_soon(self._begin_early)  # what was read meanwhile
            return
        with self._granted:
            self._granted.wait_for(lambda: running.may_send() or running.stop or running.settled)

    def look(self) -> None:
        """Do what has come; from another thread, leave that to the loop."""
        if threading.get_ident() == self._thread:
            super().look()
            if self._early:
                self._loop.call_soon(self._begin_early)

    def current(self) -> Running | None:
        """Return the call that asks; None when none runs."""
        running = _current.get(None)
        if running is not None or not self.running:
            return running
        if len(self.running) > 1:
            raise RuntimeError(
                "several calls run in this worker, and this thread does not say below which it is: "
                "start it with asyncio.to_thread, or run it in contextvars.copy_context()"
            )
        return super().current()
