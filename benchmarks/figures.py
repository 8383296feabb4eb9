"""A table of figures, which the terminal, the JSON and the page of results show alike; and a budget, met or not."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table


@dataclass
class Figures:
    """Cells as they are shown. An empty first cell says: this row belongs to the one above."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    caption: str = ""
    own: str = ""  # the first cell of the row that stands out
    words: int = 1  # how many of the columns, from the left, hold words
    notes: list[str] = field(default_factory=list)  # what else is to be said, each in a line of its own

    def add(self, *cells: str) -> None:
        self.rows.append(list(cells))

    def shown(self) -> Table:
        """For the terminal."""
        below = "\n".join(line for line in (self.caption, *self.notes) if line)
        table = Table(title=self.title, caption=escape(below), box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for number, name in enumerate(self.columns):
            table.add_column(escape(name), justify="left" if number < self.words else "right", no_wrap=True)
        grouped = any(not row[0] for row in self.rows)
        for number, row in enumerate(self.rows):
            ends = grouped and number + 1 < len(self.rows) and bool(self.rows[number + 1][0])
            table.add_row(
                *map(escape, row), end_section=ends, style="bold green" if self.own and row[0] == self.own else None
            )
        return table

    def markdown(self) -> str:
        """For a page."""
        marks = ["---" if number < self.words else "--:" for number in range(len(self.columns))]
        lines = [_line(self.columns), _line(marks)]
        for row in self.rows:
            strong = self.own and row[0] == self.own
            lines.append(_line([f"**{cell}**" if strong and cell else cell.replace("|", "\\|") for cell in row]))
        below = [line[0].upper() + line[1:] + "." for line in (self.caption, *self.notes) if line]
        return "\n".join([*lines, *(f"\n{line}" for line in below)])


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Budget:
    """What a ratio may be at most, or must be at least."""

    what: str
    against: str
    limit: float
    measured: float | None  # None: it could not be
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def words(self) -> list[str]:
        """What is allowed."""
        return [self.what, self.against, f"{'≥' if self.at_least else '≤'} {self.limit:g} x"]

    def told(self) -> str:
        """What was measured, with as many digits as tell it from the limit."""
        if self.measured is None:
            return "not measured"
        short = _three_digits(self.measured)
        return f"{self.measured:.5g} x" if short == _three_digits(self.limit) else f"{short} x"
