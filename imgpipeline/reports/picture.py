"""A small picture of a day: detections by hour, stacked by label, as one SVG file.

It brings its own styles, since the Dagster UI shows it as an image, and has at most `MOST_BYTES`.
"""

import html

from imgpipeline.contracts.counts import counted
from imgpipeline.reports.charts import Caption, Series, bar_chart
from imgpipeline.reports.headline import Headline, LabelHours
from imgpipeline.reports.palette import OTHERS, SERIES_COLOURS, series_style
from imgpipeline.reports.wording import hour_span, long_day, visible

MOST_BYTES = 14_000
_WIDTH_PX, _HEIGHT_PX, _CHART_PX = 640, 300, 210
_SERIES = 5
_LEGEND_PLACES = 6


def draw_picture(headline: Headline) -> bytes:
    """Draws the picture.

    Args:
        headline: The figures of a report.

    Returns:
        An SVG file, UTF-8.
    """
    top = _shortened(headline)
    text = f"{counted(headline.detections, 'detection')} in {counted(headline.frames, 'frame')}"
    series = [Series(_name(one), one.counts, series_style(place, one)) for place, one in enumerate(top)]
    caption = Caption("picture", f"Detections by hour, {headline.day.isoformat()}", text)
    chart = bar_chart(caption, headline.hour_names, series, height_px=_CHART_PX, tooltips=False)
    legend = "".join(_legend_entry(place, one) for place, one in enumerate(top))
    styles = "".join(f".s{place}{{fill:{colour}}}" for place, colour in enumerate(SERIES_COLOURS))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH_PX}" height="{_HEIGHT_PX}" '
        f'font-family="system-ui,sans-serif" font-size="12"><style>{styles}'
        ".grid{stroke:#e4e4e0}.ground{stroke:#8a8a86}.tick,.column{fill:#6b6b67;font-size:11px}.column{text-anchor:middle}.tick{text-anchor:end}svg{overflow:visible}"
        f'</style><rect width="100%" height="100%" rx="8" fill="#fff"/>'
        f'<text x="16" y="26" font-size="15" font-weight="600" fill="#1c1c1a">{long_day(headline.day)}</text>'
        f'<text x="16" y="44" fill="#6b6b67">{text}{_busiest(headline)}</text>'
        f'<svg x="48" y="56" width="{_WIDTH_PX - 64}" height="{_CHART_PX}">{chart}</svg>{legend}</svg>'
    ).encode()


def _name(one: LabelHours) -> str:
    return one.label or OTHERS


def _shortened(headline: Headline) -> tuple[LabelHours, ...]:
    """Returns the first labels, and all others as one."""
    top, hours = headline.top, range(len(headline.hour_names))
    named = [one for one in top if one.label]
    rest = [*named[_SERIES:], *(one for one in top if not one.label)]
    if not rest:
        return tuple(named)
    others = LabelHours("", tuple(sum(one.counts[hour] for one in rest) for hour in hours))
    return (*named[:_SERIES], others)


def _legend_entry(place: int, one: LabelHours) -> str:
    x = 16 + place * (_WIDTH_PX - 32) / _LEGEND_PLACES
    y = _HEIGHT_PX - 16
    name = html.escape(visible(_name(one), 11))
    return (
        f'<rect class="{series_style(place, one)}" x="{x:.0f}" y="{y - 9}" width="10" height="10" rx="2"/>'
        f'<text x="{x + 15:.0f}" y="{y}" fill="#1c1c1a">{name}</text>'
    )


def _busiest(headline: Headline) -> str:
    if headline.busiest_hour is None:
        return ""
    return f", busiest hour {hour_span(headline.hour_names[headline.busiest_hour])} {headline.timezone}"
