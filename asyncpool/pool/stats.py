"""Numbers about a pool: counted as things happen, handed out as immutable snapshots."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Outcome = Literal[
    "ok",  # the command returned
    "failed",  # the command raised, or was refused at the worker's edge
    "cancelled",  # the caller was cancelled
    "timed_out",  # CommandTimeout
    "acquire_timed_out",  # AcquireTimeout
    "crashed",  # WorkerCrashed or ProtocolError
    "not_started",  # WorkerStartError: no worker could be started
    "rejected",  # PoolFull
    "closed",  # PoolClosed, for a call that the pool had accepted
]
Cause = Literal[
    "retired",  # idle for long
    "max_calls",  # recycled: it was handed so many calls
    "max_lifetime",  # recycled: it was so old
    "max_memory",  # recycled: it had grown so large
    "restarted",  # replaced by ``restart``
    "resized",  # let go by ``resize``
    "crashed",  # ended by itself, in a call or with an exit code other than 0
    "left",  # ended by itself, exit code 0, with no call: a Python worker does so at SIGTERM
    "cancelled",  # stopped with a call whose caller was cancelled
    "timed_out",  # stopped with a call that ran too long
    "released",  # stopped with a call of a lease that was given back
    "protocol",  # sent something else than frames
    "unhealthy",  # did not answer a ping
    "start_failed",  # never became ready
    "closed",  # ended with the pool
]
State = Literal["starting", "idle", "busy", "retiring"]

UNIT = 1e-5  # seconds
BOUNDS = tuple(UNIT * 2.0**power for power in range(25))  # seconds: 10 us, 20 us, 40 us, ... 168 s


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations by size.

    Attributes:
        bounds: Upper bounds of all buckets but the last, in seconds.
        counts: Number of durations in each bucket; one more than bounds.
        total: Sum of all durations, in seconds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """Number of durations."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A consistent snapshot of a pool.

    Attributes:
        starting: Workers that are not ready yet.
        idle: Workers that hold no call and no lease.
        busy: Workers that hold one.
        retiring: Workers that are ending, until their process is reaped.
        waiting: Calls and leases that wait for a worker.
        running: Calls that a worker has now.
        submitted: Calls that were accepted or rejected so far.
        outcomes: Finished calls by outcome; they add up to submitted - waiting calls - running.
        attempts: Times that a call was handed to a worker; a call that was moved counts again.
        spawned: Workers that were started or tried to.
        exited: Workers that ended, by cause; they add up to spawned - starting - idle - busy - retiring.
        wait_time: From a call's submission to its dispatch.
        run_time: From a call's dispatch to its reply.
    """

    starting: int
    idle: int
    busy: int
    retiring: int
    waiting: int
    running: int
    submitted: int
    outcomes: dict[Outcome, int]
    attempts: int
    spawned: int
    exited: dict[Cause, int]
    wait_time: Histogram
    run_time: Histogram


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker, as it is now.

    Attributes:
        id: Number of the worker in its pool; never reused.
        pid: Process id, None before it is spawned.
        slot: Number of its place, from 0 to *max_size* + *surge* - 1. No two workers have the same at a time: a
            successor that starts while its predecessor is still there gets another.
        state: "starting", "idle", "busy" or "retiring".
        calls: Calls that it was handed so far.
        age: Seconds since it was spawned.
        rss: Resident memory in bytes, None when it cannot be read.
        command: What it runs now, None when it runs nothing.
        language: What it is written in, as it says itself; empty until it is ready.
        stderr_dropped: Bytes of its stderr that could not be forwarded or logged in time, or at all.
    """

    id: int
    pid: int | None
    slot: int
    state: State
    calls: int
    age: float
    rss: int | None
    command: str | None
    language: str
    stderr_dropped: int


class Durations:
    """Counts durations into buckets."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * 64  # more than there are buckets: nobody need look whether one is too large
        self._total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        # As many bits as the whole units have, so many bounds are passed; a bisection takes twice as long.
        # The tiny bit less keeps a duration that is a bound in the bucket which that bound closes.
        self._counts[int(seconds / UNIT - 1e-9).bit_length()] += 1
        self._total += seconds

    def snapshot(self) -> Histogram:
        """Return what was counted."""
        last = len(BOUNDS)
        return Histogram(BOUNDS, (*self._counts[:last], sum(self._counts[last:])), self._total)


class Counters:
    """What a pool counts."""

    def __init__(self) -> None:
        self.submitted: int = 0
        self.attempts: int = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.exited: Counter[Cause] = Counter()
        self.wait_time: Durations = Durations()
        self.run_time: Durations = Durations()

    def count(self, outcome: Outcome) -> None:
        """Count a finished call."""
        self.outcomes[outcome] += 1
