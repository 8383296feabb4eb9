"""The story of one call, from its caller's view: encode, wait for a worker, wait for its reply, decode.

Law 1: a worker is touched only between encoding and decoding.
Law 2: the reply frees the worker, not the caller; a caller that is cancelled can leak nothing.
Law 3: a cancelled caller leaves when its command runs no more: withdrawn, or its worker is gone.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Coroutine, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import anyio

from asyncpool.errors import AcquireTimeout, PayloadError, PoolError, PoolFull, ResultError
from asyncpool.pool.call import INHERIT, MOST_MOVES, Call, Listener, OnCancel, Reply, Retries, Timeout
from asyncpool.pool.config import Config
from asyncpool.pool.deadline import Deadline
from asyncpool.pool.lease import RELEASED, Lease, LeaseTicket, Ways
from asyncpool.pool.reference import Reference, reference, unroll
from asyncpool.pool.stats import Counters, Outcome
from asyncpool.pool.stream import WINDOW, Stream
from asyncpool.pool.supervisor import Supervisor
from asyncpool.protocol import buffers, edge, failure, messages, payload
from asyncpool.protocol.messages import Failure
from asyncpool.protocol.wire import Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What calls ask for beyond their arguments; see ``Pool.options``."""

    timeout: Timeout = INHERIT
    acquire_timeout: float | None = None
    retries: Retries = INHERIT
    on_cancel: OnCancel | None = None
    returns: payload.Decodes | None = None
    on_update: Callable[[Any], Any] | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    key: Hashable = None
    return_exceptions: bool = False


_INSIDE = buffers.INSIDE.issuperset
AS_DECLARED = Options()  # whatever the command and the pool say


