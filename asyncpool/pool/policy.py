"""How many workers are wanted, and when to try again: plain arithmetic, no state, no clock, no I/O."""

from __future__ import annotations

import math

import msgspec

CIRCUIT_OPENS_AT = 3  # failed starts in a row
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts to start
JITTER = 0.2  # share of a pause by which it may be shorter
SHORTEST_PUT_OFF = 0.002  # seconds; two ticks of uvloop's millisecond clock: input is polled in between on both loops
LATE = 0.05  # seconds by which a timer is late when the event loop was blocked
MOST_LATE = 3  # put-offs of a deadline because the loop is late: each is a pass in which input is read
WEAR_MARGIN = 0.1  # share of a worker's life that is left, at least, when its successor is started
WEAR_JITTER = 0.1  # share by which that may be sooner, so that workers of one age do not go together
START_MARGIN = 2.0  # starts that fit at least into what is left
MOST_HEARD = 10  # put-offs because the worker is being heard


class Limits(msgspec.Struct, frozen=True):
    """What a pool's sizes and times may be. Durations in seconds, None: no limit."""

    min_size: int
    max_size: int
    surge: int = 1
    idle_timeout: float | None = 120.0
    max_waiting: int | None = None
    health_interval: float | None = 30.0
    check_on_acquire: bool = False
    starts_at_once: int = 2  # a start keeps one processor busy
    max_calls: int | None = None
    max_lifetime: float | None = None
    max_memory: int | None = None  # bytes of resident memory


class Crew(msgspec.Struct):
    """How many workers and calls there are, as the decision to grow sees it."""

    live: int  # workers that take calls or will: all but the retiring ones
    starting: int
    worn: int  # workers that take calls and want a successor
    soon: int  # slots that starting workers, and those being checked, will bring
    processes: int  # live and retiring, until reaped
    waiting: int  # calls in the queue
    failures: int  # failed starts in a row


def spawns(limits: Limits, crew: Crew, *, closing: bool, paused: bool) -> int:
    """Return how many workers to start now.

    Args:
        limits: The pool's limits.
        crew: What there is.
        closing: True when the pool only serves what still waits.
        paused: True before the next attempt after a failed start is due.
    """
    if paused:
        return 0
    wanted = max(0, crew.waiting - crew.soon)
    if not closing:
        wanted = max(wanted, limits.min_size - crew.live, crew.worn - crew.starting)
        if crew.failures and crew.live == 0:
            wanted = max(wanted, 1)  # the probe that closes the circuit again
    at_once = 1 if crew.failures else limits.starts_at_once
    return max(
        0,
        min(
            wanted,
            limits.max_size - (crew.live - crew.worn),
            limits.max_size + limits.surge - crew.processes,
            at_once - crew.starting,
        ),
    )


def pause(failures: int, chance: float) -> float:
    """Return the seconds until the next attempt to start, after so many failures in a row.

    Args:
        failures: At least 1.
        chance: In [0, 1): shortens the pause by up to a fifth, so that pools do not try in step.
    """
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30))
    return longest * (1.0 - JITTER * chance)


def worn_from(lifetime: float, start_time: float, chance: float) -> float:
    """Return the age, in seconds, from which a worker wants a successor: early enough that it is warm in time.

    Args:
        lifetime: Seconds that it may live, at most.
        start_time: Seconds that a start takes.
        chance: In [0, 1): jitter, which only ever shortens.
    """
    early = lifetime * (1.0 - WEAR_MARGIN - WEAR_JITTER * chance)
    return max(0.0, min(early, lifetime - START_MARGIN * start_time))


def worn_by_calls(calls: int, max_calls: int, age: float, start_time: float, chance: float) -> bool:
    """Say whether a worker that was handed so many calls wants a successor.

    It does when a tenth of its calls is left; or, in its second half, fewer than it takes while its successor starts.

    Args:
        calls: Calls so far, at least 1.
        max_calls: The most that it may be handed.
        age: Seconds since it was ready.
        start_time: Seconds that a start takes.
        chance: In [0, 1): jitter, which only ever shortens.
    """
    if calls >= max_calls * (1.0 - WEAR_MARGIN - WEAR_JITTER * chance):
        return True
    return 2 * calls >= max_calls and (max_calls - calls) * age <= START_MARGIN * start_time * calls


def put_off(late: float, *, fired: int, heard: bool) -> float | None:
    """Decide what a deadline does that fires.

    A blocked event loop must not make a healthy worker look dead: its answer may lie unread in the kernel. So a
    deadline never acts when it first fires, nor while it is late, nor while the worker is being heard; but a loop that
    is always late, or a worker that never stops talking, does not put it off for ever.

    Args:
        late: Seconds since it was due.
        fired: How many times it fired before.
        heard: True when bytes have come since it last fired.

    Returns:
        Seconds to wait before the next look, or None: act now.
    """
    if fired == 0 or (late > LATE and fired < MOST_LATE) or (heard and fired < MOST_HEARD):
        return max(late, SHORTEST_PUT_OFF)
    return None


def earliest(*times: float | None) -> float | None:
    """Return the least of the times that are not None."""
    least = min((time for time in times if time is not None), default=math.inf)
    return None if least == math.inf else least
