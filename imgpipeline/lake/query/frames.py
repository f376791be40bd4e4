"""Frames and detections of some days, the latest first: `imgpipeline frames list`, `Lake.frames`, `Lake.detections`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow as pa

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.lake.query.days import Span, days_of
from imgpipeline.lake.query.stored_summaries import open_summaries
from imgpipeline.lake.schema import DETECTIONS, FRAMES, SOURCE_ACTIVITY
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_FILE = """CASE WHEN json_type(attributes, '$.file') = 'VARCHAR' AND attributes ->> '$.file' <> ''
                 THEN attributes ->> '$.file' ELSE split_part(source_image_path, '/', -1) END"""
_LATEST_FIRST = '"timestamp" DESC, day DESC, frame_id'


@dataclass(frozen=True, slots=True)
class WantedFrames:
    """Which frames are wanted."""

    source: str | None = None
    """Only those of this source."""
    label: str | None = None
    """Only those in which this label was found."""
    status: FrameStatus | None = None
    """Only those that were taken this far."""


@dataclass(frozen=True, slots=True)
class WantedDetections:
    """Which detections are wanted."""

    source: str | None = None
    """Only those of this source."""
    label: str | None = None
    """Only those of this label."""
    min_confidence: float = 0.0
    """Only those with at least this confidence, 0 to 1."""


@dataclass(frozen=True, slots=True)
class FoundRows:
    """The latest frames or detections of those that were asked for."""

    table: pa.Table
    """The latest first."""
    matching: int
    """How many there are in all, including those that the limit leaves out."""
    span: Span
    """The days that were read."""


def find_frames(
    store: ObjectStore, settings: Settings, span: Span, wanted: WantedFrames, limit: int | None = None
) -> FoundRows:
    """Finds frames: all columns of the table `frames`, the name of the image's file, and what was found.

    Args:
        store: The object store.
        settings: Those that summaries read.
        span: UTC days; all days stand for the latest day that has frames of the wanted source and status.
        wanted: Which frames.
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
    store: ObjectStore, settings: Settings, span: Span, wanted: WantedDetections, limit: int | None = None
) -> FoundRows:
    """Finds detections: all columns of the table `detections`; otherwise like `find_frames`."""
    span = _latest_if_all(store, settings, span, WantedFrames(source=wanted.source))
    parts = [f"confidence >= {float(wanted.min_confidence)!r}"]
    parts += [f"source = {quoted(wanted.source)}"] if wanted.source is not None else []
    parts += [f"label = {quoted(wanted.label)}"] if wanted.label is not None else []
    condition = " AND ".join(parts)
    with open_lake(store, settings=settings, days=[] if span.is_all else days_of(store, span)) as lake:
        table = lake.arrow(
            f"SELECT {_columns(DETECTIONS.names)} FROM detections WHERE {condition} "  # noqa: S608 - own names, quoted
            f"ORDER BY {_LATEST_FIRST}, detection_number{_limit(limit)}"
        )
        return FoundRows(table, _count(lake, f"FROM detections WHERE {condition}"), span)


def list_frames(lake: LakeSession, wanted: WantedFrames, limit: int | None = None) -> FoundRows:
    """Finds frames of a session's days; otherwise like `find_frames`."""
    chosen = f"FROM frames WHERE {_condition(wanted)}"
    table = lake.arrow(
        f"""
        WITH listed AS (
            SELECT {_columns(FRAMES.names)}, {_FILE} AS file {chosen} ORDER BY {_LATEST_FIRST}{_limit(limit)}
        ), counted AS (
            SELECT day, frame_id, label, count(*) AS count
            FROM detections SEMI JOIN listed USING (day, frame_id) GROUP BY day, frame_id, label
        ), found AS (
            SELECT day, frame_id,
                   map(list(label ORDER BY count DESC, label), list(count ORDER BY count DESC, label)) AS detections
            FROM counted GROUP BY day, frame_id
        )
        SELECT listed.*, coalesce(found.detections, CAST(MAP {{}} AS MAP(VARCHAR, BIGINT))) AS detections
        FROM listed LEFT JOIN found USING (day, frame_id) ORDER BY {_LATEST_FIRST}
        """  # noqa: S608 - own SQL, texts quoted
    )
    return FoundRows(table, _count(lake, chosen), Span())


def _latest_if_all(store: ObjectStore, settings: Settings, span: Span, wanted: WantedFrames) -> Span:
    """Returns the latest day that has such frames in the place of all days; all days where no day has any."""
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
    """Finds the latest day that has frames of a source and status.

    Days are looked at from the latest backwards, 1, 2, 4 and so on at a time, by their summary `source_activity`: a
    source seen today costs one day, and one that never was costs one small file for each day.

    Args:
        store: The object store.
        settings: Those that summaries read.
        wanted: Its label does not count: it may have been found on another day than the source's latest.
        days: Days to search, sorted.
        cache_dir: Where fetched files are kept; default: as for a query session.

    Returns:
        The day; None where none of them has such frames.

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
        with open_summaries(store, settings, [SOURCE_ACTIVITY.name], days=sorted(batch), cache_dir=cache_dir) as span:
            seen = f"SELECT max(day) FROM source_activity WHERE {counted} > 0 AND source = coalesce(?, source)"  # noqa: S608 - own names
            day: date | None = span.query(seen, [wanted.source]).rows[0][0]
        if day is not None:
            return day
    return None


def _condition(wanted: WantedFrames) -> str:
    parts = ["true"]
    if wanted.source is not None:
        parts.append(f"source = {quoted(wanted.source)}")
    if wanted.status is not None:
        parts.append(f"status = {quoted(wanted.status.value)}")
    if wanted.label is not None:
        having = f"SELECT day, frame_id FROM detections WHERE label = {quoted(wanted.label)}"  # noqa: S608 - quoted
        parts.append(f"(day, frame_id) IN ({having})")
    return " AND ".join(parts)
