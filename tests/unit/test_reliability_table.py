"""The table of docs/reference/reliability.md names tests that exist, and leaves out no pain."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "reliability.md"
PAINS = {*range(1, 37), *range(39, 45), 49}
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> dict[int, list[str]]:
    """Return the cells of each row by the number of its pain."""
    found = {}
    for line in PAGE.read_text().splitlines():
        if match := re.match(r"\| ([0-9]+)\. ", line):
            found[int(match[1])] = [cell.strip() for cell in line.strip("|").split(" | ")]
    return found


ROWS = rows()


def functions(path: str) -> set[str]:
    """Return the names of the functions that a file defines."""
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_pain_has_its_row() -> None:
    """None is forgotten, and none is there that the survey does not have."""
    assert set(ROWS) == PAINS


@pytest.mark.parametrize("pain", sorted(ROWS))
def test_each_row_is_whole_and_its_tests_exist(pain: int) -> None:
    """Five cells; promises that there are; tests that are defined in the file that is named; a result."""
    _, promises, does, tests, result = ROWS[pain]
    assert {int(number) for number in promises.split(",")} <= set(range(1, 13))
    named = NAMED.findall(tests)
    assert len(named) == len(tests.split("<br>"))
    for path, name in named:
        assert name.startswith("test_")
        assert name in functions(path), f"{path} has no {name}"
    assert any(path.startswith(("tests/faults/", "tests/integration/")) for path, _ in named)
    assert result == ("otherwise" if "on purpose" in does else "holds")
