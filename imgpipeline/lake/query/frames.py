"""Frames and detections of some days, the latest first: `imgpipeline frames list`, `Lake.frames`, `Lake.detections`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.query.days import Span, days_of, unknown_day
from imgpipeline.lake.query.wanted_frames import WantedFrames, detection_condition, frame_condition
from imgpipeline.lake.schema.tables import DETECTIONS, FRAMES, SOURCE_ACTIVITY
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.ledger.days import known_days
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_FILE = """CASE WHEN json_type(attributes, '$.file') = 'VARCHAR' AND attributes ->> '$.file' <> ''
                 THEN attributes ->> '$.file' ELSE split_part(source_image_path, '/', -1) END"""
_LATEST_FIRST = '"timestamp" DESC, day DESC, frame_id'
_EARLIEST_FIRST = '"timestamp", day, frame_id DESC'


@dataclass(frozen=True, slots=True)
class FoundRows:
    """The latest matching frames or detections."""

    table: pa.Table
    """The latest first."""
    matching: int
    """Number of all matches, including those beyond the limit."""
    span: Span


def find_frames(
    store: ObjectStore, settings: Settings, span: Span, wanted: WantedFrames, limit: int | None = None
) -> FoundRows:
    """Finds frames, with all columns of the table `frames`, the name of the image file, and the counts of labels.

    Args:
        settings: As for a query session.
        span: UTC days. If it includes all days, only the latest day that has frames of the wanted source and status is
            searched.
        limit: At most this many, from 1; None: all.

    Raises:
        LedgerError: A segment newer than a day's tables cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    span = _latest_if_all(store, settings, span, wanted)
    with open_lake(store, settings=settings, days=[] if span.is_all else days_of(store, span)) as lake:
        return replace(list_frames(lake, wanted, limit), span=span)


def find_detections(
    store: ObjectStore, settings: Settings, span: Span, wanted: WantedFrames, limit: int | None = None
) -> FoundRows:
    """Finds the matching detections in the wanted frames, with all columns of `detections`; like `find_frames`."""
    span = _latest_if_all(store, settings, span, WantedFrames(source=wanted.source))
    condition = detection_condition(wanted)
    with open_lake(store, settings=settings, days=[] if span.is_all else days_of(store, span)) as lake:
        table = lake.arrow(
            f"SELECT {_columns(DETECTIONS.names)} FROM detections WHERE {condition} "  # noqa: S608 - own names, quoted
            f"ORDER BY {_LATEST_FIRST}, detection_number{_limit(limit)}"
        )
        return FoundRows(table, _count(lake, f"FROM detections WHERE {condition}"), span)


@dataclass(frozen=True, slots=True)
class FramePlace:
    """The position of a frame in the order of lists, the latest first."""

    timestamp: datetime
    """The frame's own time, UTC."""
    day: date
    """UTC day."""
    frame_id: str


def list_frames(
    lake: LakeSession,
    wanted: WantedFrames,
    limit: int | None = None,
    *,
    after: FramePlace | None = None,
    before: FramePlace | None = None,
) -> FoundRows:
    """Finds frames of a session's days; otherwise like `find_frames`.

    Args:
        limit: At most this many, from 1; None: all.
        after: Only frames after this position, which are older; the limit keeps the first of them.
        before: Only frames before this position, which are newer; the limit keeps the last of them.

    Returns:
        The frames, the latest first. `matching` counts the wanted frames at any position.
    """
    # A detection has its frame's time. The join uses it, so that DuckDB skips the row groups of all other times.
    chosen = f"FROM frames WHERE {frame_condition(wanted)}"
    listed = f"{chosen}{_beyond(after, is_after=True)}{_beyond(before, is_after=False)}"
    order = _EARLIEST_FIRST if before else _LATEST_FIRST
    table = lake.arrow(
        f"""
        WITH listed AS (
            SELECT {_columns(FRAMES.names)} {listed} ORDER BY {order}{_limit(limit)}
        ), counted AS (
            SELECT day, frame_id, label, count(*) AS count
            FROM detections SEMI JOIN listed USING (day, frame_id, "timestamp") GROUP BY day, frame_id, label
        ), found AS (
            SELECT day, frame_id,
                   map(list(label ORDER BY count DESC, label), list(count ORDER BY count DESC, label)) AS detections
            FROM counted GROUP BY day, frame_id
        )
        SELECT listed.*, {_FILE} AS file,
               coalesce(found.detections, CAST(MAP {{}} AS MAP(VARCHAR, BIGINT))) AS detections
        FROM listed LEFT JOIN found USING (day, frame_id) ORDER BY {_LATEST_FIRST}
        """  # noqa: S608 - own SQL, texts quoted
    )
    return FoundRows(table, _count(lake, chosen), Span())


