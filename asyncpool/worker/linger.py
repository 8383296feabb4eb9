"""Whether a worker looks for the next frame for a moment before it sleeps.

To wake a process is dear where its processor has gone to sleep meanwhile, above all in a virtual machine: a call that
does nothing, one after another, takes 135 us when the worker sleeps at once, and 80 us when it lingers.

Law 1: it lingers only while frames come in quick succession, and then for LINGER seconds at most. A worker that has
       nothing to do sleeps.
Law 2: it lets others run meanwhile; when somebody does, it stops lingering for a while: their processor is awake.
Law 3: never where the application has but one processor, or the quota of one.
"""

from __future__ import annotations

import os
import select
from time import monotonic, thread_time

LINGER = 60e-6  # seconds
QUICK = 120e-6  # seconds within which the last frame came: twice LINGER, as it may have had to wake us
OTHERS = 5e-6  # seconds of a moment's lingering that did not go into our own work: somebody else ran
PAUSE = 0.02  # seconds for which it does not linger then; twice as long each time that it happens again
LONGEST_PAUSE = 0.16  # seconds; for so long a call takes 100 us instead of 42 once others run no more

Ready = list[tuple[int, int]]  # of poll


class Linger:
    """Decides for one worker.

    Args:
        poll: What to look at.
        allowed: False never lingers.
    """

    def __init__(self, poll: select.poll, *, allowed: bool) -> None:
        self._poll = poll
        self._allowed = allowed
        self._quick = False  # the last frame came in quick succession
        self._pause = PAUSE
        self._pauses_until = 0.0

    def look(self, began: float) -> Ready:
        """Look for a moment, if that pays; returns what is ready, if anything."""
        if not self._quick:
            return []
        look, let_others_run = self._poll.poll, os.sched_yield
        worked, now = thread_time(), began
        while not (ready := look(0)) and now < began + LINGER:
            let_others_run()
            now = monotonic()
        now = monotonic()
        if now - began - (thread_time() - worked) > OTHERS:
            self._pauses_until = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        elif ready:
            self._pause = PAUSE
        return ready

    def came(self, began: float) -> None:
        """A frame has come for which we have waited since then."""
        if self._allowed:
            now = monotonic()
            self._quick = now < began + QUICK and now > self._pauses_until
