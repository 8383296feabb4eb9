"""Values <-> MessagePack.

What MessagePack has no word for travels under an ext code, so that it arrives as what it was also where nothing is
annotated. `docs/reference/values.md` is the table of what arrives as what, and a test reads it.

Law 1: nothing that arrives can run or import anything, but for what the application itself allowed: the ``decode=`` of
       a type that it registered, the validators of the classes that it annotates with, and pickle where it said so.
Law 2: an annotation always gets what was sent, whatever code it travelled under.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast, get_origin

import msgspec
from msgspec.msgpack import Ext

from asyncpool import types
from asyncpool.protocol import arrays, buffers, models, paths
from asyncpool.protocol.received import Received
from asyncpool.protocol.wire import Buffer

# Ext codes 0 to 63 are the protocol's, 64 to 127 the users'.
INTEGER = 1  # beyond 64 bits: two's complement, little-endian, as short as it can be
PATH = paths.CODE
COMPLEX = 3  # two little-endian doubles
ARRAY = arrays.CODE  # of numpy: MessagePack's array of dtype, shape, order and items
SCALAR = 5  # of numpy: MessagePack's array of dtype and item
PICKLE = 6  # only between a pool with allow_pickle and its workers
BUFFER = buffers.CODE  # a large value, which travels behind the body

_COMPLEX = struct.Struct("<dd")
# What the encoder takes as it is; it looks for the very class.
_ALIKE = (bytes, bytearray, memoryview, datetime.datetime, complex, Ext)
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # what MessagePack's own integers reach


class Decodes(Protocol):
    """What turns MessagePack back into a value of the type *annotation*."""

    @property
    def annotation(self) -> Any:
        """The type; Any where there is none."""

    def decode(self, data: Buffer | msgspec.Raw, /) -> Any:
        """Return the value; raises msgspec.ValidationError where the data do not fit."""

    def decode_with(self, data: Buffer | msgspec.Raw, received: list[Received | None], /) -> Any:
        """Do the same with a value that may be in one of the *received* buffers; it is taken out of them."""


class Codec:
    """Encodes and decodes, with what one side of one pool may do.

    Args:
        pickles: What cannot travel otherwise is pickled, and a pickled value that arrives is loaded.
        imports: numpy is imported when one of its values arrives.
    """

    __slots__ = ("_builtin", "_encoder", "_imports", "_pickles", "_untyped", "encode", "untyped")

    def __init__(self, *, pickles: bool = False, imports: bool = False) -> None:
        self._pickles = pickles
        self._imports = imports
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._to_plain)
        self._untyped: Callable[[Any], Any] = msgspec.msgpack.Decoder(ext_hook=self._from_ext).decode
        self._builtin: Callable[[Any], Any] = msgspec.msgpack.Decoder(ext_hook=self._from_ext_as_builtin).decode
        self.encode: Callable[[Any], bytes] = self._encoding()
        # Decodes into plain built-ins. A cast, since pyright takes its decode for a method.
        self.untyped: Decodes = cast("Decodes", _Untyped(self._untyped, imports=imports))

    def _encoding(self) -> Callable[[Any], bytes]:
        """Return ``encode``: a closure, since the look-ups of a method would cost a short value a tenth more."""
        encoder, with_large_integers = self._encoder, self._encode_with_large_integers

        def encode(value: Any) -> bytes:
            """Return *value* as MessagePack.

            Raises:
                TypeError: Something in *value* cannot travel; says what.
                ValueError: A string holds lone surrogates, or containers are nested too deeply or contain themselves.
            """
            try:
                try:
                    return encoder.encode(value)
                except OverflowError:
                    return with_large_integers(value)
            except RecursionError:
                raise ValueError("containers are nested too deeply, or contain themselves") from None

        return encode

    def decode(self, data: Buffer | msgspec.Raw) -> Any:
        """Return the value that *data* holds, as plain built-ins where nothing says otherwise."""
        return self._untyped(data)

    def decoder(self, annotation: Any) -> Decodes:
        """Return a decoder for values of the type *annotation*.

        Raises:
            TypeError: No value of this type could be decoded.
        """
        if annotation is Any or annotation is object:
            return self.untyped
        if not self._pickles:
            _refuse_foreign_classes(annotation)
        decode = msgspec.msgpack.Decoder(annotation, dec_hook=_from_plain, ext_hook=self._from_ext).decode
        return _Typed(annotation, decode, self._builtin, imports=self._imports)

    # --- what msgspec has no rule for --------------------------------------------------------------------------------

    def _to_plain(self, value: Any) -> Any:
        if paths.travels(type(value)):
            return Ext(PATH, paths.encode(value))
        if type(value) is complex:
            return Ext(COMPLEX, _COMPLEX.pack(value.real, value.imag))
        entry = types.by_class.get(type(value))
        if entry is not None:
            return Ext(entry.code, _registered_bytes(entry, value))
        if models.is_model(type(value)):
            return models.to_plain(value)
        try:
            if arrays.is_array(value):
                return Ext(ARRAY, arrays.encode_array(value))
            if arrays.is_scalar(value):
                return Ext(SCALAR, arrays.encode_scalar(value))
        except TypeError:
            if not self._pickles:
                raise
        if self._pickles:
            return Ext(PICKLE, _pickled(value))
        raise TypeError(
            f"{_refusal(value)}: send its data (a dataclass, a dict), or make its type known (asyncpool.register_type)"
        )

    def _from_ext(self, code: int, data: memoryview) -> Any:
        if code == INTEGER:
            return int.from_bytes(data, "little", signed=True)
        if code == PATH:
            return paths.decode(data)
        if code == COMPLEX and len(data) == _COMPLEX.size:
            return complex(*_COMPLEX.unpack(data))
        if code == ARRAY:
            return arrays.decode_array(data, imports=self._imports)
        if code == SCALAR:
            return arrays.decode_scalar(data, imports=self._imports)
        if code == PICKLE:
            return self._unpickled(data)
        if code == BUFFER:
            raise ValueError("a value in a buffer, where only a whole argument, result or update may be in one")
        if types.FIRST <= code <= types.LAST:
            return _registered_value(code, data)
        raise ValueError(f"an ext value of code {code} and {len(data)} bytes, which this version does not know")

    def _from_ext_as_builtin(self, code: int, data: memoryview) -> Any:
        value = self._from_ext(code, data)
        return arrays.as_builtin(value) if code == SCALAR else value

    def _unpickled(self, data: memoryview) -> Any:
        if not self._pickles:
            raise ValueError("a pickled value, and this pool does not take them (allow_pickle)")
        import pickle

        try:
            return pickle.loads(data)
        except Exception as error:  # it runs whatever the pickle says
            raise ValueError(f"a pickled value that cannot be loaded: {type(error).__qualname__}: {error}") from None

    def _encode_with_large_integers(self, value: Any) -> bytes:
        """Take the slow way: turn all into built-ins, then the integers that MessagePack cannot hold into ext."""

        def replace(item: Any) -> Any:
            if type(item) is int and not _SMALLEST <= item <= _LARGEST:
                return Ext(INTEGER, item.to_bytes(item.bit_length() // 8 + 1, "little", signed=True))
            if isinstance(item, (list, tuple)):
                return [replace(each) for each in item]
            if isinstance(item, dict):
                pairs = [self._encoder.encode(replace(each)) for pair in item.items() for each in pair]
                return msgspec.Raw(_map_header(len(item)) + b"".join(pairs))  # an Ext cannot be a key of a dict
            return item

        plain = msgspec.to_builtins(value, enc_hook=self._to_plain, builtin_types=(*_ALIKE, *paths.classes()))
        return self._encoder.encode(replace(plain))


class _Untyped:
    """Decodes into plain built-ins."""

    __slots__ = ("_imports", "decode")
    annotation: Any = Any
    decode: Callable[[Buffer | msgspec.Raw], Any]

    def __init__(self, decode: Callable[[Buffer | msgspec.Raw], Any], *, imports: bool) -> None:
        self.decode = decode
        self._imports = imports

    def decode_with(self, data: Buffer | msgspec.Raw, received: list[Received | None], /) -> Any:
        place = buffers.find(data)
        return self.decode(data) if place is None else buffers.open_value(place, received, imports=self._imports)


class _Typed:
    """Decodes by an annotation; what msgspec sees as ext where it wants a built-in, by a second look."""

    __slots__ = ("_builtin", "_decode", "_imports", "annotation")

    def __init__(
        self, annotation: Any, decode: Callable[[Any], Any], builtin: Callable[[Any], Any], *, imports: bool
    ) -> None:
        self.annotation: Any = annotation
        self._decode = decode
        self._builtin = builtin
        self._imports = imports

    def decode(self, data: Buffer | msgspec.Raw, /) -> Any:
        try:
            return self._decode(data)
        except msgspec.ValidationError as error:
            if "got `ext`" not in str(error):
                raise
            return self._fit(self._builtin(data))

    def decode_with(self, data: Buffer | msgspec.Raw, received: list[Received | None], /) -> Any:
        place = buffers.find(data)
        if place is None:
            return self.decode(data)
        return self._fit(buffers.open_value(place, received, imports=self._imports))

    def _fit(self, value: Any) -> Any:
        return msgspec.convert(value, self.annotation, dec_hook=_from_plain)


def _from_plain(annotation: Any, value: Any) -> Any:
    """Decode what msgspec has no rule for, from what came out of the ext code or a plain value."""
    cls = get_origin(annotation) or annotation
    if arrays.can_decode(cls):
        return arrays.fit(annotation, value)
    if arrays.is_scalar(value):
        value = arrays.as_builtin(value)
    if cls is complex and isinstance(value, (int, float, complex)):
        return complex(value)
    if isinstance(value, cls):
        return value
    if paths.is_path_class(cls) and (isinstance(value, str) or paths.is_path_class(type(value))):
        return cls(value)
    if models.is_model(cls):
        return models.from_plain(cls, value)
    raise TypeError(f"Expected `{cls.__qualname__}`, got `{type(value).__qualname__}`")


def _registered_bytes(entry: types.Registered, value: Any) -> bytes:
    try:
        data = entry.encode(value)
    except Exception as error:
        raise TypeError(f"encode= of {types.title(entry.cls)} raised {type(error).__qualname__}: {error}") from error
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"encode= of {types.title(entry.cls)} must return bytes, not {_short(data)}")
    return bytes(data)


def _registered_value(code: int, data: memoryview) -> Any:
    entry = types.by_code.get(code)
    if entry is None:
        raise ValueError(
            f"an ext value of code {code}, for which nothing is registered in this process: call "
            f"asyncpool.register_type(..., code={code}) in a module that the application and its workers import"
        )
    try:
        value = entry.decode(bytes(data))
    except Exception as error:
        raise ValueError(f"decode= of {types.title(entry.cls)} raised {type(error).__qualname__}: {error}") from error
    if not isinstance(value, entry.cls):
        raise ValueError(f"decode= of {types.title(entry.cls)} returned {_short(value)}")
    return value


def _pickled(value: Any) -> bytes:
    import pickle

    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:  # it runs the user's own __reduce__
        raise TypeError(f"{_refusal(value)}, not even pickled: {error}") from None


def _refusal(value: Any) -> str:
    return f"{_name(type(value))} cannot travel between processes (here: {_short(value)})"


def _map_header(size: int) -> bytes:
    if size < 16:
        return bytes([0x80 | size])
    return b"\xde" + size.to_bytes(2, "big") if size < 2**16 else b"\xdf" + size.to_bytes(4, "big")


def _refuse_foreign_classes(annotation: Any) -> None:
    """Raise TypeError when *annotation* holds a class that nothing here knows how to build."""
    for node in _types_in(annotation):
        if isinstance(node, msgspec.inspect.CustomType) and not _is_known(node.cls):
            raise TypeError(f"{_name(node.cls)} cannot travel between processes")


def refuse_private_attributes(annotation: Any) -> None:
    """Raise TypeError when *annotation* holds a class of attrs of which msgspec would leave something out."""
    for node in _types_in(annotation):
        cls = getattr(node, "cls", None)
        for attribute in getattr(cls, "__attrs_attrs__", ()):
            if attribute.init and attribute.name.startswith("_"):
                raise TypeError(
                    f"{_name(cls)} cannot travel whole: its attribute {attribute.name!r} is private, and would be "
                    "lost. Name it without the underscore"
                )


def _types_in(annotation: Any) -> Iterator[msgspec.inspect.Type]:
    """Yield what msgspec knows of an annotation, and of each within it."""
    found: list[Any] = [msgspec.inspect.type_info(annotation)]
    seen: set[int] = set()
    while found:
        node = found.pop()
        if isinstance(node, (tuple, list)):
            found.extend(node)
        elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, msgspec.inspect.Type):
                yield node
            found.extend(getattr(node, name) for name in node.__struct_fields__)


def _is_known(cls: Any) -> bool:
    return (
        cls is object
        or cls is complex
        or paths.is_path_class(cls)
        or cls in types.by_class
        or arrays.can_decode(cls)
        or models.is_model(cls)
    )


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


PLAIN = Codec()  # what allows nothing
encode: Callable[[Any], bytes] = PLAIN.encode
decode: Callable[[Buffer | msgspec.Raw], Any] = PLAIN.decode
decoder: Callable[[Any], Decodes] = PLAIN.decoder
UNTYPED: Decodes = PLAIN.untyped
