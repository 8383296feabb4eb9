"""A worker that fails as planned: the real worker's program over a channel that has the faults.

``main`` stands in for ``asyncpool.worker.__main__.main``; the plan is the last argument of its command line.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from asyncpool.protocol import messages, wire
from asyncpool.protocol.messages import Call, Failure, Result
from asyncpool.testing.plan import NOTHING, Plan
from asyncpool.worker import __main__ as worker
from asyncpool.worker.channel import Channel

FOREVER = 10.0**8  # seconds; time.sleep takes no infinity
GARBAGE = b"This is no frame: asyncpool.testing was told to send garbage.\n"


def main(**how: Any) -> None:
    """Do as the real worker does, with the faults of the plan."""
    plan = msgspec.json.decode(sys.argv.pop(), type=Plan)
    plan.start(time.sleep)
    make_channel = functools.partial(FaultyChannel, plan=plan)
    worker.main(**how, make_channel=make_channel)


def command_line(argv: list[str], plan: Plan) -> list[str]:
    """Return the command line of a worker that shall fail as planned."""
    return [*argv, msgspec.json.encode(plan).decode()]


def _kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(FOREVER)


class FaultyChannel(Channel):
    """A channel with the faults of a plan.

    Args:
        reads: As for ``Channel``.
        writes: As for ``Channel``.
        limit: As for ``Channel``.
        plan: What goes wrong.
        die: Ends the worker at once.
        doze: Sleeps so many seconds.
    """

    __slots__ = ("_die", "_doze", "_plan", "_spoilt")

    def __init__(
        self,
        reads: int,
        writes: int,
        limit: int,
        plan: Plan = NOTHING,
        die: Callable[[], None] = _kill_myself,
        doze: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(reads, writes, limit)
        self._plan = plan
        self._die = die
        self._doze = doze
        self._spoilt: set[int] = set()  # calls whose replies are garbage

    def receive(self) -> wire.Buffer | None:
        """Return the next frame, unless it is a call that shall crash or hang."""
        body = super().receive()
        if body is not None and self._plan is not NOTHING:
            message = messages.decode_to_worker(body)
            if isinstance(message, Call):
                self._fail(message.id, self._plan.call())
        return body

    def send(self, body: bytes, buffers: Sequence[wire.Buffer] = ()) -> None:
        """Write a frame, or garbage in its place."""
        if self._spoilt:
            message = messages.decode_to_parent(body)
            if isinstance(message, (Result, Failure)) and message.id in self._spoilt:
                os.write(self._writes, GARBAGE)
                return
        super().send(body, buffers)

    def _fail(self, call: int, number: int) -> None:
        if number in self._plan.crash_at:
            self._die()
        if number in self._plan.hang_at:
            self._doze(FOREVER)
        if number in self._plan.garbage_at:
            self._spoilt.add(call)
