"""Types of one's own: registered by class and code, once, and refused where the other side has not done so."""

import dataclasses
import enum
import uuid
from collections import OrderedDict

import msgspec
import pytest
from msgspec.msgpack import Ext

from asyncpool import register_type, types
from asyncpool.protocol import payload
from asyncpool.protocol.edge import Mismatch, Signature


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.cents == self.cents

    def __hash__(self) -> int:
        return self.cents


class Coin(Money):
    pass


class Other:
    pass


class Celsius(float):
    """A number of one's own kind."""


def write(money: Money) -> bytes:
    return str(money.cents).encode()


def read(data: bytes) -> Money:
    return Money(int(data))


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin, and leave the process, without registered types."""
    monkeypatch.setattr(types, "by_class", {})
    monkeypatch.setattr(types, "by_code", {})


def register(cls: type = Money, code: int = 64) -> None:
    register_type(cls, encode=write, decode=read, code=code)


def untyped(value: object) -> object:
    return payload.decode(payload.encode(value))


@pytest.mark.parametrize(
    "wrap", [lambda it: it, lambda it: [it], lambda it: {"a": it}, lambda it: [it, 2**70]], ids=range(4)
)
def test_a_registered_type_travels_without_annotation(wrap):
    """Alone, in containers and beside large integers."""
    register()
    assert untyped(wrap(Money(5))) == wrap(Money(5))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Money(5), Money),
        ([Money(5)], list[Money]),
        ({"a": Money(5)}, dict[str, Money | None]),
        ({Money(5): 1}, dict[Money, int]),
        ((2**70, Money(5)), tuple[int, Money]),
    ],
    ids=["alone", "list", "optional", "key", "beside a large integer"],
)
def test_a_registered_type_travels_by_annotation(value, annotation):
    """Wherever the annotation has it."""
    register()
    assert payload.decoder(annotation).decode(payload.encode(value)) == value


def test_a_subclass_of_a_builtin_can_be_registered():
    """What would be refused as a float of another kind travels once it is named."""
    with pytest.raises(TypeError, match="Celsius' cannot travel"):
        payload.encode(Celsius(3))
    register_type(Celsius, encode=lambda it: repr(float(it)).encode(), decode=Celsius, code=127)
    assert type(untyped(Celsius(3.5))) is Celsius
    assert type(payload.decoder(Celsius).decode(payload.encode(Celsius(3.5)))) is Celsius


def test_the_code_is_the_ext_code_on_the_wire():
    """Workers in other languages know the type by it."""
    register(code=100)
    assert payload.encode(Money(5)) == msgspec.msgpack.encode(Ext(100, b"5"))


def test_a_subclass_is_not_its_base():
    """It would arrive as its base: it is refused until it is registered itself."""
    register()
    with pytest.raises(TypeError, match="Coin' cannot travel"):
        payload.encode(Coin(1))


def test_an_annotation_of_a_type_that_is_not_registered_is_refused():
    """The error at the worker's start tells what would help."""

    def pay(money: Money) -> None: ...

    with pytest.raises(TypeError, match=r"Money' cannot travel between processes.*register_type"):
        Signature(pay, strict=True)
    register()
    Signature(pay, strict=True)


@pytest.mark.parametrize("decode", [payload.decode, payload.decoder(list[int]).decode], ids=["untyped", "typed"])
def test_what_the_other_side_has_not_registered_is_an_error_with_its_code(decode):
    """It says which code it was, and what to call where."""
    data = msgspec.msgpack.encode([Ext(77, b"5")])
    with pytest.raises(
        ValueError, match=r"ext value of code 77.*asyncpool\.register_type\(\.\.\., code=77\)|got `ext`"
    ):
        decode(data)


def test_an_argument_that_the_worker_has_not_registered_names_itself():
    """As every other argument that does not fit."""

    def pay(money) -> None: ...

    with pytest.raises(Mismatch, match=r"pay\(\): argument 'money': an ext value of code 77"):
        Signature(pay, strict=True).decode(msgspec.Raw(msgspec.msgpack.encode([Ext(77, b"5")])), msgspec.Raw(b"\x80"))


