"""The handler of `logging` that sends records to the parent. Importing it imports `logging`.

Law 1: arguments, exceptions and extra values are put into words here; what the parent gets is text and plain data.
Law 2: no more than so many records a second; how many were dropped is told in a record of its own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from asyncpool.commands import call_context
from asyncpool.protocol import messages, payload
from asyncpool.protocol.messages import Log

MOST = 1000  # records a second
SECOND = 1.0
# Characters that travel; all together fit into what a socket takes that is said to be writable.
LONGEST_NAME = 1024
LONGEST_PATH = 4096  # characters; the kernel's own limit
LONGEST_MESSAGE = 8 * 1024
LONGEST_TRACEBACK = 16 * 1024
LONGEST_EXTRA = 8 * 1024  # bytes
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class Handler(logging.Handler):
    """Sends records; takes its place at the root logger, and takes it again when it was removed.

    Args:
        send: Takes an encoded message; False: it is dropped.
        level: The least level that is sent. A root logger that nobody has set up gets it too.
    """

    def __init__(self, send: Callable[[bytes], bool], level: int) -> None:
        super().__init__(level)
        self._send_on = send
        self._pid = os.getpid()
        self._until = 0.0  # end of the current second
        self._count = 0  # sent in it
        self._dropped = 0  # not told yet
        self._tell_from = 0.0
        root = logging.getLogger()
        if not root.handlers and root.level == logging.WARNING:  # as it is when logging is imported
            root.setLevel(level)
        root.addHandler(self)
        os.register_at_fork(after_in_child=lambda: root.removeHandler(self))  # a forked child has no wire

    def look(self) -> None:
        """Be among the root logger's handlers, whatever logging.config has done, and tell what was dropped."""
        root = logging.getLogger()
        if self not in root.handlers:
            root.addHandler(self)
        if self._dropped:
            self._tell(time.monotonic())

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, or drop it."""
        if os.getpid() != self._pid:
            return
        try:
            now = time.monotonic()
            if now >= self._until:
                self._until, self._count = now + SECOND, 0
            self._count += 1
            if self._count > MOST or not self._send(self._plain(record)):
                self._dropped += 1
            elif self._dropped:
                self._tell(now)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Tell what was dropped last, at the end of the process."""
        if self._dropped and os.getpid() == self._pid:
            self._tell(self._tell_from)
        super().close()

    def _tell(self, now: float) -> None:
        if now < self._tell_from:
            return
        text = f"{self._dropped} log records dropped (above {MOST} a second, or the application does not take them)"
        if self._send({"name": "asyncpool.worker", "level": logging.WARNING, "message": text, "time": time.time()}):
            self._dropped = 0
            self._tell_from = now + SECOND

    def _send(self, record: dict[str, Any]) -> bool:
        return self._send_on(messages.encode(Log(Raw(messages.encode(record)))))

    def _plain(self, record: logging.LogRecord) -> dict[str, Any]:
        return {
            "name": _name(record.name),
            "level": record.levelno,
            "message": _cut(record.getMessage(), LONGEST_MESSAGE),
            "time": record.created,
            "pathname": _name(record.pathname, LONGEST_PATH),
            "lineno": record.lineno,
            "funcName": _name(record.funcName),
            "threadName": _name(record.threadName),
            "exc_text": _traceback(record),
            "stack_info": _cut(record.stack_info or "", LONGEST_MESSAGE) or None,
            "call": _call(),
            "extra": _extra(record),
        }


def _cut(text: str, longest: int) -> str:
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text):,} characters)"
    return text.encode(errors="backslashreplace").decode()


def _name(text: str | None, longest: int = LONGEST_NAME) -> str | None:
    return None if text is None else _cut(text, longest)


def _traceback(record: logging.LogRecord) -> str | None:
    text = record.exc_text
    if not text and record.exc_info:
        text = logging.Formatter().formatException(record.exc_info)
    if text and len(text) > LONGEST_TRACEBACK:
        text = f"...{text[-LONGEST_TRACEBACK:]}"  # what was raised stands at the end
    return None if not text else text.encode(errors="backslashreplace").decode()


def _call() -> int | None:
    try:
        return call_context().id or None
    except RuntimeError:  # a thread, and several calls run
        return None


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the record has beyond the usual, as far as it can travel; what a call takes otherwise, as text."""
    extra: dict[str, Any] = {}
    left = LONGEST_EXTRA
    for key, value in vars(record).items():
        if key in _STANDARD:
            continue
        try:
            name = _cut(key, LONGEST_NAME)
            sent, encoded = _plain(value)
        except Exception:  # it cannot travel, or its name is none; encoding runs the user's own properties
            continue
        if (size := len(name) + len(encoded)) <= left:
            left -= size
            extra[name] = sent
    return extra


def _plain(value: Any) -> tuple[Any, bytes]:
    """Return a value as a record can hold it, and that encoded."""
    try:
        return value, messages.encode(value)
    except (TypeError, OverflowError):
        payload.encode(value)  # a path, a large integer, one of numpy's; of anything else no text is asked for
        text = _cut(str(value), LONGEST_MESSAGE)
        return text, messages.encode(text)
