"""Draws SVG charts as inline elements of a page.

Colours are classes (`s0` to `s7`) of the page's style sheet. Horizontal positions are percentages, so a chart
fills its container and its text keeps its size on a phone. Every chart has a `<title>` and a `<desc>`, and every mark
names its number.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from imgpipeline.reports.figures import LabelHours
from imgpipeline.reports.wording import number, short_number, visible

SERIES_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#9498a0")
"""Colours of the classes `s0` to `s7`. The last one is for labels without a colour."""
OTHERS = "others"
"""Name of the series that sums the labels without a colour."""
OTHERS_STYLE = f"s{len(SERIES_COLOURS) - 1}"
"""Class of that series."""

Colour = tuple[int, int, int]
"""Blue, green, red, each 0 to 255."""

_TOP_PX = 8
"""Space for the number of the highest grid line."""
_AXIS_PX = 22
"""Space below the bars for the column names."""
_BAR_SHARE = 0.78
"""Width of a bar as a share of its column."""
_STRIP_PX = 22
_MOST_COLUMN_NAMES = 8
_MOST_EDGE_NAMES = 6


def series_style(place: int, label: LabelHours) -> str:
    """Returns the class of a series in a chart, by its place; the series without a label is grey."""
    return f"s{place}" if label.label else OTHERS_STYLE


def label_style(label: str, top: Sequence[LabelHours]) -> str:
    """Returns the class of a label; the same everywhere on a page."""
    places = [place for place, one in enumerate(top) if one.label == label]
    return f"s{places[0]}" if places and label else OTHERS_STYLE


def label_colour(label: str, top: Sequence[LabelHours]) -> Colour:
    """Returns a label's colour for drawing on images."""
    red, green, blue = bytes.fromhex(SERIES_COLOURS[int(label_style(label, top)[1:])][1:])
    return blue, green, red


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a bar chart."""

    name: str
    values: tuple[float, ...]
    """One number per column, >= 0."""
    style: str
    """Its class in the style sheet."""


@dataclass(frozen=True, slots=True)
class Caption:
    """Name and description of a chart."""

    ident: str
    """Unique within the page; letters, digits, `-`."""
    title: str
    text: str


def bar_chart(
    caption: Caption, columns: Sequence[str], series: Sequence[Series], *, height_px: int = 220, edges: bool = False
) -> str:
    """Draws a bar chart; several series are stacked from the bottom up, each with a value per column.

    With `edges`, it is a histogram: bars touch, and `columns` are the lower bounds of all bins, then the upper bound of
    the last one.
    """
    plot_px = height_px - _TOP_PX - _AXIS_PX
    names = [f"{columns[at]} to {columns[at + 1]}" for at in range(len(columns) - 1)] if edges else columns
    totals = [sum(one.values[at] for one in series) for at in range(len(names))]
    ticks = nice_ticks(max(totals, default=0))
    bottom = _TOP_PX + plot_px
    parts = [_grid_line(tick / ticks[-1], plot_px) for tick in ticks]
    share = 1 if edges else _BAR_SHARE
    for at, name in enumerate(names):
        left, width = _n((at + (1 - share) / 2) * 100 / len(names)), _n(share * 100 / len(names))
        base = 0.0
        for one in series:
            value = one.values[at]
            if value > 0:
                top = bottom - plot_px * (base + value) / ticks[-1]
                box = f'class="{one.style}" x="{left}%" y="{_n(top)}" width="{width}%"'
                told = f"{name}, {one.name}: {number(value)}"
                parts.append(_rect(f'{box} height="{_n(plot_px * value / ticks[-1])}"', told))
            base += value
    parts += [_tick_name(tick, tick / ticks[-1], plot_px) for tick in ticks]
    parts += _edge_names(columns, height_px) if edges else _column_names(columns, height_px)
    return _svg(caption, height_px, parts, "chart axis")


def strip(values: Sequence[float], largest: float, told: str, style: str = "s0") -> str:
    """Draws a row of tiny bars for a cell of a table; `largest` is the number of a full-height bar."""
    width = 100 / max(1, len(values))
    parts = [f'<rect class="ground" x="0" y="{_STRIP_PX - 1}" width="100%" height="1"/>']
    for at, value in enumerate(values):
        if value > 0 and largest > 0:
            height = _STRIP_PX * value / largest
            box = f'x="{_n(at * width)}%" y="{_n(_STRIP_PX - height)}" width="{_n(width * 0.8)}%" height="{_n(height)}"'
            parts.append(_rect(f'class="{style}" {box}', ""))
    told = _text(told)
    return f'<svg class="strip" role="img" aria-label="{told}" width="100%" height="{_STRIP_PX}">{"".join(parts)}</svg>'


def bar(value: float, largest: float, style: str = "s0") -> str:
    """Draws a horizontal bar for a table cell. Screen readers skip it, because the next cell has the number."""
    width = 100 * value / largest if largest > 0 else 0
    return (
        '<svg class="bar" aria-hidden="true" width="100%" height="8">'
        f'<rect class="none" width="100%" height="8" rx="2"/>'
        f'<rect class="{style}" width="{_n(width)}%" height="8" rx="2"/>'
        "</svg>"
    )


def heat(value: float, largest: float) -> int:
    """Returns how dark a cell of a table is, 0 (nothing) to 4.

    It grows with the square root, so rare values stay visible next to frequent ones.
    """
    return math.ceil(4 * math.sqrt(value / largest)) if value else 0


def nice_ticks(largest: float, most: int = 4) -> list[float]:
    """Returns 0 and a few round whole numbers, the last at least `largest`."""
    if largest <= 0:
        return [0.0, 1.0]
    step = 10.0 ** math.floor(math.log10(largest / most))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if step * factor * most >= largest)
    step = max(1.0, step)
    return [step * at for at in range(math.ceil(largest / step) + 1)]


def _grid_line(share: float, plot_px: int) -> str:
    y = _n(_TOP_PX + plot_px * (1 - share) + 0.5)
    return f'<line class="{"grid" if share else "ground"}" x1="0" x2="100%" y1="{y}" y2="{y}"/>'


def _tick_name(tick: float, share: float, plot_px: int) -> str:
    """Writes a number next to its grid line, in the left margin."""
    y = _n(_TOP_PX + plot_px * (1 - share) + 4)
    return f'<text class="tick" x="-8" y="{y}">{short_number(tick)}</text>'


def _column_names(columns: Sequence[str], height_px: int) -> list[str]:
    every = max(1, math.ceil(len(columns) / _MOST_COLUMN_NAMES))
    width = 100 / max(1, len(columns))
    return [
        f'<text class="column" x="{_n((at + 0.5) * width)}%" y="{height_px - 6}">{_text(name)}</text>'
        for at, name in enumerate(columns)
        if at % every == 0
    ]


def _edge_names(edges: Sequence[str], height_px: int) -> list[str]:
    every, last = math.ceil(len(edges) / _MOST_EDGE_NAMES), len(edges) - 1
    # Keeps the outermost names inside the chart.
    sides = {0: "column first", last: "column last"}
    return [
        f'<text class="{sides.get(at, "column")}" x="{_n(at * 100 / last)}%" y="{height_px - 6}">'
        f"{_text(edges[at])}</text>"
        for at in range(0, len(edges), every)
    ]


def _rect(attributes: str, told: str) -> str:
    return f"<rect {attributes}><title>{_text(told)}</title></rect>" if told else f"<rect {attributes}/>"


def _svg(caption: Caption, height_px: int, parts: Sequence[str], style: str) -> str:
    ident = caption.ident
    return (
        f'<svg class="{style}" role="img" aria-labelledby="{ident}-title {ident}-text" '
        f'width="100%" height="{height_px}">'
        f'<title id="{ident}-title">{_text(caption.title)}</title><desc id="{ident}-text">{_text(caption.text)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _text(text: str) -> str:
    return html.escape(visible(text))


def _n(value: float) -> str:
    """Returns a coordinate with at most three decimals."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
