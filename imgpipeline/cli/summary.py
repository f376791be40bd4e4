"""`imgpipeline summary`: what was seen, by label, hour, size and source."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.answers import MOST_ROWS, note_hidden_rows
from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption
from imgpipeline.cli.output import (
    CsvOption,
    JsonOption,
    note,
    observed,
    refuse_two_formats,
    show_csv,
    show_json,
    show_table,
    shown,
    size_bar,
)
from imgpipeline.cli.timezones import TimezoneOption, timezone_settings
from imgpipeline.contracts.text import counted
from imgpipeline.lake.query.days import read_span
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.lake.query.summaries import LabelChoice, SummaryAnswer

app = typer.Typer(help="Summaries by label, hour, size and source.")
_MOST_DAYS_NAMED = 5
_Row = Mapping[str, Any]
_GROUPS = ("day", "hour", "source", "label")

SourcesOption = Annotated[
    list[str] | None, typer.Option("--source", help="Count only this source; repeat it for several.")
]
LabelsOption = Annotated[
    list[str] | None, typer.Option("--label", help="Count only this label; repeat it for several.")
]
ByOption = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        metavar="|".join(_GROUPS),
        help="Group by these columns instead of the default ones; separate several with commas, or repeat it.",
    ),
]


@app.callback()
def _group() -> None:
    """Summaries by label, hour, size and source."""


@app.command("label-counts")
def label_counts(  # noqa: PLR0913, PLR0917 - each is an option of the command
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: SourcesOption = None,
    label: LabelsOption = None,
    by: ByOption = None,
    timezone: TimezoneOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show how many of which label were seen in which hour, over all sources or for each (`--by`).

    Each row says for how long its sources were observed. With `--label`, a group that was observed without it has a
    row with the count 0; one that is not listed was not observed.

    `imgpipeline explain label-counts` traces each number to its frames. Without `label` in `--by` and without one
    `--label`, the number of frames is not shown, because one frame may count for several labels.
    """
    choice, zone = _read_choice(source, label, by), timezone or load_settings().timezone
    groups = [group for group in _GROUPS if group in (choice.by or ("hour", "label"))]

    def cells(row: _Row) -> list[Any]:
        confidence = (
            f"{shown(row['mean_confidence'])} ({shown(row['min_confidence'])} to {shown(row['max_confidence'])})"
        )
        times = "%H:%M:%S" if {"day", "hour"} & set(groups) else "%Y-%m-%d %H:%M:%S"
        seen = [f"{row[name]:{times}}" if row[name] else None for name in ("first_seen", "last_seen")]
        numbers = (row[name] for name in counts)
        observed_s = observed(row["observed_s"])
        return [*_group_cells(row, groups, zone), *numbers, *seen, confidence if row["count"] else None, observed_s]

    counts = ("count", *(["distinct_frames"] if choice.knows_frames else []), "distinct_sources")
    named = (name.removeprefix("distinct_") for name in counts)
    columns = (*groups, *named, "first", "last", "confidence (mean, range)", "observed")
    _summarise(
        "label_counts",
        (day, first, last, timezone),
        cells,
        columns,
        choice=choice,
        as_json=as_json,
        as_csv=as_csv,
    )


