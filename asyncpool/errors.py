"""Every error that asyncpool raises: one tree, and each class says what to do.

Law 1: every error has ``started``: may the command have had effects? False means that it provably never ran.
Law 2: an error is plain data: nothing is unpickled, imported or run to build one.
"""

from __future__ import annotations


class AsyncPoolError(Exception):
    """Base class of all errors of asyncpool.

    Attributes:
        started: True when the command may have had effects; False when it provably never ran.
    """

    started: bool = False


# --- the pool's side -------------------------------------------------------------------------------------------------


class PoolError(AsyncPoolError):
    """The pool refused or gave up a call, or is used in a way that cannot work."""


class PoolClosed(PoolError):
    """The pool is not running: not started yet, closing, closed, or in a forked child."""

    def __init__(self, message: str = "", *, started: bool = False) -> None:
        super().__init__(message)
        self.started = started


class PoolFull(PoolError):
    """``max_waiting`` calls already wait. Nothing was sent; a web service answers 503."""


class AcquireTimeout(PoolError, TimeoutError):
    """No worker came free within ``acquire_timeout`` seconds: nothing ran, but for a run that crashed before."""


class CommandTimeout(PoolError, TimeoutError):
    """The command ran longer than ``timeout`` seconds and was stopped.

    Attributes:
        stack: Where it was: the Python stack of each of its worker's threads, innermost call first, the main thread
            last; of a command that stopped as it was asked to, the traceback of what it ended with, innermost call
            last. Empty when it could not be had: a generator, which stops where it yields, a foreign program, a
            stopped process, a command that blocks signals.
    """

    started = True

    def __init__(self, message: str = "", *, stack: str = "") -> None:
        super().__init__(message)
        self.stack = stack


class PayloadError(PoolError, TypeError):
    """A command, an argument or a whole call cannot travel to a worker. No worker was touched."""


# --- the worker's side -----------------------------------------------------------------------------------------------


class WorkerError(AsyncPoolError):
    """Something is wrong with a worker process.

    Attributes:
        pid: Process id of the worker, None when it was never spawned.
        exit_code: Exit code, None when it was killed by a signal or is not known.
        signal: Number of the signal that killed the worker, None when it exited by itself or it is not known.
        stderr: The end of what the worker wrote to stderr (at most 8 KiB).
        reason: Why the pool ended the worker, None when it ended by itself.
    """

    def __init__(
        self,
        message: str = "",
        *,
        pid: int | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        stderr: str = "",
        reason: str | None = None,
        started: bool = False,
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal
        self.stderr = stderr
        self.reason = reason
        self.started = started


class WorkerStartError(WorkerError):
    """A worker could not be spawned, or ended or fell silent before it was ready."""


class WorkerCrashed(WorkerError):
    """The worker ended while it had the call. The command may have had effects unless ``started`` is False."""


class ProtocolError(WorkerError):
    """The worker sent something else than frames; the message quotes the bytes."""


# --- the command's side ----------------------------------------------------------------------------------------------


class CommandError(AsyncPoolError):
    """The command raised.

    Where the command's exception type is an ordinary one that this process has already imported, the error raised is
    an instance of both that type and CommandError: ``except ValueError`` and ``except CommandError`` both work. Its
    notes, its causes and, of a group, its members come with it, as errors of the same kind.

    Attributes:
        type_name: Qualified name of the exception's class in the worker, as ``module.Class``.
        message: ``str()`` of the exception in the worker; of a group, its message without the number of members.
        traceback: The worker's traceback as text, with the causes, notes and members that belong to it.
        worker_pid: Process id of the worker.
    """

    # No __init__, __new__ or __slots__ here: a class that derives from this one and from, say, OSError
    # must keep OSError's own construction and layout.
    started = True
    type_name: str = ""
    message: str = ""
    traceback: str = ""
    worker_pid: int | None = None

    def __str__(self) -> str:
        if not self.message and not self.type_name:  # made by hand, as tests do
            return BaseException.__str__(self)
        # Only a plain CommandError names the type: in all others the class itself does.
        return f"{self.type_name}: {self.message}" if type(self) is CommandError else self.message


class UnknownCommand(CommandError, TypeError):
    """The worker knows no such command; nothing ran."""

    started = False


class ArgumentError(CommandError, TypeError):
    """An argument does not fit the command's signature or annotations; nothing ran."""

    started = False


class ResultError(CommandError, TypeError):
    """The command ran and returned what cannot travel, or what its annotation does not say."""
