"""How a worker imports a module, and what may start nothing meanwhile."""

import importlib
import threading
import types

import pytest

from asyncpool import commands
from asyncpool.worker import script

PATIENCE = 5.0  # seconds


def test_two_threads_that_import_at_once_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of an InlinePool may: the first to come is the first to go, and its ident may be another's later."""
    second_is_in, first_is_out = threading.Event(), threading.Event()

    def import_module(name: str) -> types.ModuleType:
        if name == "first":
            second.start()
            assert second_is_in.wait(PATIENCE)
        else:
            second_is_in.set()
            assert first_is_out.wait(PATIENCE)
        return types.ModuleType(name)

    def first_import() -> None:
        script.module("first")
        first_is_out.set()

    monkeypatch.setattr(importlib, "import_module", import_module)
    first = threading.Thread(target=first_import)
    second = threading.Thread(target=script.module, args=("second",))
    first.start()
    first.join()
    second.join()
    assert first_is_out.is_set()
    assert not commands.importing_in


def test_an_import_within_an_import_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows it in the outer module may still start nothing."""
    before_and_after: list[object] = []

    def import_module(name: str) -> types.ModuleType:
        if name == "outer":
            before_and_after.append(set(commands.importing_in))
            script.module("inner")
            before_and_after.append(set(commands.importing_in))
        return types.ModuleType(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    script.module("outer")
    before, after = before_and_after
    assert before
    assert before == after
    assert not commands.importing_in
