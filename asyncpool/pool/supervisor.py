"""Does what the scheduler decides, and tells it what happened: owns the workers, their tasks and the timer.

Law 1: every decision is the scheduler's. After each one, all of its actions are done, in order, without an await.
Law 2: one task supervises. It is cancelled by nobody but ``asyncio.run`` when that ends without ``aclose()``; each
       worker's own task, cancelled, kills its process and waits for BURIAL_BOUND at most until that is gone. The tasks
       are held here and nowhere else (anyio's task groups are entered in a global table): a loop that is dropped is
       collected, and they with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from asyncpool.errors import AcquireTimeout, PoolClosed, PoolError, WorkerCrashed, WorkerStartError
from asyncpool.pool.actions import Action, Assign, Probe, Reject, Retire, Spawn, Strand
from asyncpool.pool.call import Call, Reply, Turns
from asyncpool.pool.config import Config
from asyncpool.pool.deadline import Deadline
from asyncpool.pool.events import Event, EventKind
from asyncpool.pool.lease import LeaseTicket
from asyncpool.pool.ledger import Ledger
from asyncpool.pool.milestones import Milestones
from asyncpool.pool.policy import Limits
from asyncpool.pool.room import Room
from asyncpool.pool.roster import Ticket
from asyncpool.pool.scales import Scales
from asyncpool.pool.scheduler import Scheduler
from asyncpool.pool.stats import Counters, Outcome
from asyncpool.pool.worker import LIFESPAN_GRACE, Worker
from asyncpool.protocol.messages import Ready

STOP_BOUND = LIFESPAN_GRACE + 1.0  # seconds in which workers end that were asked to; then they are killed

logger: logging.Logger = logging.getLogger("asyncpool")


class Supervisor:
    """Runs the workers of one pool on the running event loop.

    Args:
        config: The pool's settings.
        counters: Where to count.
        on_teardown: Called when the event loop ends without ``stop``.
        hire: Makes a worker.
    """

    def __init__(
        self, config: Config, counters: Counters, on_teardown: Callable[[], None], hire: type[Worker] = Worker
    ) -> None:
        self.scheduler: Scheduler = Scheduler(config.limits)
        self.workers: dict[int, Worker] = {}
        self.ledger: Ledger = Ledger(counters, config.timeout, config.cancel_grace)
        self._config = config
        self._counters = counters
        self._on_teardown = on_teardown
        self._hire = hire
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._start_error: WorkerStartError | None = None
        self._timer: asyncio.TimerHandle | None = None
        limits = config.limits
        self._timed = any(
            each is not None for each in (limits.idle_timeout, limits.health_interval, limits.max_lifetime)
        )
        most = limits.max_memory
        self._scales = None if most is None else Scales(self.loop, config.name, most, self._weighed)
        self._restarts = 0  # that are waited for
        self._tasks: set[asyncio.Task[None]] = set()  # one for each worker
        self._supervising = False  # False: before the start and after the end
        self._ready = 0
        self._milestones = Milestones(self.loop)
        self.room: Room = Room(self.loop, lambda: self.scheduler.full)
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
        now = self.loop.time()
        self._do(self.scheduler.start(now), now)
        await self._milestones.reach(lambda: self._ready >= self.scheduler.limits.min_size)

    async def restart(self) -> None:
        """Replace every worker that there is, and return when the last of them is gone.

        Raises:
            WorkerStartError: A successor could not start; those without one stay.
            PoolClosed: The pool was closed meanwhile.
        """
        old = list(self.workers)
        now = self.loop.time()
        self._do(self.scheduler.restart(now), now)
        self._restarts += 1
        try:
            enough = self._enough(len(old) + len(self.scheduler.starting))  # those will be ready too, and go
            await self._milestones.reach(lambda: enough() and not any(number in self.workers for number in old))
        finally:
            self._restarts -= 1

    async def resize(self, limits: Limits) -> None:
        """Set other limits, and return when as many workers take calls as they say.

        Raises:
            WorkerStartError: A worker could not start; the limits stay.
            PoolClosed: The pool was closed meanwhile.
        """
        now = self.loop.time()
        self._do(self.scheduler.resize(limits, now), now)
        self._reset_timer()
        missing = limits.min_size - self.scheduler.taking
        await self._milestones.reach(self._enough(missing))

    def _enough(self, missing: int) -> Callable[[], bool]:
        """Return what is true once min_size workers take calls, or *missing* have become ready.

        Those that die meanwhile are replaced, but not waited for: where they die all the time it would never end.
        """
        before = self._ready
        scheduler = self.scheduler
        return lambda: scheduler.taking >= scheduler.limits.min_size or self._ready - before >= missing

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
        if not self._supervising or self._ending.done():  # then every call has its outcome
            return
        self._supervising = False
        self.scheduler.close()
        self.room.close()
        self._on_teardown()
        self._close_calls()
        self._milestones.close(lambda: PoolClosed("the event loop has ended"))

    async def stop(self, hurry: asyncio.Future[None]) -> None:
        """Serve what was accepted until all of it is done or *hurry* is, then end all workers.

        Never raises; returns when no process, task or descriptor is left.
        """
        self.scheduler.close()
        self.room.close()
        self._milestones.close(lambda: PoolClosed("the pool was closed before its workers were ready"))
        await asyncio.wait([self.ledger.drained(), hurry], return_when=asyncio.FIRST_COMPLETED)
        self._close_calls()
        for worker in list(self.workers.values()):
            worker.stop("closed")
        self._ending.set_result(None)
        late = self.loop.call_later(STOP_BOUND, self._kill_all)
        await self.ended()
        late.cancel()

    async def ended(self) -> None:
        """Wait until nothing of it is left."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _close_calls(self) -> None:
        """Give every call that is left its outcome: PoolClosed."""
        for ticket in list(self.scheduler.waiting):
            self.scheduler.withdraw(ticket)
            if isinstance(ticket, LeaseTicket):
                ticket.fail(PoolClosed("the pool was closed before a worker came free"))
        for ticket in list(self.scheduler.bound):
            self.withdraw(ticket)
        opened = self.ledger.open
        for call in [call for call in opened if call.worker is None]:
            if call.lease is not None:
                call.lease.withdraw(call)
            self.ledger.fail(call, "closed", PoolClosed(f"the pool was closed before {call.title} was started"))
        for call in [call for call in opened if call.worker is not None]:
            if call.worker is not None:  # killing one worker may have ended others of its calls
                call.verdict = PoolClosed(f"the pool was closed while {call.title} ran; it was stopped", started=True)
                call.worker.kill("closed", "was stopped because the pool was closed")

    def _kill_all(self) -> None:
        for worker in list(self.workers.values()):
            worker.kill("closed", "did not end when the pool was closed")
        for task in self._tasks:  # a process in a driver's hands outlives SIGKILL: they wait for BURIAL_BOUND at most
            task.cancel()

    # --- tickets -----------------------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket, now: float) -> None:
        """Let a ticket have a worker, now or when its turn comes."""
        if actions := self.scheduler.submit(ticket, now):
            self._do(actions, now)

    def bind(self, ticket: Ticket, worker: int, now: float) -> None:
        """Let a ticket have this worker and no other, now or when it comes free."""
        self._do(self.scheduler.bind(ticket, worker, now), now)

    def withdraw(self, ticket: Ticket) -> bool:
        """Take a waiting ticket back; False when it does not wait (any more)."""
        if ticket in self.scheduler.bound:
            now = self.loop.time()
            self._do(self.scheduler.unbind(ticket, now), now)
            return True
        if not self.scheduler.withdraw(ticket):
            return False
        self.room.look()
        if ticket.exclusive:  # it may have held up those behind it
            now = self.loop.time()
            self._do(self.scheduler.tick(now), now)
        return True

    def limit_wait(self, ticket: Call | LeaseTicket, seconds: float, crash: Exception | None = None) -> None:
        """Let a ticket wait for so long at most; *crash* has brought a call back into the queue."""

        def expire() -> None:
            text = f"no worker came free within {seconds:g} s (acquire_timeout); the pool is {self.summary()}"
            error = AcquireTimeout(text)
            error.__cause__ = crash
            self.refuse(ticket, error)

        ticket.deadline = Deadline(self.loop, seconds, expire)

    def refuse(self, ticket: Call | LeaseTicket, error: PoolError) -> None:
        """Take a ticket out of the queue, if it still waits, and tell its owner why."""
        if not self.withdraw(ticket):
            return
        if isinstance(ticket, Call):
            outcome: Outcome = "acquire_timed_out" if isinstance(error, AcquireTimeout) else "rejected"
            self.ledger.fail(ticket, outcome, error)
        else:
            ticket.fail(error)

    def finish(self, ticket: Ticket, calls: int) -> None:
        """A lease of so many calls is over."""
        now = self.loop.time()
        self._do(self.scheduler.finished(ticket, now, calls), now)

    def dispatch(self, worker: Worker, call: Call, now: float) -> None:
        """Put a call on the wire."""
        if call.deadline is not None:
            call.cancel_deadline()
        call.dispatched = now
        self._counters.attempts += 1
        self._counters.wait_time.add(now - call.submitted)
        ledger, limit = self.ledger, call.encoded_timeout
        if call.learnt != ledger.learnt:  # a worker has told the command's own limit since
            limit = ledger.time_limit(call.command, call.timeout, call.items)
        worker.send(call, limit)

    def grace(self, call: Call) -> float | None:
        """Return the seconds that a command gets to stop when it is asked to; None: it cannot be asked."""
        return self.ledger.grace(call)

    # --- what the scheduler decides ----------------------------------------------------------------------------------

    def _do(self, actions: list[Action], now: float) -> None:
        for action in actions:  # and what is appended meanwhile
            if isinstance(action, Assign):
                ticket = action.ticket
                if isinstance(ticket, Call) and not ticket.future.cancelled():
                    self.dispatch(self.workers[action.worker], ticket, now)
                else:
                    actions += self._grant(self.workers[action.worker], ticket, now)
            elif isinstance(action, Spawn):
                self._spawn(action.worker)
            elif isinstance(action, Probe):
                self.workers[action.worker].ping()
            elif isinstance(action, Retire):
                self.workers[action.worker].stop(action.cause)
            elif isinstance(action, Strand):
                self._strand(self.workers[action.worker], action.ticket)
            else:
                self._reject(action)
        if self.room.sought:
            self.room.look()
        if self._timer is None and self._timed:
            self._set_timer()

    def _grant(self, worker: Worker, ticket: Ticket, now: float) -> list[Action]:
        """Let a lease have its worker, or drop a call that nobody wants any more; returns what else is to be done."""
        if isinstance(ticket, Call):  # its caller is cancelled in this very pass, and will see to it in the next
            self.ledger.drop(ticket)
            return self.scheduler.finished(ticket, now)  # returned, not done: thousands may be cancelled at once
        if isinstance(ticket, LeaseTicket):
            ticket.cancel_deadline()
            if not ticket.future.done():
                ticket.future.set_result(worker)
        return []

    def _spawn(self, number: int) -> None:
        taken = {worker.slot for worker in self.workers.values()}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        assert self._supervising
        worker = self.workers[number] = self._hire(number, slot, self._config, self)
        task = self._create_task(worker.live(), f"asyncpool {self._config.name} worker {number}")
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _create_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        # Not by the loop's factory: an eager task would begin in the middle of what is being done.
        task = asyncio.Task(coroutine, loop=self.loop, name=name)
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
            self.ledger.fail(action.ticket, "not_started", _again(error))
        elif isinstance(action.ticket, LeaseTicket):
            action.ticket.fail(_again(error))

    def _strand(self, worker: Worker, ticket: Ticket) -> None:
        """A call was meant for one worker that takes no more: an error where it died, nothing where it was let go."""
        if not isinstance(ticket, Call):
            return
        if worker.takes_calls:
            self.ledger.drop(ticket)
        else:
            text = f"worker {worker.number} ended before it started {ticket.title}"
            self.ledger.fail(ticket, "crashed", WorkerCrashed(text, pid=worker.pid))

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
        if self._timer is None:  # uvloop's timers may ring a little before their time
            self._set_timer()

    # --- what workers tell -------------------------------------------------------------------------------------------

    def spawned(self, worker: Worker) -> None:
        """Its process is there."""
        self._tell("spawned", worker)

    def ready(self, worker: Worker, ready: Ready) -> None:
        """It takes calls: it serves the head of the queue, not whoever had it started."""
        self.ledger.learn(ready.commands)
        self._ready += 1
        slots = min(self._config.concurrency, ready.capacity)
        if self._config.concurrency > 1:
            for ticket in self.scheduler.waiting:  # what they are may be known only now
                if isinstance(ticket, Call):
                    ticket.exclusive = self.ledger.excludes(ticket)
        now = self.loop.time()
        memory = 0 if self._scales is None else self._scales.at_birth(worker)
        self._do(self.scheduler.ready(worker.number, slots, now, memory), now)
        self._tell("ready", worker)
        self._milestones.look()
        self._reset_timer()

    def answered(self, worker: Worker, call: Call, reply: Reply, now: float) -> None:
        """The next waiting call is on the wire before the caller of the last one wakes."""
        if self._scales is not None:
            self._scales.look(worker, now)
        if not worker.takes_calls:
            pass  # its tickets are let go already, or about to be
        elif call.lease is None:
            self._do(self.scheduler.finished(call, now), now)
        else:
            self._go_on(worker, call.lease, now)
        self.ledger.answered(call, reply, worker.pid, now)

    def _weighed(self, worker: Worker, memory: int) -> None:
        if self._supervising:
            now = self.loop.time()
            self._do(self.scheduler.weighed(worker.number, memory, now), now)

    def _go_on(self, worker: Worker, lease: Turns, now: float) -> None:
        while (following := lease.next()) is not None:
            if not following.future.cancelled():
                self.dispatch(worker, following, now)
                return
            self.ledger.drop(following)

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
                    self.ledger.fail(call, "crashed", WorkerCrashed(text, pid=worker.pid))
        now = self.loop.time()
        self._do(self.scheduler.lost(worker.number, now, moved), now)
        if moved is not None:
            self._wait_anew(moved)

    def moved(self, call: Call) -> None:
        """A call provably never started, as is known now: it goes back to the head of the queue."""
        self._run_again(call)

    def _wait_anew(self, call: Call, crash: Exception | None = None) -> None:
        """A call that goes to another worker may wait for that as long as for the first."""
        if call.patience is not None and self.scheduler.waits(call):
            self.limit_wait(call, call.patience, crash)

    def given_up(self, call: Call, error: Exception) -> None:
        """A call ended with its worker: it is run again if it may be, at the head of the queue."""
        if isinstance(error, WorkerCrashed) and self.ledger.may_run_again(call, error) and self._supervising:
            call.worker = None
            call.provably_unstarted = False
            self._run_again(call, error)
            return
        self.ledger.give_up(call, error)

    def _run_again(self, call: Call, crash: Exception | None = None) -> None:
        now = self.loop.time()
        self._do(self.scheduler.again(call, now), now)
        self._wait_anew(call, crash)

    def gone(self, worker: Worker, failure: WorkerStartError | None) -> None:
        """Its process is reaped: its place is free."""
        del self.workers[worker.number]
        now = self.loop.time()
        starting = worker.number in self.scheduler.starting
        failed = failure is not None and worker.cause == "start_failed" and starting
        if failure is not None and not failed:  # the pool wanted it no more
            self._do(self.scheduler.lost(worker.number, now), now)
        elif failure is not None:
            self._start_error = failure
            self._do(self.scheduler.start_failed(worker.number, now), now)
            if self._restarts:
                self.scheduler.keep()  # now: whoever is told may ask for another restart at once
            self._milestones.fail(lambda: _again(failure))
        self._counters.exited[worker.cause] += 1
        self._do(self.scheduler.reaped(worker.number, now), now)
        if failed:
            self._tell("start_failed", worker, reason=str(failure))
        self._tell("exited", worker, reason=worker.reason)
        self._milestones.look()
        self._reset_timer()

    def _tell(self, kind: EventKind, worker: Worker, reason: str | None = None) -> None:
        """Tell of an event when all is done that it causes: whoever hears of it may ask for more at once."""
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
