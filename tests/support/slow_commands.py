"""Commands of a module that takes its time to be imported."""

import time

import asyncpool
from tests.support import commands

time.sleep(0.6)


@asyncpool.command
def crash_until(path: str, run: int, seconds: float) -> int:
    return commands.crash_until(path, run, seconds)
