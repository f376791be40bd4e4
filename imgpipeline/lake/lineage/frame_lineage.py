"""Traces one frame: back to its Kafka record, segment and run, and on to the numbers that count its detections."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.errors import LedgerError
from imgpipeline.lake.lineage.explanation import SegmentBehind
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.ledger.locating import segments_holding
from imgpipeline.objectstore import ObjectStore

_NUMBERS = """
SELECT label, hour("timestamp") AS hour, source, count(*)
FROM detections
WHERE day = DATE '{day}' AND frame_id = {frame} AND confidence >= coalesce(getvariable('summary_threshold'), 0)
GROUP BY ALL ORDER BY label
"""


@dataclass(frozen=True, slots=True)
class CountingNumber:
    """A number of `label_counts` that counts detections of a frame."""

    label: str
    """Class name."""
    hour: int
    """Hour of the day (UTC), 0 to 23."""
    source: str
    """The camera, video or folder."""
    of_frame: int
    """How many of its detections are in the frame."""
    count: int
    """The number itself."""


@dataclass(frozen=True, slots=True)
class FrameLineage:
    """Where a frame comes from, and what counts it."""

    chain: ChainId
    """The chain that has it."""
    offset: int
    """Kafka offset of its record."""
    segment: SegmentBehind
    """The segment that holds it; it was read, and the frame was found in it."""


def trace_frame(store: ObjectStore, frame: Mapping[str, Any], detections: int) -> FrameLineage:
    """Finds the segment that holds a frame, and compares it with the tables.

    Args:
        store: The object store.
        frame: The frame's row of the table `frames`.
        detections: How many detections the tables have of it.

    Raises:
        LedgerError: No segment holds the frame as the tables show it.
        TransientError: The store does not answer.
    """
    names = ("source_kafka_topic", "source_kafka_topic_id", "source_kafka_partition")
    chain, offset = ChainId(*(frame[name] for name in names)), int(frame["source_kafka_offset"])
    [(segment, _)] = segments_holding(store, chain, [offset])
    behind = SegmentBehind.of(segment, detections)
    frames = (one for one in segment.outcomes() if isinstance(one, Frame))
    held = next((one for one in frames if one.offset == offset), None)
    if held is None or held.frame_id != frame["frame_id"] or len(held.detections) != detections:
        raise LedgerError(
            f"{behind.key} does not hold the frame {frame['frame_id']} at offset {offset} as the tables show it.",
            next_step="run `imgpipeline audit --full`: it names every day, table and segment that disagrees",
        )
    return FrameLineage(chain, offset, behind)


def numbers_of_day(lake: LakeSession, day: date) -> Mapping[tuple[str, str | None, int], int]:
    """Returns the numbers of `label_counts` of a UTC day, by label, source and UTC hour.

    Raises:
        PermanentError: Memory or disk of this machine do not suffice.
    """
    rows = lake.query(f"SELECT label, source, hour, count FROM label_counts WHERE day = DATE '{day}'").rows  # noqa: S608 - a date
    return {(label, source, at.hour): count for label, source, at, count in rows if isinstance(at, datetime)}


def numbers_counting(
    lake: LakeSession, day: date, frame_id: str, numbers: Mapping[tuple[str, str | None, int], int]
) -> tuple[CountingNumber, ...]:
    """Returns the numbers of `label_counts` that count detections of a frame, by label.

    Args:
        lake: The session.
        day: The frame's UTC day.
        frame_id: The frame.
        numbers: Those of its day, as `numbers_of_day` returns them.

    Raises:
        PermanentError: Memory or disk of this machine do not suffice.
    """
    rows = lake.query(_NUMBERS.format(day=day, frame=quoted(frame_id))).rows
    return tuple(
        CountingNumber(label, hour, source, of_frame, numbers[label, source, hour])
        for label, hour, source, of_frame in rows
    )
