"""Frames as a person looks through them: the latest first, each with what was found in it.

Owns the question behind `imgpipeline frames list`. Showing it belongs to the command.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.lake.engine import quoted
from imgpipeline.lake.session import LakeSession


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
    def file(self) -> str:
        """Name of the image's file."""
        return self.source_image_path.rpartition("/")[2]

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
            SELECT day, "timestamp", source, source_image_path, size_bytes, status, frame_id
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
                time, source, path, size, FrameStatus(status), name, dict(zip(labels or (), counts or (), strict=True))
            )
            for time, source, path, size, status, name, labels, counts in rows
        ),
        matching,
    )


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
