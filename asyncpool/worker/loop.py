"""The life of a worker that has async commands: an event loop on the main thread, and a task for each of them.

Law 1: frames are read in the loop's thread, one at a time, whenever there is one; so Cancel is heard between two steps
       of a command.
Law 2: a plain command, or a generator, holds up the loop: the parent gives it the worker alone. Its threads read for
       themselves, as without a loop.
Law 3: at Stop and at the end of input, what runs is finished. After SIGTERM the worker reads on, or nobody would hear
       of credit and Cancel, and leaves at the first moment at which nothing runs and nothing has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from time import monotonic
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from asyncpool.commands import Cancelled
from asyncpool.protocol.messages import Call
from asyncpool.protocol.received import Caretaker
from asyncpool.protocol.wire import Buffer
from asyncpool.worker.leave import SPARES_KEPT, Leave
from asyncpool.worker.lifespan import Lifespan
from asyncpool.worker.running import Running
from asyncpool.worker.session import Session

# The call below which code runs; None: it is a lifespan's. A thread of a command may have neither.
_current: contextvars.ContextVar[Running | None] = contextvars.ContextVar("asyncpool running call")
Begun = tuple[Running, Any]


def serve(session: Session, leave: Leave, lifespan: Lifespan, begun: Begun) -> None:
    """Answer calls until Stop, the end of input or SIGTERM; *begun* is one whose coroutine is made already."""
    _run(_serve(session, leave, lifespan, begun), lifespan)


@contextlib.contextmanager
def _out_of_the_loop() -> Iterator[None]:
    """Let plain code use ``asyncio.run``, as it may in a worker without a loop."""
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


def _run(coroutine: Coroutine[Any, Any, None], lifespan: Lifespan) -> None:
    """Do as ``asyncio.run``, and let no task of a command end the loop.

    Plain lifespans are left once no task is there, before the loop waits for the threads of its executor, maybe long.
    """
    with asyncio.Runner() as runner:
        served = runner.get_loop().create_task(coroutine)
        interrupted = False
        while not served.done():
            try:
                runner.run(_wait(served))
            except (SystemExit, KeyboardInterrupt):
                # A task of a command has raised it: asyncio gives it to whoever awaits that task, and stops the loop.
                # Or SIGINT has come: then ``served`` is cancelled by now.
                interrupted = served.cancelling() > 0
        runner.run(_cancel_others())
        lifespan.leave()
        if not served.cancelled():
            served.result()
        elif interrupted:
            raise KeyboardInterrupt
        else:
            sys.exit("asyncpool: the worker's main task was cancelled, as by a lifespan's task group that has failed")


async def _cancel_others() -> None:
    """End the tasks that commands have left."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)


