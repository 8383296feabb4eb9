"""One child process: spawned in one step, watched, and killed with its group.

Law: there is no "in the middle of a spawn". A spawn that awaits can be cancelled before its first step, and then
``asyncio.run`` hangs for ever (python/cpython#125502) or a process is left that nobody knows. So it does not await.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from asyncpool.pool.lifeline import Lifeline

UNKNOWN = 255  # what asyncio says of an exit code that somebody else took
LAST_WAIT = 1000  # milliseconds for the end of a killed process whose event loop was dropped

T = TypeVar("T")


class Process(Protocol):
    """What a worker needs of its process; see ``Child``."""

    @property
    def pid(self) -> int | None:
        """Its process id."""

    async def wait(self) -> int | None:
        """Wait for its end; returns the exit code, or the negative number of a signal."""

    def kill(self) -> None:
        """Kill it and its group."""

    def send_signal(self, number: int) -> bool:
        """Send it a signal; False when that cannot be done."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything."""


class Child:
    """A running process in a session of its own.

    Args:
        argv: Program and arguments.
        stdio: Descriptor that becomes its stdin and stdout.
        stderr: Descriptor that becomes its stderr.
        others: Descriptors that it inherits under their own numbers.
        env: Environment; None inherits.
        cwd: Working directory; None inherits.

    Raises:
        OSError: The program cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdio: int,
        stderr: int,
        others: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lifeline = Lifeline()
        options: dict[str, Any] = {
            "stdin": stdio,
            "stdout": stdio,
            "stderr": stderr,
            "env": env,
            "cwd": cwd,
            "start_new_session": True,
            "pass_fds": (self._lifeline.child_end, *others),
        }
        try:
            # uvloop's own spawn is a full fork(): it blocks the loop for 30 ms per GiB of the application's memory.
            self._process = self._spawn(argv, options)
            self.pid: int = self._process.pid
            self._lifeline.attach(self.pid)
            self._pidfd = self._open_pidfd()
        except BaseException:
            self._lifeline.close()
            raise
        self._ended = asyncio.Event()
        if self._pidfd is not None:
            self._loop.add_reader(self._pidfd, self._notice)
        popen = self._process if isinstance(self._process, subprocess.Popen) else None
        self._abandoned = weakref.finalize(self, _abandon, self._lifeline, self._pidfd, popen)
        self._abandoned.atexit = False  # a loop in another thread may still run; the lifeline is enough

    async def wait(self) -> int | None:
        """Wait for the process to end; may be cancelled and called again.

        Returns:
            The exit code, or the negative number of the signal that killed it; None when somebody else took it.
        """
        # asyncio's own wait only once the process has ended: on 3.11 a thread holds whoever waits there, for as long
        # as the process lives, and a loop that was dropped could not be collected.
        if self._pidfd is not None:
            await self._ended.wait()
        if isinstance(self._process, subprocess.Popen):
            return None if self._pidfd is None else _reap(self._process, self._pidfd)
        code = await self._process.wait()
        return None if code == 255 and self._taken_by_others() else code

    def kill(self) -> None:
        """Kill the process and its whole group, now; never raises."""
        _kill(self._lifeline, self._pidfd)

    def send_signal(self, number: int) -> bool:
        """Send the process a signal, now; False when that cannot be done."""
        if self._pidfd is None or not self._lifeline.holds:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Kill what is left of the group and close all descriptors. Idempotent."""
        if self._abandoned.detach() is None:
            return
        self._lifeline.kill()
        self._lifeline.close()
        if self._pidfd is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _spawn(
        self, argv: Sequence[str], options: dict[str, Any]
    ) -> asyncio.subprocess.Process | subprocess.Popen[Any]:
        if _is_asyncio(self._loop):
            return _spawn(self._loop, argv, options)
        return subprocess.Popen(argv, **options)

    def _notice(self) -> None:
        assert self._pidfd is not None
        self._loop.remove_reader(self._pidfd)
        self._ended.set()

    def _open_pidfd(self) -> int | None:
        try:
            return os.pidfd_open(self.pid)
        except (AttributeError, OSError) as error:  # not Linux, no descriptor left, or reaped already
            if not isinstance(self._process, subprocess.Popen):
                return None
            if isinstance(error, ProcessLookupError):
                self._process.returncode = UNKNOWN
                return None
            self._process.kill()  # it can be awaited by nothing else
            self._process.wait()
            raise

    def _taken_by_others(self) -> bool:
        # asyncio says 255 when it finds no child to reap, e.g. because the application ignores SIGCHLD.
        return signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN


def _kill(lifeline: Lifeline, pidfd: int | None) -> None:
    if not lifeline.holds:
        return  # closed, or in a forked child, to which the process does not belong
    lifeline.kill()
    if pidfd is not None:  # it may have left its group
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _reap(popen: subprocess.Popen[Any], pidfd: int) -> int | None:
    """Return the exit code of a process that has ended, None when somebody else took it."""
    if popen.returncode is None:
        try:
            result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            result = None
        popen.returncode = UNKNOWN  # it was reaped here: without this, Popen would warn
        if result is not None:
            popen.returncode = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
    return None if popen.returncode == UNKNOWN else popen.returncode


def _abandon(lifeline: Lifeline, pidfd: int | None, popen: subprocess.Popen[Any] | None) -> None:
    """Clear away a process whose Child was collected, with an event loop that was dropped."""
    _kill(lifeline, pidfd)
    if pidfd is not None:
        if lifeline.holds:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            if ended.poll(LAST_WAIT) and popen is not None:
                _reap(popen, pidfd)  # asyncio's own transport, which is collected next, finds it ended and reaps it
        os.close(pidfd)
    lifeline.close()


def _spawn(loop: asyncio.AbstractEventLoop, argv: Sequence[str], options: dict[str, Any]) -> asyncio.subprocess.Process:
    """Run ``create_subprocess_exec`` to its end in one step.

    Without pipes it has nothing to wait for but a task of its own that connects no pipes; a task factory that runs
    this task on the spot, and is gone when this function returns, leaves no point at which it could be suspended.
    """
    before = loop.get_task_factory()
    loop.set_task_factory(_at_once)
    try:
        return _to_the_end(asyncio.create_subprocess_exec(*argv, **options))
    finally:
        loop.set_task_factory(before)


def _at_once(loop: asyncio.AbstractEventLoop, coroutine: Any, **_options: Any) -> Any:
    return _AtOnce(loop, coroutine)


class _AtOnce(asyncio.Future[Any]):
    """What stands in for the task: it has run when it is made."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> None:
        super().__init__(loop=loop)
        self.set_result(_to_the_end(coroutine))

    def set_name(self, name: object) -> None:
        """Take a name, as tasks do."""


def _to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as result:
        value: T = result.value
        return value
    coroutine.close()
    raise RuntimeError("this version of asyncio suspends create_subprocess_exec: asyncpool does not know it yet")


def _is_asyncio(loop: asyncio.AbstractEventLoop) -> bool:
    return isinstance(loop, asyncio.BaseEventLoop) or not hasattr(os, "pidfd_open")