@app.command("label-totals")
def label_totals(  # noqa: PLR0913, PLR0917 - each is an option of the command
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: SourcesOption = None,
    label: LabelsOption = None,
    by: ByOption = None,
    timezone: TimezoneOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show how many of which label were seen in all, the most frequent first, over all sources or for each (`--by`)."""
    choice, zone = _read_choice(source, label, by), timezone or load_settings().timezone
    groups = [group for group in _GROUPS if group in (choice.by or ("label",))]
    sums = ("count", "days", "first_day", "last_day")

    def cells(row: _Row) -> list[Any]:
        return [*_group_cells(row, groups, zone), *(row[name] for name in sums), observed(row["observed_s"])]

    _summarise("label_totals", (day, first, last, timezone), cells, (*groups, *sums, "observed"),
               choice=choice, as_json=as_json, as_csv=as_csv)  # fmt: skip


def _read_choice(
    sources: Sequence[str] | None, labels: Sequence[str] | None, by: Sequence[str] | None
) -> "LabelChoice":
    """Reads `--source`, `--label` and `--by`; raises a UsageError for an unknown group."""
    from imgpipeline.lake.query.summaries import LabelChoice  # noqa: PLC0415 - loads DuckDB and pyarrow

    groups = [group.strip() for several in by or () for group in several.split(",")]
    return LabelChoice(tuple(sources or ()), tuple(labels or ()), tuple(groups), by_name="--by")


def _group_cells(row: _Row, groups: Sequence[str], zone: str) -> list[Any]:
    return [_hour(row[group], zone) if group == "hour" else row[group] for group in groups]


def _hour(hour: datetime, zone: str) -> str:
    """Returns the start of an hour; in another time zone than UTC with its offset: two hours may have one name."""
    return f"{hour:%Y-%m-%d %H:%M}" + ("" if zone == "UTC" else hour.isoformat()[19:])


@app.command("hours")
def hours(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    timezone: TimezoneOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show how many frames and detections there were at each hour of the day, and for how long sources were observed.

    Over several days, each hour is the sum over the days. Observed seconds are summed over days and sources. An hour
    that is not listed was not observed. A dead letter whose record was written on another day than the one it is
    listed under has no hour; these come last.
    """
    counts = ("frames", "detections", "gated", "dead_letters")

    def cells(row: _Row) -> list[Any]:
        hour = "none" if row["hour"] is None else f"{row['hour']:02d}:00"
        return [hour, *(row[name] for name in counts), observed(row["observed_s"])]

    _summarise("hours", (day, first, last, timezone), cells, ("hour", *counts, "observed"),
               as_json=as_json, as_csv=as_csv, bars=True)  # fmt: skip


@app.command("sizes")
def sizes(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    timezone: TimezoneOption = None,
    bins: Annotated[
        int | None,
        typer.Option("--bins", min=1, max=1000, help="Bins of equal width, from the smallest to the largest image."),
    ] = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show how large the frames' images are, as a histogram by powers of two or in bins of equal width (`--bins`)."""
    if bins is not None:
        _show_size_bins(bins, (day, first, last), timezone, as_json=as_json, as_csv=as_csv)
        return

    def cells(row: _Row) -> list[Any]:
        return [f"{_size(row['from_bytes'])} to {_size(row['below_bytes'])}", row["frames"]]

    _summarise(
        "sizes",
        (day, first, last, timezone),
        cells,
        ("size", "frames"),
        as_json=as_json,
        as_csv=as_csv,
        bars=True,
    )


def _show_size_bins(
    bins: int, days: tuple[str | None, str | None, str | None], timezone: str | None, *, as_json: bool, as_csv: bool
) -> None:
    from imgpipeline.lake.query.size_bins import bin_sizes  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    span, settings = read_span(*days), load_settings(**timezone_settings(timezone))
    found = bin_sizes(open_store(settings), settings, span, bins)
    if as_json:
        show_json([asdict(each) for each in found])
    elif as_csv:
        show_csv(["from_bytes", "to_bytes", "frames"], [list(asdict(each).values()) for each in found])
    elif found:
        most = max(each.frames for each in found)
        digits = 1 if found[0].to_bytes - found[0].from_bytes >= 100 else 3
        rows = [
            [
                f"{each.from_bytes / 1000:,.{digits}f} to {each.to_bytes / 1000:,.{digits}f}",
                each.frames,
                size_bar(each.frames, most),
            ]
            for each in found
        ]
        show_table(["kB", "frames", ""], rows)
    else:
        note(f"There is no data ({span}).")


@app.command("sources")
def sources(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    timezone: TimezoneOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show how much came from each source, from when to when, and its longest pause within a day."""
    columns = ("source", "frames", "gated", "dead_letters", "first_seen", "last_seen", "days", "active_hours",
               "longest_pause_s", "MB", "observed")  # fmt: skip
    zone = timezone or load_settings().timezone

    def cells(row: _Row) -> list[Any]:
        times = {n: row[n].isoformat(" ", "seconds") for n in ("first_seen", "last_seen") if row[n] and zone != "UTC"}
        named = ({**row, **times}[name] for name in columns[:-2])
        return [*named, row["size_bytes"] / 1e6, observed(row["observed_s"])]

    _summarise("sources", (day, first, last, timezone), cells, columns, as_json=as_json, as_csv=as_csv)


def _summarise(
    name: str,
    wanted: tuple[str | None, str | None, str | None, str | None],
    cells: Callable[[_Row], Sequence[Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    as_csv: bool,
    choice: "LabelChoice | None" = None,
    bars: bool = False,
) -> None:
    """Asks one question about `--day`, `--from`, `--to` and `--timezone`; `cells` makes a row of the table."""
    from imgpipeline.lake.query.summaries import summarise  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    span, settings = read_span(*wanted[:3]), load_settings(**timezone_settings(wanted[3]))
    asked = summarise(open_store(settings), settings, name, span, choice)
    zone, answer = asked.zone, asked.answer
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    if as_json:
        show_json([{column: _exported(value, zone) for column, value in row.items()} for row in rows])
    elif as_csv:
        show_csv(answer.columns, [[_exported(value, zone) for value in row.values()] for row in rows])
    elif rows:
        _show(columns, rows[:MOST_ROWS], cells, bars=bars)
        note_hidden_rows(len(rows))
    else:
        note(f"There is no data ({span}).")
    _say_what_to_know(asked, rows, sized=name == "sizes")


def _exported(value: Any, zone: tzinfo) -> Any:
    """Returns a value for programs; times of another zone than UTC as RFC 3339 with their offset."""
    return value.isoformat() if isinstance(value, datetime) and zone is not UTC else value


def _show(columns: Sequence[str], rows: Sequence[_Row], cells: Callable[[_Row], Sequence[Any]], *, bars: bool) -> None:
    titles = [column.replace("_", " ") for column in columns]
    if not bars:
        show_table(titles, [cells(row) for row in rows])
        return
    most = max(row["frames"] for row in rows)
    show_table([*titles, ""], [[*cells(row), size_bar(row["frames"], most)] for row in rows])


def _size(size_bytes: int) -> str:
    """Returns a power of two in bytes, such as `64 KiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes} {unit}"
        size_bytes //= 1024
    return f"{size_bytes} GiB"


def _say_what_to_know(asked: "SummaryAnswer", rows: Sequence[_Row], *, sized: bool) -> None:
    if sized and asked.frames is not None and (unknown := asked.frames - sum(row["frames"] for row in rows)):
        note(f"From imports that do not know their size: {counted(unknown, 'more frame')}.")
    mixed: list[tuple[date, tuple[str, ...]]] = list(asked.mixed_models.items())
    for day, models in mixed[:_MOST_DAYS_NAMED]:
        note(f"On {day} more than one model or threshold was in use: {', '.join(models)}.")
    if len(mixed) > _MOST_DAYS_NAMED:
        note(f"So it was on {counted(len(mixed) - _MOST_DAYS_NAMED, 'more day')}, up to {mixed[-1][0]}.")
