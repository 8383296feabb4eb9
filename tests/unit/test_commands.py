"""The mark of a command: it changes nothing about the function, and refuses what cannot be one."""

import contextlib
import functools
import math

import pytest

from asyncpool.commands import command, lifespan
from asyncpool.worker.registry import Registry


def plain(name: str, strokes: int = 1) -> str:
    """Pet a kitten."""
    return f"{name} purrs" + "!" * strokes


def marked_in(functions: dict[str, object]):
    """Return the commands of a module that defines *functions*."""
    import types

    module = types.ModuleType(__name__)
    vars(module).update(functions)
    return Registry([module], registered_only=False).commands


def test_the_bare_mark_returns_the_function_itself():
    """Tests call a command directly: it stays the function that it was."""
    assert plain is command(plain)
    assert plain("Tom", 2) == "Tom purrs!!"


def test_the_mark_with_arguments_returns_the_function_itself():
    """With arguments, too."""
    assert plain is command(name="pet", timeout=3)(plain)


def test_a_command_is_found_under_its_name():
    """Without name= it has the function's own, with it that one; its timeout travels with it."""

    def first() -> None: ...
    def second() -> None: ...

    command(first)
    command(name="other", timeout=2.5)(second)
    infos = {info.name: info for info in marked_in({"first": first, "second": second})}
    assert {"first", "other"} == infos.keys()
    assert (infos["first"].timeout, infos["other"].timeout) == (None, 2.5)


class Callable:
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "thing",
    [
        staticmethod(plain),
        classmethod(plain),
        type("Cat", (), {}),
        7,
        "name",
        functools.partial(plain),
        Callable(),
        Callable().__call__,
        math.gcd,
    ],
    ids=lambda thing: type(thing).__name__,
)
@pytest.mark.parametrize("name", [None, "named"])
def test_only_plain_functions_can_be_marked(thing: object, name: str | None):
    """Whatever has no module-level name, or is none, is refused where it is marked, and told what to do."""
    with pytest.raises(TypeError, match=r"marks plain functions, .*def a module-level function that calls it"):
        command(name=name)(thing)


def test_an_object_that_is_wrapped_as_a_function_can_be_marked():
    """A decorator may be a class."""
    wrapped = functools.update_wrapper(Callable(), plain)
    assert wrapped is command(wrapped)
    assert [info.name for info in marked_in({"plain": wrapped})] == ["plain"]


def test_a_name_must_be_a_string():
    """The common slip of a name that is no string is refused at once."""
    with pytest.raises(TypeError, match="name= takes a string, not 7"):
        command(name=7)
    with pytest.raises(ValueError, match="must not be empty"):
        command(name="")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_must_be_above_zero(timeout: float):
    """A limit of no time at all is a mistake, not a wish."""
    with pytest.raises(ValueError, match="timeout= takes seconds above 0"):
        command(timeout=timeout)


def test_the_default_timeout_is_the_pools():
    """None means that the command says nothing: its limit is the pool's."""

    def quiet() -> None: ...

    command(timeout=None)(quiet)
    assert [info.timeout for info in marked_in({"quiet": quiet})] == [None]


def test_a_wrapped_function_can_be_marked():
    """Decorators that use functools.wraps keep a function a function."""

    @functools.wraps(plain)
    def wrapped(*args: object) -> str:
        return plain(*args)

    assert wrapped is command(wrapped)


def generator():
    yield


async def async_generator():
    yield


async def coroutine() -> None: ...


def made() -> contextlib.nullcontext:
    return contextlib.nullcontext()


@pytest.mark.parametrize(
    "thing", [generator, async_generator, coroutine, int, contextlib.nullcontext(), 7, None, staticmethod(plain)]
)
def test_what_gives_no_context_manager_is_no_lifespan(thing):
    """Above all a generator: the two decorators stand in the wrong order, or one is missing."""
    with pytest.raises(TypeError, match=r"put it above @contextlib\.contextmanager or"):
        lifespan(thing)


def test_a_lifespan_stays_what_it_was():
    """Functions and classes, sync and async, are returned themselves: tests use them directly."""
    for manager in (
        contextlib.contextmanager(generator),
        contextlib.asynccontextmanager(async_generator),
        type("Manager", (contextlib.nullcontext,), {}),
        type("Manager", (contextlib.AsyncExitStack,), {}),
        made,
    ):
        assert lifespan(manager) is manager
