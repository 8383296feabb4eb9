"""What may be called: how a function is named for the worker, and what a beginner reads who passes something else."""

import functools
import importlib.machinery
import math
import operator
import os
import sys
import types

import pytest

from asyncpool.errors import PayloadError
from asyncpool.pool.reference import main_script, reference, unroll
from asyncpool.protocol.messages import MAIN


def plain(name: str, strokes: int = 1) -> str:
    return name * strokes


def lost() -> None: ...


@functools.wraps(lost)
def replaced() -> None: ...


def original() -> None: ...


shadowed = original


def original() -> None: ...  # the one above is no longer found under its name


class Cat:
    def method(self) -> None: ...

    @classmethod
    def made(cls) -> None: ...

    @staticmethod
    def still() -> None: ...

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (plain, (__name__, "plain")),
        (Cat, (__name__, "Cat")),
        (Cat.still, (__name__, "Cat.still")),
        (Cat.made, (__name__, "Cat.made")),
        (Cat.method, (__name__, "Cat.method")),
        (math.factorial, ("math", "factorial")),
        (os.getpid, (os.name, "getpid")),
        (len, ("builtins", "len")),
        (os.path.join, (os.path.__name__, "join")),
        (operator.add, ("_operator", "add")),
    ],
)
def test_a_function_travels_as_module_and_name(function, expected):
    """Any function that can be found under its module and name is a command, written in C or not."""
    module, qualname = reference(function)
    assert expected == (module, qualname)
    found = sys.modules[module]
    for name in qualname.split("."):
        found = getattr(found, name)
    assert found == function


def closure():
    def inner() -> None: ...

    return inner


def in_main() -> types.FunctionType:
    function = types.FunctionType(plain.__code__, {})
    function.__module__, function.__qualname__ = "__main__", "plain"
    return function


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (7, ["a function or the name of one", "7"]),
        (None, ["a function or the name of one"]),
        (lambda: None, ["lambda", "def it in a module"]),
        (closure(), ["defined inside a function", "closure", "top of its module"]),
        (Cat().method, ["bound to an object", "Cat.method", "module-level function", "as arguments"]),
        ([].append, ["bound to an object", "module-level function"]),
        (Cat(), ["no module and name"]),
        (replaced, ["not the function that was passed", "functools.wraps"]),
        (shadowed, ["not the function that was passed"]),
    ],
    ids=["number", "None", "lambda", "closure", "method", "C method", "callable", "wraps", "shadowed"],
)
def test_what_a_worker_could_not_find_says_what_to_do(thing, said):
    """The error names what was passed, why it cannot travel, and how to write it instead."""
    with pytest.raises(PayloadError) as caught:
        reference(thing)
    for part in said:
        assert part in str(caught.value)
    assert not caught.value.started


def test_a_function_of_the_script_travels_where_the_script_has_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Under the name that it has in this process; without a file the error says what to do."""
    main = types.ModuleType("__main__")
    main.plain = in_main()
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setitem(sys.modules, MAIN, main)
    with pytest.raises(PayloadError, match=r"plain is defined in a prompt, a notebook.*%%writefile.*Pool\(\.\.\.\)"):
        reference(main.plain)
    main.__file__ = str(tmp_path / "app.py")
    assert main_script() == ""
    (tmp_path / "app.py").touch()
    assert reference(main.plain) == ("__main__", "plain")
    assert main_script() == main.__file__
    main.plain.__module__ = MAIN  # as it is in a worker
    assert reference(main.plain) == ("__main__", "plain")
    main.__spec__ = importlib.machinery.ModuleSpec("cats.tool", None)
    assert main_script() == "cats.tool"


def test_a_module_that_is_not_imported_is_left_to_the_worker():
    """A function whose module is not in sys.modules cannot be verified here; the worker says whether it finds it."""
    function = types.FunctionType(plain.__code__, {})
    function.__module__, function.__qualname__ = "not_imported_here", "plain"
    assert reference(function) == ("not_imported_here", "plain")


def test_a_partial_is_taken_apart():
    """Its function travels by name, its arguments with the call's own: first the partial's, then the call's."""
    nested = functools.partial(functools.partial(plain, "Tom"), strokes=2)
    assert (plain, ("Tom", 7), {"strokes": 2, "more": 1}) == unroll(nested, (7,), {"more": 1})


def test_the_calls_own_keyword_wins_over_the_partials():
    """As it does in Python."""
    assert (plain, (), {"strokes": 3}) == unroll(functools.partial(plain, strokes=2), (), {"strokes": 3})


def test_what_is_no_partial_is_left_alone():
    """Names and functions are handed on as they are."""
    assert unroll("pet", (1,), {"a": 2}) == ("pet", (1,), {"a": 2})
    assert (plain, (), {}) == unroll(plain, (), {})
