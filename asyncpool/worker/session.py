"""What a worker knows between its first frame and its last: how a call is begun, heard during, and answered.

Law 1: nothing of a call begins before its frame's last byte.
Law 2: each Call is answered by exactly one Result or Failure, whatever the command raises or returns.
Law 3: one frame is read, and one written, at a time, whichever thread does it.
Law 4: once a call is settled, no thread of it reads or writes: neither can an update follow its reply, nor is the next
       frame taken from whoever waits for it.
"""

from __future__ import annotations

import _thread
import os
import sys
from collections.abc import Callable, Sequence
from time import monotonic
from types import GeneratorType
from typing import Any

from asyncpool import commands
from asyncpool.commands import CallContext, Cancelled, Runtime
from asyncpool.protocol import failure, messages
from asyncpool.protocol.buffers import INSIDE, take_out
from asyncpool.protocol.messages import Call, Cancel, Credit, Failure, Ping, Pong, Result, Stop, Update
from asyncpool.protocol.received import spares
from asyncpool.protocol.wire import Buffer
from asyncpool.worker import stdio
from asyncpool.worker.channel import Channel, readable
from asyncpool.worker.logs import Logs, Outbox
from asyncpool.worker.registry import NotFound, Registry
from asyncpool.worker.running import Running

LOOK_AFTER = 0.001  # seconds between two looks for a Cancel, while nothing else makes us read


def _stand_behind_all(runtime: Runtime) -> None:
    commands.runtime = runtime


