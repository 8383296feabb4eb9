"""The value or error that a reply holds.

Law: no frame in which an error is raised has a name for it. It would hold itself, and the call with its arguments,
     until garbage is collected.
"""

from __future__ import annotations

from typing import Any

from asyncpool.errors import CommandError, ResultError
from asyncpool.pool.call import Call, Reply
from asyncpool.protocol import failure, payload
from asyncpool.protocol.messages import Failure


def open_reply(reply: Reply, call: Call, decoder: payload.Decodes) -> Any:
    """Return what the worker sent, or raise it."""
    if isinstance(reply, Failure):
        raise _rebuilt(reply, call)
    try:
        return decoder.decode_with(reply.value, reply.buffers) if reply.buffers else decoder.decode(reply.value)
    except Exception as error:  # decoding runs the user's own __post_init__
        raise refused(call, "returned what its annotation does not say", error) from None


def _rebuilt(reply: Failure, call: Call) -> CommandError:
    told = failure.rebuild(reply.error, call.pid)
    told.started = told.started or call.may_have_run  # in a run before this one
    return told


def refused(call: Call, did: str, error: Exception) -> ResultError:
    """Return what a call raises whose command *did* something that cannot be decoded."""
    text = f"{call.title} {did}: {failure.text(error)}"
    made = ResultError(text)
    made.message, made.worker_pid = text, call.pid
    return made
