"""A deadline that does not mistake a blocked event loop for a dead worker; the rule is policy.put_off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from asyncpool.pool.policy import put_off


def never_heard() -> float:
    """Stand in where no bytes are expected."""
    return float("-inf")


class Deadline:
    """Calls *act* once, some time after *delay* seconds, unless cancelled.

    Args:
        loop: The pool's loop.
        delay: Seconds from now.
        act: What to do.
        heard: Gives the loop time at which bytes last came from the worker that is waited for.
    """

    __slots__ = ("_act", "_due", "_fired", "_fired_at", "_handle", "_heard", "_loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay: float,
        act: Callable[[], object],
        heard: Callable[[], float] = never_heard,
    ) -> None:
        self._loop = loop
        self._act = act
        self._heard = heard
        self._fired = 0
        self._fired_at = 0.0
        self._due = loop.time() + delay
        self._handle = loop.call_at(self._due, self._fire, self._due)

    def cancel(self) -> None:
        """Never act."""
        self._handle.cancel()

    def pause(self) -> None:
        """Let no time pass until ``go_on``."""
        self._handle.cancel()
        self._due -= self._loop.time()

    def go_on(self) -> None:
        """Go on after a pause."""
        self._due += self._loop.time()
        self._handle = self._loop.call_at(self._due, self._fire, self._due)

    def _fire(self, due: float) -> None:
        now = self._loop.time()
        more = put_off(now - due, fired=self._fired, heard=self._heard() >= self._fired_at)
        if more is None:
            self._act()
            return
        self._fired += 1
        self._fired_at = now
        self._handle = self._loop.call_at(now + more, self._fire, now + more)
