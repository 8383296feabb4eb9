"""Logarithmic bar charts and panels of lines as SVG: no dependency, readable on light and on dark pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
LEFT, RIGHT = 200, 590  # where the bars begin, and where the longest ends
TOP = 84  # below title and legend
BAR, GAP, GROUP_GAP = 20, 3, 20
MARGIN = 20
PLOT_LEFT, PLOT_RIGHT, PLOT_GAP = 78, 660, 44  # of panels: where the lines begin and end, and what is between two

# The card has a background of its own: the page's colours need not be the reader's system's.
STYLE = """
.card { fill: #ffffff; stroke: #d0d7de }
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 17px; font-weight: 600 }
.soft { fill: #59636e; font-size: 11px }
.value { font-variant-numeric: tabular-nums; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
.ratio { font-size: 20px; font-weight: 700; fill: #0f766e }
.grid { stroke: #d0d7de; stroke-dasharray: 2 3 }
.bar0 { fill: #9aa4b2 }
.bar1 { fill: #14a394 }
.line { fill: none; stroke-width: 1.6 }
.mark { stroke-width: 1.4 }
.c0 { stroke: #0f766e; fill: #0f766e }
.c1 { stroke: #b45309; fill: #b45309 }
.c2 { stroke: #4f46e5; fill: #4f46e5 }
.c3 { stroke: #be185d; fill: #be185d }
.c4 { stroke: #59636e; fill: #59636e }
.line { fill: none }
text.name { stroke: none }
@media (prefers-color-scheme: dark) {
  .card { fill: #0d1117; stroke: #30363d }
  text { fill: #e6edf3 }
  .soft { fill: #9198a1 }
  .value { stroke: #0d1117 }
  .ratio { fill: #2dd4bf }
  .grid { stroke: #30363d }
  .bar0 { fill: #6e7681 }
  .bar1 { fill: #2bb8a8 }
  .c0 { stroke: #2dd4bf; fill: #2dd4bf }
  .c1 { stroke: #f59e0b; fill: #f59e0b }
  .c2 { stroke: #a5b4fc; fill: #a5b4fc }
  .c3 { stroke: #f472b6; fill: #f472b6 }
  .c4 { stroke: #9198a1; fill: #9198a1 }
  .line { fill: none }
}
"""


@dataclass
class Bar:
    name: str
    seconds: float
    label: str


@dataclass
class Group:
    title: str
    subtitle: str  # may be empty
    bars: Sequence[Bar]
    ratio: str = ""  # shown at the group's right


@dataclass
class Line:
    """One of the lines of a panel. Lines of one name have one colour."""

    name: str
    points: Sequence[tuple[float, float]]  # in the order of x
    marks: bool = False  # dots instead of a line
    spread: Sequence[float] = ()  # of each dot: how far it may be off, up and down


@dataclass
class Panel:
    title: str
    lines: Sequence[Line]
    height: int = 90
    log: bool = False


def log_chart(title: str, subtitle: str, groups: Sequence[Group], footer: str) -> str:
    """Draw groups of horizontal bars."""
    scale = _Scale([bar.seconds for group in groups for bar in group.bars])
    whole = max((group.bars for group in groups), key=len)  # what was not measured has fewer bars, or none
    height_of_group = len(whole) * (BAR + GAP) + GROUP_GAP
    bottom = TOP + len(groups) * height_of_group
    lines = [*_grid(scale, bottom), *_legend(whole)]
    for number, group in enumerate(groups):
        lines += _group(group, scale, TOP + GROUP_GAP // 2 + number * height_of_group)
    return _card(title, subtitle, _in_words(subtitle, groups), lines, bottom + 24, footer)


def line_chart(title: str, subtitle: str, panels: Sequence[Panel], x_axis: str, footer: str) -> str:
    """Draw panels of lines below each other, over the same x axis; the name of each line stands at its end."""
    points = [point for panel in panels for line in panel.lines for point in line.points]
    across = _Axis([x for x, _ in points], PLOT_LEFT, PLOT_RIGHT)
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    lines, top = [], TOP
    for panel in panels:
        lines += _panel(panel, across, top, names)
        top += panel.height + PLOT_GAP
    bottom = top - PLOT_GAP
    for x in across.steps():
        lines.append(_text(across.at(x), bottom + 16, _short(x), "soft", anchor="middle"))
    lines.append(_text((PLOT_LEFT + PLOT_RIGHT) / 2, bottom + 34, x_axis, "soft", anchor="middle"))
    in_words = f"{subtitle}. {'; '.join(panel.title for panel in panels)}; over {x_axis}"
    return _card(title, subtitle, in_words, lines, bottom + 42, footer)


def _card(title: str, subtitle: str, in_words: str, lines: Sequence[str], bottom: int, footer: str) -> str:
    """Put what was drawn onto a card, with its footer below."""
    footer_lines = _wrapped(footer, 120)
    height = bottom + 16 + 15 * len(footer_lines)
    feet = [_text(MARGIN, bottom + 18 + 15 * row, line, "soft") for row, line in enumerate(footer_lines)]
    attributes = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {attributes} aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(in_words)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(MARGIN, 34, title, "title"),
        _text(MARGIN, 56, subtitle, "soft"),
    ]
    return "\n".join([*head, *lines, *feet, "</svg>\n"])


# --- panels of lines -------------------------------------------------------------------------------------------------


class _Axis:
    """Values to pixels; begins at *start* with the least round value, ends at *end* with the greatest."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool = False) -> None:
        self._start, self._end, self._log = start, end, log
        least, most = min(values), max(values)
        if log:
            self._first, self._last = math.floor(math.log10(least)), math.ceil(math.log10(most))
            self._step = 1.0
        else:
            self._step = _round_step((most - least) or abs(most) or 1.0)
            self._first = math.floor(least / self._step) * self._step
            self._last = math.ceil(most / self._step) * self._step
        if self._last <= self._first:
            self._last = self._first + self._step

    def at(self, value: float) -> float:
        shown = math.log10(max(value, 10.0**self._first)) if self._log else value
        share = (shown - self._first) / (self._last - self._first)
        return round(self._start + share * (self._end - self._start), 1)

    def steps(self) -> list[float]:
        count = round((self._last - self._first) / self._step)
        places = [self._first + self._step * number for number in range(count + 1)]
        return [10.0**place for place in places] if self._log else places


def _round_step(extent: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are two to five steps."""
    power = 10.0 ** math.floor(math.log10(extent / 2))
    return max(step for step in (power, 2 * power, 5 * power) if step <= extent / 2)


def _short(value: float) -> str:
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:.6g}"


def _panel(panel: Panel, across: _Axis, top: int, names: Sequence[str]) -> list[str]:
    bottom = top + panel.height
    up = _Axis([y for line in panel.lines for _, y in line.points], bottom, top, log=panel.log)
    drawn = [_text(PLOT_LEFT, top - 9, panel.title)]
    for y in up.steps():
        drawn.append(f'<line class="grid" x1="{PLOT_LEFT}" y1="{up.at(y)}" x2="{PLOT_RIGHT}" y2="{up.at(y)}"/>')
        drawn.append(_text(PLOT_LEFT - 8, up.at(y) + 4, _short(y), "soft", anchor="end"))
    ends: dict[str, float] = {}  # where the name of each line goes
    for line in panel.lines:
        colour = f"c{names.index(line.name) % 5}"
        places = [(across.at(x), up.at(y)) for x, y in line.points]
        if line.marks:
            drawn += _marks(line, colour, up, places)
        else:
            drawn.append(f'<polyline class="line {colour}" points="{" ".join(f"{x},{y}" for x, y in places)}"/>')
            ends[line.name] = places[-1][1]
    floor = -math.inf
    for name, y in sorted(ends.items(), key=lambda item: item[1]):
        floor = max(floor + 14, y + 4)  # two that end close to each other are written below each other
        drawn.append(_text(PLOT_RIGHT + 10, floor, name, f"name c{names.index(name) % 5}"))
    return drawn


def _marks(line: Line, colour: str, up: _Axis, places: Sequence[tuple[float, float]]) -> list[str]:
    drawn = [f'<circle class="mark {colour}" cx="{x}" cy="{y}" r="2.6"/>' for x, y in places]
    for (x, _), (_, value), spread in zip(places, line.points, line.spread, strict=False):
        low, high = up.at(value - spread), up.at(value + spread)
        drawn.append(f'<line class="mark {colour}" x1="{x}" y1="{low}" x2="{x}" y2="{high}"/>')
    return drawn


# --- groups of bars --------------------------------------------------------------------------------------------------


class _Scale:
    """Seconds to pixels; begins and ends at powers of ten."""

    def __init__(self, values: Sequence[float]) -> None:
        self.first = math.floor(math.log10(min(values)))
        self.last = max(math.ceil(math.log10(max(values))), self.first + 1)

    def x(self, seconds: float) -> float:
        share = (math.log10(seconds) - self.first) / (self.last - self.first)
        return round(LEFT + share * (RIGHT - LEFT), 1)


def _grid(scale: _Scale, bottom: int) -> list[str]:
    lines = []
    for power in range(scale.first, scale.last + 1):
        x = scale.x(10.0**power)
        lines.append(f'<line class="grid" x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}"/>')
        lines.append(_text(x, bottom + 16, _power_of_ten(power), "soft", anchor="middle"))
    return lines


def _power_of_ten(power: int) -> str:
    unit, name = next((unit, name) for unit, name in ((0, "s"), (-3, "ms"), (-6, "µs"), (-9, "ns")) if power >= unit)
    return f"{10 ** (power - unit)} {name}"


def _legend(bars: Sequence[Bar]) -> list[str]:
    lines, x = [], WIDTH - MARGIN
    for number, bar in reversed(list(enumerate(bars))):
        x -= 24 + 7 * len(bar.name)
        lines.append(f'<rect class="bar{number}" x="{x}" y="46" width="12" height="12" rx="2"/>')
        lines.append(_text(x + 17, 56, bar.name))
    return lines


def _group(group: Group, scale: _Scale, top: int) -> list[str]:
    middle = top + len(group.bars) * (BAR + GAP) / 2
    lines = [_text(MARGIN, middle - 4 if group.subtitle else middle + 3, group.title)]
    lines += [_text(MARGIN, middle + 13, group.subtitle, "soft")] if group.subtitle else []
    for number, bar in enumerate(group.bars):
        y, end = top + number * (BAR + GAP), scale.x(bar.seconds)
        lines.append(f'<rect class="bar{number}" x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR}" rx="3"/>')
        lines.append(_text(end + 7, y + 15, bar.label, "value"))
    lines += [_text(WIDTH - MARGIN, middle + 6, group.ratio, "ratio", anchor="end")] if group.ratio else []
    return lines


def _in_words(subtitle: str, groups: Sequence[Group]) -> str:
    """The same for those who cannot see it."""
    rows = (
        f"{', '.join(filter(None, (group.title, group.subtitle)))}: "
        f"{', '.join(filter(None, (*(f'{bar.name} {bar.label}' for bar in group.bars), group.ratio)))}"
        for group in groups
    )
    return f"{subtitle}. {'; '.join(rows)}"


def _text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    styled = f' class="{kind}"' if kind else ""
    return f'<text{styled} x="{x}" y="{y}" text-anchor="{anchor}">{escape(content)}</text>'


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
