"""One child as asyncio sees it: spawn, greet, send, receive, stop, and know for certain how it ended.

Law 1: ``states.TRANSITIONS`` is the whole of its state; what is not in it raises.
Law 2: the end has one entry, ``_end``, whichever sign of it comes first: end of stream, process exit, a kill.
Law 3: what the worker wrote before it died counts: it is read before any call is given up, up to LAST_WORDS frames.
Law 4: a call that was the last frame sent, and that the worker has not read or not wholly been sent, never started.
       Any frame sent after it destroys the proof.
Law 5: nothing of a call that has its outcome is kept: it may be large, and the worker idle for long.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Protocol

import anyio

from asyncpool.errors import CommandTimeout, ProtocolError, WorkerCrashed, WorkerError, WorkerStartError
from asyncpool.pool import greeting, stack
from asyncpool.pool.call import MOST_MOVES, Call, Reply
from asyncpool.pool.child import Child, Process
from asyncpool.pool.config import Config
from asyncpool.pool.connection import Connection, pair
from asyncpool.pool.deadline import Deadline
from asyncpool.pool.journal import Journal
from asyncpool.pool.obituary import Obituary
from asyncpool.pool.oom import OomKills, OomWatch
from asyncpool.pool.states import TRANSITIONS, Sign, State
from asyncpool.pool.stats import Cause
from asyncpool.pool.stderr import Stderr
from asyncpool.protocol import buffers, messages, wire
from asyncpool.protocol.messages import Cancel, Credit, Failure, Log, Ping, Pong, Ready, Result, Stop, Update

EXIT_GRACE = 0.25  # seconds between end of stream and SIGKILL: a process that is ending gets to its own exit code
STOP_GRACE = 1.0  # seconds between Stop and SIGKILL
LIFESPAN_GRACE = 5.0  # instead of either, for a worker that has lifespans to leave
STACK_GRACE = 0.25  # seconds between the signal at which a worker writes its stacks and dies, and SIGKILL
_header = wire.HEADER.pack
LIVED_ON = "closed its end of the connection and lived on"
BURIAL_BOUND = 5.0  # seconds for a killed process to be gone, once nobody can wait for longer
EXIT_BOUND = 1.0  # seconds after the first sign of its end in which its calls wait for the exit code


class Owner(Protocol):
    """Whom a worker tells."""

    def grace(self, call: Call) -> float | None:
        """Return the seconds that a command gets to stop when it is asked to; None: it cannot be asked."""
        raise NotImplementedError

    def spawned(self, worker: Worker) -> None:
        """Its process is there."""

    def ready(self, worker: Worker, ready: Ready) -> None:
        """It takes calls."""

    def answered(self, worker: Worker, call: Call, reply: Reply, now: float) -> None:
        """A chunk was parsed whole, with this reply in it, which came at *now*."""

    def checked(self, worker: Worker) -> None:
        """It answered a ping."""

    def lost(self, worker: Worker, moved: Call | None) -> None:
        """It takes no more calls. *moved* provably never started, and is the owner's again."""

    def moved(self, call: Call) -> None:
        """The same of a call that was proved when its worker was lost already."""

    def given_up(self, call: Call, error: Exception) -> None:
        """A call ended with its worker."""

    def gone(self, worker: Worker, failure: WorkerStartError | None) -> None:
        """Its process is reaped. *failure*: it never became ready."""

    def torn_down(self) -> None:
        """The event loop is ending."""


