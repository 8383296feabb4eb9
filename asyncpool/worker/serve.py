"""The life of a worker whose commands are plain functions and generators: one call after another, on the main thread.

Law: while it waits for the next frame, the worker keeps nothing of the last call alive.
"""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType

from asyncpool.worker.leave import Leave
from asyncpool.worker.session import Session


def serve(session: Session, leave: Leave) -> None:
    """Answer calls until Stop, the end of input or SIGTERM."""
    while (session.early or leave.wait()) and (call := session.next_call()) is not None:
        running, value = session.begin(call)
        del call  # its arguments, when the command is done with them
        if isinstance(value, (CoroutineType, AsyncGeneratorType)):
            from asyncpool.worker import loop  # now asyncio is wanted, and from now on it serves

            loop.serve(session, leave, (running, value))
            return
        if isinstance(value, GeneratorType):
            value = session.stream(running, value)
        session.finish(running, value)
        del running, value
