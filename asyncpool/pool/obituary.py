"""How a worker ended, in words and as an error."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TypeVar

from asyncpool.errors import WorkerError
from asyncpool.pool.oom import OomKills

SHOWN_STDERR = 2000  # characters of stderr within an error's message

E = TypeVar("E", bound=WorkerError)


@dataclass(frozen=True)
class Obituary:
    """What is known of a worker's end.

    Attributes:
        number: The worker's id in its pool.
        pid: Its process id, None when it was never spawned.
        exit_code: Its exit code, or the negative number of the signal that killed it; None when not known.
        reason: Why the pool ended it, None when it ended by itself.
        stderr: The end of its stderr.
        oom: What the kernel killed for want of memory in the meantime, None when it is not known to have done so.
    """

    number: int
    pid: int | None
    exit_code: int | None
    reason: str | None
    stderr: str
    oom: OomKills | None = None

    def error(self, kind: type[E], when: str, *, started: bool = False) -> E:
        """Return an error of this kind that tells how the worker ended, and *when*, if that says anything."""
        shown = self.stderr.strip()[-SHOWN_STDERR:]
        what = f"{self._how()} {when}".rstrip()
        code = self.exit_code
        return kind(
            f"{what}. The end of its stderr:\n{shown}" if shown else what,
            pid=self.pid,
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            stderr=self.stderr,
            reason=self.reason,
            started=started,
        )

    def _how(self) -> str:
        name = f"worker {self.number} (pid {self.pid})" if self.pid is not None else f"worker {self.number}"
        return f"{name} {self.reason or self._by_itself()}"

    def _by_itself(self) -> str:
        if self.exit_code is None:
            return "ended, nobody knows how,"
        if self.exit_code >= 0:
            return f"exited with code {self.exit_code}"
        if self.exit_code == -signal.SIGKILL:
            return f"was killed by SIGKILL (not by this pool: {_killer(self.oom)})"
        return f"was killed by {_signal_name(-self.exit_code)}"


def _killer(oom: OomKills | None) -> str:
    if oom is None:
        return "perhaps by the OOM killer, or by hand"
    kills = "1 more OOM kill" if oom.count == 1 else f"{oom.count} more OOM kills"
    limit = "" if oom.limit is None else f", its limit is {oom.limit / 2**20:,.0f} MiB"
    return f"its control group counts {kills}, so the kernel was out of memory{limit}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
