"""What stands behind ``emit`` and ``call_context`` when workers are threads: each call finds its own worker."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from typing import Any

from asyncpool import commands
from asyncpool.commands import CallContext, Runtime
from asyncpool.worker.session import Session

_here: contextvars.ContextVar[Session] = contextvars.ContextVar("asyncpool inline worker")


class Threads(Runtime):
    """Finds the worker that the caller is a command of.

    Args:
        outside: Whom to ask where no command of a thread runs.
    """

    def __init__(self, outside: Runtime) -> None:
        self._outside = outside
        self._sessions: dict[object, Session] = {}

    def announcer(self, owner: object) -> Callable[[Runtime], None]:
        """Return what the session of *owner* announces itself with, in its own thread."""

        def announce(session: Runtime) -> None:
            assert isinstance(session, Session)
            _here.set(session)
            self._sessions[owner] = session

        return announce

    def forget(self, owner: object) -> None:
        """A worker has ended."""
        self._sessions.pop(owner, None)

    def fall_silent(self) -> None:
        """Do nothing for the commands that run here: this is a process that was forked."""
        for session in self._sessions.values():
            session.fall_silent()

    def emit(self, update: Any) -> None:
        """Send an update to the caller."""
        self._find().emit(update)

    def context(self) -> CallContext:
        """Return what is known of the running call."""
        return self._find().context()

    def _find(self) -> Runtime:
        session = _here.get(None)
        if session is not None:
            return session
        if threading.current_thread() is threading.main_thread() or asyncio._get_running_loop() is not None:
            return self._outside  # the application's own thread: a test that calls a command as a function
        busy = [each for each in list(self._sessions.values()) if each.running]
        if len(busy) > 1:
            raise RuntimeError(
                "commands run in several workers of an InlinePool, and this thread does not say below which it is: "
                "start it with asyncio.to_thread, or run it in contextvars.copy_context()"
            )
        return busy[0] if busy else self._outside


def threads() -> Threads:
    """Return the one that stands behind ``emit``, put there at the first time."""
    with _installing:
        if not isinstance(commands.runtime, Threads):
            commands.runtime = made = Threads(commands.runtime)
            os.register_at_fork(after_in_child=made.fall_silent)
        return commands.runtime


_installing = threading.Lock()
