"""Which frames a person has reviewed: one small object for each person and day. No count reads it.

A day can be marked as a whole, up to where the ledger was shown then; frames that arrive later are not yet reviewed.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import sha256
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.times import format_time
from imgpipeline.errors import PermanentError, TransientError, UsageError
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

PREFIX = "reviewed"
MOST_FRAMES = 5_000
"""Frames of a day that one person can mark one by one."""
_MOST_KEPT = 2_000
_ATTEMPTS = 20
_COUNT = """
WITH ends AS (
    SELECT unnest($days)::DATE AS day, unnest($topics) AS topic, unnest($ids) AS topic_id,
           unnest($partitions)::INTEGER AS part, unnest($ends)::BIGINT AS behind
), alone AS (
    SELECT unnest($frame_days)::DATE AS day, unnest($frames) AS frame_id
)
SELECT day, count(*) FROM frames
WHERE day IN (SELECT day FROM ends UNION SELECT day FROM alone) AND (
    (day, frame_id) IN (SELECT day, frame_id FROM alone)
    OR EXISTS (SELECT 1 FROM ends WHERE ends.day = frames.day AND topic = source_kafka_topic
               AND topic_id = source_kafka_topic_id AND part = source_kafka_partition AND source_kafka_offset < behind)
) GROUP BY day
"""


@dataclass(frozen=True, slots=True)
class ReviewedDay:
    """What one person has reviewed of one day."""

    day: date
    """UTC day."""
    frames: frozenset[str] = frozenset()
    """Ids of frames that were marked one by one."""
    ends: Mapping[ChainId, int] = field(default_factory=dict)
    """Up to which offset of each chain the whole day was marked; empty if it was not."""

    def holds(self, frame: Mapping[str, Any]) -> bool:
        """Tells whether a frame of the day, a row of `frames`, is reviewed."""
        if frame["frame_id"] in self.frames:
            return True
        place = (frame[f"source_kafka_{name}"] for name in ("topic", "topic_id", "partition"))
        return bool(self.ends) and frame["source_kafka_offset"] < self.ends.get(ChainId(*place), 0)

    def to_json(self, by: str, at: datetime) -> dict[str, Any]:
        """Returns the document to store."""
        ends = [[chain.topic, chain.topic_id, chain.partition, end] for chain, end in self.ends.items()]
        return {"by": by, "at": format_time(at), "day": str(self.day), "frames": sorted(self.frames), "ends": ends}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ReviewedDay":
        """Reads what `to_json` wrote."""
        ends = {ChainId(topic, topic_id, int(number)): int(end) for topic, topic_id, number, end in data["ends"]}
        return cls(date.fromisoformat(data["day"]), frozenset(map(str, data["frames"])), ends)


class Reviews:
    """Reads and changes what people have reviewed. Safe to use from many threads."""

    def __init__(self, store: ObjectStore) -> None:
        """Takes the object store; nothing is read yet."""
        self._store = store
        self._kept: dict[str, tuple[str, ReviewedDay]] = {}

    def of_day(self, by: str, day: date) -> ReviewedDay:
        """Returns what a person has reviewed of a day.

        Raises:
            PermanentError: The object is damaged.
            TransientError: The store does not answer.
        """
        return self._read(reviewed_key(by, day), day)[0]

    def of_days(self, by: str, days: Iterable[date]) -> dict[date, ReviewedDay]:
        """Returns what a person has reviewed of some days; days without a mark are left out.

        One listing, and a request for each object that has changed since it was last read. Raises as `of_day`.
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
        """Changes what a person has reviewed of a day; of changes at the same time, none is lost.

        Args:
            by: The person.
            day: UTC day.
            now: Time of the change, UTC.
            change: Returns the new state for the stored one; may be called again.

        Raises:
            UsageError: Too many frames are marked one by one.
            PermanentError: The object is damaged.
            TransientError: The store does not answer, or others change the object all the time.
        """
        key = reviewed_key(by, day)
        for _ in range(_ATTEMPTS):
            stored, e_tag = self._read(key, day)
            changed = change(stored)
            if changed == stored:
                return stored
            if len(changed.frames) > MOST_FRAMES:
                raise UsageError(
                    f"{len(changed.frames):,} frames of {day} are marked one by one; at most {MOST_FRAMES:,} can be.",
                    next_step="mark the whole day as reviewed",
                )
            if self._store.replace(key, json.dumps(changed.to_json(by, now)).encode(), e_tag):
                return changed
        raise TransientError(f"{key} is being changed by others.", next_step="try again")

    def _read(self, key: str, day: date) -> tuple[ReviewedDay, str | None]:
        try:
            fetched = self._store.fetch(key)
        except ObjectMissingError:
            return ReviewedDay(day), None
        try:
            return ReviewedDay.from_json(json.loads(fetched.data)), fetched.e_tag
        except (ValueError, TypeError, KeyError):
            raise PermanentError(
                f"{self._store.url}/{key} is damaged; expected what the viewer has stored of reviewed frames.",
                next_step="delete it, and mark the frames again",
            ) from None


def reviewed_key(by: str, day: date | None = None) -> str:
    """Returns the key of what a person has reviewed of a day, or the prefix of all of their days."""
    person = f"{PREFIX}/{sha256(by.encode()).hexdigest()[:32]}"
    return f"{person}/{day}.json" if day else person


def count_reviewed(lake: LakeSession, reviewed: Sequence[ReviewedDay]) -> dict[date, int]:
    """Counts the frames of a session that are reviewed, by day; days without any are left out."""
    ends = [(one.day, chain, end) for one in reviewed for chain, end in one.ends.items()]
    alone = [(one.day, frame_id) for one in reviewed for frame_id in one.frames]
    if not ends and not alone:
        return {}
    given = {
        "days": [day for day, _, _ in ends],
        "topics": [chain.topic for _, chain, _ in ends],
        "ids": [chain.topic_id for _, chain, _ in ends],
        "partitions": [chain.partition for _, chain, _ in ends],
        "ends": [end for _, _, end in ends],
        "frame_days": [day for day, _ in alone],
        "frames": [frame_id for _, frame_id in alone],
    }
    return dict(lake.query(_COUNT, given).rows)
