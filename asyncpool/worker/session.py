"""What a worker knows between its first frame and its last: how a call is begun, heard during, and answered.

Law 1: nothing of a call begins before its frame's last byte.
Law 2: each Call is answered by exactly one Result or Failure, whatever the command raises or returns.
Law 3: one frame is read, and one written, at a time, whichever thread does it.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from time import monotonic
from types import GeneratorType
from typing import Any

from msgspec import Raw

from asyncpool.commands import CallContext, Cancelled, Runtime
from asyncpool.protocol import failure, messages
from asyncpool.protocol.messages import Call, Cancel, Credit, Failure, Ping, Pong, Result, Stop, Update
from asyncpool.worker import stdio
from asyncpool.worker.channel import Channel
from asyncpool.worker.logs import Logs, Outbox
from asyncpool.worker.registry import NotFound, Registry
from asyncpool.worker.running import Running

LOOK_AFTER = 0.001  # seconds between two looks for a Cancel, while nothing else makes us read


class Session(Runtime):
    """One worker's conversation with its parent.

    Args:
        channel: Where frames come from and go to.
        registry: The commands.
        slot: Number of the worker's place.
        log_level: The least level of records that the parent takes; None: it takes none.
    """

    def __init__(self, channel: Channel, registry: Registry, slot: int, log_level: int | None = None) -> None:
        self.channel = channel
        self.slot = slot
        self.stopping: bool = False  # Stop, or the end of input, has come
        self.running: dict[int, Running] = {}
        self._registry = registry
        self._reading = _thread.RLock()
        self._writing = _thread.allocate_lock()
        self._outbox = Outbox(channel, self._writing)
        self.logs: Logs = Logs(self._outbox, log_level)
        self._looked = 0.0
        self._early: list[Call] = []  # read by a thread that waited for credit

    # --- frames ------------------------------------------------------------------------------------------------------

    def next_call(self) -> Call | None:
        """Return the next Call, None at Stop and at the end of input."""
        with self._reading:
            while not self._early and not self.stopping:
                self.read()
            return self._early.pop(0) if self._early else None

    def read(self) -> None:
        """Read one frame, waiting for it, and do what it says; a Call is laid aside."""
        body = self.channel.receive()
        message = Stop() if body is None else messages.decode_to_worker(body)
        if isinstance(message, Call):
            self._early.append(message)
        elif isinstance(message, Ping):
            self.send(Pong(message.nonce))
        elif isinstance(message, Stop):
            self.stopping = True
        elif isinstance(message, (Cancel, Credit)) and (call := self.running.get(message.id)) is not None:
            if isinstance(message, Cancel):
                self.cancel(call)
            else:
                self.grant(call, message.n)

    def look(self) -> None:
        """Do what has come."""
        with self._reading:
            while not self.stopping and self.channel.ready():
                self.read()

    def look_sometimes(self) -> None:
        """Do what has come, unless that was done just now."""
        now = monotonic()
        if now >= self._looked + LOOK_AFTER:
            self._looked = now
            self.look()

    def cancel(self, call: Running) -> None:
        """The command of a call shall stop."""
        call.stop = True

    def grant(self, call: Running, count: int) -> None:
        """The caller of a call has taken updates."""
        call.grant(count)

    def send(self, message: Any) -> None:
        """Write a message."""
        self.write(messages.encode(message))

    def write(self, body: bytes) -> None:
        """Write one frame."""
        with self._writing:
            self._outbox.flush()
            self.channel.send(body)
        self._outbox.send()

    # --- a call ------------------------------------------------------------------------------------------------------

    def begin(self, call: Call) -> tuple[Running, Any]:
        """Call the function of a call; returns what it returned, or a Failure."""
        running = Running(call.id, call.deadline, call.credit, call.meta)
        self.running[call.id] = running
        return running, self._begin(call)

    def _begin(self, call: Call) -> Any:
        try:
            entry = self._registry.find(call.command)
        except NotFound as error:
            return Failure(call.id, failure.refusal("unknown_command", str(error)))
        try:
            args, kwargs = entry.decode(call.args, call.kwargs)
        except Exception as error:  # decoding runs the user's own __post_init__ and hooks
            return Failure(call.id, failure.refusal("argument", str(error)))
        self.logs.look()
        return self.attempt(call.id, lambda: entry.function(*args, **kwargs), skip_frames=2)

    def attempt(self, number: int, function: Callable[[], Any], skip_frames: int = 1) -> Any:
        """Return what *function* returns, or the Failure that its exception is."""
        try:
            return function()
        except BaseException as error:  # also SystemExit and KeyboardInterrupt: they end the call, not the worker
            return self.describe(number, error, skip_frames)

    def describe(self, number: int, error: BaseException, skip_frames: int) -> Failure:
        """Return an exception of a command as the reply that it is."""
        if isinstance(error, Cancelled):
            return Failure(number, failure.refusal("cancelled", "the command was stopped"))
        return Failure(number, failure.describe(error, skip_frames=skip_frames))

    def finish(self, running: Running, value: Any) -> None:
        """Answer a call."""
        running.settled = True
        del self.running[running.id]
        stdio.flush()
        self.logs.look()
        self.write(self._encoded(running.id, value))

    def _encoded(self, number: int, value: Any) -> bytes:
        limit = self.channel.limit
        reply = value if isinstance(value, Failure) else self._result(number, value)
        encoded = messages.encode(reply)
        if len(encoded) > limit and isinstance(reply, Failure):
            encoded = messages.encode(Failure(number, failure.shorten(reply.error, limit // 32)))
        elif len(encoded) > limit:
            text = f"the result is {len(encoded):,} bytes, above max_message of {limit:,}"
            encoded = messages.encode(Failure(number, failure.refusal("result", text)))
        return encoded

    def _result(self, number: int, value: Any) -> Result | Failure:
        try:
            return Result(number, Raw(self._registry.codec.encode(value)))
        except Exception as error:  # encoding runs the user's own properties
            return Failure(number, failure.refusal("result", f"the result cannot travel: {error}"))

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
                generator.close()
                return Failure(running.id, failure.refusal("result", f"an update cannot travel: {error}"))
            self.look_sometimes()
            if running.stop:
                return self.attempt(running.id, lambda: self._close(generator))

    def _close(self, generator: GeneratorType[Any, Any, Any]) -> None:
        generator.close()
        raise Cancelled

    def send_update(self, running: Running, update: Any) -> None:
        """Send an update once the caller takes it; drop it when nobody listens or the call shall stop."""
        if not running.listening:
            return
        body = messages.encode(Update(running.id, Raw(self._registry.codec.encode(update))))
        size = len(body)
        if size > self.channel.limit:
            raise ValueError(f"it is {size:,} bytes, above max_message of {self.channel.limit:,}")
        if not running.may_send():
            self.wait_for_credit(running)
        if not running.stop and not running.settled:
            running.sent(size)
            self.write(body)

    def wait_for_credit(self, running: Running) -> None:
        """Return once the caller takes an update, or the call shall stop."""
        with self._reading:
            while not (running.may_send() or running.stop or running.settled or self.stopping):
                self.read()
            running.stop = running.stop or self.stopping

    # --- commands.Runtime: below a running command -------------------------------------------------------------------

    def current(self) -> Running | None:
        """Return the call that asks; None when none runs."""
        return next(iter(self.running.values()), None)

    def emit(self, update: Any) -> None:
        """Send an update to the caller."""
        running = self.current()
        if running is None or running.settled:
            return
        self.send_update(running, update)
        if not running.listening:
            self.look_sometimes()
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
            self._session.look_sometimes()
        return self._running.stop