class Target(NamedTuple):
    """What is known of a command before it is called."""

    reference: Reference
    kind: edge.Kind
    result: payload.Decodes
    updates: payload.Decodes


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
        return self.open(reply)

    def open(self, reply: Reply) -> Any:
        """Return what a reply holds, or raise it."""
        return _open(reply, self.call, self.result)

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
        self.codec: payload.Codec = payload.Codec(pickles=config.allow_pickle)
        self._counters = counters
        self._running = running
        self._ids = itertools.count(1)
        self._targets: dict[Any, Target] = {}
        self._leases: dict[Lease, Supervisor] = {}  # those that are held

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
        return _open(reply, call, options.returns or target.result)

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
        call, target = self._make(supervisor, command, args, kwargs, options, 0 if updates is None else WINDOW, items)
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
            raise self._full(supervisor)
        supervisor.ledger.open.add(call)
        supervisor.submit(call, call.submitted)
        if call.worker is None and (options.acquire_timeout is not None or self._leases):
            self._wait_in_queue(supervisor, call, options.acquire_timeout, background=background)
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
        if any(lease.ticket.owner is asyncio.current_task() for lease in self._leases):
            raise PoolError(
                "this task holds a lease, and would wait for its worker for ever: "
                "broadcast before it is acquired, or after it is released"
            )
        options = replace(options, retries=0)
        workers = supervisor.scheduler.taking_workers()
        made = [self._make(supervisor, command, args, kwargs, options) for _ in workers]
        calls = [call for call, _ in made]
        for call in calls:
            call.moves = MOST_MOVES  # it is meant for this worker
            self._counters.submitted += 1
            supervisor.ledger.open.add(call)
        for worker, call in zip(workers, calls, strict=True):
            supervisor.bind(call, worker, call.submitted)
            if call.worker is None:
                self._wait_in_queue(supervisor, call, options.acquire_timeout)
        try:
            if calls:
                await asyncio.wait([call.future for call in calls])
        except asyncio.CancelledError:
            await self.abandon(supervisor, *calls)
            raise
        return _gather(
            [Begun(self, supervisor, call, options.returns or target.result, target.updates) for call, target in made],
            return_exceptions=options.return_exceptions,
        )

    def _make(
        self,
        supervisor: Supervisor,
        command: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
        credit: int = 0,
        items: int = 0,
    ) -> tuple[Call, Target]:
        """Encode a call; returns it with what is known of its command."""
        try:
            target = self._targets[command]
        except (KeyError, TypeError):  # not seen yet, or cannot be hashed
            command, args, kwargs = unroll(command, args, kwargs)
            target = self._learn(command)
        number, loop, ledger = next(self._ids), supervisor.loop, supervisor.ledger
        told = ledger.time_limit(target.reference, options.timeout, items)
        run, sent = (messages.CHUNK, (target.reference, args)) if items else (target.reference, args)
        large: Sequence[Buffer] = ()
        try:
            small = not args or _INSIDE(map(type, args))
            if items or (small and (not kwargs or _INSIDE(map(type, kwargs.values())))):
                body = self.codec.encode(messages.call(number, run, sent, kwargs, told, credit, options.meta))
                size = len(body)
            else:
                inside, named, large, lengths = buffers.take_all_out(args, kwargs)
                body = self.codec.encode(messages.call(number, run, inside, named, told, credit, options.meta, lengths))
                size = len(body) + sum(lengths)
        except Exception as error:  # encoding runs the user's own properties
            raise _blame(self.codec, args, kwargs, error) from None
        if size > self._config.max_message:
            raise PayloadError(
                f"the call takes {size:,} bytes, above the pool's max_message of {self._config.max_message:,}: "
                "raise it, or pass the name of a file"
            )
        call = Call(
            number,
            loop.create_future(),
            target.reference,
            body,
            told,
            options.timeout,
            options.retries,
            loop.time(),
            target.kind,
            options.on_cancel,
        )
        call.learnt = ledger.learnt
        if large:
            call.buffers = large
        call.key, call.items = options.key, items
        if self._config.concurrency > 1:
            call.exclusive = ledger.excludes(call)
        return call, target

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
        self._learn(command)
        if (held := self._held()) >= supervisor.scheduler.limits.max_size:
            raise _all_held(held)
        return supervisor

    def _held(self) -> int:
        task = asyncio.current_task()
        return sum(
            lease.ticket.owner is task and supervisor.scheduler.takes(lease.ticket)
            for lease, supervisor in self._leases.items()
        )

    def _learn(self, command: Any) -> Target:
        if isinstance(command, str):
            return Target(str.__str__(command), "plain", self.codec.untyped, self.codec.untyped)
        learnt = Target(reference(command), edge.kind(command), *edge.outcome_decoders(command, self.codec))
        self._targets[command] = learnt
        return learnt

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

    # --- leases ------------------------------------------------------------------------------------------------------

    async def acquire(self, timeout: float | None) -> Lease:
        """Wait for a worker and take it whole."""
        supervisor = self._running()
        if supervisor.scheduler.full:
            raise self._full(supervisor)
        ticket = LeaseTicket(supervisor.loop.create_future(), asyncio.current_task())
        supervisor.submit(ticket, supervisor.loop.time())
        if not ticket.future.done():
            self._wait_in_queue(supervisor, ticket, timeout)
        try:
            worker = await ticket.future
        except asyncio.CancelledError:
            if not supervisor.withdraw(ticket):
                supervisor.finish(ticket, 0)  # it was granted in the very moment of the cancellation
            raise
        lease = Lease(Ways(self._run_on, self._stream_on), ticket, worker)
        if not worker.takes_calls:  # it ended between the grant and this task's turn
            lease.lose()
        self._leases[lease] = supervisor
        return lease

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        if not isinstance(lease, Lease):
            raise TypeError(f"release() takes the lease that `await pool.acquire()` gave, not {lease!r}")
        supervisor = self._leases.pop(lease, None)
        if supervisor is None:
            raise PoolError(RELEASED if lease.released else "this lease was acquired from another pool")
        if lease.give_back():
            lease.worker.kill("released", "was stopped because its lease was released with a call still running")
        supervisor.finish(lease.ticket, lease.calls)

    def _run_on(
        self, lease: Lease, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        return self.run(command, args, kwargs, AS_DECLARED, lease)

    def _stream_on(self, lease: Lease, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any, Any]:
        return self.stream(command, args, kwargs, AS_DECLARED, lease)

    # --- waiting -----------------------------------------------------------------------------------------------------

    def _wait_in_queue(
        self, supervisor: Supervisor, ticket: Call | LeaseTicket, timeout: float | None, *, background: bool = False
    ) -> None:
        if not supervisor.scheduler.waits(ticket):
            return  # rejected already
        if self._leases and not background and (held := self._held()) >= supervisor.scheduler.limits.max_size:
            self._give_up(supervisor, ticket, _all_held(held))
        elif timeout is not None:

            def expire() -> None:
                text = f"no worker came free within {timeout:g} s (acquire_timeout); the pool is {supervisor.summary()}"
                self._give_up(supervisor, ticket, AcquireTimeout(text))

            ticket.deadline = Deadline(supervisor.loop, timeout, expire)

    def _give_up(self, supervisor: Supervisor, ticket: Call | LeaseTicket, error: PoolError) -> None:
        if not supervisor.withdraw(ticket):
            return
        if isinstance(ticket, Call):
            outcome: Outcome = "acquire_timed_out" if isinstance(error, AcquireTimeout) else "rejected"
            supervisor.ledger.fail(ticket, outcome, error)
        else:
            ticket.fail(error)

    def _full(self, supervisor: Supervisor) -> PoolFull:
        waiting = supervisor.scheduler.limits.max_waiting
        return PoolFull(f"{waiting} calls already wait (max_waiting); the pool is {supervisor.summary()}")


class Acquisition:
    """What ``pool.acquire()`` returns: await it for a lease to release later, or enter it with ``async with``."""

    def __init__(self, caller: Caller, timeout: float | None) -> None:
        self._caller = caller
        self._timeout = timeout
        self._lease: Lease | None = None

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"acquire() is not awaited yet and has no {name!r}: "
            "use `async with pool.acquire() as worker`, or `worker = await pool.acquire()`"
        )

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._caller.acquire(self._timeout).__await__()

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
            self._caller.release(lease)


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


