"""The story of one call, from its caller's view: encode, wait for a worker, wait for its reply, decode.

Law 1: a worker is touched only between encoding and decoding.
Law 2: the reply frees the worker, not the caller; a caller that is cancelled can leak nothing.
Law 3: a cancelled caller leaves when its command runs no more: withdrawn, or its worker is gone.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import anyio

from asyncpool.pool.call import MOST_MOVES, Call, Listener, Reply
from asyncpool.pool.config import Config
from asyncpool.pool.lease import Lease, Ways
from asyncpool.pool.leases import Leases, full
from asyncpool.pool.maker import Maker, Target
from asyncpool.pool.options import AS_DECLARED, Options
from asyncpool.pool.reply import open_reply
from asyncpool.pool.stats import Counters
from asyncpool.pool.stream import WINDOW, Stream
from asyncpool.pool.supervisor import Supervisor
from asyncpool.protocol import payload


class Begun:
    """A call that was submitted, and what decodes its answers."""

    __slots__ = ("_caller", "_supervisor", "call", "result", "updates")

    def __init__(
        self, caller: Caller, supervisor: Supervisor, call: Call, result: payload.Decodes, updates: payload.Decodes
    ) -> None:
        self._caller = caller
        self._supervisor = supervisor
        self.call: Call = call
        self.result: payload.Decodes = result
        self.updates: payload.Decodes = updates

    async def outcome(self) -> Any:
        """Wait for its result."""
        try:
            reply = await self.call.future
        except asyncio.CancelledError:
            await self.stop()
            raise
        except Exception:
            del self  # its call's future has the error, which holds this frame
            raise
        return self.open(reply)

    def open(self, reply: Reply) -> Any:
        """Return what a reply holds, or raise it."""
        return open_reply(reply, self.call, self.result)

    async def stop(self) -> None:
        """Stop its command, and return when it runs no more."""
        await self._caller.abandon(self._supervisor, self.call)


class Caller:
    """Makes calls and leases for one pool.

    Args:
        config: The pool's settings.
        counters: Where to count.
        running: Gives the pool's supervisor, or raises when the pool takes no calls here and now.
    """

    def __init__(self, config: Config, counters: Counters, running: Callable[[], Supervisor]) -> None:
        self._config = config
        self._counters = counters
        self._running = running
        self._maker = Maker(config)
        self.leases: Leases = Leases(running, Ways(self._run_on, self._stream_on))

    # --- calls -------------------------------------------------------------------------------------------------------

    async def run(
        self,
        command: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
        lease: Lease | None = None,
    ) -> Any:
        """Run a command on whichever worker is free first, or on that of *lease*."""
        if options.on_update is not None:
            return await self._run_and_tell(command, args, kwargs, options, lease, options.on_update)
        supervisor, call, target = self._submit(command, args, kwargs, options, lease)
        try:  # as ``Begun.outcome`` does, with one coroutine and one object less: this is the hot path
            reply = await call.future
        except asyncio.CancelledError:
            await self.abandon(supervisor, call)
            raise
        except Exception:
            del call  # its future has the error, which holds this frame
            raise
        return open_reply(reply, call, options.returns or target.result)

    async def _run_and_tell(
        self,
        command: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
        lease: Lease | None,
        tell: Callable[[Any], Any],
    ) -> Any:
        async with self.stream(command, args, kwargs, options, lease) as updates:
            return await _tell_all(updates, tell)

    def stream(
        self,
        command: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
        lease: Lease | None = None,
    ) -> Stream[Any, Any]:
        """Return the updates of a command; it is submitted when they are entered."""
        return Stream(lambda listener: self.begin(command, args, kwargs, options, lease, listener))

    def begin(
        self,
        command: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
        lease: Lease | None = None,
        updates: Listener | None = None,
        *,
        items: int = 0,
        background: bool = False,
    ) -> Begun:
        """Submit a call.

        Args:
            command: What to run.
            args: Its arguments, or those of each item, encoded.
            kwargs: Its named arguments.
            options: What is asked for beyond them.
            lease: The lease that it is made on, if any.
            updates: Who takes its updates, if anybody.
            items: Number of items of a chunk; 0: it is none.
            background: The task that submits it does not wait for it.
        """
        supervisor, call, target = self._submit(
            command, args, kwargs, options, lease, updates, items=items, background=background
        )
        return Begun(self, supervisor, call, options.returns or target.result, target.updates)

    def _submit(
        self,
        command: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
        lease: Lease | None,
        updates: Listener | None = None,
        *,
        items: int = 0,
        background: bool = False,
    ) -> tuple[Supervisor, Call, Target]:
        supervisor = self._running()
        if lease is not None:
            lease.check()
        credit = 0 if updates is None else WINDOW
        call, target = self._maker.make(supervisor, command, args, kwargs, options, credit, items)
        if updates is not None:
            call.updates = updates
        self._counters.submitted += 1
        if lease is not None:
            call.lease = lease
            supervisor.ledger.open.add(call)
            if lease.submit(call):
                supervisor.dispatch(lease.worker, call, call.submitted)
            return supervisor, call, target
        if self._config.limits.max_waiting is not None and supervisor.scheduler.full:
            self._counters.count("rejected")
            raise full(supervisor)
        supervisor.ledger.open.add(call)
        call.patience = options.acquire_timeout
        supervisor.submit(call, call.submitted)
        if call.worker is None and (call.patience is not None or self.leases.held):
            self.leases.wait_in_queue(supervisor, call, call.patience, background=background)
        return supervisor, call, target

    def submit(
        self, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> tuple[Supervisor, Call, Coroutine[Any, Any, Any]]:
        """Submit a call that nobody need wait for; returns what has it, the call, and what gives its outcome."""
        supervisor = self._running()
        if options.on_update is None:
            begun = self.begin(command, args, kwargs, options, background=True)
            return supervisor, begun.call, begun.outcome()
        updates: Stream[Any, Any] = Stream(
            lambda listener: self.begin(command, args, kwargs, options, None, listener, background=True)
        )
        return supervisor, updates.enter(), _tell(updates, options.on_update)

    async def broadcast(
        self, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> list[Any]:
        """Run a command once on each worker."""
        supervisor = self._running()
        self.leases.check_none_here("broadcast")
        if options.on_update is not None:
            raise ValueError("broadcast() has no place for on_update=: run or stream the commands that send updates")
        options = replace(options, retries=0, key=None)
        workers = supervisor.scheduler.taking_workers()
        made = [self._maker.make(supervisor, command, args, kwargs, options) for _ in workers]
        calls = [call for call, _ in made]
        title = calls[0].title if calls else ""
        for call in calls:
            call.moves = MOST_MOVES  # it is meant for this worker
            self._counters.submitted += 1
            supervisor.ledger.open.add(call)
        for worker, call in zip(workers, calls, strict=True):
            supervisor.bind(call, worker, call.submitted)
            if call.worker is None:
                self.leases.wait_in_queue(supervisor, call, options.acquire_timeout)
        try:
            if calls:
                await asyncio.wait([call.future for call in calls])
        except asyncio.CancelledError:
            await self.abandon(supervisor, *calls)
            raise
        begun = [
            Begun(self, supervisor, call, options.returns or target.result, target.updates) for call, target in made
        ]
        results, errors = _gather(begun)
        if errors and not options.return_exceptions:
            raise ExceptionGroup(f"{title} failed on {len(errors)} of {len(results)} workers", errors)
        return results

    @property
    def codec(self) -> payload.Codec:
        """What encodes and decodes the pool's values."""
        return self._maker.codec

    @property
    def config(self) -> Config:
        """The pool's settings."""
        return self._config

    def check(self, command: Any) -> Supervisor:
        """Return the supervisor; raise when calls of a command cannot be made, or this task would wait for itself.

        Raises:
            PayloadError, PoolClosed, PoolError: As ``run`` does.
        """
        supervisor = self._running()
        self._maker.learn(command)
        if (error := self.leases.deadlock(supervisor)) is not None:
            raise error
        return supervisor

    async def abandon(self, supervisor: Supervisor, *calls: Call) -> None:
        """Their caller is gone: stop the commands, and return when they run no more."""
        stopped = [call for call in calls if self.let_go(supervisor, call)]
        if stopped:
            grace = max(supervisor.ledger.grace(call) or self._config.cancel_grace for call in stopped)
            with anyio.move_on_after(grace + 1, shield=True):
                await asyncio.wait([call.future for call in stopped])

    def let_go(self, supervisor: Supervisor, call: Call) -> bool:
        """Stop a command whose caller is gone, now; returns whether its end is still to come."""
        call.abandoned = True
        if call.updates is not None:
            call.updates.let_go()
        if call.future.done() and not call.future.cancelled():
            call.future.exception()  # nobody will look at it
        withdraw = supervisor.withdraw if call.lease is None else call.lease.withdraw
        if withdraw(call):
            supervisor.ledger.drop(call)
            return False
        if call not in supervisor.ledger.open or supervisor.ledger.lets_finish(call):
            return False
        call.future = supervisor.loop.create_future()  # settled once the worker has answered, or is gone
        if call.worker is not None:
            reason = f"was stopped because the caller of {call.title} was cancelled"
            call.worker.stop_call(call, "cancelled", reason)
        return True

    def _run_on(
        self, lease: Lease, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        return self.run(command, args, kwargs, AS_DECLARED, lease)

    def _stream_on(self, lease: Lease, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any, Any]:
        return self.stream(command, args, kwargs, AS_DECLARED, lease)


async def _tell_all(updates: Stream[Any, Any], tell: Callable[[Any], Any]) -> Any:
    async for update in updates:
        told = tell(update)
        if inspect.isawaitable(told):
            await told
    return updates.result


async def _tell(updates: Stream[Any, Any], tell: Callable[[Any], Any]) -> Any:
    """Do the same with updates that are entered already."""
    try:
        return await _tell_all(updates, tell)
    finally:
        await updates.leave()


def _gather(begun: list[Begun]) -> tuple[list[Any], list[Exception]]:
    """Return the results of calls that are done, errors among them, and the errors alone.

    Those of workers that were let go before their turn are left out.
    """
    results: list[Any] = []
    errors: list[Exception] = []
    for each in begun:
        if each.call.abandoned:
            continue
        try:
            results.append(each.open(each.call.future.result()))
        except Exception as error:
            errors.append(error)
            results.append(error)
    return results, errors