def nearest_frame(lake: LakeSession, wanted: WantedFrames, place: FramePlace, *, is_newer: bool) -> FramePlace | None:
    """Returns the position of the next wanted frame on one side of a position; None at the end.

    Args:
        place: The position to start from.
        is_newer: Whether to look for a newer frame, otherwise for an older one.
    """
    order = _EARLIEST_FIRST if is_newer else _LATEST_FIRST
    condition = f"{frame_condition(wanted)}{_beyond(place, is_after=not is_newer)}"
    rows = lake.query(
        f'SELECT "timestamp", day, frame_id FROM frames WHERE {condition} ORDER BY {order} LIMIT 1'  # noqa: S608 - quoted
    ).rows
    return FramePlace(*rows[0]) if rows else None


def list_newest(lake: LakeSession, last_frames: Mapping[str, datetime]) -> list[dict[str, Any]]:
    """Returns the newest frame of each source, with all columns of the table `frames`.

    Args:
        last_frames: UTC time of the last frame of each source, from `source_status`.
    """
    if not last_frames:
        return []
    days = ", ".join(sorted({f"DATE '{time.date()}'" for time in last_frames.values()}))
    places = ", ".join(f"({quoted(source)}, TIMESTAMPTZ '{time}')" for source, time in last_frames.items())
    table = lake.arrow(
        f"SELECT {_columns(FRAMES.names)} FROM frames "  # noqa: S608 - own names, quoted
        f'WHERE day IN ({days}) AND (source, "timestamp") IN (VALUES {places}) '
        "QUALIFY row_number() OVER (PARTITION BY source ORDER BY frame_id) = 1"
    )
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="strict")
    return rows


def find_frame(lake: LakeSession, day: date, frame_id: str) -> dict[str, Any] | None:
    """Returns a frame of a session, with all columns of the table `frames` and `file`; None if there is none."""
    found = lake.arrow(
        f"SELECT {_columns(FRAMES.names)}, {_FILE} AS file FROM frames "  # noqa: S608 - own names, quoted
        f"WHERE day = DATE '{day}' AND frame_id = {quoted(frame_id)}"
    )
    rows: list[dict[str, Any]] = found.to_pylist(maps_as_pydicts="strict")
    return rows[0] if rows else None


def find_named_frame(store: ObjectStore, settings: Settings, day: date | None, name: str) -> dict[str, Any]:
    """Returns the latest frame with a file name or `frame_id`, with all of its `detections`.

    Args:
        settings: As for a query session.
        day: UTC day; None: the latest day.
        name: Name of the image file as its producer gave it, or `frame_id`.

    Raises:
        ConfigurationError: There is no such frame, or the ledger does not know the day.
        LedgerError: A segment newer than the day's tables cannot be read.
    """
    days = days_of(store, Span(day, day))
    if not days:
        raise unknown_day(day, known_days(store)) if day else ConfigurationError("The ledger is empty.")
    with open_lake(store, settings=settings, days=days[-1:]) as lake:
        found = lake.query(
            f"SELECT frame_id FROM frames WHERE frame_id = $name OR {_FILE} = $name ORDER BY {_LATEST_FIRST} LIMIT 1",  # noqa: S608 - own SQL
            {"name": name},
        ).rows
        frame = find_frame(lake, days[-1], found[0][0]) if found else None
        if frame is None:
            raise ConfigurationError(
                f"{days[-1]} has no frame {name!r}.", next_step=f"imgpipeline frames list --day {days[-1]}"
            )
        return {**frame, "detections": detections_in(lake, [(frame["day"], frame["frame_id"])]).popitem()[1]}


