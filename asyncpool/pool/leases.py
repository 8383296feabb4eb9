"""Whole workers on loan: who holds them, who waits for one, and who would wait for himself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, NoReturn

from asyncpool.errors import PoolError, PoolFull
from asyncpool.pool.call import Call
from asyncpool.pool.lease import RELEASED, Lease, LeaseTicket, Ways
from asyncpool.pool.supervisor import Supervisor


class Leases:
    """The leases of one pool.

    Args:
        running: Gives the pool's supervisor, or raises when the pool takes no calls here and now.
        ways: How a lease makes its calls.
    """

    def __init__(self, running: Callable[[], Supervisor], ways: Ways) -> None:
        self._running = running
        self._ways = ways
        self.held: dict[Lease, Supervisor] = {}

    def check_none_here(self, asked: str) -> None:
        """Raise when the running task holds one: what it asks for waits for each worker, that of the lease included.

        Raises:
            PoolError: It does.
        """
        if any(lease.ticket.owner is asyncio.current_task() for lease in self.held):
            raise PoolError(
                f"this task holds a lease, and would wait for its worker for ever: {asked} before it is acquired, "
                "or after it is released"
            )

    async def acquire(self, timeout: float | None) -> Lease:
        """Wait for a worker and take it whole."""
        supervisor = self._running()
        if supervisor.scheduler.full:
            raise full(supervisor)
        ticket = LeaseTicket(supervisor.loop.create_future(), asyncio.current_task())
        supervisor.submit(ticket, supervisor.loop.time())
        if not ticket.future.done():
            self.wait_in_queue(supervisor, ticket, timeout)
        try:
            worker = await ticket.future
        except asyncio.CancelledError:
            ticket.cancel_deadline()
            if not supervisor.withdraw(ticket):
                supervisor.finish(ticket, 0)  # it was granted in the very moment of the cancellation
            raise
        lease = Lease(self._ways, ticket, worker)
        if not worker.takes_calls:  # it ended between the grant and this task's turn
            lease.lose()
        self.held[lease] = supervisor
        return lease

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        if not isinstance(lease, Lease):
            raise TypeError(f"release() takes the lease that `await pool.acquire()` gave, not {lease!r}")
        supervisor = self.held.pop(lease, None)
        if supervisor is None:
            raise PoolError(RELEASED if lease.released else "this lease was acquired from another pool")
        if lease.give_back():
            lease.worker.kill("released", "was stopped because its lease was released with a call still running")
        supervisor.finish(lease.ticket, lease.calls)

    def deadlock(self, supervisor: Supervisor) -> PoolError | None:
        """Return the error of a task that holds all workers and asks for one more, or None."""
        task, scheduler = asyncio.current_task(), supervisor.scheduler
        mine = [lease.ticket for lease in self.held if lease.ticket.owner is task and lease.ticket in scheduler.serving]
        staying, limits = sum(scheduler.takes(ticket) for ticket in mine), scheduler.limits
        # Those that are to go hold their places until they are released, where nobody else's serves meanwhile.
        no_room = len(mine) >= limits.max_size + limits.surge and scheduler.live <= staying
        if staying < limits.max_size and not no_room:
            return None
        return PoolError(
            f"this task holds all {len(mine)} workers of the pool as leases, and would wait for itself for ever: "
            "run the command on a lease, release one, or raise max_size"
        )

    def wait_in_queue(
        self, supervisor: Supervisor, ticket: Call | LeaseTicket, timeout: float | None, *, background: bool = False
    ) -> None:
        """Let a ticket wait for *timeout* seconds at most, and not at all where this task would wait for itself."""
        if not supervisor.scheduler.waits(ticket):
            return  # rejected already
        if self.held and not background and (error := self.deadlock(supervisor)) is not None:
            supervisor.refuse(ticket, error)
        elif timeout is not None:
            supervisor.limit_wait(ticket, timeout)


class Acquisition:
    """What ``pool.acquire()`` returns: await it for a lease to release later, or enter it with ``async with``."""

    def __init__(self, leases: Leases, timeout: float | None) -> None:
        self._leases = leases
        self._timeout = timeout
        self._lease: Lease | None = None

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"acquire() is not awaited yet and has no {name!r}: "
            "use `async with pool.acquire() as worker`, or `worker = await pool.acquire()`"
        )

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._leases.acquire(self._timeout).__await__()

    async def __aenter__(self) -> Lease:
        if self._lease is not None:
            raise PoolError("this acquire() is entered already: each `async with` wants one of its own")
        self._lease = await self
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lease is not None:
            lease, self._lease = self._lease, None
            self._leases.release(lease)


def full(supervisor: Supervisor) -> PoolFull:
    """Return the error of a call that may not wait."""
    most = supervisor.scheduler.limits.max_waiting
    why = f"{most} calls already wait (max_waiting)" if most else "no worker is free, and none may wait (max_waiting=0)"
    return PoolFull(f"{why}; the pool is {supervisor.summary()}")
