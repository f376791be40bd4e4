"""The hourly numbers of objects, zones and lines as rows of text, by hour."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imgpipeline.reports.findings import Findings
from imgpipeline.reports.wording import DASH, duration, hour_span, number

_MOST_ROWS = 500


@dataclass(frozen=True, slots=True)
class HourTable:
    """One table."""

    header: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """The first rows by hour, at most 500."""
    is_cut: bool
    """Whether there are more."""


def make_hour_tables(findings: Findings, names: Sequence[str], timezone: str) -> dict[str, HourTable]:
    """Returns the tables `objects`, `zones` and `lines`.

    Args:
        findings: The numbers.
        names: Of the hours of the day.
        timezone: Name of their time zone.
    """
    objects = [
        (h.hour, (one.source, one.label, number(h.objects), number(h.tracks), _stay(h.mean_stay_s),
                  _stay(h.longest_stay_s)))
        for one in findings.objects or () for h in one.hours
    ]  # fmt: skip
    zones = [
        (h.hour, (zone.zone, zone.source, zone.label, duration(h.occupied_s), number(h.most_at_once),
                  number(h.objects)))
        for zone in findings.zones or () for h in zone.hours
    ]  # fmt: skip
    lines = [
        (h.hour, (line.line, line.source, line.direction, line.label, number(h.crossings), number(h.objects)))
        for line in findings.lines or () for h in line.hours
    ]  # fmt: skip
    hour = f"hour ({timezone})"
    return {
        "objects": _table((hour, "source", "label", "objects", "tracks", "mean stay", "longest stay"), objects, names),
        "zones": _table((hour, "zone", "source", "label", "occupied", "most at once", "objects"), zones, names),
        "lines": _table((hour, "line", "source", "direction", "label", "crossings", "objects"), lines, names),
    }


def _table(header: tuple[str, ...], rows: Iterable[tuple[int, tuple[str, ...]]], names: Sequence[str]) -> HourTable:
    ordered = sorted(rows, key=lambda row: row[0])
    shown = tuple((hour_span(names[hour]), *texts) for hour, texts in ordered[:_MOST_ROWS])
    return HourTable(header, shown, len(ordered) > _MOST_ROWS)


def _stay(seconds: float | None) -> str:
    return DASH if seconds is None else duration(seconds)
