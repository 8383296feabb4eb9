"""The typed edge: how arguments fit a function, and what a caller reads when they do not."""

import functools
import inspect
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Raw

from asyncpool import Pool
from asyncpool.protocol import edge, payload
from asyncpool.protocol.edge import Mismatch, Signature

BIG = 2**70


class Colour(Enum):
    RED = "red"


@dataclass
class Cat:
    age: int
    home: Path | None = None


class Dog(msgspec.Struct):
    age: int


class Foreign:
    """A class that cannot travel."""


def named(value: Any) -> str:
    """Title a test's parameter: a function's repr would hold its address, which differs from process to process."""
    return getattr(value, "__qualname__", None) or repr(value)


def bound(function: Any, *args: Any, typed: bool = True, strict: bool = True, **kwargs: Any) -> tuple[list, dict]:
    """Send arguments over the wire to *function* and return what it would be called with."""
    signature = Signature(function, strict=strict, typed=typed)
    return signature.decode(Raw(payload.encode(args)), Raw(payload.encode(kwargs)))


# --- the functions that are called ---


def cat(a: Cat) -> None: ...
def dog(a: Dog) -> None: ...
def stamp(a: datetime) -> None: ...
def identity(a: UUID) -> None: ...
def colour(a: Colour) -> None: ...
def path(a: Path) -> None: ...
def raw(a: bytes) -> None: ...
def integer(a: int) -> None: ...
def integers(a: list[int]) -> None: ...
def pair(a: tuple[int, str]) -> None: ...
def bag(a: set[int]) -> None: ...
def wave(a: complex) -> None: ...
def maybe(a: int | None) -> None: ...
def either(a: int | str) -> None: ...
def anything(a: Any) -> None: ...
def unannotated(a, b=1): ...


def quoted(a: "list[Cat]", b: "int | None" = None) -> None: ...
def partly_quoted(a: list["Cat"]) -> None: ...


def kinds(a: int, b: int = 2, /, c: int = 3, *, d: int = 4) -> None: ...
def keyword_only(*, a: int) -> None: ...
def star(a: int, *rest: float, **named: complex) -> None: ...
def shadow(a: int, /, **named: str) -> None: ...


def unresolvable(a: "NoSuchName", b: int = 1) -> None: ...  # noqa: F821 # that is the point
def foreign(a: Foreign, b: int = 1) -> None: ...


@functools.wraps(integer)
def wrapped(*args: Any, **kwargs: Any) -> None: ...


class Holder:
    def __init__(self, a: int) -> None: ...

    @classmethod
    def made(cls, a: int) -> None: ...

    @staticmethod
    def still(a: int) -> None: ...


# --- what fits ---


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (cat, Cat(3, Path("/home"))),
        (cat, Cat(BIG)),
        (dog, Dog(3)),
        (dog, Dog(-BIG)),
        (stamp, datetime(2020, 1, 2, tzinfo=UTC)),
        (stamp, datetime(2020, 1, 2, tzinfo=UTC).replace(tzinfo=None)),
        (identity, UUID(int=7)),
        (colour, Colour.RED),
        (path, Path("/a/b")),
        (raw, b"\xff\x00"),
        (integer, 7),
        (integer, BIG),
        (integer, -BIG),
        (integers, [1, BIG]),
        (pair, (1, "a")),
        (pair, (BIG, "a")),
        (bag, {1, 2}),
        (wave, 1 + 2j),
        (maybe, None),
        (maybe, BIG),
        (either, 7),
        (either, "seven"),
        (either, BIG),
        (anything, [1, "a", None]),
        (anything, BIG),
        (unannotated, {"a": [1]}),
        (quoted, [Cat(1)]),
        (partly_quoted, [Cat(1)]),
        (Holder, 7),
        (Holder.made, 7),
        (Holder.still, 7),
        pytest.param(wrapped, 7, id="wrapped-7"),
    ],
    ids=named,
)
def test_an_argument_arrives_as_its_annotation_says(function, value):
    """The function gets an equal value of the same type, whether it was given by position or by name."""
    args, kwargs = bound(function, value)
    assert ([value], {}) == (args, kwargs)
    assert type(value) is type(args[0])
    if function is not wrapped:
        assert ([], {"a": value}) == bound(function, a=value)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1,), {}),
        ((1, 2), {}),
        ((1, 2, 3), {}),
        ((1, 2), {"c": 3}),
        ((1,), {"c": 3, "d": 4}),
        ((1, 2, 3), {"d": 4}),
    ],
)
def test_arguments_are_handed_over_as_they_were_given(args, kwargs):
    """What was given by position comes by position, what was named comes named, defaults are left to the function."""
    assert (list(args), kwargs) == bound(kinds, *args, **kwargs)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "said"),
    [
        (kinds, (), {}, "missing a required argument: 'a'"),
        (kinds, (1, 2, 3, 4), {}, "too many positional arguments"),
        (kinds, (1,), {"x": 1}, "unexpected keyword argument 'x'"),
        (kinds, (1, 2, 3), {"c": 3}, "multiple values for argument 'c'"),
        (kinds, (), {"a": 1}, "'a'"),  # positional-only
        (keyword_only, (), {}, "'a'"),
        (keyword_only, (1,), {}, "too many positional arguments"),
        (integer, (), {}, "missing a required argument: 'a'"),
        (integer, (1, 2), {}, "too many positional arguments"),
    ],
)
def test_what_does_not_fit_the_signature_is_said_in_pythons_words(function, args, kwargs, said):
    """The refusal says what is wrong, of which function, and shows its signature."""
    with pytest.raises(Mismatch) as caught:
        bound(function, *args, **kwargs)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{function.__qualname__}(): ")
    assert f"{function.__qualname__}(*, a: int)" in str(caught.value) or "signature" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "name"),
    [
        (integer, ("seven",), {}, "'a'"),
        (integer, (), {"a": "seven"}, "'a'"),
        (integer, (7.5,), {}, "'a'"),
        (integer, (None,), {}, "'a'"),
        (integers, (["seven"],), {}, "'a'"),
        (kinds, (1, "two"), {}, "'b'"),
        (kinds, (1,), {"d": "four"}, "'d'"),
        (star, (1, 2.0, "three"), {}, "'rest'"),
        (star, (1,), {"x": "three"}, "'x'"),
        (colour, ("blue",), {}, "'a'"),
        (cat, ({"age": "old"},), {}, "'a'"),
        (wrapped, ("seven",), {}, "'a'"),
        (Holder, ("seven",), {}, "'a'"),
    ],
)
def test_what_does_not_fit_an_annotation_names_the_argument(function, args, kwargs, name):
    """Before any code of the command runs, the refusal names the command and the argument."""
    with pytest.raises(Mismatch) as caught:
        bound(function, *args, **kwargs)
    assert f"argument {name}" in str(caught.value)


