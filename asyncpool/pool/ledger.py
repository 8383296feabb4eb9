"""Every accepted call until its one outcome, and what commands say of themselves.

Law 1: a call is open from its acceptance until its outcome, which it gets and is counted once.
Law 2: an error says ``started`` when any run of the call may have had effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from asyncpool.errors import AsyncPoolError, CommandTimeout, PoolClosed, WorkerCrashed, WorkerError
from asyncpool.pool import stack
from asyncpool.pool.call import Call, Inherit, Reply, Retries, Timeout
from asyncpool.pool.reference import Reference
from asyncpool.pool.stats import Counters, Outcome
from asyncpool.protocol.messages import CommandInfo, Result


class Ledger:
    """The books of one pool.

    Args:
        counters: Where to count.
        timeout: Seconds that a command may run when neither it nor its caller says anything.
        grace: Seconds that one gets to stop when it says nothing.
    """

    def __init__(self, counters: Counters, timeout: float | None, grace: float) -> None:
        self.open: set[Call] = set()
        self.learnt: int = 0  # how often somebody has said something of commands
        self._counters = counters
        self._timeout = timeout
        self._grace = grace
        self._commands: dict[Reference, CommandInfo] = {}
        self._limits: dict[Reference, float] = {}  # of commands that have one of their own
        self._drained: asyncio.Future[None] | None = None

    def learn(self, commands: Iterable[CommandInfo]) -> None:
        """Take in what a worker that is ready says of its commands."""
        self.learnt += 1
        for info in commands:
            for name in (info.name, (info.module, info.qualname)):
                self._commands[name] = info
                self._limits.pop(name, None)
                if info.timeout is not None:
                    self._limits[name] = info.timeout

    def time_limit(self, command: Reference, asked: Timeout, items: int = 0) -> float | None:
        """Return the seconds that a call may run: the caller's wish, else the command's own, else the pool's.

        A chunk of so many *items* may run for as many times as long.
        """
        limit = self._limits.get(command, self._timeout) if isinstance(asked, Inherit) else asked
        return limit * items if items and limit is not None else limit

    def excludes(self, call: Call) -> bool:
        """Say whether a call takes a whole worker: a plain command, a generator, or who knows what."""
        return self._info(call).kind not in ("async", "async generator")

    def grace(self, call: Call) -> float | None:
        """Return the seconds that a command gets to stop when it is asked to; None: it cannot be asked."""
        info = self._info(call)
        if info.kind == "plain" and not info.cooperative and not call.items:  # a chunk heeds it between its items
            return None
        return self._grace if info.cancel_grace is None else info.cancel_grace

    def lets_finish(self, call: Call) -> bool:
        """Say whether a command runs on when its caller is cancelled: as the caller says, else as it says itself."""
        return (call.on_cancel or self._info(call).on_cancel) == "finish"

    def _info(self, call: Call) -> CommandInfo:
        known = self._commands.get(call.command)
        return CommandInfo("", "", "", kind=call.kind) if known is None else known

    def may_run_again(self, call: Call, crash: WorkerCrashed) -> bool:
        """Say whether a call may be run again whose worker crashed; notes the crash."""
        call.crashes += 1
        call.may_have_run = call.may_have_run or crash.started
        if call.lease is not None or call.abandoned or (call.updates is not None and call.updates.delivered):
            return False
        if call.crashes > self._retries(call.command, call.retries):
            return False
        if call.updates is not None:
            call.updates.again()
        return True

    def _retries(self, command: Reference, asked: Retries) -> int:
        if not isinstance(asked, Inherit):
            return asked
        info = self._commands.get(command)
        return 0 if info is None else info.retries

    # --- outcomes ----------------------------------------------------------------------------------------------------

    def answered(self, call: Call, reply: Reply, pid: int | None, now: float) -> None:
        """A worker has answered a call."""
        self._counters.run_time.add(now - call.dispatched)
        if call.asked_to_stop and call.verdict is not None and not isinstance(reply, Result):
            if isinstance(call.verdict, CommandTimeout):
                stack.tell(call.verdict, reply.error.traceback, pid)
            self.give_up(call, call.verdict)
            return
        self.open.discard(call)
        call.pid = pid
        if call.updates is None and call.deadline is None and not call.future.done():
            call.worker = None  # as ``settle`` does, the common case
            call.future.set_result(reply)
        else:
            call.settle(reply)
        self._counters.count("cancelled" if call.abandoned else "ok" if isinstance(reply, Result) else "failed")
        if self._drained is not None:
            self._look()

    def give_up(self, call: Call, error: Exception) -> None:
        """Give a call the error that ended it."""
        outcome: Outcome = "crashed" if isinstance(error, WorkerError) else "timed_out"
        self.fail(call, "closed" if isinstance(error, PoolClosed) else outcome, error)

    def fail(self, call: Call, outcome: Outcome, error: BaseException) -> None:
        """Give a call that no worker has its outcome."""
        self.open.discard(call)
        if call.may_have_run and isinstance(error, AsyncPoolError):
            error.started = True
        call.settle(None, error)
        self._count("cancelled" if call.abandoned else outcome)

    def drop(self, call: Call) -> None:
        """Count a call as cancelled that no worker has."""
        call.abandoned = True
        self.fail(call, "cancelled", asyncio.CancelledError())

    def drained(self) -> asyncio.Future[None]:
        """Return what is done once no call is open."""
        self._drained = asyncio.get_running_loop().create_future()
        self._look()
        return self._drained

    def _count(self, outcome: Outcome) -> None:
        self._counters.count(outcome)
        if self._drained is not None:
            self._look()

    def _look(self) -> None:
        if self._drained is not None and not self.open and not self._drained.done():
            self._drained.set_result(None)
