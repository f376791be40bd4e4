"""The charts of a report with their titles, text alternatives and tables of numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from imgpipeline.contracts.text import counted
from imgpipeline.reports import charts
from imgpipeline.reports.charts import OTHERS, OTHERS_STYLE, Caption, Series, label_style, series_style
from imgpipeline.reports.figures import ByHour, Figures, Histogram, Row
from imgpipeline.reports.findings import Findings
from imgpipeline.reports.wording import DASH, duration, hour_span, number, short_number, size

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
    svg = charts.bar_chart(replace(caption, text=text), names, series)
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
    svg = charts.bar_chart(Caption(ident, title, text), names, series, height_px=_SMALL_PX, edges=True)
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
