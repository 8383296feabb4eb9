"""What ``make docs`` does not see: a public name without its place, a page that nobody finds, a link to nothing."""

import re
import tomllib
from pathlib import Path

import pytest

import asyncpool
import asyncpool.testing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def test_the_api_reference_has_each_public_name_once() -> None:
    """What can be imported can be looked up."""
    found = [
        name
        for page in (DOCS / "reference" / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    ]
    here = [f"asyncpool.{name}" for name in asyncpool.__all__]
    there = [f"asyncpool.testing.{name}" for name in asyncpool.testing.__all__]
    assert sorted(found) == sorted(here + there)


def test_each_page_stands_in_the_navigation_once() -> None:
    """No page is forgotten."""

    def pages(entries: list[dict[str, object]]) -> list[str]:
        values = [value for entry in entries for value in entry.values()]
        return [each for value in values for each in (pages(value) if isinstance(value, list) else [str(value)])]

    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    assert sorted(pages(nav)) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    """Pages, folders and images, seen from the page itself as on a code host."""
    links = LINK.findall(CODE.sub("", page.read_text()))
    assert [link for link in links if not (page.parent / link).exists()] == []
