"""Pool: the application's side, from its start to its end."""

from __future__ import annotations

import asyncio
import enum
import os
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Hashable, Iterator, Mapping, Sequence
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, Self, TypeVar, overload

import anyio
import msgspec

from asyncpool import commands
from asyncpool.errors import PoolClosed, PoolError
from asyncpool.pool.call import INHERIT, Inherit, OnCancel
from asyncpool.pool.caller import Caller
from asyncpool.pool.calls import D
from asyncpool.pool.config import check_grace, check_key, check_meta, check_sizes, configure, count, seconds_or_none
from asyncpool.pool.events import Event
from asyncpool.pool.inspection import snapshot, worker_infos
from asyncpool.pool.lease import Lease
from asyncpool.pool.many_calls import ManyCalls
from asyncpool.pool.options import Options
from asyncpool.pool.stats import Counters, PoolStats, WorkerInfo
from asyncpool.pool.submission import Submissions
from asyncpool.pool.supervisor import Supervisor
from asyncpool.pool.worker import Worker
from asyncpool.protocol import payload
from asyncpool.protocol.received import spares

if TYPE_CHECKING:
    import typing_extensions  # the checkers' own; nothing is installed for it

    R = typing_extensions.TypeVar("R", default=Any)  # without a default, `quick = pool.options(timeout=2)` has no type
else:
    R = TypeVar("R")  # the result of commands called by name, with these options

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_GRACE = 10.0**8  # seconds; timers take no infinity


