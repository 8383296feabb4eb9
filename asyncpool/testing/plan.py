"""What goes wrong, and when: handed to workers, which count their starts and calls in files that all of them share.

Law: without its folder a plan does nothing. So faults end with the block that brought them,
     also for workers that live on.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable

from msgspec import Struct


class Plan(Struct, frozen=True):
    """See ``Faults``.

    Attributes:
        folder: Where the numbers are kept.
    """

    folder: str = ""
    crash_at: frozenset[int] = frozenset()
    hang_at: frozenset[int] = frozenset()
    garbage_at: frozenset[int] = frozenset()
    fail_starts: int = 0
    slow_start: float = 0.0

    def start(self, doze: Callable[[float], None]) -> None:
        """Do what shall happen at this start; *doze* sleeps so many seconds.

        Raises:
            SystemExit: It fails.
        """
        number = self._next("starts")
        if not number:
            return
        if number <= self.fail_starts:
            sys.exit(f"asyncpool.testing: start {number} fails, because of Faults(fail_starts={self.fail_starts})")
        doze(self.slow_start)

    def call(self) -> int:
        """Return the number of the call that has just come, from 1 on; 0: nothing is planned any more."""
        return self._next("calls")

    def count(self, what: str) -> int:
        """Return how many there were."""
        try:
            with open(os.path.join(self.folder, what)) as file:
                return int(file.read() or 0)
        except FileNotFoundError:
            return 0

    def _next(self, what: str) -> int:
        try:
            file = os.open(os.path.join(self.folder, what), os.O_RDWR) if self.folder else -1
        except FileNotFoundError:
            return 0
        if file < 0:
            return 0
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            number = int(os.pread(file, 20, 0) or 0) + 1
            os.pwrite(file, b"%d" % number, 0)
        finally:
            os.close(file)
        return number


NOTHING = Plan()
