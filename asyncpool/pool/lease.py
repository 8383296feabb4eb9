"""A lease: one worker for several calls, with whatever state it keeps between them.

Law: a lease takes its worker whole. Its calls go to that worker in order, one at a time; they are never moved to
another, and a lease whose worker has ended stays so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, NamedTuple

from asyncpool.errors import PoolError, WorkerCrashed
from asyncpool.pool.call import Call
from asyncpool.pool.calls import Calls
from asyncpool.pool.deadline import Deadline
from asyncpool.pool.stream import Stream
from asyncpool.pool.worker import Worker

RELEASED = "this lease was released already: acquire() a new one"
Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


class Ways(NamedTuple):
    """How a lease makes its calls."""

    run: Callable[[Lease, Any, Arguments, Keywords], Coroutine[Any, Any, Any]]
    stream: Callable[[Lease, Any, Arguments, Keywords], Stream[Any, Any]]


class LeaseTicket:
    """What waits in the queue for a whole worker."""

    exclusive = True
    key: Hashable = None

    def __init__(self, future: asyncio.Future[Worker], owner: asyncio.Task[Any] | None) -> None:
        self.future = future
        self.owner = owner  # the task that asked
        self.deadline: Deadline | None = None
        self.lease: Lease | None = None

    def cancel_deadline(self) -> None:
        """Drop the deadline, if there is one."""
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def fail(self, error: Exception) -> None:
        """No worker will come."""
        self.cancel_deadline()
        if not self.future.done():
            self.future.set_exception(error)


class Lease(Calls[Any]):
    """One worker, held by ``async with pool.acquire() as worker``.

    It has ``run`` and ``stream`` as the pool does, with the pool's own timeout and the command's.
    """

    def __init__(self, ways: Ways, ticket: LeaseTicket, worker: Worker) -> None:
        self._ways = ways
        self._ticket = ticket
        self._worker = worker
        self._handed_before = worker.handed
        self._waiting: deque[Call] = deque()
        self._released = False
        self._lost = False
        ticket.lease = self

    @property
    def pid(self) -> int | None:
        """Process id of the worker."""
        return self._worker.pid

    def __repr__(self) -> str:
        state = "released" if self._released else "lost" if self._lost else "held"
        return f"<Lease of worker {self._worker.number} (pid {self._worker.pid}), {state}>"

    def _call(self, command: Any, args: Arguments, kwargs: Keywords) -> Coroutine[Any, Any, Any]:
        return self._ways.run(self, command, args, kwargs)

    def _stream(self, command: Any, args: Arguments, kwargs: Keywords) -> Stream[Any, Any]:
        return self._ways.stream(self, command, args, kwargs)

    # --- what the pool does with it ----------------------------------------------------------------------------------

    @property
    def ticket(self) -> LeaseTicket:
        """What stands for the lease in the queue."""
        return self._ticket

    def check(self) -> None:
        """Raise when the lease cannot be used.

        Raises:
            PoolError: It was released.
            WorkerCrashed: Its worker has ended.
        """
        if self._released:
            raise PoolError(RELEASED)
        if self._lost:
            raise WorkerCrashed(
                f"the worker of this lease (pid {self.pid}) has ended, and with it what it kept: acquire() a new one",
                pid=self.pid,
            )

    def submit(self, call: Call) -> bool:
        """Take in a call; returns whether its turn is now. Else it waits for those before it."""
        if self._worker.calls:
            self._waiting.append(call)
            return False
        return True

    def next(self) -> Call | None:
        """Return the call whose turn it is when the one before it is answered."""
        return self._waiting.popleft() if self._waiting else None

    def withdraw(self, call: Call) -> bool:
        """Take a waiting call back; False when it does not wait (any more)."""
        try:
            self._waiting.remove(call)
        except ValueError:
            return False
        return True

    def lose(self) -> list[Call]:
        """The worker has ended; returns the calls that never got to it."""
        self._lost = True
        waiting, self._waiting = list(self._waiting), deque()
        return waiting

    @property
    def released(self) -> bool:
        """True once it was given back."""
        return self._released

    @property
    def calls(self) -> int:
        """Calls that its worker was handed for it."""
        return self._worker.handed - self._handed_before

    def give_back(self) -> bool:
        """Mark the lease as released; returns whether the worker is in the middle of a call."""
        self._released = True
        return bool(self._worker.calls or self._waiting) and not self._lost

    @property
    def worker(self) -> Worker:
        """The worker."""
        return self._worker
