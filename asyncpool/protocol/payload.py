"""Values <-> MessagePack.

What MessagePack has no word for travels under an ext code, so that it arrives as what it was also where nothing is
annotated. No pickle: nothing that arrives can run or import anything.
"""

from __future__ import annotations

import datetime
import struct
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

import msgspec
from msgspec.msgpack import Ext

from asyncpool.protocol.wire import Buffer

# Ext codes 0 to 63 are the protocol's, 64 to 127 the users'.
INTEGER = 1  # beyond 64 bits: two's complement, little-endian, as short as it can be
PATH = 2  # the file system's bytes
COMPLEX = 3  # two little-endian doubles

_COMPLEX = struct.Struct("<dd")
# What the encoder takes as it is; it looks for the very class.
_ALIKE = (bytes, bytearray, memoryview, datetime.datetime, complex, PurePosixPath, PureWindowsPath, type(Path()))
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # what MessagePack's own integers reach


class Decodes(Protocol):
    """What turns MessagePack back into a value of the type *annotation*."""

    @property
    def annotation(self) -> Any:
        """The type; Any where there is none."""

    def decode(self, data: Buffer | msgspec.Raw, /) -> Any:
        """Return the value; raises msgspec.ValidationError where the data do not fit."""


def encode(value: Any) -> bytes:
    """Return *value* as MessagePack.

    Raises:
        TypeError: Something in *value* cannot travel; says what.
        ValueError: A string holds lone surrogates, or containers are nested too deeply or contain themselves.
    """
    try:
        try:
            return _encoder.encode(value)
        except OverflowError:
            return _encode_with_large_integers(value)
    except RecursionError:
        raise ValueError("containers are nested too deeply, or contain themselves") from None


def decode(data: Buffer | msgspec.Raw) -> Any:
    """Return the value that *data* holds, as plain built-ins where nothing says otherwise."""
    return _untyped.decode(data)


def decoder(annotation: Any) -> Decodes:
    """Return a decoder for values of the type *annotation*.

    Raises:
        TypeError: No value of this type could be decoded.
    """
    return UNTYPED if annotation is Any or annotation is object else _Typed(annotation)


class _Typed:
    """Decodes by an annotation; integers beyond 64 bits, which msgspec sees as ext, by a second look."""

    __slots__ = ("_decode", "annotation")

    def __init__(self, annotation: Any) -> None:
        _refuse_foreign_classes(annotation)
        self.annotation: Any = annotation
        self._decode = msgspec.msgpack.Decoder(annotation, dec_hook=_from_plain, ext_hook=_from_ext).decode

    def decode(self, data: Buffer | msgspec.Raw, /) -> Any:
        try:
            return self._decode(data)
        except msgspec.ValidationError as error:
            if "got `ext`" not in str(error):
                raise
            return msgspec.convert(_untyped.decode(data), self.annotation, dec_hook=_from_plain)


def _to_plain(value: Any) -> Any:
    """Encode what msgspec has no rule for."""
    if isinstance(value, PurePath):
        return Ext(PATH, str(value).encode(errors="surrogateescape"))
    if isinstance(value, complex):
        return Ext(COMPLEX, _COMPLEX.pack(value.real, value.imag))
    raise TypeError(f"{_name(type(value))} cannot travel between processes (here: {_short(value)})")


def _from_ext(code: int, data: memoryview) -> Any:
    if code == INTEGER:
        return int.from_bytes(data, "little", signed=True)
    if code == PATH:
        return Path(bytes(data).decode(errors="surrogateescape"))
    if code == COMPLEX and len(data) == _COMPLEX.size:
        return complex(*_COMPLEX.unpack(data))
    raise ValueError(f"an ext value of code {code} and {len(data)} bytes, which this version does not know")


def _from_plain(annotation: Any, value: Any) -> Any:
    """Decode what msgspec has no rule for, from what came out of the ext code or a plain value."""
    if isinstance(value, annotation):
        return value
    if issubclass(annotation, PurePath) and isinstance(value, (str, PurePath)):
        return annotation(value)
    if annotation is complex and isinstance(value, (int, float)):
        return complex(value)
    raise TypeError(f"Expected `{annotation.__qualname__}`, got `{type(value).__qualname__}`")


def _encode_with_large_integers(value: Any) -> bytes:
    """Take the slow way: turn everything into built-ins, then the integers that MessagePack cannot hold into ext."""

    def replace(item: Any) -> Any:
        if type(item) is int and not _SMALLEST <= item <= _LARGEST:
            return Ext(INTEGER, item.to_bytes(item.bit_length() // 8 + 1, "little", signed=True))
        if isinstance(item, (list, tuple)):
            return [replace(each) for each in item]
        if isinstance(item, dict):
            pairs = [_encoder.encode(replace(each)) for pair in item.items() for each in pair]
            return msgspec.Raw(_map_header(len(item)) + b"".join(pairs))  # an Ext cannot be a key of a dict
        return item

    plain = msgspec.to_builtins(value, enc_hook=_to_plain, builtin_types=_ALIKE)
    return _encoder.encode(replace(plain))


def _map_header(size: int) -> bytes:
    if size < 16:
        return bytes([0x80 | size])
    return b"\xde" + size.to_bytes(2, "big") if size < 2**16 else b"\xdf" + size.to_bytes(4, "big")


def _refuse_foreign_classes(annotation: Any) -> None:
    """Raise TypeError when *annotation* holds a class that nothing here knows how to build."""
    found: list[Any] = [msgspec.inspect.type_info(annotation)]
    seen: set[int] = set()
    while found:
        node = found.pop()
        if isinstance(node, (tuple, list)):
            found.extend(node)
        elif isinstance(node, msgspec.inspect.CustomType):
            if node.cls is not object and not issubclass(node.cls, (PurePath, complex)):
                raise TypeError(f"{_name(node.cls)} cannot travel between processes")
        elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in seen:
            seen.add(id(node))
            found.extend(getattr(node, name) for name in node.__struct_fields__)


def _name(cls: Any) -> str:
    module, name = getattr(cls, "__module__", ""), getattr(cls, "__qualname__", str(cls))
    return f"a '{name}'" if module == "builtins" else f"a '{module}.{name}'"


def _short(value: Any) -> str:
    """Return the start of *value*'s repr, also where the repr is the user's and raises."""
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= 80 else text[:77] + "..."


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_plain)
_untyped = msgspec.msgpack.Decoder(ext_hook=_from_ext)


class _Untyped:
    """Decodes into plain built-ins."""

    annotation: Any = Any
    decode = staticmethod(_untyped.decode)


UNTYPED: Decodes = _Untyped()
