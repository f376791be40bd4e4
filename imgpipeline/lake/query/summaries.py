"""Counts over some days: the questions of `imgpipeline summary`, `Lake.label_counts` and others.

Each question is one file in `sql/` that only reads summaries, whatever the number of days, in a query session. So a
year costs a few listings and one small file per day. docs/tables.md names the columns that can be added up.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import Any

import pyarrow as pa

from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.accuracy import with_intervals
from imgpipeline.lake.query.days import Span, days_of
from imgpipeline.lake.schema.tables import FRAME_STATS, LABEL_COUNTS, SOURCE_ACTIVITY
from imgpipeline.lake.sessions.local_time import in_zone, local_days, utc_days
from imgpipeline.lake.sessions.session import Answer, LakeSession, SessionDays, open_lake
from imgpipeline.lake.sessions.summaries import HOURLY
from imgpipeline.lake.storage.engine import read_sql
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

VIEWS: Mapping[str, tuple[str, ...]] = {
    "label_counts": (LABEL_COUNTS.name, FRAME_STATS.name),
    "label_totals": (LABEL_COUNTS.name, FRAME_STATS.name),
    "hours": (FRAME_STATS.name, LABEL_COUNTS.name),
    "sizes": (FRAME_STATS.name,),
    "sources": (SOURCE_ACTIVITY.name, FRAME_STATS.name),
}
"""All questions by name, each with the summaries that it reads. The first one tells which models were in use."""


GROUPS = ("day", "hour", "source", "label")
"""Columns by which label counts can be grouped, in their order."""
_USUAL_GROUPS = {"label_counts": ("day", "hour", "label"), "label_totals": ("label",)}


@dataclass(frozen=True, slots=True)
class LabelChoice:
    """A selection of label counts, and their groups."""

    sources: tuple[str, ...] = ()
    """Only these; empty: all."""
    labels: tuple[str, ...] = ()
    """Only these; empty: all."""
    by: tuple[str, ...] = ()
    """Columns of `GROUPS` to group by; empty: the usual ones of the question, over all sources."""
    by_name: str = "by"
    """Name of `by` in error messages."""

    def __post_init__(self) -> None:
        """Raises UsageError if `by` names an unknown column."""
        for group in self.by:
            if group not in GROUPS:
                raise UsageError(f"{self.by_name} is {group!r}.", next_step=f"give some of {', '.join(GROUPS)}")

    @property
    def knows_frames(self) -> bool:
        """Whether frames can be counted; a sum over labels would count a frame with two labels twice."""
        return not self.by or "label" in self.by or len(set(self.labels)) == 1


@dataclass(frozen=True, slots=True)
class SummaryAnswer:
    """The answer to a question."""

    table: pa.Table
    """Columns and rows; times are UTC."""
    zone: tzinfo
    frames: int | None
    """Number of all frames; None if the question is about labels."""
    mixed_models: Mapping[date, tuple[str, ...]]
    """Days with more than one model or threshold, with `name sha256 >threshold` of each."""

    @property
    def answer(self) -> Answer:
        """Columns and rows as Python values; times are local, with their offset from UTC."""
        columns = [self.table.column(name).to_pylist() for name in self.table.column_names]
        answer = Answer(tuple(self.table.column_names), list(zip(*columns, strict=True)))
        return _in_zone(answer, self.zone)


def summarise(
    store: ObjectStore,
    settings: Settings,
    name: str,
    span: Span,
    choice: LabelChoice | None = None,
    *,
    cache_dir: Path | None = None,
) -> SummaryAnswer:
    """Answers one question about days of the settings' time zone.

    Args:
        name: A key of `VIEWS`.
        choice: For questions about labels: the counts and their groups.
        cache_dir: As for a query session.

    Raises:
        LedgerError: A segment newer than a day's summaries cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk cannot be used.
        TransientError: The store does not answer.
    """
    zone = find_timezone(settings.timezone)
    if zone is UTC:
        days = None if span.is_all else days_of(store, span)
        with open_lake(store, settings=settings, days=days, summaries=VIEWS[name], cache_dir=cache_dir) as lake:
            return ask_session(lake, name, days, choice)
    known = days_of(store, Span())
    wanted = sorted(day for day in utc_days(known) if day in span)
    read = [day for day in known if day in utc_days(wanted)]
    # Other summaries are counted by local days, which needs the tables of all days.
    is_hourly = HOURLY.issuperset(VIEWS[name]) and bool(read) and local_days(zone, read[0], read[-1]).has_whole_hours
    stored = VIEWS[name] if is_hourly else ()
    with (
        open_lake(store, settings=settings, days=read, summaries=stored, cache_dir=cache_dir) as lake,
        lake.cursor(zone) as local,
    ):
        return ask_session(local, name, wanted, choice)


def ask_session(
    lake: LakeSession, name: str, days: Sequence[date] | None, choice: LabelChoice | None = None
) -> SummaryAnswer:
    """Answers one question about days of a query session, in its time zone and at its moment.

    Args:
        lake: The session, opened with the settings of summaries.
        name: A key of `VIEWS`.
        days: Only these; None: all.
        choice: As for `summarise`.

    Raises:
        PermanentError: This machine has too little memory or disk.
    """
    zone = lake.local.zone if lake.local else UTC
    first, frames = VIEWS[name][0], None
    with lake.of_days(days) as tables:
        if first == FRAME_STATS.name:
            frames = int(tables.query("SELECT coalesce(sum(frames), 0) FROM frame_stats").rows[0][0])
        if name in _USUAL_GROUPS:
            choice = choice or LabelChoice()
            groups = [group for group in GROUPS if group in (choice.by or _USUAL_GROUPS[name])]
            table = _count_labels(tables, name, choice, groups)
            if has_intervals(groups) and zone is UTC:
                table = with_intervals(lake, table, groups, days, choice.sources)
        else:
            table = tables.arrow(view_sql(name))
        return SummaryAnswer(table, zone, frames, _mixed_models(tables, first))


@dataclass(frozen=True, slots=True)
class HourlyCount:
    """One row of the summary `label_counts`: its key and count."""

    hour: datetime
    """Start of the hour in the session's time zone."""
    source: str | None
    label: str
    count: int


