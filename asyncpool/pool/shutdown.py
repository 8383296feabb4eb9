"""What an application does at SIGTERM: serve what was accepted, refuse what is new, and end by itself.

Law 1: only the cancellation that was asked for here is swallowed, as ``asyncio.timeout`` does it: one from outside that
       meets it passes on.
Law 2: the block is left only when no pool closes any more; whatever takes longer than *grace* was stopped.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from asyncpool.errors import PoolClosed, PoolError
from asyncpool.pool.config import check_grace
from asyncpool.pool.pool import Pool

logger: logging.Logger = logging.getLogger("asyncpool")


def graceful_shutdown(
    *pools: Pool, grace: float = 25.0, signals: Iterable[int] = (signal.SIGTERM,)
) -> GracefulShutdown:
    """Close pools when the process is asked to end: an async context manager around what the application does.

    At the first signal the pools refuse new calls and serve the accepted ones, for *grace* seconds at most. Then the
    block is cancelled, and the program goes on after it. A second signal ends the grace. ``async with ... as stop``
    gives an object with ``stop.requested`` and ``await stop.wait()``, so that a server can stop accepting and leave
    the block by itself; it is left when the pools are closed. Without a signal it changes nothing.

    Where the block is cancelled from outside while the pools close, or raises anything but PoolClosed (or a group of
    nothing else), the grace ends too. A handler that the event loop had for one of the signals is removed; one that was
    set with ``signal.signal`` comes back at the end.

    Args:
        pools: One or more; may be entered outside this block or inside.
        grace: Seconds, as ``Pool.aclose`` takes it. Choose less than what the process manager gives before SIGKILL.
        signals: Which signals ask.

    Raises:
        TypeError: No pools, something else than a pool, or *grace* is not a number.
        ValueError: *grace* is below 0, or a signal is none that can be caught.
        PoolError: It is entered off the main thread, outside a task or twice. When the block is left: a pool belongs
            to another event loop.
    """
    if isinstance(signals, int):
        raise TypeError(f"signals= takes several, as in signals=({_named(signals)},), not one")
    return GracefulShutdown(pools, grace, tuple(dict.fromkeys(signals)))  # twice one would hide what was there before


class GracefulShutdown:
    """Made by ``graceful_shutdown``; says whether a signal has come.

    Attributes:
        requested: True from the first signal on.
    """

    def __init__(self, pools: tuple[Pool, ...], grace: float, signals: tuple[int, ...]) -> None:
        _check(pools, grace, signals)
        self.requested: bool = False
        self._pools = pools
        self._grace = grace
        self._signals = signals
        self._before: dict[int, Any] = {}  # what handled the signals so far
        self._asked = asyncio.Event()
        self._task: asyncio.Task[object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None
        self._hurrying: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []
        self._within = False  # the block runs
        self._cancelling = 0  # how often its task was cancelled before
        self._cancelled = False  # and that we have done so

    async def wait(self) -> None:
        """Return when the first signal has come."""
        await self._asked.wait()

    async def __aenter__(self) -> GracefulShutdown:
        if self._task is not None:
            raise PoolError("this graceful_shutdown was entered before: make a new one")
        task = asyncio.current_task()
        if task is None:
            raise PoolError("graceful_shutdown must be entered in a task: only a task can be cancelled")
        if threading.current_thread() is not threading.main_thread():
            raise PoolError(
                "graceful_shutdown must be entered in the main thread, the only one to which Python brings signals; "
                "elsewhere let whoever hears the signal `await pool.aclose(grace)` on the pool's own event loop"
            )
        self._task, self._loop = task, asyncio.get_running_loop()
        self._cancelling = task.cancelling()
        try:
            for number in self._signals:
                self._loop.remove_signal_handler(number)  # beneath it is what can come back
                before = signal.getsignal(number)
                self._loop.add_signal_handler(number, self._ask)
                self._before[number] = before
        except BaseException:
            self._restore()
            raise
        self._within = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._within = False
        assert self._task is not None
        ours = False
        if self._cancelled:
            ours = self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)
        try:
            # A call that is refused now is no accident, and no reason to stop those that were accepted.
            await self._closed(at_once=error is not None and not _is_refusal(error))
        finally:
            self._restore()
        if error is None or ours:
            self._raise_failures()
        else:
            self._log_failures()
        return ours

    # --- inside ------------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """A signal has come."""
        assert self._loop is not None
        if self.requested:
            self._hurry()
            return
        self.requested = True
        closers = self._aclose(self._grace)
        self._closing = self._loop.create_task(self._close(closers), name="asyncpool graceful_shutdown")
        self._asked.set()  # after the closers were made: who wakes by it finds the pools closing

    async def _close(self, closers: list[asyncio.Task[None]]) -> None:
        results = await asyncio.gather(*closers, return_exceptions=True)
        self._failures = [result for result in results if isinstance(result, Exception)]
        if self._within and self._task is not None:
            self._cancelled = True
            self._task.cancel()

    def _aclose(self, grace: float) -> list[asyncio.Task[None]]:
        assert self._loop is not None
        return [self._loop.create_task(pool.aclose(grace), name=f"closing {pool!r}") for pool in self._pools]

    def _hurry(self) -> None:
        """Let the pools, which close already, stop everything: of several graces the shortest counts."""
        for task in self._aclose(0):
            self._hurrying.add(task)
            task.add_done_callback(self._hurried)

    def _hurried(self, task: asyncio.Task[None]) -> None:
        self._hurrying.discard(task)
        if not task.cancelled():
            task.exception()  # what fails has failed before, and is told then

    async def _closed(self, *, at_once: bool) -> None:
        """Wait until no pool closes any more; a cancellation meanwhile makes it soon, and is raised then."""
        if self._closing is None:
            return
        if at_once and not self._closing.done():
            self._hurry()
        cancelled: asyncio.CancelledError | None = None
        while pending := [task for task in (self._closing, *self._hurrying) if not task.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                if cancelled is None:
                    self._hurry()
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _restore(self) -> None:
        assert self._loop is not None
        for number, before in self._before.items():
            self._loop.remove_signal_handler(number)
            if before is not None:  # None: it was not set by Python
                signal.signal(number, before)
        self._before.clear()

    def _raise_failures(self) -> None:
        if len(self._failures) == 1:
            raise self._failures[0]
        if self._failures:
            raise ExceptionGroup("several pools could not be closed", self._failures)

    def _log_failures(self) -> None:
        for failure in self._failures:
            logger.error("a pool could not be closed at shutdown", exc_info=failure)


def _check(pools: tuple[Pool, ...], grace: float, signals: tuple[int, ...]) -> None:
    if not pools:
        raise TypeError("graceful_shutdown takes the pools to close, at least one")
    for pool in pools:
        if not isinstance(pool, Pool):
            raise TypeError(f"graceful_shutdown takes pools, not {pool!r}")
    check_grace(grace)
    if not signals:
        raise ValueError("signals= must name at least one signal, such as signal.SIGTERM")
    for number in signals:
        if number not in signal.valid_signals() or number in (signal.SIGKILL, signal.SIGSTOP):
            raise ValueError(f"signals= takes signals that can be caught, such as signal.SIGTERM, not {number!r}")


def _is_refusal(error: BaseException) -> bool:
    """Return whether it is PoolClosed, alone or, as a TaskGroup raises it, in groups of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(PoolClosed)[1] is None
    return isinstance(error, PoolClosed)


def _named(number: int) -> str:
    """Return a signal as one writes it: not every number has a name."""
    try:
        return f"signal.{signal.Signals(number).name}"
    except ValueError:
        return str(number)