class Session(Runtime):
    """One worker's conversation with its parent.

    Args:
        channel: Where frames come from and go to.
        registry: The commands.
        slot: Number of the worker's place.
        log_level: The least level of records that the parent takes; None: it takes none.
        announce: Puts a session behind ``emit`` and ``call_context``.
    """

    def __init__(
        self,
        channel: Channel,
        registry: Registry,
        slot: int,
        log_level: int | None = None,
        announce: Callable[[Runtime], None] = _stand_behind_all,
    ) -> None:
        self.channel = channel
        self.slot = slot
        self.registry = registry
        self.announce: Callable[[Runtime], None] = announce
        self.stopping: bool = False  # Stop, or the end of input, has come
        self.running: dict[int, Running] = {}
        self._reading = _thread.RLock()
        self._writing = _thread.allocate_lock()
        self._outbox = Outbox(channel, self._writing)
        self.logs: Logs = Logs(self._outbox, log_level)
        self._looked = 0.0
        self.early: list[Call] = []  # read while something else was waited for
        self._bell: list[int] = []  # a pipe, once it is wanted, that wakes the threads that wait for credit

    def fall_silent(self) -> None:
        """Of all that was announced, do nothing from now on: this is a process that was forked, and has no wire.

        It ends where its command does; the worker's lifespans and its end are not its own.
        """
        commands.runtime = Runtime()
        spares.forget_all()
        for running in self.running.values():
            running.settled = True  # for whoever has its context
        self.channel.let_go()
        self.channel.inherited = True

    def end_if_forked(self, error: BaseException | None = None) -> None:
        """Do not return in a process that a command has forked, and that comes back from it."""
        if self.channel.inherited:
            _end_child(error)

    # --- frames ------------------------------------------------------------------------------------------------------

    def next_call(self, wait: Callable[[], bool]) -> Call | None:
        """Return the next Call, None at Stop and at the end of input.

        Args:
            wait: Waits until there is something to be read; where it returns False, nothing is read any more.
        """
        with self._reading:
            if self.early:
                return self.early.pop(0)
            while not self.stopping and (self.channel.ahead or wait()):
                message = self._receive()
                if isinstance(message, Call):
                    if message.buffers:
                        message.buffers = self.channel.take_buffers()
                    return message
                self._heed(message)
        return None

    def read(self) -> None:
        """Read one frame, waiting for it, and do what it says; a Call is laid aside."""
        message = self._receive()
        if isinstance(message, Call):
            if message.buffers:
                message.buffers = self.channel.take_buffers()
            self.early.append(message)
        else:
            self._heed(message)

    def _receive(self) -> messages.ToWorker | None:
        body = self.channel.receive()
        if spares.kept:
            spares.forget_free()  # a call may take long: let it not begin with the memory of another
        return Stop() if body is None else messages.decode_to_worker(body)

    def _heed(self, message: messages.ToWorker | None) -> None:
        """Do what a message says that is no Call."""
        if isinstance(message, Ping):
            self.send(Pong(message.nonce))
        elif isinstance(message, Stop):
            self.stopping = True
        elif isinstance(message, Cancel):
            self._cancel(message.id)
        elif isinstance(message, Credit) and (call := self.running.get(message.id)) is not None:
            self.grant(call, message.n)

    def _cancel(self, number: int) -> None:
        if (running := self.running.get(number)) is not None:
            self.cancel(running)
        for call in self.early:
            if call.id == number:  # it need not even begin
                self.early.remove(call)
                self.send(self.refuse_cancelled(number))
                break

    def look(self, running: Running) -> None:
        """Do what has come, on behalf of a running call; where another thread reads already, leave it to that."""
        if not self._reading.acquire(blocking=False):
            return
        try:
            while not (running.settled or self.stopping) and self.channel.ready():
                self.read()
        finally:
            self._reading.release()

    def look_sometimes(self, running: Running) -> bool:
        """Do what has come, unless that was done just now; returns whether it was time."""
        now = monotonic()
        if now < self._looked + LOOK_AFTER:
            return False
        self._looked = now
        self.look(running)
        return True

    def cancel(self, call: Running) -> None:
        """The command of a call shall stop."""
        call.stop = True

    def grant(self, call: Running, count: int) -> None:
        """The caller of a call has taken updates."""
        call.grant(count)

    def send(self, message: Any) -> None:
        """Write a message."""
        self.write(messages.encode(message))

    def write(self, body: bytes, buffers: Sequence[Buffer] = ()) -> None:
        """Write one frame."""
        outbox = self._outbox
        with self._writing:
            if outbox.waiting:
                outbox.flush()
            self.channel.send(body, buffers)
        if outbox.waiting:
            outbox.send()

    # --- a call ------------------------------------------------------------------------------------------------------

    def begin(self, call: Call) -> tuple[Running, Any]:
        """Call the function of a call; returns what it returned, or a Failure."""
        running = self.running[call.id] = Running(call.id, call.deadline, call.credit, call.meta)
        return running, self.invoke(running, call)

    def invoke(self, running: Running, call: Call) -> Any:
        """Call its function."""
        if call.command == messages.CHUNK:
            from asyncpool.worker import chunk  # few programs want it

            return chunk.begin(self, running, call)
        try:
            entry = self.registry.entries.get(call.command) or self.registry.find(call.command)
            args, kwargs = entry.decode(call.args, call.kwargs, call.buffers)
        except NotFound as error:
            return Failure(call.id, failure.refusal("unknown_command", str(error)))
        except Exception as error:  # decoding runs the user's own __post_init__ and hooks
            return Failure(call.id, failure.refusal("argument", failure.text(error)))
        if "logging" in sys.modules:
            self.logs.look()
        try:
            return entry.function(*args, **kwargs)
        except BaseException as error:  # also SystemExit and KeyboardInterrupt: they end the call, not the worker
            return self.describe(call.id, error, 1)

    def attempt(self, number: int, function: Callable[[], Any], skip_frames: int = 1) -> Any:
        """Return what *function* returns, or the Failure that its exception is."""
        try:
            return function()
        except BaseException as error:  # as in ``invoke``
            return self.describe(number, error, skip_frames)

    def describe(self, number: int, error: BaseException, skip_frames: int) -> Failure:
        """Return an exception of a command as the reply that it is."""
        self.end_if_forked(error)
        if isinstance(error, Cancelled):
            return self.refuse_cancelled(number, error)
        return Failure(number, failure.describe(error, skip_frames=skip_frames))

    def refuse_cancelled(self, number: int, error: BaseException | None = None) -> Failure:
        """Return the reply of a command that was stopped, by this error if it had begun.

        Where it was is told if its time is over: nobody else asks, and it takes half a millisecond.
        """
        running = self.running.get(number)
        return Failure(number, failure.stopped(error if running is not None and running.is_late() else None))

    def finish(self, running: Running, value: Any) -> None:
        """Answer a call."""
        if running.settled:
            self.end_if_forked()
        if running.listening:
            self.settle(running)
        running.settled = True
        del self.running[running.id]
        stdio.flush()
        if "logging" in sys.modules:
            self.logs.look()
        if type(value) in INSIDE:
            self.write(self.encoded(running.id, value))
        else:
            buffers: list[Buffer] = []
            self.write(self.encoded(running.id, value, buffers=buffers), buffers)

    def settle(self, running: Running) -> None:
        """Let none of the threads of a call that sent updates read or write any more (law 4)."""
        with self._writing:
            running.settled = True
        if self._bell:
            os.write(self._bell[1], b"!")
            with self._reading:  # whoever waited for credit is out now
                os.read(self._bell[0], 1)

    def close(self) -> None:
        """Close what it has opened: where the process lives on."""
        while self._bell:
            os.close(self._bell.pop())

    def encoded(self, number: int, value: Any, spare: int = 0, buffers: list[Buffer] | None = None) -> bytes:
        """Return a result, or a Failure, as the message that answers a call, with *spare* bytes to max_message.

        A large result is appended to *buffers*, where they are given, instead of being in the message.
        """
        limit = self.channel.limit - spare
        if not isinstance(value, Failure):
            try:
                if buffers is None:
                    encoded = self.registry.codec.encode(Result(number, value))
                    size = len(encoded)
                else:
                    encoded, size = self._encoded(Result, number, value, buffers)
            except Exception as error:  # encoding runs the user's own properties
                value = Failure(number, failure.refusal("result", f"the result cannot travel: {failure.text(error)}"))
            else:
                if size <= limit:
                    return encoded
                text = f"the result is {size:,} bytes, above max_message of {limit:,}"
                value = Failure(number, failure.refusal("result", text))
        if buffers:
            buffers.clear()
        encoded = messages.encode(value)
        if len(encoded) > limit:
            encoded = messages.encode(Failure(number, failure.shorten(value.error, limit // 32)))
        return encoded

    def _encoded(self, kind: Callable[..., Any], number: int, value: Any, buffers: list[Buffer]) -> tuple[bytes, int]:
        """Return a Result or Update as a frame's body, and the bytes of that and of its buffers."""
        value = take_out(value, buffers)
        lengths = [len(each) for each in buffers]
        body = self.registry.codec.encode(kind(number, value, lengths))
        return body, len(body) + sum(lengths)

    # --- updates -----------------------------------------------------------------------------------------------------

    def stream(self, running: Running, generator: GeneratorType[Any, Any, Any]) -> Any:
        """Send what a generator yields; returns its return value, or a Failure."""
        while True:
            try:
                update = next(generator)
            except StopIteration as end:
                return end.value
            except BaseException as error:
                return self.describe(running.id, error, 1)
            try:
                self.send_update(running, update)
            except Exception as error:  # it cannot travel
                self.attempt(running.id, generator.close)
                return self.refuse_update(running, error)
            self.look_sometimes(running)
            if running.stop:
                return self.attempt(running.id, lambda: self._close(generator))

    def _close(self, generator: GeneratorType[Any, Any, Any]) -> None:
        generator.close()
        raise Cancelled

    def refuse_update(self, running: Running, error: Exception) -> Failure:
        """Return the reply of a command whose update cannot travel."""
        return Failure(running.id, failure.refusal("result", f"an update cannot travel: {failure.text(error)}"))

    def send_update(self, running: Running, update: Any) -> None:
        """Send an update once the caller takes it; drop it when nobody listens or the call shall stop."""
        if running.listening:
            body, buffers = self.encode_update(running, update)
            while not self.try_to_send(running, body, buffers):
                self.wait_for_credit(running)

    def encode_update(self, running: Running, update: Any) -> tuple[bytes, Sequence[Buffer]]:
        """Return an update as a frame's body, and the buffers behind it.

        Raises:
            TypeError, ValueError: It cannot travel.
        """
        buffers: list[Buffer] = []
        if running.quiet or type(update) in INSIDE:
            body = self.registry.codec.encode(Update(running.id, update))
            size = len(body)
        else:
            body, size = self._encoded(Update, running.id, update, buffers)
        if size > self.channel.limit:
            raise ValueError(f"it is {size:,} bytes, above max_message of {self.channel.limit:,}")
        return body, buffers

    def try_to_send(self, running: Running, body: bytes, buffers: Sequence[Buffer] = ()) -> bool:
        """Send an update, or drop it when the call shall stop; False: there is no credit."""
        with self._writing:
            if running.stop or running.settled:
                return True
            size = len(body) + sum(map(len, buffers)) if buffers else len(body)
            if not running.take(size):
                return False
            self.channel.send(body, buffers)
            return True

    def wait_for_credit(self, running: Running) -> None:
        """Return once the caller takes an update, or the call shall stop."""
        began = monotonic()
        with self._reading:
            if not self._bell:
                self._bell.extend(os.pipe())
        while True:
            with self._reading:
                if running.may_send() or running.stop or running.settled or self.stopping:
                    break
                wire = self.channel.descriptor
                if self.channel.ahead or wire in readable(None, wire, self._bell[0]):
                    self.read()
        if self.stopping:
            running.stop = True
        running.waited(monotonic() - began)

    # --- commands.Runtime: below a running command -------------------------------------------------------------------

    def current(self) -> Running | None:
        """Return the call that asks; None when none runs."""
        running = tuple(self.running.values())  # in one step: other threads may look too
        return running[0] if running else None

    def emit(self, update: Any) -> None:
        """Send an update to the caller."""
        running = self.current()
        if running is None or running.settled:
            return
        if running.listening and not running.quiet:
            self.send_update(running, update)
        self.look_sometimes(running)
        if running.stop:
            raise Cancelled

    def context(self) -> CallContext:
        """Return what is known of the running call."""
        running = self.current()
        if running is not None:
            return Context(running, self)
        context = CallContext()  # of a lifespan, say
        context.slot = self.slot
        return context


def _end_child(error: BaseException | None) -> None:
    """End a process that a command has forked and that came back from it, as multiprocessing ends its own."""
    code = 0 if error is None else 1
    try:
        if isinstance(error, SystemExit):
            if error.code is None or isinstance(error.code, int):
                code = error.code or 0
            else:
                sys.stderr.write(f"{error.code}\n")
        elif error is not None:
            import traceback

            traceback.print_exception(error)
        stdio.flush()
    finally:
        os._exit(code)


class Context(CallContext):
    """A running call as its command sees it."""

    def __init__(self, running: Running, session: Session) -> None:
        self.id: int = running.id
        self.meta: dict[str, str] = running.meta
        self.slot: int = session.slot
        self._running = running
        self._session = session

    @property
    def deadline(self) -> float | None:
        """Seconds that are left of its timeout; None: it has none."""
        return self._running.deadline

    def cancelled(self) -> bool:
        """Say whether the command shall stop, because its caller is gone or its time is over."""
        if not self._running.stop and not self._running.settled:
            self._session.look_sometimes(self._running)
        return self._running.stop
