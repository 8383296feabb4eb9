"""Which functions a worker runs, and what it says when it does not."""

import sys
import types

import pytest

from asyncpool.commands import command
from asyncpool.protocol.messages import NOTHING, CommandInfo
from asyncpool.protocol.payload import Codec
from asyncpool.worker.lifespan import Lifespan
from asyncpool.worker.registry import NotFound, Registry, StartFailure


class Proxy:
    """Stands for something that is not there yet, as `flask.request` does outside of a request."""

    def __getattribute__(self, name: str):
        raise RuntimeError("working outside of request context")

    def __call__(self): ...


def module(name: str, **functions) -> types.ModuleType:
    """Make a module that defines *functions*."""
    made = types.ModuleType(name)
    for key, function in functions.items():
        function.__module__ = name
        setattr(made, key, function)
    return made


def marked(own_name: str, **options):
    """Make a command."""

    def function(a: int) -> str:
        return f"{own_name} {a}"

    function.__name__ = function.__qualname__ = own_name
    return command(**options)(function)


def test_commands_are_found_by_name_and_by_reference():
    """A marked function answers to its name, and to its module and qualified name."""
    pet = marked("pet")
    registry = Registry([module("kittens", pet=pet)], registered_only=False)
    assert pet is registry.find("pet").function
    assert pet is registry.find(("kittens", "pet")).function


def test_commands_are_announced_with_their_defaults():
    """The parent learns names and timeouts from the worker."""
    registry = Registry([module("kittens", pet=marked("pet", name="stroke", timeout=2.5))], registered_only=False)
    assert [CommandInfo("stroke", "kittens", "pet", 2.5)] == registry.commands


def test_only_what_a_module_defines_is_offered():
    """An imported command belongs to the module that defines it, and an alias is no second command."""
    pet = marked("pet")
    home = module("kittens", pet=pet, alias=pet)
    guest = types.ModuleType("guest")
    guest.pet = pet
    registry = Registry([home, guest], registered_only=False)
    assert [info.name for info in registry.commands] == ["pet"]


def test_a_module_may_hold_what_cannot_be_looked_at():
    """It is neither a command nor a lifespan, and keeps no worker from starting."""
    kittens = module("kittens", pet=marked("pet"))
    kittens.request = Proxy()
    assert [info.name for info in Registry([kittens], registered_only=False).commands] == ["pet"]
    assert Lifespan([kittens], Codec(), NOTHING).count == 0


def test_a_method_of_an_object_may_be_offered():
    """Its mark is that of its function."""

    class Cat:
        pet = marked("pet")

    kittens = module("kittens")
    Cat.pet.__module__ = "kittens"
    kittens.pet = Cat().pet
    assert [info.name for info in Registry([kittens], registered_only=False).commands] == ["pet"]


def test_two_commands_of_one_name_are_a_start_error():
    """It names both, and says what to do."""
    with pytest.raises(StartFailure) as caught:
        Registry([module("kittens", a=marked("pet")), module("dogs", b=marked("pet"))], registered_only=False)
    for part in ("'pet'", "kittens.pet", "dogs.pet", "@command(name=...)"):
        assert part in str(caught.value)


def test_an_unknown_name_says_what_there_is():
    """Names in alphabetical order; or how to make a command, where there is none."""
    registry = Registry([module("kittens", b=marked("pet"), a=marked("feed"))], registered_only=False)
    with pytest.raises(NotFound, match=r"no command 'groom'; this worker has feed, pet"):
        registry.find("groom")
    with pytest.raises(NotFound, match=r"no command 'fed'; did you mean 'feed'\? this worker has feed, pet"):
        registry.find("fed")
    with pytest.raises(NotFound, match=r"mark them with @asyncpool\.command"):
        Registry([], registered_only=False).find("groom")


@pytest.mark.parametrize("name", ["os:system", "os.system", "system", "math.gcd", ""])
def test_a_name_never_reaches_what_is_not_a_command(name: str):
    """A name may come from a request: it finds commands only, never another importable function."""
    with pytest.raises(NotFound):
        Registry([module("kittens", pet=marked("pet"))], registered_only=False).find(name)


def test_any_importable_function_is_found_by_reference():
    """``pool.run(math.gcd, 4, 6)`` needs no mark."""
    import math

    assert math.gcd is Registry([], registered_only=False).find(("math", "gcd")).function


def test_registered_only_refuses_all_others():
    """It says so, and what there is instead; commands are found by reference all the same."""
    pet = marked("pet")
    registry = Registry([module("kittens", pet=pet)], registered_only=True)
    with pytest.raises(NotFound, match=r"math:gcd is not a @command.*registered_only; it has pet"):
        registry.find(("math", "gcd"))
    assert pet is registry.find(("kittens", "pet")).function


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (("no_such_module_anywhere", "f"), "no_such_module_anywhere"),
        (("math", "no_such_function"), "no_such_function"),
        (("math", "pi"), "cannot be called"),
        (("math", "gcd.no.such"), "math:gcd.no.such"),
        (("", "f"), "cannot find"),
    ],
)
def test_what_cannot_be_found_is_named(reference, said):
    """Module and name are in the error, with what Python said."""
    with pytest.raises(NotFound, match=said):
        Registry([], registered_only=False).find(reference)


def test_what_cannot_even_say_why_it_is_not_found(monkeypatch: pytest.MonkeyPatch):
    """Finding runs the user's code, which may raise anything."""

    class Unprintable(BaseException):
        def __str__(self) -> str:
            raise Unprintable

    class Lazy(types.ModuleType):
        def __getattr__(self, name: str):
            raise Unprintable

    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    with pytest.raises(NotFound, match=r"cannot find lazy:f.*Unprintable: <its str\(\) raised"):
        Registry([], registered_only=False).find(("lazy", "f"))


def test_an_annotation_that_cannot_be_used_is_a_start_error():
    """A command whose arguments could never arrive is found before the first call."""

    def pet(a: "NoSuchName") -> None: ...  # noqa: F821 # that is the point

    with pytest.raises(StartFailure, match="parameter 'a'"):
        Registry([module("kittens", pet=command(pet))], registered_only=False)
    Registry([module("kittens", pet=command(typed=False)(pet))], registered_only=False)
