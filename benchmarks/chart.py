"""A bar chart with a logarithmic scale as SVG: no dependency, readable on light and on dark pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
LEFT, RIGHT = 200, 590  # where the bars begin, and where the longest ends
TOP = 84  # below title and legend
BAR, GAP, GROUP_GAP = 20, 3, 20
MARGIN = 20

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
@media (prefers-color-scheme: dark) {
  .card { fill: #0d1117; stroke: #30363d }
  text { fill: #e6edf3 }
  .soft { fill: #9198a1 }
  .value { stroke: #0d1117 }
  .ratio { fill: #2dd4bf }
  .grid { stroke: #30363d }
  .bar0 { fill: #6e7681 }
  .bar1 { fill: #2bb8a8 }
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
    subtitle: str
    bars: Sequence[Bar]
    ratio: str  # shown at the group's right


def log_chart(title: str, subtitle: str, groups: Sequence[Group], footer: str) -> str:
    """Draw groups of horizontal bars."""
    scale = _Scale([bar.seconds for group in groups for bar in group.bars])
    height_of_group = len(groups[0].bars) * (BAR + GAP) + GROUP_GAP
    bottom = TOP + len(groups) * height_of_group
    lines = [*_grid(scale, bottom), *_legend(groups[0].bars)]
    for number, group in enumerate(groups):
        lines += _group(group, scale, TOP + GROUP_GAP // 2 + number * height_of_group)
    footer_lines = _wrapped(footer, 120)
    height = bottom + 40 + 15 * len(footer_lines)
    lines += [_text(MARGIN, bottom + 42 + 15 * row, line, "soft") for row, line in enumerate(footer_lines)]
    attributes = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {attributes} aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(_in_words(subtitle, groups))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(MARGIN, 34, title, "title"),
        _text(MARGIN, 56, subtitle, "soft"),
    ]
    return "\n".join([*head, *lines, "</svg>\n"])


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
    lines = [_text(MARGIN, middle - 4, group.title), _text(MARGIN, middle + 13, group.subtitle, "soft")]
    for number, bar in enumerate(group.bars):
        y, end = top + number * (BAR + GAP), scale.x(bar.seconds)
        lines.append(f'<rect class="bar{number}" x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR}" rx="3"/>')
        lines.append(_text(end + 7, y + 15, bar.label, "value"))
    lines.append(_text(WIDTH - MARGIN, middle + 6, group.ratio, "ratio", anchor="end"))
    return lines


def _in_words(subtitle: str, groups: Sequence[Group]) -> str:
    """The same for those who cannot see it."""
    rows = (
        f"{group.title}, {group.subtitle}: {', '.join(f'{bar.name} {bar.label}' for bar in group.bars)}, {group.ratio}"
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