def hourly_counts(lake: LakeSession, days: Sequence[date]) -> list[HourlyCount]:
    """Returns the rows of the summary `label_counts` of some days, without times, models and observed time.

    This is much faster than `ask_session`, which spends most of its time on those.

    Args:
        lake: The session, opened with the settings of summaries.
        days: Only these days of the session's zone.

    Raises:
        PermanentError: This machine has too little memory or disk.
    """
    with lake.of_days(days) as tables:
        rows = tables.query("SELECT hour, source, label, count FROM label_counts").rows
    zone = lake.local.zone if lake.local else UTC
    return [HourlyCount(in_zone(hour, zone), *values) for hour, *values in rows]


def has_intervals(groups: Collection[str]) -> bool:
    """Tells whether counts of these groups get an interval: those of labels, of whole days."""
    return "label" in groups and "hour" not in groups


def _count_labels(tables: SessionDays, name: str, choice: LabelChoice, groups: list[str]) -> pa.Table:
    counts = view_sql(name).replace("{by}", ", ".join(groups))
    if name == "label_counts" and not choice.knows_frames:
        counts = f"SELECT * EXCLUDE (distinct_frames) FROM (\n{counts})\n"  # noqa: S608 - own query, own names
    sql = _with_observed_time(counts, name, groups, choice)
    return tables.arrow(sql, {"sources": list(choice.sources), "labels": list(choice.labels)})


def _with_observed_time(counts: str, name: str, groups: list[str], choice: LabelChoice) -> str:
    """Returns the query of counts with observed time, and with zeros for chosen labels that were not seen."""
    watched = [group for group in groups if group != "label"]
    joined, keys = "LEFT JOIN observed", watched
    if choice.labels:
        is_by_label = "label" in groups
        every = "(SELECT * FROM observed, (SELECT unnest($labels) AS label)) AS observed" if is_by_label else "observed"
        joined, keys = f"FULL JOIN {every}", groups
    frames = ["distinct_frames"] if choice.knows_frames else []
    named = ["count", "days"] if name == "label_totals" else ["count", *frames, "distinct_sources"]
    parts = {
        "counts": counts,
        "by": ", ".join(groups),
        "watched": "".join(f"{group}, " for group in watched),
        "zeros": ", ".join(f"coalesce({column}, 0) AS {column}" for column in named),
        "named": ", ".join(named),
        "joined": joined,
        "keys": ", ".join(["one", *keys]),
        "order": ", ".join([*(["count DESC"] if name == "label_totals" else []), *groups]),
    }
    sql = view_sql("observed")
    for part, text in parts.items():
        sql = sql.replace(f"{{{part}}}", text)
    return sql


def _in_zone(answer: Answer, zone: tzinfo) -> Answer:
    """Converts times to local time; an hour becomes the full hour, even if the clock changed within it."""
    if zone is UTC:
        return answer

    def shown(column: str, value: Any) -> Any:
        if not isinstance(value, datetime):
            return value
        local = in_zone(value, zone)
        return local.replace(minute=0, second=0) if column == "hour" else local

    return Answer(answer.columns, [tuple(map(shown, answer.columns, row)) for row in answer.rows])


def view_sql(name: str) -> str:
    """Returns the query of a question."""
    return read_sql("imgpipeline.lake.query", name)


def _mixed_models(tables: SessionDays, table: str) -> dict[date, tuple[str, ...]]:
    rows = tables.query(
        f"SELECT day, list_sort(list_distinct(flatten(list(models)))) AS used FROM {table} "  # noqa: S608 - own names
        "GROUP BY day HAVING len(used) > 1 ORDER BY day"
    ).rows
    return {day: tuple(models) for day, models in rows}
