"""What the workers of the soak run: answers that can be checked, and every way to end badly."""

import os
import signal
import time
from pathlib import Path

import asyncpool

_kept: dict[str, int] = {}
_leaked: list[bytes] = []


@asyncpool.command
def double(number: int) -> int:
    return 2 * number


@asyncpool.command
def echo(data: bytes) -> bytes:
    return data


@asyncpool.command
def refuse(number: int) -> None:
    raise ValueError(number)


@asyncpool.command
def nap(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number


@asyncpool.command
def crash(number: int) -> None:
    """Die in one of three ways; none writes a core."""
    if number % 3 == 0:
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL if number % 3 == 1 else signal.SIGALRM)
    time.sleep(60)


@asyncpool.command
def crash_once(number: int, folder: str) -> int:
    """Die at the first try, answer at the second."""
    mark = Path(folder) / str(number)
    try:
        mark.unlink()
    except FileNotFoundError:
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@asyncpool.command
def leave(number: int) -> int:
    """Answer, and end afterwards."""
    os.kill(os.getpid(), signal.SIGTERM)
    return number


@asyncpool.command
def leak(size: int) -> int:
    """Keep memory for ever."""
    _leaked.append(b"x" * size)
    return size


@asyncpool.command
def keep(number: int) -> None:
    _kept["number"] = number


@asyncpool.command
def kept() -> int:
    return _kept.pop("number")
