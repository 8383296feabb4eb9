"""One call on its way: from its submission to its one outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from asyncpool.pool.deadline import Deadline
from asyncpool.pool.reference import Reference
from asyncpool.protocol.messages import Failure, Result

if TYPE_CHECKING:
    from asyncpool.pool.lease import Lease
    from asyncpool.pool.worker import Worker

Reply = Result | Failure


class Inherit:
    """The type of what stands for "not given": the next one in command, pool decides."""

    def __repr__(self) -> str:
        return "inherited"


INHERIT: Final = Inherit()
Timeout = float | None | Inherit
MOST_MOVES = 2  # times that a call which provably never started goes to another worker


class Call:
    """A ticket that takes one slot of a worker.

    Args:
        id: Never reused within the pool.
        future: Gets the reply, or the error.
        command: What to run.
        args: Encoded array.
        kwargs: Encoded map.
        timeout: Seconds that it may run from its dispatch.
        now: Loop time of its submission.
        lease: The lease that it is made on, if any.
    """

    __slots__ = (
        "__weakref__",
        "abandoned",
        "args",
        "command",
        "deadline",
        "dispatched",
        "future",
        "id",
        "kwargs",
        "lease",
        "moves",
        "pid",
        "provably_unstarted",
        "submitted",
        "timeout",
        "verdict",
        "worker",
    )
    exclusive = False

    def __init__(
        self,
        id: int,
        future: asyncio.Future[Reply],
        command: Reference,
        args: bytes,
        kwargs: bytes,
        timeout: Timeout,
        now: float,
        lease: Lease | None = None,
    ) -> None:
        self.id = id
        self.future = future
        self.command = command
        self.args = args
        self.kwargs = kwargs
        self.timeout = timeout
        self.submitted = now
        self.dispatched = now
        self.lease = lease
        self.worker: Worker | None = None  # the one that has it now
        self.pid: int | None = None  # of the worker that answered
        self.moves = 0
        self.provably_unstarted = False
        self.deadline: Deadline | None = None  # of its wait for a worker, then of its run
        self.verdict: Exception | None = None  # why the pool stopped it; raised once the worker is gone
        self.abandoned = False  # its caller was cancelled

    @property
    def title(self) -> str:
        """The command's name, for messages."""
        return self.command if isinstance(self.command, str) else ".".join(self.command)

    def cancel_deadline(self) -> None:
        """Drop the deadline, if there is one."""
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def settle(self, reply: Reply | None, error: BaseException | None = None) -> None:
        """Give the call its one outcome. A caller that is gone gets no error: nobody would look at it."""
        self.worker = None
        self.cancel_deadline()
        if self.future.done():
            return
        if error is not None and not self.abandoned:
            self.future.set_exception(error)
        else:
            self.future.set_result(reply)  # type: ignore[arg-type] # None only where nobody reads it