class Life(enum.Enum):
    """Where a pool is in its life."""

    NEW = "it is not started yet: use `async with pool:` or `await pool.start()`"
    STARTING = "it is starting: await its start() first"
    OPEN = "it is open"
    CLOSING = "it is closing"
    CLOSED = "it is closed; make a new one"
    FORKED = "it belongs to the process that this one was forked from; make a new one here"


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool(ManyCalls[Any]):
    """A pool of warm worker processes for one event loop.

    ``async with Pool("kittens") as pool:`` starts it and, at the end of the block, closes it: after a normal end with
    ten seconds for what still runs, after an exception at once.

    Args:
        modules: Modules, or names of modules, that each worker imports before it is ready; their ``@command``
            functions can be called by name.
        program: Instead of Python workers: program and arguments of anything that speaks the wire protocol.
        executable: Python of the workers. Default: this one's. Another one needs asyncpool installed; it keeps the
            libraries that it has, and finds the application's own folders ahead of them.
        min_size: Workers that are always there.
        max_size: Workers that take calls at most. Default: the processors that this process may use, by its affinity
            and its control groups' quotas, or *min_size* where that is more.
        surge: Processes beyond *max_size* while an old worker ends and its successor starts.
        idle_timeout: Seconds; a worker beyond *min_size* that is idle for so long is retired. None: never.
        max_waiting: Calls beyond those that free and startable workers can take; one more raises PoolFull.
        acquire_timeout: Seconds that a call may wait for a worker, each time that it waits. None: as long as it takes.
        timeout: Seconds that a command may run, counted from its dispatch, unless command or call say otherwise.
        cancel_grace: Seconds that an async or cooperative command, or a generator, gets to stop before its worker is
            killed. A cancelled call waits until its command runs no more, for one second beyond that at most.
        start_timeout: Seconds from a worker's spawn until it is ready.
        health_interval: Seconds; a worker idle for so long is pinged. None: never.
        health_timeout: Seconds for the answer to a ping; without one the worker is killed and replaced.
        max_calls: Calls that a worker is handed at most; then it is recycled. A lease is never cut short: its calls
            count when it is released. None: no limit.
        max_lifetime: Seconds for which a worker takes calls at most; then it is recycled. None: no limit.
        max_memory: Bytes of resident memory; a worker that has more after a call is recycled. Looked at every 50 ms
            at most. One that has more from its start is not, which is logged once. None: no limit.
        check_on_acquire: Ping each idle worker before it is used.
        concurrency: Async commands that one worker runs at a time. A plain command or a generator has its worker
            for itself all the same.
        max_message: Bytes of one call or one result, at most.
        registered_only: Refuse functions that are not marked with ``@command``.
        config: Handed to each ``@lifespan`` that takes a parameter: anything that could be an argument, up to 512 KiB.
        allow_pickle: Let what cannot travel otherwise go as a pickle, arguments and results alike. Loading a pickle
            runs whatever its bytes say: with True, a worker that was taken over, or that returns what a stranger
            gave it, can run any code in this process. Only for workers that you trust as you trust yourself.
        env: Environment of the workers, as in subprocess: it replaces this one's. Default: this one's.
        cwd: Working directory of the workers. Default: this one's.
        stderr: What happens to the workers' stderr, to which their stdout goes too: "forward" writes it to this
            process's, "log" to the logger ``asyncpool.worker``, "discard" only keeps its end for crash reports.
        logs: The workers' ``logging`` records become records of this process: of the same logger, from its root's
            level on.
        on_event: Called with each Event; what it raises is logged.
        name: Names the pool in its repr, its events and its logs.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range, or two contradict each other.
        PayloadError: *config* cannot travel.
    """

    _hire: ClassVar[type[Worker]] = Worker  # ``asyncpool.testing`` has others

    def __init__(
        self,
        *modules: str | ModuleType,
        program: Sequence[str] | None = None,
        executable: str | None = None,
        min_size: int = 1,
        max_size: int | None = None,
        surge: int = 1,
        idle_timeout: float | None = 120.0,
        max_waiting: int | None = None,
        acquire_timeout: float | None = None,
        timeout: float | None = None,
        cancel_grace: float = 1.0,
        start_timeout: float = 30.0,
        health_interval: float | None = 30.0,
        health_timeout: float = 5.0,
        check_on_acquire: bool = False,
        max_calls: int | None = None,
        max_lifetime: float | None = None,
        max_memory: int | None = None,
        concurrency: int = 1,
        max_message: int = 128 * 2**20,
        registered_only: bool = False,
        config: Any = None,
        allow_pickle: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stderr: Literal["forward", "log", "discard"] = "forward",
        logs: bool = True,
        on_event: Callable[[Event], None] | None = None,
        name: str = "pool",
    ) -> None:
        self._config = configure(
            modules,
            program=program,
            executable=executable,
            min_size=min_size,
            max_size=max_size,
            surge=surge,
            idle_timeout=idle_timeout,
            max_waiting=max_waiting,
            acquire_timeout=acquire_timeout,
            timeout=timeout,
            cancel_grace=cancel_grace,
            start_timeout=start_timeout,
            health_interval=health_interval,
            health_timeout=health_timeout,
            check_on_acquire=check_on_acquire,
            max_calls=max_calls,
            max_lifetime=max_lifetime,
            max_memory=max_memory,
            concurrency=concurrency,
            max_message=max_message,
            registered_only=registered_only,
            config=config,
            allow_pickle=allow_pickle,
            env=env,
            cwd=cwd,
            stderr=stderr,
            logs=logs,
            on_event=on_event,
            name=name,
        )
        self._life = Life.NEW
        self._loop: asyncio.AbstractEventLoop | None = None
        self._supervisor: Supervisor | None = None
        self._counters = Counters()
        super().__init__(
            Caller(self._config, self._counters, self._running),
            Options(acquire_timeout=self._config.acquire_timeout),
            Submissions(self._config.name),
        )
        self._closing: asyncio.Task[None] | None = None
        self._hurry: asyncio.Future[None] | None = None
        _pools.add(self)

    def __repr__(self) -> str:
        nothing = "0 idle, 0 busy, 0 starting, 0 waiting"
        summary = nothing if self._supervisor is None else self._supervisor.summary()
        life = "" if self._life is Life.OPEN else f", {self._life.name.lower()}"
        return f"<{type(self).__name__} {self._config.name!r} {summary}{life}>"

    # --- its life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start ``min_size`` workers and return when they are ready.

        Raises:
            WorkerStartError: A worker could not start; everything is torn down again.
            PoolError: It was started before.
        """
        if threading.get_ident() in commands.importing_in:
            raise PoolError(commands.UNGUARDED)
        if self._life is not Life.NEW:
            raise PoolError(f"{self!r} cannot be started: {self._life.value}")
        self._loop = asyncio.get_running_loop()
        self._life = Life.STARTING
        self._supervisor = Supervisor(self._config, self._counters, self._torn_down, self._hire)
        try:
            await self._supervisor.enter()
            if self._life is Life.STARTING:  # not closed meanwhile
                self._life = Life.OPEN
            await self._supervisor.start()
        except GeneratorExit:  # the loop was dropped: nothing can be awaited any more
            raise
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.aclose(0)
            raise

    async def aclose(self, grace: float = 10.0) -> None:
        """Close the pool: refuse new calls, serve the accepted ones until *grace* is over, then end all workers.

        Calls that are left then get PoolClosed, as do leases that still wait once no call is left. When this returns,
        no process, task or descriptor of the pool is left; the workers' own children went with them, unless they had
        left their process group. Only a process that outlives SIGKILL, in the hands of a driver, is given up after
        eleven seconds. May be called again, also while it closes: the shortest grace counts.

        Args:
            grace: Seconds. 0: at once.

        Raises:
            TypeError: *grace* is not a number.
            ValueError: *grace* is below 0.
            PoolError: This is another event loop than the pool's.
        """
        check_grace(grace)
        if self._life in (Life.NEW, Life.FORKED):
            self._life = Life.CLOSED if self._life is Life.NEW else self._life
            return
        if self._supervisor is None or self._loop is None:
            return
        if self._closing is None and self._life is Life.CLOSED:  # the loop is ending, and the workers with it
            if asyncio.get_running_loop() is self._loop:
                await self._supervisor.ended()
            return
        if asyncio.get_running_loop() is not self._loop:
            raise PoolError(f"{self!r} can only be closed from the event loop that started it")
        if self._closing is None or self._hurry is None:
            self._life = Life.CLOSING
            self._hurry = self._loop.create_future()
            self._closing = self._loop.create_task(self._close(self._supervisor, self._hurry), name=f"closing {self!r}")
        hurrying = self._loop.call_later(min(grace, LONGEST_GRACE), self._make_haste)
        try:
            await asyncio.wait([self._closing])
        except asyncio.CancelledError:
            self._make_haste()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._closing])
            raise
        finally:
            hurrying.cancel()
            if self._closing.done():
                self._life = Life.CLOSED

    async def _close(self, supervisor: Supervisor, hurry: asyncio.Future[None]) -> None:
        await supervisor.stop(hurry)
        await self._submissions.end(hurry)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.aclose()
        else:
            await self.aclose(0)

    def _make_haste(self) -> None:
        if self._hurry is not None and not self._hurry.done():
            self._hurry.set_result(None)

    def _torn_down(self) -> None:
        """The event loop ended without ``aclose``: the workers go, and whoever reads warnings learns of it."""
        if self._life in (Life.STARTING, Life.OPEN):
            text = f"{self!r} was not closed before its event loop ended: use `async with`, or `await pool.aclose()`"
            try:
                warnings.warn(text, ResourceWarning, stacklevel=2)
            except ResourceWarning as error:  # made an error by a filter: told, but nothing of the teardown is left out
                if self._loop is not None:
                    self._loop.call_exception_handler({"message": text, "exception": error})
        self._life = Life.CLOSED

    # --- calls -------------------------------------------------------------------------------------------------------

    def options(
        self,
        *,
        timeout: float | Inherit | None = INHERIT,
        acquire_timeout: float | Inherit | None = INHERIT,
        retries: int | Inherit = INHERIT,
        on_cancel: OnCancel | None = None,
        returns: type[R] | None = None,
        on_update: Callable[[Any], Any] | None = None,
        meta: Mapping[str, str] | None = None,
        key: Hashable = None,
        return_exceptions: bool = False,
    ) -> CallOptions[R]:
        """Return a view of the pool for calls with these options.

        Args:
            timeout: Seconds that the command may run, from its dispatch. None: no limit. Not given: the command's
                own, else the pool's.
            acquire_timeout: Seconds that the call may wait for a worker. None: no limit. Not given: the pool's.
            retries: Times that the call is run again after its worker crashed, each with a fresh timeout: at most
                *retries* + 1 runs. Only for a command that may safely be run more than once. Not given: the
                command's own, else 0.
            on_cancel: "finish" lets the command run to its end when its caller is cancelled: the caller leaves at
                once, and the worker is busy until it answers. "stop" stops it. Not given: the command's own, else
                "stop".
            returns: Type to decode the result into. Not given: the return annotation of the command, where it is
                given as a function.
            on_update: ``run`` calls it with each update that the command yields or emits, and awaits what it returns
                where that can be awaited. An error in it stops the command and is raised.
            meta: Strings that travel with the call, for ``asyncpool.call_context().meta``: a trace id, say.
            key: Anything that can be hashed: what the call is about. It goes to the worker that served this key last,
                if that is free, and waits for nobody: for what workers keep in memory. The last 4096 keys are known.
            return_exceptions: ``map`` gives the error of an item, and ``broadcast`` that of a worker, in the place of
                its result.

        Raises:
            TypeError: *returns* is a type that cannot travel, a time is not a number, or *retries* not an integer.
            ValueError: A time is not above 0, or *retries* is below 0.
        """
        if not isinstance(timeout, Inherit):
            timeout = seconds_or_none("timeout", timeout)
        if isinstance(acquire_timeout, Inherit):
            acquire_timeout = self._config.acquire_timeout
        else:
            acquire_timeout = seconds_or_none("acquire_timeout", acquire_timeout)
        if not isinstance(retries, Inherit):
            retries = count("retries", retries, 0)
        decoder = None
        if returns is not None:
            decoder = self._caller.codec.decoder(returns)
            payload.refuse_private_attributes(returns)
        if on_cancel not in (None, "stop", "finish"):
            raise ValueError(f"on_cancel= takes 'stop' or 'finish', not {on_cancel!r}")
        if on_update is not None and not callable(on_update):
            raise TypeError(f"on_update= takes a function of one update, not {on_update!r}")
        options = Options(
            timeout=timeout,
            acquire_timeout=acquire_timeout,
            retries=retries,
            on_cancel=on_cancel,
            returns=decoder,
            on_update=on_update,
            meta=check_meta(meta),
            key=check_key(key),
            return_exceptions=return_exceptions,
        )
        return CallOptions(self._caller, options, self._submissions)

    async def release(self, lease: Lease) -> None:
        """Give a lease back.

        Raises:
            PoolError: It was given back before, or is another pool's.
        """
        self._caller.leases.release(lease)

    # --- all workers -------------------------------------------------------------------------------------------------

    @overload
    async def broadcast(self, command: str, /, *args: Any, **kwargs: Any) -> list[Any]: ...
    @overload
    async def broadcast(
        self, command: Callable[P, Generator[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[T]: ...
    @overload
    async def broadcast(
        self, command: Callable[P, AsyncIterator[Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[None]: ...
    @overload
    async def broadcast(
        self, command: Callable[P, Iterator[Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[Any]: ...
    @overload
    async def broadcast(
        self, command: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[T]: ...
    @overload
    async def broadcast(self, command: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> list[T]: ...
    async def broadcast(self, command: Any, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Run a command once on each worker that takes calls now, and return the results, the oldest worker's first.

        A busy worker runs it when it comes free, before the calls that wait. Workers that start meanwhile are not
        included, nor is one that is recycled or let go before its turn. It is never run again, and counts for no
        ``max_waiting``. Others wait for no more than this one command on each worker; it waits itself for the command
        or lease that each worker has, ``acquire_timeout`` seconds at most.

        Args:
            command: As for ``run``.
            args: As for ``run``.
            kwargs: As for ``run``.

        Returns:
            A result for each worker; none when no worker is ready.

        Raises:
            ExceptionGroup: What failed, as ``run`` raises it; with ``options(return_exceptions=True)`` the errors stand
                in the list instead.
            PayloadError, PoolClosed: At once; nothing was begun.
            PoolError: The task holds a lease.
            ValueError: ``options(on_update=...)``: the updates would come from all workers at a time.
        """
        return await self._caller.broadcast(command, args, kwargs, self._options)

    async def restart(self) -> None:
        """Replace every worker, one after another as ``surge`` allows, and return when the last old one is gone.

        No call fails: each worker serves on until its successor is ready, then finishes the call or lease that it has.
        With ``surge=0`` a worker goes before its successor starts. A caller who no longer waits does not stop it.

        Raises:
            WorkerStartError: A successor could not start. The workers without a successor stay and serve on.
            PoolClosed: The pool is not started, or was closed meanwhile.
            PoolError: The task holds a lease.
        """
        supervisor = self._running()
        self._caller.leases.check_none_here("restart")
        await supervisor.restart()

    async def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """Change the number of workers, and return when at least ``min_size`` take calls.

        No call fails: a worker that is too many finishes the call or lease that it has.

        Args:
            min_size: Workers that are always there. None: as before.
            max_size: Workers that take calls at most. None: as before.

        Raises:
            TypeError: A size is not an integer.
            ValueError: A size is out of its range, or *min_size* above *max_size*.
            WorkerStartError: A worker could not start. The new sizes hold all the same.
            PoolClosed: The pool is not started, or was closed meanwhile.
        """
        supervisor = self._running()
        limits = supervisor.scheduler.limits
        limits = msgspec.structs.replace(
            limits,
            min_size=limits.min_size if min_size is None else count("min_size", min_size, 0),
            max_size=limits.max_size if max_size is None else count("max_size", max_size, 1),
        )
        check_sizes(limits)
        await supervisor.resize(limits)

    # --- numbers -----------------------------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """Return a consistent, immutable snapshot of the pool's numbers."""
        return snapshot(self._supervisor, self._counters)

    def workers(self) -> list[WorkerInfo]:
        """Return what is known of each worker process, the oldest first."""
        return [] if self._supervisor is None else worker_infos(self._supervisor)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _running(self) -> Supervisor:
        """Return the supervisor, if calls can be made here and now."""
        if self._life is not Life.OPEN or self._supervisor is None:
            raise PoolClosed(f"{self!r} takes no calls: {self._life.value}")
        if _running_loop() is not self._loop:
            raise PoolError(
                f"{self!r} belongs to another event loop: a pool serves the loop that started it; "
                "make one pool per loop, or hand the call over with asyncio.run_coroutine_threadsafe"
            )
        return self._supervisor


class CallOptions(ManyCalls[D]):
    """A view of a pool whose calls have options; made by ``Pool.options``."""

    async def broadcast(self, command: Any, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Run a command once on each worker, as ``Pool.broadcast`` does; ``retries`` and ``key`` are not heeded."""
        return await self._caller.broadcast(command, args, kwargs, self._options)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # a thread without one
        return None


def _forked() -> None:
    """In a forked child: the pools and their workers are the parent's."""
    for pool in list(_pools):
        if pool._life is not Life.NEW:  # one that is not started yet may be started here
            pool._life = Life.FORKED
    spares.forget_all()


os.register_at_fork(after_in_child=_forked)
