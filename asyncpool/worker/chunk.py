"""A chunk: one call that runs a command on many items, one after another, and answers each as soon as it is done.

Law 1: the answer of an item is written before the next item begins. A crash leaves no doubt about more than one.
Law 2: an item's error is an answer like any other; the next item runs all the same.
Law 3: what an item emits or yields goes to nobody, as with a plain run.
Law 4: what is awaited is told by what the command returns, as with a plain run: with the first coroutine or async
       generator, the event loop takes over.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator, Iterator
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import msgspec
from msgspec import Raw

from asyncpool.commands import Cancelled
from asyncpool.protocol import failure
from asyncpool.protocol.messages import Call, Failure
from asyncpool.worker.registry import Entry, NotFound
from asyncpool.worker.running import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncpool.worker.session import Session  # which imports this module

Started = Iterator[tuple[int, Any]]  # numbers of items, and what the command has returned for them

ENVELOPE = 64  # bytes that an answer takes beyond itself, at most, in the update that carries it

_arguments = msgspec.msgpack.Decoder(tuple[str | tuple[str, str], list[Raw]]).decode


def begin(session: Session, running: Running, call: Call) -> Any:
    """Return the generator of the answers, which may return an async one of the rest; or a Failure."""
    running.quiet = True
    try:
        command, items = _arguments(call.args)
        entry = session.registry.find(command)
    except NotFound as error:
        return Failure(call.id, failure.refusal("unknown_command", str(error)))
    except msgspec.DecodeError as error:
        return Failure(call.id, failure.refusal("argument", f"not a chunk: {error}"))
    except Exception as error:  # what is found may be a proxy that lets nobody look at it
        return Failure(call.id, failure.refusal("argument", failure.text(error)))
    return _answers(session, running, _started(session, entry, items, call.kwargs))


def _started(session: Session, entry: Entry, items: list[Raw], kwargs: Raw) -> Started:
    """Yield each item's number, and what the command returns for it, or a Failure."""
    for number, item in enumerate(items):
        yield number, _start(session, entry, number, item, kwargs)


def _answers(session: Session, running: Running, started: Started) -> Generator[Raw, None, Any]:
    for number, value in started:
        if isinstance(value, (CoroutineType, AsyncGeneratorType)):
            return _answers_of_async(session, running, started, number, value)
        yield _answer(session, running, number, value)
        del value
    return None


async def _answers_of_async(
    session: Session, running: Running, started: Started, number: int, value: Any
) -> AsyncGenerator[Raw, None]:
    """Go on from the item *number* on."""
    if running.stop:  # before the first step
        if isinstance(value, CoroutineType):
            value.close()
        raise Cancelled
    while True:
        try:
            if isinstance(value, CoroutineType):
                value = await value
            elif isinstance(value, AsyncGeneratorType):
                async for _ in value:
                    pass
                value = None
        except BaseException as error:  # also SystemExit and KeyboardInterrupt: they end the item, not the worker
            if running.stop:
                raise
            value = session.describe(number, error, 1)
        yield _answer(session, running, number, value)
        del value
        following = next(started, None)
        if following is None:
            return
        number, value = following
        del following


def _answer(session: Session, running: Running, number: int, value: Any) -> Raw:
    session.end_if_forked()
    if isinstance(value, GeneratorType):
        value = session.attempt(number, partial(_end_of, session, running, value))
    return Raw(session.encoded(number, value, ENVELOPE))


def _start(session: Session, entry: Entry, number: int, item: Raw, kwargs: Raw) -> Any:
    """Return what the command returns for an item, or a Failure."""
    try:
        args, named = entry.decode(item, kwargs)
    except Exception as error:  # decoding runs the user's own __post_init__ and hooks
        return Failure(number, failure.refusal("argument", failure.text(error)))
    if "logging" in sys.modules:
        session.logs.look()
    return session.attempt(number, lambda: entry.function(*args, **named), skip_frames=2)


def _end_of(session: Session, running: Running, generator: GeneratorType[Any, Any, Any]) -> Any:
    """Run a generator to its end; returns its return value."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
        session.look_sometimes(running)
        if running.stop:
            generator.close()
            raise Cancelled
