"""The latest frames with what was found in them, and the latest day that has any: `imgpipeline frames list`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.lake.engine import quoted
from imgpipeline.lake.session import LakeSession
from imgpipeline.lake.spans import open_summaries
from imgpipeline.lake.tables import SOURCE_ACTIVITY
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_FILE = """CASE WHEN json_type(attributes, '$.file') = 'VARCHAR' AND attributes ->> '$.file' <> ''
                 THEN attributes ->> '$.file' ELSE split_part(source_image_path, '/', -1) END"""


@dataclass(frozen=True, slots=True)
class WantedFrames:
    """Which frames are to be listed."""

    source: str | None = None
    """Only those of this source."""
    label: str | None = None
    """Only those in which this label was found."""
    status: FrameStatus | None = None
    """Only those that were taken this far."""


@dataclass(frozen=True, slots=True)
class ListedFrame:
    """One frame of the list."""

    file: str
    """Name of the image's file as its producer gave it (the attribute `file`), else the last part of its key."""
    timestamp: datetime
    """The frame's own time, UTC."""
    source: str
    """The camera, video or folder it came from."""
    source_image_path: str
    """`s3://bucket/key`, or a key below the store's prefix."""
    size_bytes: int | None
    """Size of the encoded image; None where an import does not know it."""
    status: FrameStatus
    """How far it was taken."""
    frame_id: str
    """Names the frame; unique within a day."""
    detections: Mapping[str, int]
    """How many of each label, the most frequent first."""

    @property
    def size_kb(self) -> float | None:
        """Size of the encoded image in kB (1,000 bytes)."""
        return None if self.size_bytes is None else self.size_bytes / 1000


@dataclass(frozen=True, slots=True)
class FrameList:
    """The latest frames of those that were asked for."""

    frames: tuple[ListedFrame, ...]
    """The latest first."""
    matching: int
    """How many there are in all, with those that the limit leaves out."""


def list_frames(lake: LakeSession, wanted: WantedFrames, limit: int) -> FrameList:
    """Lists the latest frames of a session's days.

    Args:
        lake: The session.
        wanted: Which frames.
        limit: At most this many, from 1.

    Raises:
        PermanentError: Memory or disk of this machine do not do for it.
    """
    chosen = f"FROM frames WHERE {_condition(wanted)}"
    [(matching,)] = lake.query(f"SELECT count(*) {chosen}").rows
    rows = lake.query(
        f"""
        WITH listed AS (
            SELECT day, {_FILE} AS file, "timestamp", source, source_image_path, size_bytes, status, frame_id
            {chosen} ORDER BY "timestamp" DESC, frame_id LIMIT {limit}
        ), found AS (
            SELECT day, frame_id, label, count(*) AS count
            FROM detections SEMI JOIN listed USING (day, frame_id) GROUP BY day, frame_id, label
        )
        SELECT any_value(COLUMNS(listed.* EXCLUDE (day, frame_id))), frame_id,
               list(label ORDER BY count DESC, label) FILTER (label IS NOT NULL) AS labels,
               list(count ORDER BY count DESC, label) FILTER (label IS NOT NULL) AS counts
        FROM listed LEFT JOIN found USING (day, frame_id)
        GROUP BY day, frame_id ORDER BY any_value(listed."timestamp") DESC, frame_id
        """  # noqa: S608 - own SQL, texts quoted
    ).rows
    return FrameList(
        tuple(
            ListedFrame(
                file=file,
                timestamp=time,
                source=source,
                source_image_path=path,
                size_bytes=size,
                status=FrameStatus(status),
                frame_id=frame_id,
                detections=dict(zip(labels or (), counts or (), strict=True)),
            )
            for file, time, source, path, size, status, frame_id, labels, counts in rows
        ),
        matching,
    )


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
