"""One child process: spawned in one step, watched, and killed with its group.

Law: there is no "in the middle of a spawn". A spawn that awaits can be cancelled before its first step, and then
``asyncio.run`` hangs for ever (python/cpython#125502) or a process is left that nobody knows. So it does not await.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from asyncpool.pool.lifeline import Lifeline

T = TypeVar("T")


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
        self._lifeline = Lifeline()
        self._pidfd: int | None = None
        options = {
            "stdin": stdio,
            "stdout": stdio,
            "stderr": stderr,
            "env": env,
            "cwd": cwd,
            "start_new_session": True,
            "pass_fds": (self._lifeline.child_end, *others),
        }
        loop = asyncio.get_running_loop()
        try:
            # uvloop's own spawn is a full fork(): it blocks the loop for 30 ms per GiB of the application's memory.
            self._process = _spawn(loop, argv, options) if _is_asyncio(loop) else _Watched(loop, argv, options)
        except BaseException:
            self._lifeline.close()
            raise
        self.pid: int = self._process.pid
        self._lifeline.attach(self.pid)
        self._pidfd = _pidfd(self.pid)

    async def wait(self) -> int | None:
        """Wait for the process to end; may be cancelled and called again.

        Returns:
            The exit code, or the negative number of the signal that killed it; None when somebody else took it.
        """
        code = await self._process.wait()
        return None if code == 255 and self._taken_by_others() else code

    def kill(self) -> None:
        """Kill the process and its whole group, now; never raises."""
        if not self._lifeline.holds:
            return  # closed, or in a forked child, to which the process does not belong
        self._lifeline.kill()
        if self._pidfd is not None:  # it may have left its group
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

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
        """Kill what is left of the group and close all descriptors."""
        self._lifeline.kill()
        self._lifeline.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _taken_by_others(self) -> bool:
        # asyncio says 255 when it finds no child to reap, e.g. because the application ignores SIGCHLD.
        return signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN


class _Watched:
    """A Popen that is awaited through its pidfd."""

    def __init__(self, loop: asyncio.AbstractEventLoop, argv: Sequence[str], options: dict[str, Any]) -> None:
        self._popen = subprocess.Popen(argv, **options)
        self.pid = self._popen.pid
        self._loop = loop
        self._ended: asyncio.Future[int] = loop.create_future()
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            result = None
        os.close(self._pidfd)
        code = 255 if result is None else result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        self._popen.returncode = code  # it was reaped here: without this, Popen would warn
        self._ended.set_result(code)

    async def wait(self) -> int:
        await asyncio.wait([self._ended])  # unlike awaiting it, leaves it whole when the waiter is cancelled
        return self._ended.result()


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


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or reaped already
        return None
