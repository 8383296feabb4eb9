"""Background calls: tasks that the pool holds, and whose failure somebody hears of.

Law 1: the pool holds a task until it is done; the event loop alone would let go of it.
Law 2: a failure is logged if, and only if, the task is gone and nobody has awaited it or asked for its exception. That
       is the rule by which asyncio says "exception was never retrieved", and it is said once: here, not there.
Law 3: cancelling the task stops the command, also before the task has made its first step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from asyncpool.errors import PoolClosed
from asyncpool.pool.caller import Caller
from asyncpool.pool.options import Options

LAST_STEPS = 1.0  # seconds for what the application itself still does when the pool is closed

logger: logging.Logger = logging.getLogger("asyncpool")


class Submission(asyncio.Task[Any]):
    """A call in the background."""

    title: str = ""
    pool: str = ""

    def __del__(self) -> None:
        if getattr(self, "_log_traceback", False):
            self._log(self.exception())  # by which it counts as retrieved
        super().__del__()

    def _log(self, error: BaseException | None) -> None:
        closed = isinstance(error, PoolClosed)
        text = "%s, in the background of pool %r, failed and nobody awaited it"
        logger.log(logging.DEBUG if closed else logging.ERROR, text, self.title, self.pool, exc_info=error)


class Submissions:
    """The background calls of one pool.

    Args:
        name: The pool's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def add(
        self, caller: Caller, command: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> asyncio.Task[Any]:
        """Submit a call, and hold its task until it is done."""
        supervisor, call, outcome = caller.submit(command, args, kwargs, options)
        task = Submission(outcome, loop=call.future.get_loop(), name=f"asyncpool {self._name} {call.title}")
        task.title, task.pool = call.title, self._name
        with contextlib.suppress(AttributeError):
            task._log_destroy_pending = False  # type: ignore[attr-defined] # of a dropped loop the pool tells itself
        self._tasks.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled() and not call.abandoned:
                caller.let_go(supervisor, call)

        task.add_done_callback(done)
        return task

    async def end(self, hurry: asyncio.Future[None]) -> None:
        """Return when all are done, their calls having ended; ``on_update`` may take until *hurry* is done."""
        while self._tasks and not hurry.done():
            await asyncio.wait([*self._tasks, hurry], return_when=asyncio.FIRST_COMPLETED)
        for stop in (False, True):
            tasks = set(self._tasks)
            for task in tasks if stop else ():
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=LAST_STEPS)