class Worker:
    """One worker process.

    Args:
        number: Its id in the pool.
        slot: Number of its place.
        config: The pool's settings.
        owner: Whom to tell.
    """

    def __init__(self, number: int, slot: int, config: Config, owner: Owner) -> None:
        self.number = number
        self.slot = slot
        self.state: State = State.SPAWNING
        self.takes_calls: bool = False  # from Ready until the first sign of its end
        self.calls: dict[int, Call] = {}
        self.handed: int = 0  # calls so far
        self.language: str = ""
        self.pid: int | None = None  # process id, None before it is spawned
        self.cause: Cause = "crashed"
        self.reason: str | None = None  # why the pool ended it, in words
        self.exit_code: int | None = None
        self._config = config
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.born: float = self._loop.time()
        self.weighed: float = self.born  # when its memory was last looked at
        self._was_ready = False
        self._has_lifespans = False
        self._takes_buffers = False
        self._child: Process | None = None
        self._stderr: Stderr | None = None
        self._journal: Journal | None = None
        self._stack: stack.Stack | None = None  # of a Python worker
        self._connection = Connection(self, self._loop)
        self._watch: OomWatch | None = None
        self._oom: OomKills | None = None  # what may have killed it
        self._problem: str | None = None  # how it broke the protocol
        self._finished_off = False  # it was killed while it ended by itself: nobody knows by whom first
        self._last: Call | None = None  # the call that was the last frame sent
        self._nonce = 0
        self._timer: Deadline | None = None  # of its start, a ping or its stop
        self._bounds: list[Deadline] = []  # of its end

    @property
    def stderr_dropped(self) -> int:
        """Bytes of its stderr that the application did not take."""
        return 0 if self._stderr is None else self._stderr.dropped

    # --- its life ----------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Spawn, serve, and be reaped: returns when nothing of the worker is left."""
        try:
            await self._serve()
            await self._bury()
        except GeneratorExit:  # the loop was dropped: nothing can be awaited any more
            if self._child is not None:
                self._child.close()
            if self._stack is not None:
                self._stack.close()
            raise
        except asyncio.CancelledError:  # asyncio.run ends without aclose(), or the process outlives SIGKILL
            self._owner.torn_down()
            await self._bury()
            raise

    async def _serve(self) -> None:
        if self.state is not State.SPAWNING:
            return  # it was killed before its first step
        try:
            ours = self._spawn()
            self._connection.open(ours)
            self._greet()
            anyio.CancelScope()  # loads what anyio has for asyncio, 40 ms: now, and not for the first cancelled call
            assert self._child is not None
            self.exit_code = await self._child.wait()
        except Exception as error:  # no such program, no descriptor left, a bad environment, ...
            where = self._config.cwd
            hint = " (the pool's cwd=)" if where is not None and getattr(error, "filename", None) == str(where) else ""
            did = "spawned" if self._child is None else "greeted"
            self._end("start_failed", f"could not be {did}: {error}{hint}")

    def _spawn(self) -> socket.socket:
        """Start the process and return the parent's end of the connection to it."""
        config = self._config
        self._journal = Journal(self._loop, config.name, self.number, self._in_flight)
        self._stderr = Stderr(self._loop, config.stderr, self._journal)
        self._stack = stack.stack_or_none() if config.program is None else None
        dumps = [] if self._stack is None else [self._stack.child_end]
        self._watch = OomWatch()
        ours, theirs = pair()
        try:
            self._child = self._start(theirs.fileno(), self._stderr.child_end, dumps)
            self.pid = self._child.pid
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            self._stderr.close_child_end()
        self._owner.spawned(self)
        return ours

    def _start(self, stdio: int, stderr: int, dumps: list[int]) -> Process:
        """Start the process with these descriptors; it can write its stacks where there is one in *dumps*."""
        argv = self._argv((dumps[0], stack.SIGNAL) if dumps else None)
        config = self._config
        return Child(argv, stdio=stdio, stderr=stderr, others=dumps, env=config.env, cwd=config.cwd)

    def _argv(self, dump: tuple[int, int] | None) -> list[str]:
        return self._config.argv(dump)

    def _greet(self) -> None:
        if self.state is not State.SPAWNING:
            return  # it was killed meanwhile
        self._move(Sign.SPAWNED)
        self._connection.send(wire.frame(messages.encode(greeting.hello(self._config, self.slot))))
        limit = self._config.start_timeout
        self._wait_for(limit, "start_failed", f"was not ready within {limit:g} s (start_timeout)")

    async def _bury(self) -> None:
        """Make sure that process, group and descriptors are gone, then give every call that is left its outcome.

        Cancelled in its middle, it can be called again.
        """
        with anyio.CancelScope(shield=True):
            if self._child is not None:
                self._child.kill()
                if self.exit_code is None:
                    with anyio.move_on_after(BURIAL_BOUND):
                        self.exit_code = await self._child.wait()
                self._end("crashed", None)
                self._connection.drain()  # also the last words of one that was killed
                if (moved := self._unstarted()) is not None:  # only now, for one that the pool has killed
                    self._owner.moved(moved)
                self._child.close()
            else:
                self._end("closed", "was not spawned")
            self._cancel_timers()
            self._connection.close()
        if self._stderr is not None:
            self._stderr.close()
        if self.reason == LIVED_ON and self.exit_code not in (None, -signal.SIGKILL):
            self.reason = None  # it was about to end by itself: much memory takes its time to be unmapped
        if self.exit_code == -signal.SIGKILL and self.reason is None:
            if self._finished_off:
                self.reason = "was killed by SIGKILL while it ended"
            elif self._watch is not None:
                self._oom = self._watch.claim()
        self._move(Sign.REAPED)
        if self.cause == "crashed" and self.exit_code == 0 and self.reason is None and not self.calls:
            self.cause = "left"
        self._give_up_calls()
        if self._stack is not None:
            self._stack.close()
        when = "" if self._child is None else "before it was ready"
        failure = None if self._was_ready else self._obituary().error(WorkerStartError, when)
        self._owner.gone(self, failure)

    # --- what the owner asks -----------------------------------------------------------------------------------------

    def send(self, call: Call, timeout: float | None) -> None:
        """Hand over a call that may run for *timeout* seconds from now."""
        call.worker = self
        self.calls[call.id] = call
        self.handed += 1
        self._last = call
        if timeout != call.encoded_timeout:  # no worker had told the command's own limit when the call was encoded
            self._encode_timeout(call, timeout)
        if call.buffers:
            self._send_with_buffers(call)
        else:
            size = len(call.body)
            self._connection.send(_header(size, size) + call.body)  # as ``wire.frame`` does
        if timeout is not None:
            call.deadline = Deadline(self._loop, timeout, lambda: self._time_out(call, timeout), self._heard)

    def _encode_timeout(self, call: Call, timeout: float | None) -> None:
        body = messages.with_deadline(call.body, timeout)
        # Where that makes it too long the command is not told, and is held to it all the same.
        if len(body) + sum(map(len, call.buffers)) <= self._config.max_message:
            call.body, call.encoded_timeout = body, timeout

    def _send_with_buffers(self, call: Call) -> None:
        if not self._takes_buffers:
            call.body, call.buffers = buffers.put_back(call.body, call.buffers), ()
        size = len(call.body)
        self._connection.send(_header(size + sum(map(len, call.buffers)), size) + call.body, call.buffers)

    def credit(self, call: Call, count: int) -> None:
        """Let a call send more updates."""
        if call.id in self.calls and self.state in (State.READY, State.STOPPING):
            self._tell(Credit(call.id, count))

    def stop_call(self, call: Call, cause: Cause, reason: str) -> None:
        """Stop one call: ask its command where it heeds that, and kill the worker where it does not, or not in time."""
        grace = self._owner.grace(call)
        if grace is None or self.state is not State.READY or (self._connection.unsent and len(self.calls) == 1):
            self.kill(cause, reason)
        elif not call.asked_to_stop:
            call.asked_to_stop = True
            self._tell(Cancel(call.id))
            call.cancel_deadline()
            late = f"{reason} and did not stop within {grace:g} s (cancel_grace)"
            call.deadline = Deadline(self._loop, grace, lambda: self._end_late(cause, late), self._heard)

    def ping(self) -> None:
        """Ask for a sign of life; without one the worker is killed."""
        self._nonce += 1
        self._tell(Ping(self._nonce))
        limit = self._config.health_timeout
        self._wait_for(limit, "unhealthy", f"did not answer a ping within {limit:g} s (health_timeout)")

    def stop(self, cause: Cause) -> None:
        """Ask it to end; without heed it is killed."""
        if self.state in (State.STOPPING, State.ENDING, State.GONE):
            return  # it was asked, or ends by itself, and has its time
        if self.state is not State.READY:
            self.kill(cause, "was stopped before it was ready")
            return
        self._move(Sign.STOP)
        self.cause, self.reason = cause, "was asked to end"
        self._tell(Stop())
        grace = LIFESPAN_GRACE if self._has_lifespans else STOP_GRACE
        self._wait_for(grace, cause, f"did not end within {grace:g} s of being asked to")

    def kill(self, cause: Cause, reason: str) -> None:
        """Kill the process and its group, now. Its calls are given up once it is gone, or after a second."""
        if self._child is not None:
            self._child.kill()
        self._finished_off = self._finished_off or (self.state is State.ENDING and self.exit_code is None)
        self._end(cause, reason, proof=False)

    # --- what the connection tells -----------------------------------------------------------------------------------

    def received_one(self, message: messages.ToParent) -> None:
        """Take in a message that came alone."""
        if type(message) is Result:
            call = self.calls.pop(message.id, None)
            if call is not None:  # the common case, short
                if call is self._last:
                    self._last = None  # law 5
                self._owner.answered(self, call, message, self._connection.heard)
                return
        self.received([message], None)

    def received(self, found: list[messages.ToParent], error: wire.FrameError | None) -> None:
        """Take in a chunk that was parsed whole. Only then may the next call be assigned."""
        replies: list[tuple[Call, Reply]] = []
        then: list[Callable[[], None]] = []
        records: list[Log] = []
        problem = None if error is None else str(error)
        for message in found:
            if isinstance(message, Update):
                wrong = self._update(message)
                if wrong is None:
                    continue
            elif isinstance(message, Log):
                records.append(message)
                continue
            elif isinstance(message, (Result, Failure)):
                call = self.calls.pop(message.id, None)
                if call is not None:
                    self._last = None if call is self._last else self._last  # law 5
                    replies.append((call, message))
                    continue
                wrong = f"a reply to call {message.id}, which it does not have"
            else:
                wrong = self._take(message, then)
            if wrong is not None:
                problem = wrong
                break
        if problem is not None:
            self._problem = problem
            self.kill("protocol", f"broke the protocol: it sent {problem}")
        for call, reply in replies:
            self._owner.answered(self, call, reply, self._connection.heard)
        for act in then:
            act()
        if self._journal is not None and self._config.logs:
            for record in records:
                self._journal.record(record.record)

    def _take(self, message: messages.ToParent, then: list[Callable[[], None]]) -> str | None:
        """Sort a message that is no reply; returns what is wrong with it."""
        if isinstance(message, Ready):
            if self._was_ready or then:
                return "Ready for a second time"
            if (wrong := greeting.wrong_with(message)) is not None:
                return wrong
            then.append(lambda: self._become_ready(message))
        elif isinstance(message, Pong):
            if message.nonce != self._nonce:
                return f"an answer to ping {message.nonce}, which was not sent"
            then.append(self._pass_check)
        return None

    def _update(self, update: Update) -> str | None:
        """Hand on an update; returns what is wrong with it."""
        call = self.calls.get(update.id)
        if call is None:
            return f"an update of call {update.id}, which it does not have"
        if call.updates is not None and not call.updates.feed(update):
            return f"an update of call {update.id} for which it had no credit"
        return None

    def disconnected(self) -> None:
        """The stream has ended: so will the process, by itself or with help."""
        if self.state in (State.ENDING, State.GONE):
            return
        self._end("crashed", None)
        grace = LIFESPAN_GRACE if self._has_lifespans else EXIT_GRACE
        self._bounds.append(Deadline(self._loop, grace, lambda: self.kill("crashed", LIVED_ON)))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _become_ready(self, ready: Ready) -> None:
        if self.state is not State.GREETING:
            return
        self._move(Sign.READY)
        self._was_ready = True
        self._cancel_timers()
        self._connection.set_limit(self._config.max_message)
        self.language = ready.language
        self._has_lifespans = ready.lifespans > 0
        self._takes_buffers = ready.buffers
        self._owner.ready(self, ready)

    def _pass_check(self) -> None:
        if self.state is State.READY:
            self._cancel_timers()
            self._owner.checked(self)

    def _end(self, cause: Cause, reason: str | None, *, proof: bool = True) -> None:
        """Begin the end, whatever has brought it. With *proof*, look for what shows that a call never started.

        What is being killed may read on for a moment: then the proof is made once it is reaped.
        """
        if self.state in (State.ENDING, State.GONE):
            if reason == LIVED_ON or self._problem is not None:  # else it ends already, whoever wants that too
                self.reason = self.reason or reason
            return
        if self.state is not State.STOPPING:
            self.cause = "start_failed" if not self._was_ready and cause in ("crashed", "protocol") else cause
        self.reason = reason or self.reason
        self._move(Sign.END)
        self._cancel_timers()
        moved = None
        if proof:
            self._connection.drain()
            moved = self._unstarted()
        for call in self.calls.values():
            call.cancel_deadline()  # it must not time out while it waits to be run again
        self._bounds.append(Deadline(self._loop, EXIT_BOUND, self._give_up_calls))
        if self._was_ready:
            self._owner.lost(self, moved)

    def _unstarted(self) -> Call | None:
        """Return the call that provably never started (law 4), if it may go elsewhere; it is not this worker's then."""
        call = self._last
        if call is None or call.id not in self.calls or not (self._connection.unread or self._connection.unsent):
            return None
        if call.lease is not None or call.abandoned or call.verdict is not None or call.moves >= MOST_MOVES:
            call.provably_unstarted = True
            return None
        del self.calls[call.id]
        call.worker = None
        call.moves += 1
        call.cancel_deadline()
        return call

    def _time_out(self, call: Call, timeout: float) -> None:
        late = f"{call.title} ran longer than its timeout of {timeout:g} s"
        who = f"worker {self.number}" if self.pid is None else f"worker {self.number}, pid {self.pid}"
        call.verdict = CommandTimeout(f"{late} and was stopped ({who})")
        reason = f"was stopped because {late}"
        if self._owner.grace(call) is not None:
            self.stop_call(call, "timed_out", reason)
        else:
            self._end_late("timed_out", reason)

    def _end_late(self, cause: Cause, reason: str) -> None:
        """Kill the worker of a command that runs too long; where it can, it first writes down where it is."""
        if self.state is State.READY and self._die_of_dump():
            self._end(cause, reason, proof=False)
            assert self._child is not None
            self._bounds.append(Deadline(self._loop, STACK_GRACE, self._child.kill))
        else:
            self.kill(cause, reason)

    def _die_of_dump(self) -> bool:
        """Let the worker write down where it is and die; its group is killed once it is gone. False: it cannot."""
        return self._stack is not None and self._child is not None and self._child.send_signal(stack.SIGNAL)

    def _give_up_calls(self) -> None:
        self._last = None
        for call in list(self.calls.values()):
            del self.calls[call.id]
            if isinstance(call.verdict, CommandTimeout):
                stack.tell(call.verdict, self._read_stack(), self.pid)
            if call.verdict is not None and call.provably_unstarted:
                call.verdict.started = False
                call.verdict.add_note(f"{call.title} was never begun: its worker had not read it")
            self._owner.given_up(call, call.verdict or self._crash(call))

    def _read_stack(self) -> str:
        # Killed while it wrote, it left a part, whose last thread need not be the main one.
        return self._stack.read() if self._stack is not None and self.exit_code in (-stack.SIGNAL, None) else ""

    def _crash(self, call: Call) -> WorkerError:
        """Return what a call raises whose worker ended under it."""
        kind = WorkerCrashed if self._problem is None else ProtocolError
        if call.provably_unstarted:
            return self._obituary().error(kind, f"before it started {call.title}")
        return self._obituary().error(kind, f"while it ran {call.title}", started=True)

    def _obituary(self) -> Obituary:
        stderr = "" if self._stderr is None else self._stderr.tail()
        return Obituary(self.number, self.pid, self.exit_code, self.reason, stderr, self._oom)

    def _in_flight(self) -> tuple[int | None, int | None]:
        """Return its process id, and the id of the call that it runs, if that is one."""
        return self.pid, next(iter(self.calls)) if len(self.calls) == 1 else None

    def _heard(self) -> float:
        return self._connection.heard

    def _tell(self, message: messages.ToWorker) -> None:
        self._last = None  # law 4
        self._connection.send(wire.frame(messages.encode(message)))

    def _wait_for(self, seconds: float, cause: Cause, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = Deadline(self._loop, seconds, lambda: self.kill(cause, reason), self._heard)

    def _cancel_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for handle in self._bounds:
            handle.cancel()
        self._bounds.clear()

    def _move(self, sign: Sign) -> None:
        try:
            self.state = TRANSITIONS[self.state, sign]
            self.takes_calls = self.state is State.READY
        except KeyError:
            raise RuntimeError(f"worker {self.number} is {self.state.value} and cannot take {sign.value}") from None
