"""Draws SVG charts as inline elements of a page.

Colours are classes (`s0` to `s7`, `heat`) of the page's style sheet. Horizontal positions are percentages, so a chart
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
_NAME_PERCENT = 22.0
"""Width of the row names of a heat map."""
_ROW_PX = 24
_STRIP_PX = 22
_FAINTEST = 0.1
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


def bar_chart(caption: Caption, columns: Sequence[str], series: Sequence[Series], *, height_px: int = 220) -> str:
    """Draws a bar chart; several series are stacked from the bottom up, each with a value per column."""
    plot_px = height_px - _TOP_PX - _AXIS_PX
    totals = [sum(one.values[at] for one in series) for at in range(len(columns))]
    ticks = nice_ticks(max(totals, default=0))
    bottom = _TOP_PX + plot_px
    parts = [_grid_line(tick / ticks[-1], plot_px) for tick in ticks]
    for at, name in enumerate(columns):
        left, width = _column(at, len(columns))
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
    parts += _column_names(columns, height_px)
    return _svg(caption, height_px, parts, "chart axis")


def histogram(caption: Caption, edges: Sequence[str], counts: Sequence[int], *, height_px: int) -> str:
    """Draws a histogram; `edges` are the lower bounds of all bins, then the upper bound of the last one."""
    plot_px = height_px - _TOP_PX - _AXIS_PX
    ticks = nice_ticks(max(counts, default=0))
    parts = [_grid_line(tick / ticks[-1], plot_px) for tick in ticks]
    width = 100 / max(1, len(counts))
    for at, count in enumerate(counts):
        if count > 0:
            height = plot_px * count / ticks[-1]
            box = f'x="{_n(at * width)}%" y="{_n(_TOP_PX + plot_px - height)}" width="{_n(width)}%"'
            told = f"{edges[at]} to {edges[at + 1]}: {number(count)}"
            parts.append(_rect(f'class="bin s0" {box} height="{_n(height)}"', told))
    parts += [_tick_name(tick, tick / ticks[-1], plot_px) for tick in ticks]
    every = math.ceil(len(edges) / _MOST_EDGE_NAMES)
    for at in range(0, len(edges), every):
        # Keeps the outermost names inside the chart.
        side = {0: "column first", len(counts): "column last"}.get(at, "column")
        parts.append(f'<text class="{side}" x="{_n(at * width)}%" y="{height_px - 6}">{_text(edges[at])}</text>')
    return _svg(caption, height_px, parts, "chart axis")


def heat_map(caption: Caption, rows: Sequence[tuple[str, Sequence[float]]], columns: Sequence[str]) -> str:
    """Draws named rows of cells, one per column; the darker, the higher the number.

    Darkness grows with the square root, so rare values stay visible next to frequent ones.
    """
    largest = max((value for _, values in rows for value in values), default=0) or 1
    width = (100 - _NAME_PERCENT) / max(1, len(columns))
    parts = []
    for place, (name, values) in enumerate(rows):
        top = place * _ROW_PX
        parts.append(
            f'<svg x="0" y="{top}" width="{_n(_NAME_PERCENT - 1)}%" height="{_ROW_PX}">'
            f'<text class="name" x="0" y="{_ROW_PX / 2 + 4:g}">'
            f"<title>{_text(name)}</title>{_text(name, 40)}</text></svg>"
        )
        for at, value in enumerate(values):
            left = _NAME_PERCENT + at * width
            box = f'x="{_n(left)}%" y="{top + 1}" width="{_n(width * 0.94)}%" height="{_ROW_PX - 2}" rx="2"'
            if value <= 0:
                parts.append(f'<rect class="none" {box}/>')
                continue
            opacity = _FAINTEST + (1 - _FAINTEST) * math.sqrt(value / largest)
            parts.append(
                _rect(f'class="heat" fill-opacity="{_n(opacity)}" {box}', f"{columns[at]}, {name}: {number(value)}")
            )
            shade = "on-dark" if opacity > 0.75 else "on-light"
            parts.append(
                f'<text class="value {shade}" x="{_n(left + width * 0.47)}%" y="{top + _ROW_PX / 2 + 3.5:g}">'
                f"{short_number(value)}</text>"
            )
    height_px = len(rows) * _ROW_PX + _AXIS_PX
    parts += _column_names(columns, height_px, left=_NAME_PERCENT)
    return _svg(caption, height_px, parts, "chart heat-map")


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


def nice_ticks(largest: float, most: int = 4) -> list[float]:
    """Returns 0 and a few round whole numbers, the last at least `largest`."""
    if largest <= 0:
        return [0.0, 1.0]
    step = 10.0 ** math.floor(math.log10(largest / most))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if step * factor * most >= largest)
    step = max(1.0, step)
    return [step * at for at in range(math.ceil(largest / step) + 1)]


def _column(at: int, columns: int, left: float = 0.0) -> tuple[str, str]:
    """Returns left edge and width of a bar, in percent."""
    width = (100 - left) / columns
    return _n(left + at * width + width * (1 - _BAR_SHARE) / 2), _n(width * _BAR_SHARE)


def _grid_line(share: float, plot_px: int) -> str:
    y = _n(_TOP_PX + plot_px * (1 - share) + 0.5)
    return f'<line class="{"grid" if share else "ground"}" x1="0" x2="100%" y1="{y}" y2="{y}"/>'


def _tick_name(tick: float, share: float, plot_px: int) -> str:
    """Writes a number next to its grid line, in the left margin."""
    y = _n(_TOP_PX + plot_px * (1 - share) + 4)
    return f'<text class="tick" x="-8" y="{y}">{short_number(tick)}</text>'


def _column_names(columns: Sequence[str], height_px: int, left: float = 0.0) -> list[str]:
    every = max(1, math.ceil(len(columns) / _MOST_COLUMN_NAMES))
    width = (100 - left) / max(1, len(columns))
    return [
        f'<text class="column" x="{_n(left + (at + 0.5) * width)}%" y="{height_px - 6}">{_text(name)}</text>'
        for at, name in enumerate(columns)
        if at % every == 0
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


def _text(text: str, most: int | None = None) -> str:
    return html.escape(visible(text, most))


def _n(value: float) -> str:
    """Returns a coordinate with at most three decimals."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
