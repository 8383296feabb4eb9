"""What a worker says, as records of logging, with a bound on their number and on the time that handlers take.

Law 1: handlers run on the event loop. Those of one worker get so many lines and records, and so much
       time, a second, and no more.
Law 2: no handler, filter or formatter that raises keeps the next line from being logged.
Law 3: what a worker sends as a record is text and plain data: nothing of it is run, imported or looked up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import msgspec

LINES = 1000  # a second
RECORDS = 2500  # a second, with the lines: the worker sends 1,000, but two of its seconds may fall into one of ours
SPENT = 0.1  # seconds a second
SECOND = 1.0
LONGEST_PARENT = 1000  # characters; nobody configures a logger of a longer name, and each dot costs a look-up
_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)  # Linux has it

logger: logging.Logger = logging.getLogger("asyncpool.worker")
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class Record(msgspec.Struct):
    """A record as it travels."""

    name: str
    level: int
    message: str
    time: float  # seconds since 1970
    pathname: str = ""
    lineno: int = 0
    funcName: str | None = None  # noqa: N815 # as logging names it
    threadName: str | None = None  # noqa: N815
    exc_text: str | None = None
    stack_info: str | None = None
    call: int | None = None
    extra: dict[str, Any] = {}


_decode: Callable[[msgspec.Raw], Record] = msgspec.msgpack.Decoder(Record).decode


def log_level() -> int:
    """Return the least level of records that this process wants by its root logger."""
    root = logging.getLogger()
    return max(root.level, root.manager.disable + 1)


class Journal:
    """Logs the lines and the records of one worker.

    Every record has the attributes ``asyncpool_pool`` (name), ``asyncpool_worker`` (number), ``asyncpool_pid`` and
    ``asyncpool_call`` (number of the call in flight, None where that is none or not certain).

    Args:
        loop: The pool's loop.
        pool: The pool's name.
        worker: Number of the worker.
        in_flight: Returns the worker's process id and the id of the call that it runs, None where there is none.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: str,
        worker: int,
        in_flight: Callable[[], tuple[int | None, int | None]],
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._worker = worker
        self._label = f"{pool} worker {worker}"
        self._in_flight = in_flight
        self._until = float("-inf")  # loop time at which the current second ends
        self._lines = 0  # logged in it
        self._spent = 0.0  # seconds, in it
        self._suppressed = 0  # lines since the last record of how many
        self._timer: asyncio.TimerHandle | None = None  # for that record

    def write(self, lines: bytes) -> int:
        """Log each line; returns the bytes of those that were suppressed."""
        pieces = lines.splitlines(keepends=True)
        for at, piece in enumerate(pieces):
            if not self._allowed():
                self._suppress(len(pieces) - at)
                return sum(map(len, pieces[at:]))
            self._log(logging.INFO, piece.rstrip(b"\r\n").decode(errors="replace"))
        return 0

    def record(self, data: msgspec.Raw) -> None:
        """Log a record of the worker's own logging, with the logger of its name."""
        if not self._allowed(RECORDS):  # looked at no closer: who floods us must not hold up the loop
            self._suppress(1)
            return
        began = _Stopwatch()
        try:
            made = self._made(_decode(data))
            there = _logger(made.name)
            if there.isEnabledFor(made.levelno):
                self._lines += 1
                there.handle(made)
        except Exception:
            pass  # a foreign worker says what is none, or a handler or filter of the application's raises
        self._spent += began.spent()

    def close(self) -> None:
        """Tell what was suppressed last. Idempotent."""
        self._tell()

    def _allowed(self, most: int = LINES) -> bool:
        now = self._loop.time()
        if now >= self._until:
            self._tell()
            self._until, self._lines, self._spent = now + SECOND, 0, 0.0
        return self._lines < most and self._spent < SPENT

    def _suppress(self, count: int) -> None:
        self._suppressed += count
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._tell)

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        count, self._suppressed = self._suppressed, 0
        if count:
            self._log(logging.WARNING, f"{count} lines suppressed (above {LINES} a second, or the handlers are slow)")

    def _log(self, level: int, text: str) -> None:
        self._do(lambda: logger.log(level, "%s: %s", self._label, text, extra=self._tags()))

    def _tags(self, **call: int | None) -> dict[str, Any]:
        pid, running = self._in_flight()
        return {
            "asyncpool_pool": self._pool,
            "asyncpool_worker": self._worker,
            "asyncpool_pid": pid,
            "asyncpool_call": call.get("call", running),
        }

    def _made(self, sent: Record) -> logging.LogRecord:
        """Return the record that the worker sent."""
        extra = {name: value for name, value in sent.extra.items() if name not in _STANDARD}
        pathname = os.path.basename(sent.pathname)
        return logging.makeLogRecord(
            {
                **extra,
                "name": sent.name,
                "msg": sent.message,
                "levelno": sent.level,
                "levelname": logging.getLevelName(sent.level),
                "created": sent.time,
                "msecs": (sent.time - int(sent.time)) * 1000,
                "pathname": sent.pathname,
                "filename": pathname,
                "module": os.path.splitext(pathname)[0],
                "lineno": sent.lineno,
                "funcName": sent.funcName,
                "threadName": sent.threadName,
                "exc_text": sent.exc_text,
                "stack_info": sent.stack_info,
                "process": self._in_flight()[0],
                "processName": self._label,
                **self._tags(call=sent.call),
            }
        )

    def _do(self, log: Callable[[], object]) -> None:
        began = _Stopwatch()
        try:
            log()
        except Exception:
            pass  # a handler or filter of the application's: that must not stop the drain
        self._lines += 1
        self._spent += began.spent()


def _logger(name: str) -> logging.Logger:
    """Return the application's logger of this name, else one that serves as a new one would, and is forgotten.

    ``logging.getLogger`` keeps what it makes for ever, with an entry for each part of the name; and here workers choose
    the names. It is not the parent itself, whose filters, and whose being disabled, hold for its own records only.
    """
    manager = logging.root.manager
    known = manager.loggerDict.get(name)
    if isinstance(known, logging.Logger) or name in ("", logging.root.name):
        return logging.getLogger(name)
    made = (manager.loggerClass or logging.getLoggerClass())(name)
    made.manager = manager
    made.parent = _parent(name, manager)
    return made


def _parent(name: str, manager: logging.Manager) -> logging.Logger:
    """Return the nearest logger above, found as the manager finds it: of two dots in a row it sees one."""
    at = name.rfind(".", 0, LONGEST_PARENT + 1)
    while at > 0:
        known = manager.loggerDict.get(name[:at])
        if isinstance(known, logging.Logger):
            return known
        at = name.rfind(".", 0, at - 1)
    return manager.root


class _Stopwatch:
    """Measures what a handler takes of the loop's time: not what others took meanwhile of a busy processor."""

    __slots__ = ("_began", "_preempted", "_worked")

    def __init__(self) -> None:
        self._preempted, self._worked, self._began = _preemptions(), time.thread_time(), time.monotonic()

    def spent(self) -> float:
        """Return seconds since it was made; of the processor only, when that was taken away in between."""
        ended = time.monotonic()
        if _preemptions() != self._preempted:
            return time.thread_time() - self._worked
        return ended - self._began


def _preemptions() -> int:
    """Return how many times this thread has lost its processor to others."""
    return 0 if _THREAD is None else resource.getrusage(_THREAD).ru_nivcsw
