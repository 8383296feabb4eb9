"""The life of a worker whose commands are plain functions and generators: one call after another, on the main thread.

Law: while it waits for the next frame, the worker keeps nothing of the last call alive, but spare memory for 25 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from asyncpool.worker.leave import Leave
from asyncpool.worker.lifespan import Lifespan
from asyncpool.worker.session import Session


def live(session: Session, leave: Leave, lifespan: Lifespan, announce: Callable[[], None]) -> None:
    """Enter the lifespans, say that the worker is ready, serve, and leave them."""
    if lifespan.wants_loop:
        from asyncpool.worker import loop

        loop.live(session, leave, lifespan, announce)
        return
    lifespan.enter()
    try:
        announce()
        serve(session, leave, lifespan)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone: nobody is left to tell
    finally:
        leave.hang_up(session.channel, at_once=lifespan.count > 0)
        lifespan.leave()


def serve(session: Session, leave: Leave, lifespan: Lifespan) -> None:
    """Answer calls until Stop, the end of input or SIGTERM."""
    while (call := session.next_call(leave.wait)) is not None:
        running, value = session.begin(call)
        del call  # its arguments, when the command is done with them
        if isinstance(value, GeneratorType):
            value = session.stream(running, value)
        if isinstance(value, (CoroutineType, AsyncGeneratorType)):
            from asyncpool.worker import loop  # now asyncio is wanted, and from now on it serves

            loop.serve(session, leave, lifespan, (running, value))
            return
        session.finish(running, value)
        del running, value
