"""Draws the charts of a report as inline SVG, with their titles, text alternatives and tables of numbers.

Colours are classes (`s0` to `s7`) of the page's style sheet. Horizontal positions are percentages, so a chart
fills its container and its text keeps its size on a phone. Every chart has a `<title>` and a `<desc>`, and every mark
names its number.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from imgpipeline.contracts.text import counted
from imgpipeline.reports.figures import ByHour, Figures, Histogram, LabelHours, Row
from imgpipeline.reports.findings import Findings
from imgpipeline.reports.pictures import Colour
from imgpipeline.reports.wording import DASH, duration, hour_span, number, short_number, size, visible

SERIES_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#9498a0")
"""Colours of the classes `s0` to `s7`. The last one is for labels without a colour."""
OTHERS = "others"
"""Name of the series that sums the labels without a colour."""
OTHERS_STYLE = f"s{len(SERIES_COLOURS) - 1}"
"""Class of that series."""

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


_MOST_BINS = 24
_SMALL_PX = 170
SMALL = ("sizes", "brightness", "sharpness", "latency")
"""Charts that are shown side by side."""


@dataclass(frozen=True, slots=True)
class Diagram:
    """One chart with its title and table."""

    title: str
    svg: Markup
    """The chart; safe to insert into a page."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The numbers of the chart, for readers who cannot see it."""


def make_diagrams(figures: Figures, findings: Findings, timezone: str = "UTC") -> dict[str, Diagram]:
    """Draws the charts of a day, except those without numbers.

    Returns:
        The charts by name: `object_hours`, `label_hours`, `frame_hours`, `sizes`, `brightness`, `sharpness`, `latency`.
    """
    frames = figures.frames
    drawn = {
        "object_hours": _object_hours(figures, findings.objects or (), timezone),
        "label_hours": _label_hours(figures, timezone),
        "frame_hours": _frame_hours(figures, timezone),
        "sizes": _bins("sizes", "Encoded image size", frames.bins("sizes"), size, _power_of_two),
        "brightness": _bins(
            "brightness", "Brightness (mean luma, 0 to 255)", frames.bins("brightness"), number, _by_16
        ),
        "sharpness": _bins(
            "sharpness", "Sharpness (variance of the Laplacian)", frames.bins("sharpness"), short_number, _power_of_two
        ),
        "latency": _bins("latency", "Latency from frame to outcome", frames.bins("latency"), duration, _power_of_two),
    }
    return {name: diagram for name, diagram in drawn.items() if diagram is not None}


def _label_hours(figures: Figures, timezone: str) -> Diagram | None:
    if not figures.detections:
        return None
    top = figures.top_labels()
    series = [Series(one.label or OTHERS, one.counts, series_style(at, one)) for at, one in enumerate(top)]
    names = figures.clock.names
    return _stacked(Caption("label-hours", "Detections by hour and label", "detections"), series, names, timezone)


def _object_hours(figures: Figures, objects: Sequence[ByHour], timezone: str) -> Diagram | None:
    top = figures.top_labels()
    rows: dict[tuple[str, str], list[Row]] = {}
    for one in objects:
        style = label_style(one.of["label"], top)
        name = OTHERS if style == OTHERS_STYLE else one.of["label"]
        rows.setdefault((name, style), []).extend(one.hours)
    series = [
        Series(name, figures.by_hour(ByHour({}, tuple(hours)), "objects"), style)
        for (name, style), hours in sorted(rows.items(), key=lambda one: one[0][0] == OTHERS)
    ]
    shown = [one for one in series if any(one.values)]
    caption = Caption(
        "object-hours", "Unique objects by hour and label", "objects (one that is seen in two hours counts in both)"
    )
    return _stacked(caption, shown, figures.clock.names, timezone) if shown else None


def _frame_hours(figures: Figures, timezone: str) -> Diagram | None:
    frames = figures.frames
    series = [
        Series("processed", figures.by_hour(frames, "processed"), "processed"),
        Series("gated", figures.by_hour(frames, "gated"), "gated"),
        Series("dead letters", figures.by_hour(frames, "dead_letters"), "dead"),
    ]
    shown = [one for one in series if any(one.values)]
    caption = Caption("frame-hours", "Frames by hour", "frames")
    return _stacked(caption, shown, figures.clock.names, timezone) if shown else None


def _stacked(caption: Caption, series: Sequence[Series], names: Sequence[str], timezone: str) -> Diagram:
    """Draws a bar per hour; the caption's text names the unit."""
    hours = range(len(names))
    totals = [sum(one.values[hour] for one in series) for hour in hours]
    peak = totals.index(max(totals))
    text = (
        f"Bars by hour of the day ({timezone}). {number(sum(totals))} {caption.text} in total, most in the hour "
        f"{hour_span(names[peak])}: {number(totals[peak])}. "
        + ", ".join(f"{one.name}: {number(sum(one.values))}" for one in series)
        + "."
    )
    svg = bar_chart(replace(caption, text=text), names, series)
    rows = tuple(
        (hour_span(names[hour]), *(number(one.values[hour]) for one in series), number(totals[hour]))
        for hour in hours
        if totals[hour]
    )
    return Diagram(caption.title, Markup(svg), (f"hour ({timezone})", *(one.name for one in series), "all"), rows)  # noqa: S704 - charts escape their texts


def _bins(
    ident: str,
    title: str,
    histogram: Histogram,
    named: Callable[[float], str],
    following: Callable[[float], float],
) -> Diagram | None:
    """Draws a histogram with the empty bins in between, so that distances look right."""
    if not histogram:
        return None
    bins = _filled(histogram, following)
    lowers = [lower for lower, _ in bins]
    names = [named(lower) for lower in (*lowers, following(lowers[-1]))]
    counts = tuple(frames for _, frames in bins)
    peak = max(histogram, key=lambda one: one[1])
    frames = sum(count for _, count in histogram)
    text = (
        f"A histogram over {counted(frames, 'frame')}; most of them ({number(peak[1])}) from {named(peak[0])} "
        f"up to {named(following(peak[0]))}."
    )
    series = [Series("frames", counts, "bin s0")]
    svg = bar_chart(Caption(ident, title, text), names, series, height_px=_SMALL_PX, edges=True)
    rows = tuple((f"{named(lower)} {DASH} {named(following(lower))}", number(count)) for lower, count in bins if count)
    return Diagram(title, Markup(svg), ("from, up to", "frames"), rows)  # noqa: S704 - charts escape their texts


def _filled(histogram: Histogram, following: Callable[[float], float]) -> Histogram:
    known = dict(histogram)
    filled: list[tuple[float, int]] = []
    lower = histogram[0][0]
    while lower <= histogram[-1][0] and len(filled) <= _MOST_BINS:
        filled.append((lower, known.pop(lower, 0)))
        lower = following(lower)
    return histogram if known or len(filled) > _MOST_BINS else tuple(filled)


def _power_of_two(lower: float) -> float:
    return lower * 2 if lower else 1.0


def _by_16(lower: float) -> float:
    return lower + 16
