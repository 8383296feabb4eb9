"""One call on its way: from its submission to its one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import Final, Literal, Protocol

import msgspec

from asyncpool.errors import PoolError
from asyncpool.pool.deadline import Deadline
from asyncpool.pool.reference import Reference
from asyncpool.pool.stats import Cause
from asyncpool.protocol.edge import Kind
from asyncpool.protocol.messages import Failure, Result, Update
from asyncpool.protocol.wire import Buffer

Reply = Result | Failure


class Carrier(Protocol):
    """What a call needs to know of the worker that has it.

    Attributes:
        pid: Its process id.
    """

    pid: int | None

    def kill(self, cause: Cause, reason: str) -> None:
        """Stop it, now."""

    def credit(self, call: Call, count: int) -> None:
        """Let a call of it send more updates."""

    def stop_call(self, call: Call, cause: Cause, reason: str) -> None:
        """Stop one call of it."""


class Turns(Protocol):
    """What a call needs to know of the lease that it is made on."""

    def withdraw(self, call: Call) -> bool:
        """Take a waiting call back; False when it does not wait (any more)."""
        raise NotImplementedError

    def next(self) -> Call | None:
        """Return the call whose turn it is when the one before it is answered."""


class Listener(Protocol):
    """Who takes the updates of a call."""

    delivered: bool

    def feed(self, update: Update) -> bool:
        """Take one; False: the command had no credit for it."""
        raise NotImplementedError

    def again(self) -> None:
        """The command is run again from its beginning."""

    def let_go(self) -> None:
        """Nobody reads them any more."""

    def end(self) -> None:
        """No more will come."""


class Inherit:
    """The type of what stands for "not given": the next one in command, pool decides."""

    def __repr__(self) -> str:
        return "inherited"


INHERIT: Final = Inherit()
Timeout = float | None | Inherit
Retries = int | Inherit
OnCancel = Literal["stop", "finish"]
MOST_MOVES = 2  # times that a call which provably never started goes to another worker


class Call(msgspec.Struct, eq=False):
    """A ticket that takes one slot of a worker. A Struct, since nothing else is made as fast.

    Attributes:
        id: Never reused within the pool.
        future: Gets the reply, or the error.
        command: What to run.
        body: The Call message, encoded.
        encoded_timeout: Seconds that its command may run, as the body says it.
        timeout: Seconds that it may run from its dispatch.
        retries: Times that it may be run again after a crash.
        submitted: Loop time of its submission.
        kind: What calling its function brings, as the caller knows it.
        on_cancel: What the caller says to do with the command when it is cancelled.
        learnt: How much was known of commands when the body was encoded: see ``Ledger.learnt``.
        key: What it is about: the worker that served it last is preferred.
        items: Number of items of the chunk that it is; 0: it is none.
        buffers: Large arguments, which travel behind the body: the caller's own memory.
        updates: Who takes the updates of the command, if anybody.
        lease: The lease that it is made on, if any.
        asked_to_stop: Its command was asked to.
        dispatched: Loop time at which the worker that has it now got it.
        worker: The worker that has it now.
        pid: Process id of the worker that answered.
        moves: Times that it went to another worker because it provably never started.
        crashes: Workers that ended while they had it.
        may_have_run: One of them may have begun it.
        provably_unstarted: It never started, and goes to no other worker.
        deadline: Of its wait for a worker, then of its run.
        verdict: Why the pool stopped it; raised once the worker is gone.
        abandoned: Its caller was cancelled.
        exclusive: It takes all slots of its worker.
        patience: Seconds that it may wait for a worker, each time that it waits; None: as long as it takes.
    """

    id: int
    future: asyncio.Future[Reply]
    command: Reference
    body: bytes
    encoded_timeout: float | None
    timeout: Timeout
    retries: Retries
    submitted: float
    kind: Kind = "plain"
    on_cancel: OnCancel | None = None
    learnt: int = 0
    key: Hashable = None
    items: int = 0
    buffers: Sequence[Buffer] = ()
    updates: Listener | None = None
    lease: Turns | None = None
    dispatched: float = 0.0
    worker: Carrier | None = None
    pid: int | None = None
    moves: int = 0
    crashes: int = 0
    may_have_run: bool = False
    provably_unstarted: bool = False
    deadline: Deadline | None = None
    verdict: PoolError | None = None
    abandoned: bool = False
    asked_to_stop: bool = False
    exclusive: bool = False
    patience: float | None = None

    @property
    def title(self) -> str:
        """The command's name, for messages."""
        name = self.command if isinstance(self.command, str) else ".".join(self.command)
        return f"{name} (run {self.crashes + 1})" if self.crashes else name

    def cancel_deadline(self) -> None:
        """Drop the deadline, if there is one."""
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def settle(self, reply: Reply | None, error: BaseException | None = None) -> None:
        """Give the call its one outcome. A caller that is gone gets no error: nobody would look at it."""
        self.worker = None
        if self.deadline is not None:
            self.cancel_deadline()
        updates, self.updates = self.updates, None  # which knows the call
        if updates is not None:
            updates.end()
        if self.future.done():
            return
        if error is not None and not self.abandoned:
            self.future.set_exception(error)
            if updates is not None:
                self.future.exception()  # it is raised where the updates end, if anybody reads so far
        else:
            self.future.set_result(reply)  # type: ignore[arg-type] # None only where nobody reads it
