"""The typed edge: a command's annotations as decoders.

Arguments are decoded in the worker before any code of the user's runs, the result in the caller.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Raw

from asyncpool.protocol import payload
from asyncpool.protocol.received import Received

OPTIONS = frozenset(  # of ``pool.options``, which a caller may have meant for the pool
    ("timeout", "acquire_timeout", "retries", "on_cancel", "returns", "on_update", "meta", "key", "return_exceptions")
)

_raw_list = msgspec.msgpack.Decoder(list[Raw]).decode
_NOTHING_NAMED = Raw(b"\x80")  # an empty map
_FIXARRAY = 0x90  # MessagePack's first byte of an array of up to 15 items, less their number
_MISFITS = (msgspec.DecodeError, TypeError, ValueError, RecursionError)  # what decoding raises
_raw_map = msgspec.msgpack.Decoder(dict[str, Raw]).decode


class Mismatch(Exception):
    """Arguments do not fit; names the command and the argument."""


class Signature:
    """Decodes the arguments of one function.

    Args:
        function: Any callable.
        strict: True raises where an annotation cannot be resolved or decoded; False takes it as Any.
        typed: False takes every annotation as Any.
        codec: What decodes.

    Raises:
        TypeError: Under *strict*: names the parameter whose annotation cannot be used, and why.
    """

    def __init__(
        self, function: Callable[..., Any], *, strict: bool, typed: bool = True, codec: payload.Codec = payload.PLAIN
    ) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        self._untyped = codec.untyped
        self._positional: list[tuple[str, payload.Decodes]] = []
        self._named: dict[str, payload.Decodes] = {}
        self._rest: tuple[str, payload.Decodes] | None = None  # *args
        self._named_rest: payload.Decodes | None = None  # **kwargs
        self._required = 0  # positional arguments that must be there when nothing is named
        self._simple = True  # no parameter must be named
        self._all_at_once: dict[int, payload.Decodes] = {}  # by the first byte of the array: its usual form
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except (ValueError, TypeError):  # some built-ins have none: whatever comes is handed over
            self._signature = None
            self._rest, self._named_rest = ("argument", codec.untyped), codec.untyped
            return
        for parameter in self._signature.parameters.values():
            self._add(parameter, _decoder(function, parameter, strict, codec) if typed else codec.untyped)
        if self._simple:
            types_ = [decoder.annotation for _, decoder in self._positional[:15]]
            for count in range(self._required, len(types_) + 1):
                self._all_at_once[_FIXARRAY + count] = codec.decoder(tuple[tuple(types_[:count])])  # type: ignore[misc]

    def _add(self, parameter: inspect.Parameter, decoder: payload.Decodes) -> None:
        kind, name, required = parameter.kind, parameter.name, parameter.default is parameter.empty
        if kind is parameter.VAR_POSITIONAL:
            self._rest = (name, decoder)
        elif kind is parameter.VAR_KEYWORD:
            self._named_rest = decoder
        else:
            if kind is not parameter.KEYWORD_ONLY:
                self._positional.append((name, decoder))
                self._required += required
            elif required:
                self._simple = False
            if kind is not parameter.POSITIONAL_ONLY:
                self._named[name] = decoder

    def decode(
        self, args: Raw, kwargs: Raw, buffers: list[Received | None] | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments as values; those that are large, of *buffers*.

        Raises:
            Mismatch: They do not fit the signature or an annotation.
        """
        if kwargs == _NOTHING_NAMED and not buffers:
            try:
                return list(self._all_at_once[memoryview(args)[0]].decode(args)), {}
            except (KeyError, *_MISFITS):
                pass  # the long way finds out which argument it is, or takes it after all
        given = _raw_list(args)
        named = _raw_map(kwargs)
        if named or not self._simple or not self._required <= len(given) <= len(self._positional):
            self._bind(given, named)
        values = [
            self._value(name, decoder, raw, buffers)
            for (name, decoder), raw in zip(self._positional, given, strict=False)
        ]
        if self._rest is not None and len(given) > len(values):
            name, decoder = self._rest
            values += [self._value(name, decoder, raw, buffers) for raw in given[len(values) :]]
        return values, {name: self._value(name, self._named_decoder(name), raw, buffers) for name, raw in named.items()}

    def _bind(self, given: list[Raw], named: dict[str, Raw]) -> None:
        """Let inspect judge whether the arguments fit, and say it in Python's own words."""
        if self._signature is None:
            return
        try:
            self._signature.bind(*given, **named)
        except TypeError as error:
            misplaced = sorted((named.keys() & OPTIONS) - self._signature.parameters.keys())
            hint = "".join(f". For the pool's own {name}=, use pool.options({name}=...)" for name in misplaced)
            raise Mismatch(f"{self._name}(): {error}; its signature is {self._name}{self._signature}{hint}") from None

    def _named_decoder(self, name: str) -> payload.Decodes:
        return self._named.get(name) or self._named_rest or self._untyped

    def _value(self, name: str, decoder: payload.Decodes, raw: Raw, buffers: list[Received | None] | None) -> Any:
        try:
            return decoder.decode_with(raw, buffers) if buffers else decoder.decode(raw)
        except _MISFITS as error:
            raise Mismatch(f"{self._name}(): argument {name!r}: {error}") from None


