"""Does what the scheduler decides, and tells it what happened: owns the workers, their task group and the timer.

Law 1: every decision is the scheduler's. After each one, all of its actions are done, in order, without an await.
Law 2: one task supervises. It is cancelled by nobody but ``asyncio.run`` when that ends without ``aclose()``; each
       worker's own task kills its process then and waits until it is gone. The tasks are held here and nowhere else
       (anyio's task groups are entered in a global table): a loop that is dropped is collected, and they with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from asyncpool.errors import PoolClosed, WorkerCrashed, WorkerError, WorkerStartError
from asyncpool.pool.call import Call, Inherit, Reply, Timeout
from asyncpool.pool.config import Config
from asyncpool.pool.events import Event, EventKind
from asyncpool.pool.lease import LeaseTicket
from asyncpool.pool.scheduler import Action, Assign, Probe, Reject, Retire, Scheduler, Spawn, Ticket
from asyncpool.pool.stats import Counters, Outcome
from asyncpool.pool.worker import Worker
from asyncpool.protocol.messages import Ready, Result

if TYPE_CHECKING:
    from asyncpool.pool.reference import Reference

STOP_BOUND = 2.0  # seconds in which workers end that were asked to; then they are killed

logger: logging.Logger = logging.getLogger("asyncpool")


class Supervisor:
    """Runs the workers of one pool on the running event loop.

    Args:
        config: The pool's settings.
        counters: Where to count.
        on_teardown: Called when the event loop ends without ``stop``.
    """

    def __init__(self, config: Config, counters: Counters, on_teardown: Callable[[], None]) -> None:
        self.scheduler: Scheduler = Scheduler(config.limits)
        self.workers: dict[int, Worker] = {}
        self.open: set[Call] = set()  # accepted, and without an outcome yet
        self._config = config
        self._counters = counters
        self._on_teardown = on_teardown
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._defaults: dict[Reference, float | None] = {}  # the commands' own timeouts, as workers tell them
        self._start_error: WorkerStartError | None = None
        self._timer: asyncio.TimerHandle | None = None
        limits = config.limits
        self._timed = limits.idle_timeout is not None or limits.health_interval is not None
        self._tasks: set[asyncio.Task[None]] = set()  # one for each worker
        self._supervising = False  # False: before the start and after the end
        self._ready = 0
        self._started: asyncio.Future[None] = self.loop.create_future()
        self._drained: asyncio.Future[None] | None = None  # there once the pool closes
        self._ending: asyncio.Future[None] = self.loop.create_future()
        self._task: asyncio.Task[None] | None = None

    def summary(self) -> str:
        """Say in few words how many workers and calls there are."""
        scheduler = self.scheduler
        idle, starting = scheduler.idle(), len(scheduler.starting)
        retiring = f", {len(scheduler.retiring)} retiring" if scheduler.retiring else ""
        return (
            f"{idle} idle, {scheduler.live - starting - idle} busy, {starting} starting, "
            f"{len(scheduler.waiting)} waiting{retiring}"
        )

    # --- its life ----------------------------------------------------------------------------------------------------

    async def enter(self) -> None:
        """Begin to supervise; before that no worker can be started."""
        entered = self.loop.create_future()
        self._task = self._create_task(self._supervise(entered), f"asyncpool {self._config.name}")
        await asyncio.wait([entered, self._task], return_when=asyncio.FIRST_COMPLETED)

    async def start(self) -> None:
        """Start min_size workers and return when they are ready.

        Raises:
            WorkerStartError: The first that could not start.
        """
        if self._config.limits.min_size == 0 and not self._started.done():
            self._started.set_result(None)
        now = self.loop.time()
        self._do(self.scheduler.start(now), now)
        await asyncio.wait([self._started])
        self._started.result()

    async def _supervise(self, entered: asyncio.Future[None]) -> None:
        self._supervising = True
        entered.set_result(None)
        try:
            await asyncio.wait([self._ending])
            while self._tasks:
                await asyncio.wait(self._tasks)
        except GeneratorExit:  # the loop was dropped: nothing can be awaited or settled any more
            self._on_teardown()
            raise
        except BaseException:
            self.torn_down()
            for task in self._tasks:
                if not task.cancelling():  # once is enough: asyncio.run has seen to it
                    task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            raise
        finally:
            self._supervising = False
            if self._timer is not None:
                self._timer.cancel()

    def torn_down(self) -> None:
        """Start nothing any more: the event loop is ending, and every task with it."""
        if not self._supervising:
            return
        self._supervising = False
        self.scheduler.close()
        self._on_teardown()
        self._close_calls()
        self._fail_start(PoolClosed("the event loop has ended"))

    async def stop(self, hurry: asyncio.Future[None]) -> None:
        """Serve what was accepted until all of it is done or *hurry* is, then end all workers.

        Never raises; returns when no process, task or descriptor is left.
        """
        self.scheduler.close()
        self._fail_start(PoolClosed("the pool was closed while it started"))
        self._drained = self.loop.create_future()
        if self.open:
            await asyncio.wait([self._drained, hurry], return_when=asyncio.FIRST_COMPLETED)
        self._close_calls()
        for worker in list(self.workers.values()):
            worker.stop("closed")
        self._ending.set_result(None)
        late = self.loop.call_later(STOP_BOUND, self._kill_all)
        if self._task is not None:
            await asyncio.wait([self._task])
        late.cancel()

    def _fail_start(self, error: Exception) -> None:
        if not self._started.done():
            self._started.set_exception(error)
            self._started.exception()  # whoever waits for the start sees it; nobody need

    def _close_calls(self) -> None:
        """Give every call that is left its outcome: PoolClosed."""
        for ticket in list(self.scheduler.waiting):
            self.scheduler.withdraw(ticket)
            if isinstance(ticket, LeaseTicket):
                ticket.fail(PoolClosed("the pool was closed before a worker came free"))
        for call in [call for call in self.open if call.worker is None]:
            if call.lease is not None:
                call.lease.withdraw(call)
            self.fail(call, "closed", PoolClosed(f"the pool was closed before {call.title} was started"))
        for call in [call for call in self.open if call.worker is not None]:
            if call.worker is not None:  # killing one worker may have ended others of its calls
                call.verdict = PoolClosed(f"the pool was closed while {call.title} ran; it was stopped", started=True)
                call.worker.kill("closed", "was stopped because the pool was closed")

    def _kill_all(self) -> None:
        for worker in list(self.workers.values()):
            worker.kill("closed", "did not end when the pool was closed")

    # --- tickets -----------------------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket, now: float) -> None:
        """Let a ticket have a worker, now or when its turn comes."""
        self._do(self.scheduler.submit(ticket, now), now)

    def finish(self, ticket: Ticket) -> None:
        """A lease is over."""
        now = self.loop.time()
        self._do(self.scheduler.finished(ticket, now), now)

    def dispatch(self, worker: Worker, call: Call, now: float) -> None:
        """Put a call on the wire."""
        call.cancel_deadline()
        call.dispatched = now
        self._counters.attempts += 1
        self._counters.wait_time.add(now - call.submitted)
        worker.send(call, self.time_limit(call.command, call.timeout))

    def time_limit(self, command: Reference, asked: Timeout) -> float | None:
        """Return the seconds that a call may run: the caller's wish, else the command's own, else the pool's."""
        if not isinstance(asked, Inherit):
            return asked
        own = self._defaults.get(command)
        return self._config.timeout if own is None else own

    def fail(self, call: Call, outcome: Outcome, error: BaseException) -> None:
        """Give a call that no worker has its outcome."""
        self.open.discard(call)
        call.settle(None, error)
        self._count("cancelled" if call.abandoned else outcome)

    def drop(self, call: Call) -> None:
        """Count a call as cancelled that never got to a worker."""
        call.abandoned = True
        self.fail(call, "cancelled", asyncio.CancelledError())

    def _count(self, outcome: Outcome) -> None:
        self._counters.count(outcome)
        if self._drained is not None and not self.open and not self._drained.done():
            self._drained.set_result(None)

    # --- what the scheduler decides ----------------------------------------------------------------------------------

    def _do(self, actions: list[Action], now: float) -> None:
        for action in actions:
            if isinstance(action, Assign):
                self._assign(self.workers[action.worker], action.ticket, now)
            elif isinstance(action, Spawn):
                self._spawn(action.worker)
            elif isinstance(action, Probe):
                self.workers[action.worker].ping()
            elif isinstance(action, Retire):
                self.workers[action.worker].stop("retired")
            else:
                self._reject(action)
        if self._timer is None and self._timed:
            self._set_timer()

    def _assign(self, worker: Worker, ticket: Ticket, now: float) -> None:
        if isinstance(ticket, Call):
            if ticket.future.cancelled():  # its caller is cancelled in this very pass, and will see to it in the next
                self.drop(ticket)
                self._do(self.scheduler.finished(ticket, now), now)
            else:
                self.dispatch(worker, ticket, now)
        elif isinstance(ticket, LeaseTicket):
            ticket.cancel_deadline()
            if not ticket.future.done():
                ticket.future.set_result(worker)

    def _spawn(self, number: int) -> None:
        taken = {worker.slot for worker in self.workers.values()}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        assert self._supervising
        worker = self.workers[number] = Worker(number, slot, self._config, self)
        task = self._create_task(worker.live(), f"asyncpool {self._config.name} worker {number}")
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _create_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self.loop.create_task(coroutine, name=name)
        with contextlib.suppress(AttributeError):  # another factory's tasks may lack it
            task._log_destroy_pending = False  # type: ignore[attr-defined] # of a dropped loop the pool tells itself
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._task is not None:
            logger.error("a worker's task of pool %r failed: the pool is given up", self._config.name, exc_info=error)
            self._task.cancel()

    def _reject(self, action: Reject) -> None:
        error = self._start_error or WorkerStartError("no worker can be started")
        if isinstance(action.ticket, Call):
            self.fail(action.ticket, "not_started", _again(error))
        elif isinstance(action.ticket, LeaseTicket):
            action.ticket.fail(_again(error))

    def _set_timer(self) -> None:
        due = self.scheduler.deadline()
        if due is not None and self._supervising:
            self._timer = self.loop.call_at(due, self._tick)

    def _reset_timer(self) -> None:
        """Look anew what is due first: with another number of workers, or a failed start, it may be sooner."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._set_timer()

    def _tick(self) -> None:
        self._timer = None
        now = self.loop.time()
        self._do(self.scheduler.tick(now), now)

    # --- what workers tell -------------------------------------------------------------------------------------------

    def spawned(self, worker: Worker) -> None:
        """Its process is there."""
        self._tell("spawned", worker)

    def ready(self, worker: Worker, ready: Ready) -> None:
        """It takes calls: it serves the head of the queue, not whoever had it started."""
        for info in ready.commands:
            self._defaults[info.name] = self._defaults[info.module, info.qualname] = info.timeout
        self._ready += 1
        if self._ready >= self._config.limits.min_size and not self._started.done():
            self._started.set_result(None)
        self._tell("ready", worker)
        # One call at a time, whatever the worker offers: this version's calls exclude one another.
        now = self.loop.time()
        self._do(self.scheduler.ready(worker.number, 1, now), now)
        self._reset_timer()

    def replied(self, worker: Worker, replies: list[tuple[Call, Reply]], now: float) -> None:
        """The next waiting call is on the wire before the caller of the last one wakes."""
        for call, reply in replies:
            if worker.takes_calls:  # else its tickets are let go already, or about to be
                self._go_on(worker, call, now)
            self._counters.run_time.add(now - call.dispatched)
            self.open.discard(call)
            call.pid = worker.pid
            call.settle(reply)
            self._count("cancelled" if call.abandoned else "ok" if isinstance(reply, Result) else "failed")

    def _go_on(self, worker: Worker, done: Call, now: float) -> None:
        if done.lease is None:
            self._do(self.scheduler.finished(done, now), now)
            return
        while (following := done.lease.next()) is not None:
            if not following.future.cancelled():
                self.dispatch(worker, following, now)
                return
            self.drop(following)

    def checked(self, worker: Worker) -> None:
        """It answered a ping."""
        now = self.loop.time()
        self._do(self.scheduler.checked(worker.number, now), now)

    def lost(self, worker: Worker, moved: Call | None) -> None:
        """It takes no more calls; a lease on it is lost with it."""
        for ticket in self.scheduler.tickets(worker.number):
            if isinstance(ticket, LeaseTicket) and ticket.lease is not None:
                for call in ticket.lease.lose():
                    text = f"the lease's worker ended before it started {call.title}"
                    self.fail(call, "crashed", WorkerCrashed(text, pid=worker.pid))
        now = self.loop.time()
        self._do(self.scheduler.lost(worker.number, now, moved), now)

    def given_up(self, call: Call, error: Exception) -> None:
        """A call ended with its worker."""
        outcome: Outcome = "crashed" if isinstance(error, WorkerError) else "timed_out"
        self.fail(call, "closed" if isinstance(error, PoolClosed) else outcome, error)

    def gone(self, worker: Worker, failure: WorkerStartError | None) -> None:
        """Its process is reaped: its place is free."""
        del self.workers[worker.number]
        now = self.loop.time()
        if failure is not None and worker.cause == "closed":
            self._do(self.scheduler.lost(worker.number, now), now)
        elif failure is not None:
            self._start_error = failure
            self._tell("start_failed", worker, reason=str(failure))
            self._do(self.scheduler.start_failed(worker.number, now), now)
            self._fail_start(_again(failure))
        self._counters.exited[worker.cause] += 1
        self._tell("exited", worker, reason=worker.reason)
        self._do(self.scheduler.reaped(worker.number, now), now)
        self._reset_timer()

    def _tell(self, kind: EventKind, worker: Worker, reason: str | None = None) -> None:
        if self._config.on_event is None:
            return
        try:
            self._config.on_event(Event(kind, self._config.name, worker.number, worker.pid, worker.exit_code, reason))
        except Exception:
            logger.exception("on_event of pool %r raised", self._config.name)


def _again(error: WorkerStartError) -> WorkerStartError:
    """Return a copy: one instance raised in many tasks would gather all of their tracebacks."""
    copy = WorkerStartError(*error.args)
    vars(copy).update(vars(error))
    return copy
