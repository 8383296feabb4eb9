"""The public face: what is importable from asyncpool, and that nothing else is."""

import ast
from pathlib import Path

import pytest

import asyncpool


def checked_block() -> list[ast.ImportFrom]:
    """Return the imports that type checkers read instead of the lazy ones."""
    tree = ast.parse(Path(asyncpool.__file__).read_text())
    for node in tree.body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [each for each in node.body if isinstance(each, ast.ImportFrom)]
    raise AssertionError("there is no block for type checkers")


@pytest.mark.parametrize("name", asyncpool.__all__)
def test_every_public_name_resolves(name: str):
    """What __all__ promises is there, and is what its name says."""
    value = getattr(asyncpool, name)
    assert name == value.__name__
    assert value is getattr(asyncpool, name)


def test_the_checkers_see_exactly_the_public_names():
    """The block for type checkers imports all of __all__ and nothing else."""
    seen = [alias.asname or alias.name for node in checked_block() for alias in node.names]
    assert sorted(asyncpool.__all__) == sorted(seen)


@pytest.mark.parametrize("node", checked_block(), ids=lambda node: node.module)
def test_the_checkers_see_the_same_objects(node: ast.ImportFrom):
    """What the block for type checkers names is what a program gets."""
    for alias in node.names:
        home = __import__(node.module, fromlist=[alias.name])
        assert getattr(home, alias.name) is getattr(asyncpool, alias.asname or alias.name)


def test_the_public_names_stand_once():
    """__all__ has no name twice."""
    assert len(set(asyncpool.__all__)) == len(asyncpool.__all__)


def test_star_import_gives_the_public_names():
    """``from asyncpool import *`` works for a lazy package too."""
    names: dict[str, object] = {}
    exec("from asyncpool import *", names)
    assert set(asyncpool.__all__) == names.keys() - {"__builtins__"}


def test_dir_shows_the_public_names():
    """Completion in a shell sees names that were not used yet."""
    assert set(asyncpool.__all__) <= set(dir(asyncpool))
    assert sorted(dir(asyncpool)) == dir(asyncpool)


@pytest.mark.parametrize("name", ["Pooll", "nothing", "__wrapped__"])
def test_an_unknown_name_is_an_attribute_error_that_names_it(name: str):
    """A misspelt name raises what Python itself would raise."""
    with pytest.raises(AttributeError, match=f"module 'asyncpool' has no attribute '{name}'"):
        getattr(asyncpool, name)


def test_there_is_a_version():
    """The version has three numbers, as the changelog's headings have."""
    assert len([int(part) for part in asyncpool.__version__.split(".")]) == 3


def test_every_public_class_and_function_has_a_docstring():
    """Whoever asks for help gets it."""
    assert [name for name in asyncpool.__all__ if not getattr(asyncpool, name).__doc__] == []


def test_the_package_is_typed():
    """The marker that lets type checkers read the package's own annotations is shipped."""
    assert (Path(asyncpool.__file__).parent / "py.typed").exists()
