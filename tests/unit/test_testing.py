"""The face of asyncpool.testing, and the plan that workers share."""

import subprocess
import sys
from pathlib import Path

import pytest

import asyncpool
from asyncpool import testing
from asyncpool.testing.plan import NOTHING, Plan


def test_its_names_resolve_lazily():
    """Importing the module loads neither the pool nor the worker."""
    program = (
        "import sys, asyncpool.testing; print(sorted(set(sys.modules) & {'asyncio', 'msgspec', 'asyncpool.pool'}))"
    )
    root = str(Path(asyncpool.__file__).parents[1])
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert ran.stdout.strip() == "[]"
    assert [getattr(testing, name).__name__ for name in testing.__all__] == testing.__all__
    assert set(testing.__all__) <= set(dir(testing))


def test_an_unknown_name_is_an_attribute_error():
    """As in any module."""
    with pytest.raises(AttributeError, match=r"module 'asyncpool.testing' has no attribute 'Fault'"):
        _ = testing.Fault  # type: ignore[attr-defined]


def test_it_is_not_among_the_lazy_names():
    """It is imported as a module of its own."""
    assert "testing" not in asyncpool.__all__


def test_a_plan_counts_in_its_folder(tmp_path: Path):
    """Whoever asks gets the next number; starts and calls are counted apart."""
    for name in ("calls", "starts"):
        (tmp_path / name).touch()
    plan = Plan(folder=str(tmp_path), fail_starts=2)
    assert [plan.call(), Plan(folder=str(tmp_path)).call(), plan.call()] == [1, 2, 3]
    for number in (1, 2):
        with pytest.raises(SystemExit, match=f"start {number} fails"):
            plan.start(_no_sleep)
    plan.start(_no_sleep)
    assert (plan.count("calls"), plan.count("starts")) == (3, 3)


def test_a_plan_without_its_folder_does_nothing(tmp_path: Path):
    """The block that brought it is over."""
    plan = Plan(folder=str(tmp_path / "gone"), fail_starts=9)
    plan.start(_no_sleep)
    assert (plan.call(), plan.count("calls"), NOTHING.call()) == (0, 0, 0)


def _no_sleep(seconds: float) -> None:
    assert seconds == 0