@pytest.mark.parametrize(
    ("cls", "code", "message"),
    [
        (Money, 64, "code 64 is that of .*Money already"),
        (Money, 65, "code 64 is that of .*Money already"),
        (Other, 64, r"register_type\(Other, code=64\): code 64 is that of .*Money already"),
    ],
    ids=["the same", "another code", "another class"],
)
def test_nothing_is_registered_twice(cls, code, message):
    """Neither a class nor a code: which one would hold?"""
    register()
    with pytest.raises(ValueError, match=message):
        register(cls, code)
    assert untyped(Money(5)) == Money(5)


def test_a_module_that_is_reloaded_may_register_again():
    """Its class is a new one of the same name; values of the new one travel, of the old one no more."""
    register()
    again = type("Money", (Money,), {"__module__": Money.__module__, "__qualname__": Money.__qualname__})
    register_type(again, encode=write, decode=lambda data: again(int(data)), code=64)
    assert type(untyped(again(5))) is again
    with pytest.raises(TypeError, match="cannot travel"):
        payload.encode(Money(5))


@pytest.mark.parametrize("code", [63, 128, 0, -1, True, "64", None, 64.0])
def test_codes_are_from_64_to_127(code):
    """The others are the protocol's."""
    with pytest.raises(ValueError, match=f"from 64 to 127, not {code!r}"):
        register(code=code)
    assert types.by_class == {}


@dataclasses.dataclass
class Data:
    x: int


class Kind(enum.Enum):
    A = 1


class Sequence(list):
    pass


class Packed(msgspec.Struct):
    x: int


@pytest.mark.parametrize("cls", [Data, Kind, Sequence, Packed, OrderedDict, int, str, uuid.UUID, object, type(None)])
def test_what_travels_already_cannot_be_registered(cls):
    """encode= would never be asked: saying so beats being ignored."""
    with pytest.raises(TypeError, match="travels already"):
        register(cls)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cls": "Money"}, "takes a class, not 'Money'"),
        ({"cls": list[int]}, "takes a class"),
        ({"encode": None}, "encode= and decode= take functions"),
        ({"decode": b""}, "encode= and decode= take functions"),
    ],
    ids=range(4),
)
def test_what_is_no_class_or_function_is_refused(arguments, message):
    """Misuse shows where it is written."""
    given = {"cls": Money, "encode": write, "decode": read, **arguments}
    with pytest.raises(TypeError, match=message):
        register_type(given.pop("cls"), **given, code=64)


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda money: 1 / 0, "encode= of .*Money raised ZeroDivisionError: division by zero"),
        (lambda money: "text", "encode= of .*Money must return bytes, not 'text'"),
    ],
    ids=["raises", "returns text"],
)
def test_an_encode_that_fails_is_named(encode, message):
    """The sender reads whose function it was."""
    register_type(Money, encode=encode, decode=read, code=64)
    with pytest.raises(TypeError, match=message):
        payload.encode([Money(5)])


@pytest.mark.parametrize("data", [bytearray(b"5"), memoryview(b"5")], ids=["bytearray", "memoryview"])
def test_encode_may_return_anything_of_bytes(data):
    """A buffer that is no bytes serves as well."""
    register_type(Money, encode=lambda money: data, decode=read, code=64)
    assert untyped(Money(5)) == Money(5)


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        (lambda data: {}["x"], "decode= of .*Money raised KeyError: 'x'"),
        (lambda data: 7, "decode= of .*Money returned 7"),
    ],
    ids=["raises", "returns a number"],
)
@pytest.mark.parametrize("annotation", [object, Money, list[Money]], ids=str)
def test_a_decode_that_fails_is_named(decode, message, annotation):
    """The receiver's error is one that both receiving sides catch."""
    register_type(Money, encode=write, decode=decode, code=64)
    data = payload.encode([Money(5)] if annotation == list[Money] else Money(5))
    with pytest.raises((ValueError, TypeError), match=message):
        payload.decoder(annotation).decode(data)