def test_star_arguments_are_each_decoded():
    """The annotations of *args and **kwargs hold for every one of them."""
    args, kwargs = bound(star, 1, 2, 3.5, x=4, y=5j)
    assert (args, kwargs) == ([1, 2.0, 3.5], {"x": 4 + 0j, "y": 5j})
    assert [int, float, float, complex, complex] == [type(each) for each in [*args, *kwargs.values()]]


def test_a_positional_only_name_may_come_again_in_kwargs():
    """``f(a, /, **named)`` takes ``f(1, a="x")``: the second one is decoded as one of the others."""
    assert bound(shadow, 1, a="x") == ([1], {"a": "x"})


# --- what has no signature, or no usable annotation ---


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (max, (1, 2), {}),
        (dict, (), {"a": 1}),
        (int, ("7",), {}),
        (print, ("a", "b"), {"sep": ","}),
        (math.factorial, (5,), {}),
        (math.hypot, (3, 4), {}),
    ],
)
def test_builtins_take_what_comes(function, args, kwargs):
    """A built-in function without a signature or annotations gets plain values: it checks them itself."""
    assert (list(args), kwargs) == bound(function, *args, **kwargs)


def test_without_annotations_plain_values_arrive():
    """An unannotated parameter gets plain built-ins."""
    assert bound(unannotated, (1, 2), b=Cat(3)) == ([[1, 2]], {"b": {"age": 3, "home": None}})


@pytest.mark.parametrize(
    ("function", "shown"), [(unresolvable, "name 'NoSuchName' is not defined"), (foreign, "Foreign")]
)
def test_a_command_with_an_unusable_annotation_says_what_to_do(function, shown):
    """For a command this is an error before its first call: it names the parameter and shows two ways out."""
    with pytest.raises(TypeError) as caught:
        Signature(function, strict=True)
    for part in (function.__qualname__, "parameter 'a'", shown, "typed=False"):
        assert part in str(caught.value)


@pytest.mark.parametrize("option", sorted(edge.OPTIONS))
def test_an_option_among_the_arguments_is_told_its_place(option: str):
    """Every option of the pool's, where the command has no parameter of that name; another name gets no such advice."""

    def purr(strokes: int, timeout: float = 0) -> None: ...

    if option == "timeout":
        assert bound(purr, 1, timeout=2.0)[1] == {"timeout": 2.0}
        return
    with pytest.raises(Mismatch, match=rf"unexpected .*'{option}'.*, use pool\.options\({option}=\.\.\.\)$"):
        bound(purr, 1, **{option: 3})
    with pytest.raises(Mismatch, match=r"unexpected .*; its signature is .* -> None$"):
        bound(purr, 1, timeout=2.0, tail=3)


def test_the_options_are_the_pools():
    """The worker's list is the parent's."""
    assert set(inspect.signature(Pool.options).parameters) - {"self"} == edge.OPTIONS


@pytest.mark.parametrize("function", [unresolvable, foreign])
def test_another_function_with_an_unusable_annotation_gets_plain_values(function):
    """A function that was never meant as a command still runs; its other annotations hold."""
    assert bound(function, [1], b=2, strict=False) == ([[1]], {"b": 2})
    with pytest.raises(Mismatch, match="argument 'b'"):
        bound(function, [1], b="two", strict=False)


def test_an_untyped_command_gets_plain_values():
    """``typed=False`` opts out of every annotation, but not of the signature."""
    assert bound(integer, "seven", typed=False) == (["seven"], {})
    assert bound(unresolvable, 1, typed=False) == ([1], {})
    with pytest.raises(Mismatch):
        bound(integer, 1, 2, typed=False)


# --- results ---


def returns_cat() -> Cat: ...
def returns_quoted() -> "list[Cat]": ...
def returns_nothing_known() -> "NoSuchName": ...  # noqa: F821 # that is the point
def returns_foreign() -> Foreign: ...


@pytest.mark.parametrize(("function", "value"), [(returns_cat, Cat(3, Path("/"))), (returns_quoted, [Cat(BIG)])])
def test_a_result_arrives_as_its_annotation_says(function, value):
    """The caller gets the type that the command promises."""
    assert value == edge.outcome_decoders(function)[0].decode(payload.encode(value))


@pytest.mark.parametrize("function", [returns_nothing_known, returns_foreign, unannotated, math.factorial, Holder])
def test_a_result_without_a_usable_annotation_arrives_plain(function):
    """Where the caller cannot know the type it gets plain built-ins, never an error for a command that ran."""
    assert edge.outcome_decoders(function)[0].decode(payload.encode(Dog(3))) == {"age": 3}