def detections_in(
    lake: LakeSession, frames: Iterable[tuple[date, str]], *, times: tuple[datetime, datetime] | None = None
) -> dict[tuple[date, str], list[dict[str, Any]]]:
    """Returns all detections of some frames of a session, sorted by number.

    Args:
        frames: Day and `frame_id` of each.
        times: The earliest and the latest `timestamp` of these frames (UTC), to read only this part of their days;
            None: unknown.
    """
    found: dict[tuple[date, str], list[dict[str, Any]]] = {key: [] for key in frames}
    if found:
        days = ", ".join(sorted({f"DATE '{day}'" for day, _ in found}))
        names = ", ".join(f"(DATE '{day}', {quoted(frame_id)})" for day, frame_id in found)
        table = lake.arrow(
            f"SELECT {_columns(DETECTIONS.names)} FROM detections WHERE day IN ({days}) "  # noqa: S608 - own names, quoted
            f"{_between(times)} AND (day, frame_id) IN (VALUES {names}) ORDER BY day, frame_id, detection_number"
        )
        for row in table.to_pylist():
            found[row["day"], row["frame_id"]].append(row)
    return found


def count_detections(lake: LakeSession, wanted: WantedFrames) -> int:
    """Counts the matching detections in the wanted frames of a session."""
    return _count(lake, f"FROM detections WHERE {detection_condition(wanted)}")


def _latest_if_all(store: ObjectStore, settings: Settings, span: Span, wanted: WantedFrames) -> Span:
    """Narrows a span of all days to the latest day that has such frames; leaves it unchanged if no day has any."""
    if not span.is_all:
        return span
    days = days_of(store, span)
    if wanted.source is None and wanted.status is None:
        latest = days[-1] if days else None
    else:
        latest = latest_day(store, settings, wanted, days)
    return Span(latest, latest)


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _between(times: tuple[datetime, datetime] | None) -> str:
    return "" if times is None else f"AND \"timestamp\" BETWEEN TIMESTAMPTZ '{times[0]}' AND TIMESTAMPTZ '{times[1]}'"


def _limit(limit: int | None) -> str:
    return "" if limit is None else f" LIMIT {int(limit)}"


def _count(lake: LakeSession, rows: str) -> int:
    return int(lake.query(f"SELECT count(*) {rows}").rows[0][0])


def latest_day(
    store: ObjectStore,
    settings: Settings,
    wanted: WantedFrames,
    days: Sequence[date],
    *,
    cache_dir: Path | None = None,
) -> date | None:
    """Returns the latest day that has frames of a source and status.

    Searches the summary `source_activity` from the latest day backwards, 1, 2, 4 and so on days at a time. A source
    that was seen today costs one day; one that was never seen costs one small file per day.

    Args:
        settings: As for a query session.
        wanted: The filter, of which only source and status count.
        days: Days to search, sorted.
        cache_dir: As for a query session.

    Returns:
        The day; None if no day has such frames.

    Raises:
        LedgerError: A segment newer than a day's tables cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk cannot be used.
        TransientError: The store does not answer.
    """
    counted = wanted.status.value if wanted.status else "frames"  # `processed`, `gated`
    newest_first, taken = days[::-1], 0
    while taken < len(newest_first):
        batch = newest_first[taken : 2 * taken + 1]
        taken += len(batch)
        with open_lake(
            store, settings=settings, days=sorted(batch), summaries=[SOURCE_ACTIVITY.name], cache_dir=cache_dir
        ) as lake:
            seen = f"SELECT max(day) FROM source_activity WHERE {counted} > 0 AND source = coalesce(?, source)"  # noqa: S608 - own names
            day: date | None = lake.query(seen, [wanted.source]).rows[0][0]
        if day is not None:
            return day
    return None


def _beyond(place: FramePlace | None, *, is_after: bool) -> str:
    if place is None:
        return ""
    earlier, later = ("<", ">") if is_after else (">", "<")
    time, day, name = f"TIMESTAMPTZ '{place.timestamp}'", f"DATE '{place.day}'", quoted(place.frame_id)
    return (
        f' AND ("timestamp" {earlier} {time} OR ("timestamp" = {time} AND (day {earlier} {day} '
        f"OR (day = {day} AND frame_id {later} {name}))))"
    )