async def _wait(served: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait([served])
    except asyncio.CancelledError:
        served.cancel()
        raise


def live(session: Session, leave: Leave, lifespan: Lifespan, announce: Callable[[], None]) -> None:
    """Enter the lifespans, say that the worker is ready, serve, and leave them: all on one event loop."""
    _run(_live(session, leave, lifespan, announce), lifespan)


async def _live(session: Session, leave: Leave, lifespan: Lifespan, announce: Callable[[], None]) -> None:
    _current.set(None)
    await lifespan.enter_on_loop()
    try:
        announce()
        await _serve(session, leave, lifespan, None)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone: nobody is left to tell
    finally:
        await lifespan.leave_on_loop()


async def _serve(session: Session, leave: Leave, lifespan: Lifespan, begun: Begun | None) -> None:
    async_session = AsyncSession(session, leave)
    session.announce(async_session)
    try:
        await async_session.serve(begun)
    except asyncio.CancelledError:  # this is the worker's end, and no answer of its commands
        session.channel.close()
        raise
    finally:
        session.announce(session)
        leave.hang_up(session.channel, at_once=lifespan.count > 0)  # ``Runner`` waits for threads when it is closed


class AsyncSession(Session):
    """Goes on with a session on the running event loop."""

    def __init__(self, session: Session, leave: Leave) -> None:
        self.__dict__.update(session.__dict__)
        self._loop = asyncio.get_running_loop()
        self._caretaker = Caretaker(lambda then: self._loop.call_later(SPARES_KEPT, then))
        self._leave = leave
        self._thread = threading.get_ident()
        self._held: Running | None = None  # a plain command or a generator that holds up the loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: dict[int, asyncio.Task[None]] = {}  # those that have made their first step
        self._granted = threading.Condition()  # for threads that wait for credit
        self._credits: dict[int, asyncio.Event] = {}  # for tasks that do
        self._ended = asyncio.Event()
        self._error: Exception | None = None

    async def serve(self, begun: Begun | None) -> None:
        """Answer calls."""
        self.channel.read_frame_by_frame()
        self._loop.add_reader(self.channel.descriptor, self._readable)
        self._loop.add_reader(self._leave.descriptor, self._leave.drain)
        self._leave.on_asked = lambda: self._loop.call_soon_threadsafe(self._leave_if_idle)
        try:
            if begun is not None:
                self._start(*begun, contextvars.copy_context())
            self._caretaker.notice()
            while self.channel.ahead:
                self._readable()
            self._leave_if_idle()  # it may have been asked before
            await self._ended.wait()
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            self._leave.on_asked = None
            self._end()
            self._loop.remove_reader(self._leave.descriptor)
        if self._error is not None:
            raise self._error

    def _readable(self) -> None:
        if not self._reading.acquire(blocking=False):
            return  # a thread reads it
        try:
            # A command that emitted in this very pass of the loop may have read what was there when the pass began.
            if self.channel.ready():
                self.read()
        except Exception as error:  # no frame, or no parent
            self._fail(error)
            return
        finally:
            self._reading.release()
        self._after_reading()

    def _after_reading(self) -> None:
        while self.early:
            self._go_on(self.early.pop(0))
        if self.stopping:
            self._end()
        self._caretaker.notice()
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._leave.asked and not (self.running or self.early or self.channel.ready()):
            self._end()

    def _end(self) -> None:
        """Read no more. What waits for credit shall stop: none will come."""
        if not self._ended.is_set():
            self._loop.remove_reader(self.channel.descriptor)
        self._ended.set()
        with self._granted:
            self._granted.notify_all()
        for event in self._credits.values():
            event.set()

    def _fail(self, error: Exception) -> None:
        """The parent is gone, or talks nonsense: nobody waits for what runs."""
        self._error = self._error or error
        self.stopping = True
        self._end()
        for task in self._tasks:
            task.cancel()

    # --- a call ------------------------------------------------------------------------------------------------------

    def _go_on(self, call: Call) -> None:
        """Begin a call, and answer it now or by a task."""
        context = contextvars.copy_context()
        try:
            with _out_of_the_loop():
                running, value = context.run(self.begin, call)
                if isinstance(value, GeneratorType):
                    value = context.run(self.stream, running, value)
            if isinstance(value, (CoroutineType, AsyncGeneratorType)):
                self._start(running, value, context)
            else:
                self.finish(running, value)
        finally:
            self._held = None

    def invoke(self, running: Running, call: Call) -> Any:
        """Call its function, in a context that knows it."""
        _current.set(running)
        self._held = running
        return super().invoke(running, call)

    def _start(self, running: Running, work: Any, context: contextvars.Context) -> None:
        context.run(_current.set, running)
        self._credits[running.id] = asyncio.Event()
        task = self._loop.create_task(self._run(running, work), name=f"call {running.id}", context=context)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended_task(running, task))

    async def _run(self, running: Running, work: Any) -> None:
        self.finish(running, await self._outcome(running, work))

    def _ended_task(self, running: Running, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._begun.pop(running.id, None)
        del self._credits[running.id]
        if not running.settled:  # a GeneratorExit from a task of the command closes every coroutine up to here
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            assert error is not None
            self.finish(running, self.describe(running.id, error, 0))
        elif not task.cancelled():
            task.exception()

    async def _outcome(self, running: Running, work: Any) -> Any:
        too_late = running.stop and not running.quiet  # a chunk sees to that by itself
        if too_late:  # before its first step
            if isinstance(work, CoroutineType):
                work.close()
            return self.refuse_cancelled(running.id)
        task = asyncio.current_task()
        assert task is not None
        self._begun[running.id] = task
        try:
            if isinstance(work, AsyncGeneratorType):
                return await self._stream(running, work)
            return await work
        except asyncio.CancelledError as error:
            return self.refuse_cancelled(running.id, error) if running.stop else self.describe(running.id, error, 1)
        except BaseException as error:  # also SystemExit and KeyboardInterrupt, which a task would not keep to itself
            return self.describe(running.id, error, 1)

    def finish(self, running: Running, value: Any) -> None:
        """Answer a call."""
        try:
            super().finish(running, value)
        except OSError as error:
            self._fail(error)
        self._leave_if_idle()

    def settle(self, running: Running) -> None:
        """Let none of the threads of a call that sent updates read or write any more (law 4)."""
        super().settle(running)
        with self._granted:
            self._granted.notify_all()

    async def _stream(self, running: Running, generator: AsyncGeneratorType[Any, Any]) -> Any:
        try:
            async for update in generator:
                try:
                    body, buffers = self.encode_update(running, update) if running.listening else (b"", ())
                except Exception as error:
                    return self.refuse_update(running, error)
                await self._send_update(running, body, buffers)
                if self.look_sometimes(running):  # who never waits would hear of no Cancel, and let nobody else run
                    await asyncio.sleep(0)
                if running.stop:
                    raise Cancelled
            return None
        finally:
            await generator.aclose()

    async def _send_update(self, running: Running, body: bytes, buffers: Sequence[Buffer]) -> None:
        if not running.listening:
            await asyncio.sleep(0)  # a Cancel may have come
            return
        while not self.try_to_send(running, body, buffers):
            if self.stopping:
                raise Cancelled
            event = self._credits[running.id]
            event.clear()
            began = monotonic()
            await event.wait()
            running.waited(monotonic() - began)

    # --- Session -----------------------------------------------------------------------------------------------------

    def cancel(self, call: Running) -> None:
        """The command of a call shall stop: its task is cancelled, once it has made its first step."""
        call.stop = True
        with self._granted:
            self._granted.notify_all()
        task = self._begun.get(call.id)
        if task is not None:
            self._in_loop(task.cancel)

    def grant(self, call: Running, count: int) -> None:
        """The caller of a call has taken updates."""
        call.grant(count)
        with self._granted:
            self._granted.notify_all()
        event = self._credits.get(call.id)
        if event is not None:
            self._in_loop(event.set)

    def _in_loop(self, act: Callable[[], object]) -> None:
        if threading.get_ident() == self._thread:
            act()
        else:
            self._loop.call_soon_threadsafe(act)

    def wait_for_credit(self, running: Running) -> None:
        """Return once the caller takes an update, or the call shall stop."""
        if self._reads_itself(running):
            super().wait_for_credit(running)
            self._loop.call_soon_threadsafe(self._after_reading)
            return
        began = monotonic()
        with self._granted:
            self._granted.wait_for(
                lambda: running.may_send() or running.stop or running.settled or self.stopping,
            )
        if self.stopping:
            running.stop = True
        running.waited(monotonic() - began)

    def look(self, running: Running) -> None:
        """Do what has come; from another thread than the loop's, leave that to the loop."""
        if self._reads_itself(running):
            super().look(running)
            if self.early or self.stopping:
                self._loop.call_soon_threadsafe(self._after_reading)

    def _reads_itself(self, running: Running) -> bool:
        return self._held is running or threading.get_ident() == self._thread

    def current(self) -> Running | None:
        """Return the call that asks; None when none runs."""
        if not self.running:
            return None
        try:
            return _current.get()
        except LookupError:
            pass
        if len(self.running) > 1:
            raise RuntimeError(
                "several calls run in this worker, and this thread does not say below which it is: "
                "start it with asyncio.to_thread, or run it in contextvars.copy_context()"
            )
        return super().current()
