"""The blocks of code on the pages of the documentation."""

import re

from tests.support.scripts import ROOT

DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, chapter: str = "") -> list[tuple[str, str]]:
    """Return the language and the text of each block on a page, or in one of its chapters."""
    text = (DOCS / page).read_text()
    if chapter:
        text = text.partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    return BLOCK.findall(text)


def chapters(page: str) -> list[str]:
    """Return the titles of a page's chapters."""
    return re.findall(r"^## (.*)$", (DOCS / page).read_text(), re.MULTILINE)


def file_name(text: str) -> str:
    """Return the name that the first line of a block gives its file."""
    return text.partition("\n")[0].removeprefix("# ")
