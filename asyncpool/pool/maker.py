"""A call as its frame's body."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from asyncpool.errors import PayloadError
from asyncpool.pool.call import Call
from asyncpool.pool.config import Config
from asyncpool.pool.options import Options
from asyncpool.pool.reference import Reference, reference, unroll
from asyncpool.pool.supervisor import Supervisor
from asyncpool.protocol import buffers, edge, failure, messages, payload
from asyncpool.protocol.wire import Buffer

_INSIDE = buffers.INSIDE.issuperset


class Target(NamedTuple):
    """What is known of a command before it is called."""

    reference: Reference
    kind: edge.Kind
    result: payload.Decodes
    updates: payload.Decodes


class Maker:
    """Makes the calls of one pool.

    Args:
        config: The pool's settings.
    """

    def __init__(self, config: Config) -> None:
        self.codec: payload.Codec = payload.Codec(pickles=config.allow_pickle)
        self._config = config
        self._ids = itertools.count(1)
        self._targets: dict[Any, Target] = {}

    def make(
        self,
        supervisor: Supervisor,
        command: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
        credit: int = 0,
        items: int = 0,
    ) -> tuple[Call, Target]:
        """Encode a call; returns it with what is known of its command."""
        try:
            target = self._targets[command]
        except (KeyError, TypeError):  # not seen yet, or cannot be hashed
            command, args, kwargs = unroll(command, args, kwargs)
            target = self.learn(command)
        number, loop, ledger = next(self._ids), supervisor.loop, supervisor.ledger
        told = ledger.time_limit(target.reference, options.timeout, items)
        large: Sequence[Buffer] = ()
        try:
            small = not args or _INSIDE(map(type, args))
            if small and not items and (not kwargs or _INSIDE(map(type, kwargs.values()))):  # the common case, short
                what = messages.call(number, target.reference, args, kwargs, told, credit, options.meta)
                body = self.codec.encode(what)
                size = len(body)
            else:
                run, sent, named, large, lengths = self._take_out(target.reference, args, kwargs, items)
                what = messages.call(number, run, sent, named, told, credit, options.meta, lengths)
                body = self.codec.encode(what)
                size = len(body) + sum(lengths)
        except Exception as error:  # encoding runs the user's own properties
            raise _blame(self.codec, args, kwargs, error) from None
        if size > self._config.max_message:
            raise PayloadError(
                f"the call takes {size:,} bytes, above the pool's max_message of {self._config.max_message:,}: "
                "raise it, or pass the name of a file"
            )
        call = Call(
            number,
            loop.create_future(),
            target.reference,
            body,
            told,
            options.timeout,
            options.retries,
            loop.time(),
            target.kind,
            options.on_cancel,
            ledger.learnt,
            options.key,
            items,
            large,
        )
        if self._config.concurrency > 1:
            call.exclusive = ledger.excludes(call)
        return call, target

    def _take_out(
        self, command: Reference, args: tuple[Any, ...], kwargs: dict[str, Any], items: int
    ) -> tuple[Reference, Sequence[Any], Any, Sequence[Buffer], list[int]]:
        """Return what is to be run with what in the body; then the buffers behind it, and their lengths."""
        if items:  # encoded one by one: so are the named arguments
            return messages.CHUNK, (command, args), msgspec.Raw(self.codec.encode(kwargs)), (), []
        return command, *buffers.take_all_out(args, kwargs)

    def learn(self, command: Any) -> Target:
        """Return what is known of a command.

        Raises:
            PayloadError: It cannot be named to a worker.
        """
        if isinstance(command, str):
            return Target(str.__str__(command), "plain", self.codec.untyped, self.codec.untyped)
        try:
            if command in self._targets:  # within a partial
                return self._targets[command]
        except TypeError:  # it cannot be hashed: each call learns it anew
            return self._look_at(command)
        learnt = self._targets[command] = self._look_at(command)
        return learnt

    def _look_at(self, command: Any) -> Target:
        return Target(reference(command), edge.kind(command), *edge.outcome_decoders(command, self.codec))


def _blame(codec: payload.Codec, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> PayloadError:
    """Return the error that names the argument which cannot be encoded."""
    for name, value in (*enumerate(args, 1), *kwargs.items()):
        try:
            codec.encode(value)
        except Exception as cause:  # encoding runs the user's own properties
            title = repr(name) if isinstance(name, str) else f"number {name}"
            return PayloadError(f"argument {title}: {failure.text(cause)}")
    return PayloadError(failure.text(error))
