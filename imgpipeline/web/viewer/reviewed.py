"""Stores which frames a person has reviewed, as one small object per person and day. Counts do not depend on it.

A whole day of any time zone can be marked, up to the offsets that the viewer showed at the time: later frames are not
reviewed. The mark is stored as parts of the UTC days that the day overlaps.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.times import Timestamp, format_time
from imgpipeline.errors import PermanentError, TransientError, UsageError
from imgpipeline.lake.sessions.local_time import DAY_OF_ROW
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.lake.storage.manifest import Ends
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

PREFIX = "reviewed"
MOST_FRAMES = 5_000
"""Individual frames that one person can mark per day."""
_MOST_KEPT = 2_000
_ATTEMPTS = 20
_COUNT = """
WITH ends AS (
    SELECT unnest($parts::STRUCT(day DATE, start TIMESTAMPTZ, stop TIMESTAMPTZ, topic VARCHAR, topic_id VARCHAR,
                                 part INTEGER, end_offset BIGINT)[], recursive := true)
), alone AS (
    SELECT unnest($frames::STRUCT(day DATE, frame_id VARCHAR)[], recursive := true)
)
SELECT {day} AS shown, count(*) FROM frames
WHERE day IN (SELECT day FROM ends UNION SELECT day FROM alone) AND (
    (day, frame_id) IN (SELECT day, frame_id FROM alone)
    OR EXISTS (SELECT 1 FROM ends WHERE ends.day = frames.day AND "timestamp" >= start AND "timestamp" < stop
               AND topic = source_kafka_topic
               AND topic_id = source_kafka_topic_id AND part = source_kafka_partition
               AND source_kafka_offset < end_offset)
) GROUP BY shown
"""


@dataclass(frozen=True, slots=True)
class ReviewedPart:
    """A part of a UTC day that is marked as a whole."""

    start: Timestamp
    end: Timestamp
    ends: Ends
    """End offset of the mark in each chain."""

    def outside(self, start: datetime, end: datetime) -> Iterator["ReviewedPart"]:
        """Yields the rest of the part without a range of time."""
        if self.start < start:
            yield replace(self, end=min(self.end, start))
        if end < self.end:
            yield replace(self, start=max(self.start, end))


@dataclass(frozen=True, slots=True)
class ReviewedDay:
    """Frames of a day that one person has reviewed."""

    day: date
    frames: frozenset[str] = frozenset()
    """Ids of frames that are marked individually."""
    parts: tuple[ReviewedPart, ...] = ()
    """Parts that are marked as a whole, by time, without overlaps."""

    def holds(self, frame: Mapping[str, Any]) -> bool:
        """Returns whether a frame of the day, a row of `frames`, is reviewed."""
        if frame["frame_id"] in self.frames:
            return True
        chain = ChainId(*(frame[f"source_kafka_{name}"] for name in ("topic", "topic_id", "partition")))
        part = self.part_at(frame["timestamp"])
        return part is not None and frame["source_kafka_offset"] < part.ends.get(chain, 0)

    def part_at(self, time: datetime) -> ReviewedPart | None:
        """Returns the marked part that contains a time; None without one."""
        return next((part for part in self.parts if part.start <= time < part.end), None)

    def changed(self, part: ReviewedPart, frames: Collection[str], *, is_reviewed: bool) -> "ReviewedDay":
        """Returns the day with a part marked as a whole, or with all its marks removed; `frames` are marked in it."""
        others = [left for one in self.parts for left in one.outside(part.start, part.end)]
        parts = sorted([*others, *([part] if is_reviewed else [])], key=lambda one: one.start)
        return replace(self, frames=self.frames.difference(frames), parts=tuple(parts))


_REVIEWED_DAY = TypeAdapter(ReviewedDay)


def whole_day(day: date, ends: Mapping[ChainId, int]) -> ReviewedPart:
    """Returns the part that covers a whole UTC day."""
    midnight = datetime.combine(day, time(), UTC)
    return ReviewedPart(midnight, midnight + timedelta(days=1), ends)


class Reviews:
    """Reads and changes the marks of all people. Thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        """Keeps the object store; nothing is read yet."""
        self._store = store
        self._kept: dict[str, tuple[str, ReviewedDay]] = {}

    def of_day(self, by: str, day: date) -> ReviewedDay:
        """Returns the marks of a person on a day.

        Raises:
            PermanentError: The object is damaged.
            TransientError: The store does not answer.
        """
        return self._read(reviewed_key(by, day), day)[0]

    def of_days(self, by: str, days: Iterable[date]) -> dict[date, ReviewedDay]:
        """Returns the marks of a person on some days, without days that have no marks; errors as `of_day`.

        Costs one listing, and one request for each object that changed since it was last read.
        """
        wanted = {reviewed_key(by, day): day for day in days}
        listed = {info.key: info.e_tag for info in self._store.list_objects(reviewed_key(by))}
        found = {}
        for key in sorted(wanted.keys() & listed.keys()):
            kept = self._kept.get(key)
            if kept is None or kept[0] != listed[key]:
                read, e_tag = self._read(key, wanted[key])
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                kept = self._kept[key] = (e_tag or "", read)
            found[wanted[key]] = kept[1]
        return found

    def change(self, by: str, day: date, now: datetime, change: Callable[[ReviewedDay], ReviewedDay]) -> ReviewedDay:
        """Changes the marks of a person on a UTC day. Concurrent changes are not lost.

        `change` returns the new marks for the stored ones; it may be called several times.

        Raises:
            UsageError: Too many frames are marked individually.
            PermanentError: The object is damaged.
            TransientError: The store does not answer, or the change lost the write race repeatedly.
        """
        key = reviewed_key(by, day)
        for _ in range(_ATTEMPTS):
            stored, e_tag = self._read(key, day)
            changed = change(stored)
            if changed == stored:
                return stored
            if len(changed.frames) > MOST_FRAMES:
                raise UsageError(
                    f"{len(changed.frames):,} frames of {day} are marked individually; the limit is {MOST_FRAMES:,}.",
                    next_step="mark the whole day as reviewed",
                )
            document = {"by": by, "at": format_time(now), **_REVIEWED_DAY.dump_python(changed, mode="json")}
            if self._store.replace(key, json.dumps(document).encode(), e_tag):
                return changed
        raise TransientError(f"Other requests keep changing {key}.", next_step="try again")

    def _read(self, key: str, day: date) -> tuple[ReviewedDay, str | None]:
        try:
            fetched = self._store.fetch(key)
        except ObjectMissingError:
            return ReviewedDay(day), None
        try:
            return _REVIEWED_DAY.validate_json(fetched.data), fetched.e_tag
        except (ValueError, TypeError, KeyError):
            raise PermanentError(
                f"{self._store.url}/{key} is damaged; expected marks of reviewed frames.",
                next_step="delete it, and mark the frames again",
            ) from None


def reviewed_key(by: str, day: date | None = None) -> str:
    """Returns the key of a person's marks on a day, or the prefix of all of their days."""
    person = f"{PREFIX}/{sha256(by.encode()).hexdigest()[:32]}"
    return f"{person}/{day}.json" if day else person


def count_reviewed(lake: LakeSession, reviewed: Sequence[ReviewedDay]) -> dict[date, int]:
    """Counts the reviewed frames of a session by day of its time zone, without days that have none."""
    parts = [
        {"day": one.day, "start": part.start, "stop": part.end, "topic": chain.topic, "topic_id": chain.topic_id,
         "part": chain.partition, "end_offset": end}
        for one in reviewed for part in one.parts for chain, end in part.ends.items()
    ]  # fmt: skip
    frames = [{"day": one.day, "frame_id": frame_id} for one in reviewed for frame_id in one.frames]
    if not parts and not frames:
        return {}
    given = {"parts": parts, "frames": frames}
    return dict(lake.query(_COUNT.format(day=DAY_OF_ROW if lake.local else "day"), given).rows)
