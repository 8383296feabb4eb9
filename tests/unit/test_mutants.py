"""Each mutant can still be applied, and each promise has one; what a run of one means."""

import pytest

from tests.mutants.__main__ import ORIGIN, Run
from tests.mutants.catalogue import MUTANTS, ROOT, Mutant, NotApplicable

PROMISES = set(range(1, 13))
SUMMARY = "FAILED tests/unit/test_x.py::test_y[a b] - AssertionError: assert 1 == 2\n1 failed in 0.1s\n"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_old_text_stands_exactly_once_and_the_new_one_is_python(mutant: Mutant) -> None:
    """Where the code has moved on, this fails and not only `make mutants`, which few run."""
    text = (ROOT / "asyncpool" / mutant.file).read_text()
    changed = mutant.applied(text)
    assert changed != text
    compile(changed, mutant.file, "exec")


@pytest.mark.parametrize("node", sorted({ORIGIN, *(node for mutant in MUTANTS for node in mutant.tests)}))
def test_the_tests_that_must_fail_exist(node: str) -> None:
    """By file and name."""
    path, _, name = node.partition("::")
    assert not name or f"def {name}(" in (ROOT / "tests" / path).read_text()


def test_each_promise_has_its_mutants() -> None:
    """None is without, and none is for a promise that there is not."""
    assert {mutant.promise for mutant in MUTANTS} == PROMISES


def test_names_are_unique() -> None:
    """The command line chooses by name."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("text", ["", "old and old"])
def test_a_text_that_does_not_stand_once_is_refused(text: str) -> None:
    """Otherwise a mutant could change nothing, or something else."""
    mutant = Mutant("m", 1, "breaks", "file.py", "old", "new", ())
    assert mutant.applied("an old one") == "an new one"
    with pytest.raises(NotApplicable, match="choose another text"):
        mutant.applied(text)


@pytest.mark.parametrize(
    ("code", "output", "caught", "told"),
    [
        (1, SUMMARY, "tests/unit/test_x.py::test_y[a b]", None),
        (1, "ERROR tests/faults/test_x.py::test_y\n1 passed, 1 error", "tests/faults/test_x.py::test_y", None),
        (0, "1 passed", None, "SURVIVED"),
        (1, "++++ Timeout ++++", None, "HUNG"),
        (None, "", None, "HUNG"),
        (2, SUMMARY, None, "BROKEN (pytest ended with 2)"),
        (4, "ERROR: not found: tests/unit/test_x.py::test_y", None, "BROKEN (pytest ended with 4)"),
        (1, "Traceback (most recent call last):", None, "BROKEN (pytest ended with 1)"),
    ],
)
def test_only_a_test_that_fails_catches(code: int | None, output: str, caught: str | None, told: str | None) -> None:
    """Tests that hang, cannot be collected or do not exist say nothing about a mutant."""
    run = Run(code, output, 0.0)
    assert run.caught == caught
    assert told is None or run.told == told
