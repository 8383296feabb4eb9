"""Workers that have left, and whose interpreters do not end: it waits for a thread, for ever."""

import asyncio
import threading

import asyncpool
from tests.support.updates import trace

_never = threading.Event()


@asyncpool.command
def leave_a_thread() -> None:
    threading.Thread(target=_never.wait).start()


@asyncpool.command
async def leave_a_thread_of_the_loop(path: str) -> None:
    """Wait for a thread, which goes on when the command is cancelled."""
    trace(path, "begun")
    await asyncio.to_thread(_never.wait)
