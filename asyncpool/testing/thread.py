"""A thread that stands for a worker's process: the worker's own program, over the other end of the same socketpair.

Law 1: a thread cannot be killed. It is cut off, so that nothing of it is heard any more; its command gets an exception
       that no ``except Exception`` catches, at its next step in Python; and if the thread does not end soon, the pool
       goes on without it, and a warning says so.
Law 2: that exception is raised in commands only. Elsewhere it could fall between the opening of a descriptor and its
       assignment; there the thread ends by itself, for it can no more read nor write, and its event loop is told.
Law 3: no descriptor is closed under a thread that may still use it: the thread itself closes them when it ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from asyncpool.commands import Runtime
from asyncpool.protocol import wire
from asyncpool.protocol.messages import MAIN
from asyncpool.protocol.received import spares
from asyncpool.testing.faulty import FaultyChannel
from asyncpool.testing.plan import Plan
from asyncpool.testing.runtime import threads
from asyncpool.worker import __main__ as worker
from asyncpool.worker.channel import Channel
from asyncpool.worker.leave import Leave
from asyncpool.worker.registry import StartFailure
from asyncpool.worker.session import Session

PATIENCE = 0.5  # seconds that a thread gets to end once it is killed; then it is abandoned
LOOK_AGAIN = 0.005  # seconds
ENTRIES = {
    ("session.py", "invoke"),
    ("session.py", "stream"),
    ("session.py", "_close"),
    ("session.py", "attempt"),
    ("chunk.py", "_start"),
    ("chunk.py", "<lambda>"),
    ("chunk.py", "_end_of"),
    ("chunk.py", "_answers_of_async"),
    ("loop.py", "_outcome"),
    ("loop.py", "_stream"),
}
OURS = (os.path.dirname(__file__) + os.sep, os.path.dirname(worker.__file__) + os.sep, threading.__file__)

logger: logging.Logger = logging.getLogger("asyncpool.testing")


class Killed(SystemExit):
    """Ends the thread. An event loop lets a SystemExit pass, and so do most commands."""


class WorkerThread:
    """A running thread, with the face of a ``Child``.

    Args:
        name: Of the thread.
        stdio: Descriptor of the worker's end of the connection; stays the caller's.
        stderr: Descriptor that tells why it could not start; stays the caller's.
        dumps: Descriptor to write its stack to, if it is one, and stays the caller's.
        plan: What goes wrong.
    """

    pid: int | None = None

    def __init__(self, name: str, stdio: int, stderr: int, dumps: list[int], plan: Plan) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = socket.socket(fileno=os.dup(stdio))
        self._end.setblocking(True)  # a new socket does not block where the application has set a default timeout
        self._stderr = os.dup(stderr)
        self._dump = dumps[0] if dumps else None
        self._plan = plan
        self._channel = InlineChannel(self._end.fileno(), plan, self._crash, self._doze)
        self._leave = InlineLeave()
        self._lock = threading.Lock()  # between its last step and a kill
        self._over = False
        self._killed = False
        self._raised = False  # the exception, in the command
        self._session: Session | None = None
        self._commands_loop: asyncio.AbstractEventLoop | None = None
        self._code: int | None = None
        self._told = asyncio.Event()  # killed or ended
        self._ended = asyncio.Event()
        self._threads = threads()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._end.close()
            os.close(self._stderr)
            raise

    # --- what the worker asks ----------------------------------------------------------------------------------------

    async def wait(self) -> int | None:
        """Wait for its end, or until it is abandoned."""
        await self._told.wait()
        until = self._loop.time() + PATIENCE
        while not self._ended.is_set():
            if self._loop.time() > until:
                logger.warning(
                    "%s was killed, but its command runs on: a thread cannot be stopped while it waits outside of "
                    "Python code. The InlinePool goes on without it; its answer will not be heard",
                    self._thread.name,
                )
                break
            self._disturb()  # it may have been about to enter a command, or its event loop
            self._cancel_on_loop()
            try:
                async with asyncio.timeout(LOOK_AGAIN):
                    await self._ended.wait()
            except TimeoutError:
                pass
        return self._code

    def kill(self) -> None:
        """Cut it off and let it end at its next step."""
        self._kill(-signal.SIGKILL)

    def send_signal(self, number: int) -> bool:
        """Do as a process does at the signal for its stack: write it down and die."""
        if self._over or self._killed or self._dump is None:
            return False
        frame = sys._current_frames().get(self._thread.ident or 0)
        os.write(self._dump, f"Thread 0x{self._thread.ident:x}:\n{_stack(frame)}\n".encode())
        self._kill(-number)
        return True

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._cut_off()
        if self._ended.is_set():
            self._thread.join()

    def _kill(self, code: int) -> None:
        if self._over or self._killed:
            return
        self._killed = True
        self._code = code
        self._channel.ended = True
        self._cut_off()
        self._disturb()
        self._cancel_on_loop()
        self._told.set()

    def _cancel_on_loop(self) -> None:
        """Cancel the commands on its event loop, if it has one by now."""
        if (loop := self._commands_loop) is not None:
            try:
                # Two passes: a task that is cancelled before its first step never awaits its command's coroutine.
                loop.call_soon_threadsafe(loop.call_soon, self._cancel_commands)
            except RuntimeError:
                pass  # it is closed

    def _disturb(self) -> None:
        """Raise the exception in the command that runs, once."""
        with self._lock:
            if self._over or self._raised or not _in_command(sys._current_frames().get(self._thread.ident or 0)):
                return
            self._raised = True
            _raise_in(self._thread, Killed)

    def _cut_off(self) -> None:
        try:
            self._end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has closed it

    def _notice(self) -> None:
        self._ended.set()
        self._told.set()

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            code = self._live()
            with self._lock:
                self._over = True
        except Killed:
            code = -signal.SIGKILL
        self._finish(code)

    def _live(self) -> int:
        """Do what the worker's program does; returns its exit code."""
        try:
            self._plan.start(self._doze)
            self._serve()
        except Killed:
            raise
        except SystemExit as error:
            self._say(f"{error}\n")
            return 1
        except BaseException:  # of a module that is imported; the interpreter would print it, too
            if self._killed:
                return 1
            self._say(traceback.format_exc())
            return 1
        return 0

    def _serve(self) -> None:
        try:
            hello = worker.greeting(self._channel)
            if hello is None:
                return
            sys.modules.setdefault(MAIN, sys.modules["__main__"])  # the script runs here: it is not imported again
            registry, lifespan = worker.prepare(hello)
        except (StartFailure, wire.FrameError) as error:
            sys.exit(f"asyncpool: {error}")
        announce = self._threads.announcer(self)

        def announce_and_hush(session: Runtime) -> None:
            assert isinstance(session, Session)
            announce(session)
            self._session = session
            self._commands_loop = asyncio._get_running_loop()
            if self._commands_loop is not None:
                self._commands_loop.set_exception_handler(self._complain)

        session = Session(self._channel, registry, hello.slot, announce=announce_and_hush)
        try:
            worker.answer(session, hello, lifespan, self._leave)
        finally:
            session.close()

    def _cancel_commands(self) -> None:
        if (session := self._session) is not None:
            for running in list(session.running.values()):
                session.cancel(running)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._killed:  # else its tasks were ended by force
            loop.default_exception_handler(context)

    def _crash(self) -> None:
        self._killed = True
        self._code = -signal.SIGKILL
        self._cut_off()
        self._loop.call_soon_threadsafe(self._told.set)  # whoever waits for its end need not do so for ever
        self._cancel_commands()  # its event loop goes on past the exception, until nothing runs there
        raise Killed

    def _doze(self, seconds: float) -> None:
        """Sleep until it is killed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(LOOK_AGAIN)
            if self._killed:
                raise Killed

    def _say(self, text: str) -> None:
        os.write(self._stderr, text.encode(errors="replace")[-8192:])

    def _finish(self, code: int) -> None:
        with self._lock:
            self._over = True
            self._code = code if self._code is None else self._code
        self._threads.forget(self)
        self._channel.let_go()
        self._leave.close()
        self._end.close()
        os.close(self._stderr)
        try:
            self._loop.call_soon_threadsafe(self._notice)
        except RuntimeError:
            pass  # the loop is closed


class InlineChannel(FaultyChannel):
    """A channel that is no more once its worker has ended, whatever threads of a command still use it."""

    __slots__ = ("ended",)

    def __init__(self, end: int, plan: Plan, die: Callable[[], None], doze: Callable[[float], None]) -> None:
        super().__init__(end, end, wire.GREETING_LIMIT, plan, die, doze)
        self.ended: bool = False

    def receive(self) -> wire.Buffer | None:
        """Return the next frame, None once the worker is killed: no command begins any more."""
        body = super().receive()
        return None if self.ended else body


class InlineLeave(Leave):
    """SIGTERM is the application's: a worker that is a thread never hears of it."""

    def __init__(self) -> None:
        self._pipe: tuple[int, int] | None = None

    def wait(self) -> bool:
        """Always go on: reading the next frame waits for it, maybe for long."""
        spares.forget_all()
        return True

    @property
    def asked(self) -> bool:
        """Never."""
        return False

    @property
    def descriptor(self) -> int:
        """What never becomes readable."""
        if self._pipe is None:
            self._pipe = os.pipe()
        return self._pipe[0]

    def drain(self) -> None:
        """Nothing ever comes."""

    def hang_up(self, channel: Channel, *, at_once: bool) -> None:
        """Only who was asked to leave does."""

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in self._pipe or ():
            os.close(descriptor)


def _in_command(frame: FrameType | None) -> bool:
    """Say whether code of a command runs in this stack: above one of the places where the worker enters it."""
    inside = False
    while frame is not None and not frame.f_code.co_filename.startswith(OURS[:2]):
        inside = True
        frame = frame.f_back
    return (
        inside and frame is not None and (os.path.basename(frame.f_code.co_filename), frame.f_code.co_name) in ENTRIES
    )


def _raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error))


def _stack(frame: FrameType | None) -> str:
    """Return a stack as faulthandler writes it, without the frames below the command."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    while len(frames) > 1 and frames[-1].f_code.co_filename.startswith(OURS):
        frames.pop()
    return "\n".join(
        f'  File "{each.f_code.co_filename}", line {each.f_lineno} in {each.f_code.co_name}' for each in frames
    )