def _gather(begun: list[Begun], *, return_exceptions: bool) -> list[Any]:
    """Return the results of calls that are done; those of workers that were let go before their turn are left out.

    Raises:
        ExceptionGroup: Some failed.
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
    if errors and not return_exceptions:
        raise ExceptionGroup(f"{begun[0].call.title} failed on {len(errors)} of {len(results)} workers", errors)
    return results


def _all_held(held: int) -> PoolError:
    return PoolError(
        f"this task holds all {held} workers of the pool as leases, and would wait for itself for ever: "
        "run the command on a lease, release one, or raise max_size"
    )


def _blame(codec: payload.Codec, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> PayloadError:
    """Return the error that names the argument which cannot be encoded."""
    for name, value in (*enumerate(args, 1), *kwargs.items()):
        try:
            codec.encode(value)
        except Exception as cause:  # encoding runs the user's own properties
            title = repr(name) if isinstance(name, str) else f"number {name}"
            return PayloadError(f"argument {title}: {cause}")
    return PayloadError(str(error))


def _open(reply: Reply, call: Call, decoder: payload.Decodes) -> Any:
    """Return what the worker sent, or raise it."""
    if isinstance(reply, Failure):
        raise failure.rebuild(reply.error, call.pid)
    try:
        return decoder.decode_with(reply.value, reply.buffers) if reply.buffers else decoder.decode(reply.value)
    except Exception as error:  # decoding runs the user's own __post_init__
        refused = ResultError(f"{call.title} returned what its annotation does not say: {error}")
        refused.message, refused.worker_pid = str(refused.args[0]), call.pid
        raise refused from None
