"""`imgpipeline summary`: counts of detections and frames, by label, hour, size and source."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.options import Period, RowFormat, TimezoneOption, expand_options, timezone_settings
from imgpipeline.cli.output import MOST_ROWS, note, observed, show_table, shown, size_bar
from imgpipeline.contracts.text import counted
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.lake.query.summaries import LabelChoice, SummaryAnswer
    from imgpipeline.settings import Settings

app = typer.Typer(help="Count detections and frames, by label, hour, size and source.")
_MOST_DAYS_NAMED = 5
_Row = Mapping[str, Any]
_GROUPS = ("day", "hour", "source", "label")


@dataclass(frozen=True, slots=True)
class SummaryOptions(Period):
    """The options of every summary."""

    timezone: TimezoneOption = None

    def settings(self) -> "Settings":
        """Returns the settings, with the time zone of the option."""
        return load_settings(**timezone_settings(self.timezone))

    def zone(self) -> str:
        """Returns the name of the time zone."""
        return self.settings().timezone


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
        from imgpipeline.lake.query.summaries import LabelChoice  # noqa: PLC0415 - loads DuckDB and pyarrow

        groups = [group.strip() for several in self.by or () for group in several.split(",")]
        return LabelChoice(tuple(self.source or ()), tuple(self.label or ()), tuple(groups), by_name="--by")


@app.command("label-counts")
@expand_options
def label_counts(wanted: LabelOptions, rows: RowFormat) -> None:
    """Count the detections of each label in each hour, over all sources or grouped with `--by`.

    Each row shows how long its sources were observed. With `--label`, a group that was observed without that label has
    a row with the count 0; a missing group was not observed.

    `imgpipeline explain label-counts` traces each number to its frames. Without `label` in `--by` and without exactly
    one `--label`, the number of frames is not shown, because one frame may count for several labels.
    """
    choice, zone = wanted.choice(), wanted.zone()
    groups = [group for group in _GROUPS if group in (choice.by or ("hour", "label"))]
    counts = ("count", *(["distinct_frames"] if choice.knows_frames else []), "distinct_sources")
    time_format = "%H:%M:%S" if {"day", "hour"} & set(groups) else "%Y-%m-%d %H:%M:%S"

    def cells(row: _Row) -> list[Any]:
        mean, least, most = (shown(row[f"{name}_confidence"]) for name in ("mean", "min", "max"))
        seen = [f"{row[name]:{time_format}}" if row[name] else None for name in ("first_seen", "last_seen")]
        confidence = f"{mean} ({least} to {most})" if row["count"] else None
        numbers = (row[name] for name in counts)
        return [*_group_cells(row, groups, zone), *numbers, *seen, confidence, observed(row["observed_s"])]

    named = (name.removeprefix("distinct_") for name in counts)
    columns = (*groups, *named, "first", "last", "confidence (mean, range)", "observed")
    _summarise("label_counts", wanted, rows, columns, cells, choice=choice)


@app.command("label-totals")
@expand_options
def label_totals(wanted: LabelOptions, rows: RowFormat) -> None:
    """Count the detections of each label in total, most frequent first, over all sources or grouped with `--by`."""
    choice, zone = wanted.choice(), wanted.zone()
    groups = [group for group in _GROUPS if group in (choice.by or ("label",))]
    sums = ("count", "days", "first_day", "last_day")

    def cells(row: _Row) -> list[Any]:
        return [*_group_cells(row, groups, zone), *(row[name] for name in sums), observed(row["observed_s"])]

    _summarise("label_totals", wanted, rows, (*groups, *sums, "observed"), cells, choice=choice)


def _group_cells(row: _Row, groups: Sequence[str], zone: str) -> list[Any]:
    return [_hour(row[group], zone) if group == "hour" else row[group] for group in groups]


def _hour(hour: datetime, zone: str) -> str:
    """Returns the start of an hour. In zones other than UTC it has an offset, because two hours may have one name."""
    return f"{hour:%Y-%m-%d %H:%M}" + ("" if zone == "UTC" else hour.isoformat()[19:])


@app.command("hours")
@expand_options
def hours(wanted: SummaryOptions, rows: RowFormat) -> None:
    """Show the frames and detections in each hour of the day, and how long sources were observed.

    Over several days, each hour is the sum over the days. Observed seconds are summed over days and sources. A missing
    hour was not observed. A dead letter has no hour if its record was written on another day than the one under which
    it is listed; these come last.
    """
    counts = ("frames", "detections", "gated", "dead_letters")

    def cells(row: _Row) -> list[Any]:
        hour = "none" if row["hour"] is None else f"{row['hour']:02d}:00"
        return [hour, *(row[name] for name in counts), observed(row["observed_s"])]

    _summarise("hours", wanted, rows, ("hour", *counts, "observed"), cells, bars=True)


@app.command("sizes")
@expand_options
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

    def cells(row: _Row) -> list[Any]:
        return [f"{_size(row['from_bytes'])} to {_size(row['below_bytes'])}", row["frames"]]

    _summarise("sizes", wanted, rows, ("size", "frames"), cells, bars=True)


def _show_size_bins(bins: int, wanted: SummaryOptions, rows: RowFormat) -> None:
    from imgpipeline.lake.query.histograms import bin_sizes  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    span, settings = wanted.span(), wanted.settings()
    found = bin_sizes(open_store(settings), settings, span, bins)

    def table() -> None:
        most = max(each.frames for each in found)
        digits = 1 if found[0].to_bytes - found[0].from_bytes >= 100 else 3
        spans = [f"{each.from_bytes / 1000:,.{digits}f} to {each.to_bytes / 1000:,.{digits}f}" for each in found]
        cells = [[kb, each.frames, size_bar(each.frames, most)] for kb, each in zip(spans, found, strict=True)]
        show_table(["kB", "frames", ""], cells)

    columns = ("from_bytes", "to_bytes", "frames")
    rows.show(
        columns, [list(asdict(each).values()) for each in found], table=table, empty=f"There is no data ({span})."
    )


@app.command("sources")
@expand_options
def sources(wanted: SummaryOptions, rows: RowFormat) -> None:
    """Show how much came from each source, from when to when, and its longest pause within a day."""
    columns = ("source", "frames", "gated", "dead_letters", "first_seen", "last_seen", "days", "active_hours",
               "longest_pause_s", "MB", "observed")  # fmt: skip
    zone = wanted.zone()

    def cells(row: _Row) -> list[Any]:
        times = {n: row[n].isoformat(" ", "seconds") for n in ("first_seen", "last_seen") if row[n] and zone != "UTC"}
        named = ({**row, **times}[name] for name in columns[:-2])
        return [*named, row["size_bytes"] / 1e6, observed(row["observed_s"])]

    _summarise("sources", wanted, rows, columns, cells)


def _summarise(
    name: str,
    wanted: SummaryOptions,
    rows: RowFormat,
    columns: Sequence[str],
    cells: Callable[[_Row], list[Any]],
    *,
    choice: "LabelChoice | None" = None,
    bars: bool = False,
) -> None:
    """Answers one question about some days; `cells` turns a row of the answer into a row of the table."""
    from imgpipeline.lake.query.summaries import summarise  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    span, settings = wanted.span(), wanted.settings()
    asked = summarise(open_store(settings), settings, name, span, choice)
    answer = asked.answer
    found = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def table() -> None:
        most = max(row["frames"] for row in found[:MOST_ROWS]) if bars else 0
        bar = [[size_bar(row["frames"], most)] if bars else [] for row in found]
        header = [*(column.replace("_", " ") for column in columns), *([""] if bars else [])]
        show_table(header, [cells(row) + end for row, end in zip(found, bar, strict=True)], most=MOST_ROWS)

    exported = [[_exported(value, asked.zone) for value in row] for row in answer.rows]
    rows.show(answer.columns, exported, table=table, empty=f"There is no data ({span}).")
    _note_caveats(asked, found, sized=name == "sizes")


def _exported(value: Any, zone: tzinfo) -> Any:
    """Returns a value for JSON and CSV: times of zones other than UTC become RFC 3339 with their offset."""
    return value.isoformat() if isinstance(value, datetime) and zone is not UTC else value


def _size(size_bytes: int) -> str:
    """Returns a power of two in bytes, such as `64 KiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes} {unit}"
        size_bytes //= 1024
    return f"{size_bytes} GiB"


def _note_caveats(asked: "SummaryAnswer", rows: Sequence[_Row], *, sized: bool) -> None:
    if sized and asked.frames is not None and (unknown := asked.frames - sum(row["frames"] for row in rows)):
        note(f"Not shown, because imports do not know their size: {counted(unknown, 'more frame')}.")
    mixed: list[tuple[date, tuple[str, ...]]] = list(asked.mixed_models.items())
    for day, models in mixed[:_MOST_DAYS_NAMED]:
        note(f"On {day} more than one model or threshold was in use: {', '.join(models)}.")
    if len(mixed) > _MOST_DAYS_NAMED:
        note(f"The same applies to {counted(len(mixed) - _MOST_DAYS_NAMED, 'more day')}, up to {mixed[-1][0]}.")