def _decoder(
    function: Callable[..., Any], parameter: inspect.Parameter, strict: bool, codec: payload.Codec
) -> payload.Decodes:
    if parameter.annotation is parameter.empty:
        return codec.untyped
    try:
        annotation = resolve(function, parameter.annotation)
        if strict:
            payload.refuse_private_attributes(annotation)
        return codec.decoder(annotation)
    except Exception as error:  # resolving runs the annotation's own text
        if not strict:
            return codec.untyped
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            f"command {name}: parameter {parameter.name!r} is annotated {parameter.annotation!r}, which cannot be "
            f"used: {error}. Annotate it with what can travel (for a class of your own, see asyncpool.register_type), "
            "or mark it with @command(typed=False)"
        ) from None


def resolve(function: Callable[..., Any], annotation: Any) -> Any:
    """Return *annotation* of *function* with every string in it evaluated where the function was defined."""
    inner = inspect.unwrap(function)
    place = getattr(inner, "__globals__", None) or vars(sys.modules.get(inner.__module__, types))
    holder: Any = types.SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, place, include_extras=True)["it"]


Kind = Literal["plain", "async", "generator", "async generator"]


def kind(function: Any) -> Kind:
    """Return what calling *function* brings: a value, or what is still to be run."""
    inner = inspect.unwrap(function) if callable(function) else function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.isasyncgenfunction(inner):
        return "async generator"
    if inspect.iscoroutinefunction(inner):
        return "async"
    return "generator" if inspect.isgeneratorfunction(inner) else "plain"


def outcome_decoders(
    function: Callable[..., Any], codec: payload.Codec = payload.PLAIN
) -> tuple[payload.Decodes, payload.Decodes]:
    """Return the decoders for the result of *function* and for its updates, by its return annotation.

    Untyped where there is none that can be used: the values then arrive as plain built-ins.
    """
    annotation = getattr(function, "__annotations__", {}).get("return", Any)
    if isinstance(function, type) or annotation is Any:
        return codec.untyped, codec.untyped
    try:
        annotation = resolve(function, annotation)
    except Exception:  # resolving runs the annotation's own text
        return codec.untyped, codec.untyped
    result, update = annotation, Any
    if kind(function).endswith("generator"):
        given = (*typing.get_args(annotation), Any, Any, Any)
        update = given[0]
        result = given[2] if typing.get_origin(annotation) is collections.abc.Generator else Any
    return _decoder_or_untyped(result, codec), _decoder_or_untyped(update, codec)


def _decoder_or_untyped(annotation: Any, codec: payload.Codec) -> payload.Decodes:
    try:
        return codec.decoder(annotation)
    except Exception:  # no value of this type could be decoded
        return codec.untyped
