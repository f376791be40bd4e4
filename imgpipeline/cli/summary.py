"""`imgpipeline summary`, `query` and `report`: counts, SQL over all tables, and the daily report."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from imgpipeline.cli.options import (
    NO_TRACKS,
    Period,
    RowFormat,
    Selection,
    TimezoneOption,
    command,
    open_site,
    timezone_settings,
)
from imgpipeline.cli.output import (
    MOST_ROWS,
    Columns,
    note,
    record_of,
    size_bar,
    write_file,
    write_text,
)
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import find_timezone, utc_now
from imgpipeline.events.configuration import read_rules
from imgpipeline.lake.query.accuracy import INTERVAL
from imgpipeline.lake.query.days import optional_day
from imgpipeline.lake.query.histograms import bin_sizes
from imgpipeline.lake.query.lake import Lake, distinct_names, open_arrow_lake
from imgpipeline.lake.query.summaries import LabelChoice, SummaryAnswer, summarise
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.reports.build import current_page
from imgpipeline.settings import load_settings
from imgpipeline.tracking.unique import shown_build

app = typer.Typer()
_MOST_DAYS_NAMED = 5
_Row = Mapping[str, Any]
_GROUPS = ("day", "hour", "source", "label")
_OBJECTS = ("hour", "source", "label", "objects", "tracks", "mean_stay_s", "longest_stay_s",
            "frame_rate", "observed_s")  # fmt: skip
_NO_COUNTS = "Nothing was counted in these days; docs/events.md describes how to set up zones and lines."
_UNSIZED = "SELECT count(*) FROM frames WHERE image_width IS NULL AND ($source IS NULL OR source = $source)"


@dataclass(frozen=True, slots=True)
class SummaryOptions(Period):
    """The options of every summary."""

    timezone: TimezoneOption = None


@dataclass(frozen=True, slots=True)
class LabelOptions(SummaryOptions):
    """The options of summaries of labels."""

    source: Annotated[list[str] | None, typer.Option("--source", help="Count only this source. Repeatable.")] = None
    label: Annotated[list[str] | None, typer.Option("--label", help="Count only this label. Repeatable.")] = None
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            metavar="|".join(_GROUPS),
            help="Group by these columns instead of the default ones. Separate several with commas, or repeat it.",
        ),
    ] = None

    def choice(self) -> "LabelChoice":
        """Returns which counts are asked for; raises a UsageError for an unknown group."""
        groups = [group.strip() for several in self.by or () for group in several.split(",")]
        return LabelChoice(tuple(self.source or ()), tuple(self.label or ()), tuple(groups), by_name="--by")


@command(app, "label-counts")
def label_counts(wanted: LabelOptions, rows: RowFormat) -> None:
    """Count the detections of each label in each hour, over all sources or grouped with `--by`.

    Each row shows how long its sources were observed. With `--label`, a group that was observed without that label has
    a row with the count 0; a missing group was not observed.

    `imgpipeline explain` traces each number to its frames. Without `label` in `--by` and without exactly
    one `--label`, the number of frames is not shown, because one frame may count for several labels.
    """
    choice = wanted.choice()
    columns = (
        *_grouped(choice.by or ("hour", "label")), "count", *INTERVAL,
        *(["distinct_frames"] if choice.knows_frames else []), "distinct_sources",
        "first_seen", "last_seen", "mean_confidence", "min_confidence", "max_confidence", "observed_s",
    )  # fmt: skip
    _summarise("label_counts", wanted, rows, columns, choice=choice)


@command(app, "label-totals")
def label_totals(wanted: LabelOptions, rows: RowFormat) -> None:
    """Count the detections of each label in total, most frequent first, over all sources or grouped with `--by`."""
    choice = wanted.choice()
    columns = (*_grouped(choice.by or ("label",)), "count", *INTERVAL, "days", "first_day", "last_day", "observed_s")
    _summarise("label_totals", wanted, rows, columns, choice=choice)


def _grouped(groups: Sequence[str]) -> list[str]:
    return [group for group in _GROUPS if group in groups]


@command(app, "hours")
def hours(wanted: SummaryOptions, rows: RowFormat) -> None:
    """Show the frames and detections in each hour of the day, and how long sources were observed.

    Over several days, each hour is the sum over the days. Observed seconds are summed over days and sources. A missing
    hour was not observed. A dead letter has no hour if its record was written on another day than the one under which
    it is listed; these come last.
    """
    columns = ("hour", "frames", "detections", "gated", "dead_letters", "observed_s")
    _summarise("hours", wanted, rows, columns, bars=True)


@command(app, "sizes")
def sizes(
    wanted: SummaryOptions,
    bins: Annotated[
        int | None,
        typer.Option("--bins", min=1, max=1000, help="Bins of equal width, from the smallest to the largest image."),
    ] = None,
    *,
    rows: RowFormat,
) -> None:
    """Show the image sizes of frames as a histogram, by powers of two or in bins of equal width (`--bins`)."""
    if bins is not None:
        _show_size_bins(bins, wanted, rows)
        return
    _summarise("sizes", wanted, rows, ("from_bytes", "below_bytes", "frames"), bars=True)


def _show_size_bins(bins: int, wanted: SummaryOptions, rows: RowFormat) -> None:
    span = wanted.span()
    settings, store = open_site(**timezone_settings(wanted.timezone))
    found = [record_of(each) for each in bin_sizes(store, settings, span, bins)]
    fields = ("from_bytes", "to_bytes", "frames")
    rows.show(_with_bars(found), (*fields, "bar"), fields=fields, empty=f"There is no data ({span}).")


@command(app, "sources")
def sources(wanted: SummaryOptions, rows: RowFormat) -> None:
    """Show how much came from each source, from when to when, and its longest pause within a day."""
    columns = (
        "source", "frames", "gated", "dead_letters", "first_seen", "last_seen", "days", "active_hours",
        "longest_pause_s", "size_bytes", "observed_s",
    )  # fmt: skip
    _summarise("sources", wanted, rows, columns)


def note_builds(session: LakeSession) -> None:
    """Says for how long the objects of a session had to be seen to count, and which days lack newer frames."""
    builds = {day: build for day in session.days if (build := shown_build(session, day))}
    note_minimum_time({float(build.settings["unique_min_s"]) for build in builds.values()})
    if stale := [day for day, build in builds.items() if not session.shows_inputs_of(build)]:
        more = f" and {counted(len(stale) - 1, 'more day')}" if stale[1:] else ""
        note(f"The tracks of {stale[0]}{more} lack newer frames: imgpipeline build --from {stale[0]} --to {stale[-1]}")


def note_minimum_time(times_s: Collection[float]) -> None:
    """Says for how long an object had to be seen to count, which may differ between days."""
    if times_s:
        named = " or ".join(f"{each:g} s" for each in sorted(times_s))
        note(f"Counts objects that were seen for at least {named} (IMGPIPELINE_UNIQUE_MIN_S).")


@command(app, "objects")
def objects(wanted: Selection, rows: RowFormat) -> None:
    """Show how many different objects each source saw per UTC hour, and how long they stayed.

    An object that is seen in two hours counts in both; the table unique_totals has the objects of a day.
    """
    show_answer(lambda lake: lake.unique_objects, wanted, rows, _OBJECTS, empty=NO_TRACKS)


@command(app, "zones")
def zones(wanted: Selection, rows: RowFormat) -> None:
    """Show how many objects were in each zone, by UTC hour and label.

    Hours in which a zone was empty have no row. rules.toml defines the zones.
    """
    show_answer(lambda lake: lake.zone_occupancy, wanted, rows, empty=lambda: _why_nothing(wanted))


@command(app, "lines")
def lines(wanted: Selection, rows: RowFormat) -> None:
    """Show how often each line was crossed, by UTC hour, label and direction.

    Only tracked objects cross lines, so the day needs tracks. rules.toml defines the lines.
    """
    show_answer(lambda lake: lake.line_crossings, wanted, rows, empty=lambda: _why_nothing(wanted))


def _why_nothing(wanted: Selection) -> str:
    settings, store = open_site()
    if read_rules(settings, store).places:
        with open_arrow_lake(settings).session(day=wanted.day, from_day=wanted.first, to_day=wanted.last) as session:
            ((unsized,),) = session.query(_UNSIZED, {"source": wanted.source}).rows
        if unsized:
            return (
                "Nothing was counted: zones and lines need the size of the images, which is not known for "
                f"{counted(unsized, 'frame')} of these days. Next: import them with their size (docs/imports.md)."
            )
        return "Nothing was counted. Zones and lines are counted when a day is built: imgpipeline build --day DAY"
    return _NO_COUNTS


def show_answer(
    question: Callable[[Lake[pa.Table]], Callable[..., pa.Table]],
    wanted: Selection,
    rows: RowFormat,
    columns: Sequence[str] | None = None,
    *,
    empty: str | Callable[[], str],
) -> None:
    """Asks a method of the lake for rows made of tracks and prints them; by default with all fields but `day`."""
    wanted.span()  # refuses wrong days before it opens the lake
    days = {"from_day": wanted.first, "to_day": wanted.last}
    with open_arrow_lake(load_settings()) as lake:
        found = question(lake)(wanted.day, **days, source=wanted.source, label=wanted.label)
        columns = columns or [name for name in found.column_names if name != "day"]
        rows.show(found.to_pylist(), columns, fields=found.column_names, empty=empty)
        with lake.session(day=wanted.day, **days) as session:
            note_builds(session)


def _summarise(
    name: str,
    wanted: SummaryOptions,
    rows: RowFormat,
    columns: Columns,
    *,
    choice: "LabelChoice | None" = None,
    bars: bool = False,
) -> None:
    """Answers one question about some days; with `bars`, the table has a bar for the frames of each row."""
    span = wanted.span()
    settings, store = open_site(**timezone_settings(wanted.timezone))
    asked = summarise(store, settings, name, span, choice)
    found: list[_Row] = [dict(zip(asked.answer.columns, row, strict=True)) for row in asked.answer.rows]
    is_local = asked.zone is not UTC and (rows.as_json or rows.as_csv)
    records: list[_Row] = [{key: _local(value) for key, value in row.items()} for row in found] if is_local else found
    if not any(row.get("verdict") for row in found):
        columns = [column for column in columns if column not in INTERVAL]
    if bars:
        records, columns = _with_bars(records), (*columns, "bar")
    rows.show(records, columns, fields=asked.answer.columns, empty=f"There is no data ({span}).")
    _note_caveats(asked, found, sized=name == "sizes")


def _with_bars(rows: Sequence[_Row]) -> list[_Row]:
    most = max((row["frames"] for row in rows[:MOST_ROWS]), default=0)
    return [{**row, "bar": size_bar(row["frames"], most)} for row in rows]


def _local(value: Any) -> Any:
    """Returns a value for JSON and CSV: a time keeps its offset instead of being converted to UTC."""
    return value.isoformat() if isinstance(value, datetime) else value


def _note_caveats(asked: "SummaryAnswer", rows: Sequence[_Row], *, sized: bool) -> None:
    if sized and asked.frames is not None and (unknown := asked.frames - sum(row["frames"] for row in rows)):
        note(f"Not shown, because imports do not know their size: {counted(unknown, 'more frame')}.")
    mixed: list[tuple[date, tuple[str, ...]]] = list(asked.mixed_models.items())
    for day, models in mixed[:_MOST_DAYS_NAMED]:
        note(f"On {day} more than one model or threshold was in use: {', '.join(models)}.")
    if len(mixed) > _MOST_DAYS_NAMED:
        note(f"The same applies to {counted(len(mixed) - _MOST_DAYS_NAMED, 'more day')}, up to {mixed[-1][0]}.")


def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="DuckDB SQL over frames, detections, weak_detections, label_counts, label_timestamps, label_totals, "
            "frame_stats, source_activity, frame_hours, frame_sizes, frame_dimensions, frame_brightness, "
            "frame_sharpness, frame_latency, tracks, track_points, unique_objects, unique_totals, frame_changes, "
            "events, zone_occupancy, line_crossings, accuracy, dead_letters, notices, segments."
        ),
    ],
    period: Period,
    rows: RowFormat,
) -> None:
    """Query all tables with SQL. They show the lake at one moment: the stored tables plus newer segments of the ledger.

    With --day, or --from and --to, the tables contain only those days, and less is read. This matters most for
    segments, dead_letters and explain_label_counts, which read the ledger. Tracks and unique objects appear as stored.
    """
    span = period.span()
    with open_arrow_lake(load_settings()).session(from_day=span.first, to_day=span.last) as session:
        answer = session.query(sql)
    names = distinct_names(answer.columns)
    records = [dict(zip(names, row, strict=True)) for row in answer.rows]
    rows.show(records, fields=names)


def report(
    day: Annotated[str | None, typer.Option("--day", help="The day, such as 2026-01-09. Default: yesterday.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File to write; - for stdout. Default: report-DAY.html."),
    ] = None,
    timezone: TimezoneOption = None,
) -> None:
    """Write the report of a day: one HTML page with charts, images, dead letters and the audit of the day.

    The page needs no other file and no network, and includes everything up to this moment. Writes nothing to the store;
    the asset daily_report does that.
    """
    settings, store = open_site(**timezone_settings(timezone))
    now = utc_now()
    wanted = optional_day(day) or now.astimezone(find_timezone(settings.timezone)).date() - timedelta(days=1)
    page = current_page(store, settings, wanted, now=now)
    if output == "-":
        write_text(page.decode())
        return
    path = Path(output or f"report-{wanted.isoformat()}.html")
    write_file(path, page)
    note(f"Wrote the report of {wanted} to {path} ({len(page) / 1024:,.0f} kB).")
