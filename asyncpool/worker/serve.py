"""The life of a worker with plain commands: one call after another, on the main thread.

Law 1: nothing of a call begins before its frame's last byte.
Law 2: each Call is answered by exactly one Result or Failure, whatever the command raises or returns.
Law 3: while it waits for the next frame, the worker keeps nothing of the last call alive.
"""

from __future__ import annotations

from msgspec import Raw

from asyncpool.protocol import failure, messages
from asyncpool.protocol.messages import Call, Failure, Ping, Pong, Result, Stop
from asyncpool.worker import stdio
from asyncpool.worker.channel import Channel
from asyncpool.worker.registry import NotFound, Registry


def serve(channel: Channel, registry: Registry) -> None:
    """Answer calls until Stop or the end of input."""
    while (body := channel.receive()) is not None:
        message = messages.decode_to_worker(body)
        if isinstance(message, Call):
            del body  # law 3, also while the command runs
            reply = _perform(message, registry, channel.limit)
            stdio.flush()
            channel.send(reply)
            del reply
        elif isinstance(message, Ping):
            channel.send(messages.encode(Pong(message.nonce)))
        elif isinstance(message, Stop):
            return
        # Cancel and Credit can only mean a call that is settled: they crossed its reply.
        body = message = None


def _perform(call: Call, registry: Registry, limit: int) -> bytes:
    """Run a call and return its reply, encoded."""
    reply = _attempt(call, registry)
    encoded = messages.encode(reply)
    if len(encoded) > limit and isinstance(reply, Failure):
        encoded = messages.encode(Failure(call.id, failure.shorten(reply.error, limit // 32)))
    elif len(encoded) > limit:
        text = f"the result is {len(encoded):,} bytes, above max_message of {limit:,}"
        encoded = messages.encode(Failure(call.id, failure.refusal("result", text)))
    return encoded


def _attempt(call: Call, registry: Registry) -> Result | Failure:
    try:
        entry = registry.find(call.command)
    except NotFound as error:
        return Failure(call.id, failure.refusal("unknown_command", str(error)))
    try:
        args, kwargs = entry.decode(call.args, call.kwargs)
    except Exception as error:  # decoding runs the user's own __post_init__ and hooks
        return Failure(call.id, failure.refusal("argument", str(error)))
    try:
        value = entry.function(*args, **kwargs)
    except BaseException as error:  # also SystemExit and KeyboardInterrupt: they end the call, not the worker
        return Failure(call.id, failure.describe(error, skip_frames=1))
    try:
        return Result(call.id, Raw(registry.codec.encode(value)))
    except Exception as error:  # encoding runs the user's own properties
        text = f"the result cannot travel: {error}"
        return Failure(call.id, failure.refusal("result", text))
