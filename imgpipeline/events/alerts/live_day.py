"""The frames of one UTC day as the ledger has them so far, and the events that rules find in them.

The functions that find events are those of the daily build, on the same frames: they give the same event ids.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.contracts.timezones import find_timezone
from imgpipeline.events.comparing import StoredFrame, compare_pairs
from imgpipeline.events.configuration import ImageChangeRule, ObjectRule, Rules
from imgpipeline.events.evaluate import evaluate_changes, evaluate_objects
from imgpipeline.events.values import Event, FrameChange, SeenFrame, SeenObject
from imgpipeline.objectstore import ImageReader
from imgpipeline.settings import Settings

_Pair = tuple[StoredFrame, StoredFrame]


class LiveDay:
    """One day; for one thread at a time."""

    def __init__(
        self, rules: Rules, settings: Settings, images: ImageReader, compared: Iterable[FrameChange] = ()
    ) -> None:
        """Begins without frames.

        Args:
            rules: The rules; those that follow tracks are left out.
            settings: Have the time zone of hours.
            images: Reads the images that are compared.
            compared: Comparisons that are known already.
        """
        self._rules = rules
        self._zone = find_timezone(settings.timezone)
        self._images = images
        self._frames: dict[str, dict[str, tuple[tuple[Any, ...], Frame]]] = defaultdict(dict)
        self._changes: dict[_Pair, FrameChange] = {_pair_of(change): change for change in compared}
        self._new: set[str] = set()

    def add(self, chain: ChainId, frame: Frame) -> None:
        """Adds a frame; of several with one id, the one that the day tables take stays."""
        rank = (frame.status is FrameStatus.GATED, frame.topic, frame.partition, frame.offset, chain.topic_id)
        known = self._frames[frame.source].get(frame.frame_id)
        if known is None or rank < known[0]:
            self._frames[frame.source][frame.frame_id] = (rank, frame)
            self._new.add(frame.source)

    def find_events(self) -> Iterator[Event]:
        """Yields all events of the sources that have new frames since the last call, also those found before.

        Raises:
            TransientError: The store does not answer.
            ForbiddenError: The store refuses everything.
        """
        for source in sorted(self._new):
            frames = [frame for _, frame in self._frames[source].values()]
            for rule in self._rules.rule:
                wanted = self._rules.sources_of(rule)
                if rule.reads == "track_points" or (wanted and source not in wanted):
                    continue
                if isinstance(rule, ImageChangeRule):
                    yield from evaluate_changes(rule, self._compare(frames), self._zone)
                else:
                    yield from evaluate_objects(self._rules, rule, _seen(rule, frames), self._zone)
        self._new.clear()

    def _compare(self, frames: Iterable[Frame]) -> list[FrameChange]:
        """Returns the comparison of each frame with the one before; each pair is compared once."""
        stored = [
            StoredFrame(frame.frame_id, frame.source, frame.timestamp, frame.source_image_path)
            for frame in sorted(frames, key=_in_order)
        ]
        pairs = [(frame, before) for before, frame in pairwise(stored)]
        new = [pair for pair in pairs if pair not in self._changes]
        self._changes.update(zip(new, compare_pairs(self._images, new), strict=True))
        return [self._changes[pair] for pair in pairs]


def _pair_of(change: FrameChange) -> _Pair:
    previous = StoredFrame(
        change.previous_frame_id, change.source, change.previous_timestamp, change.previous_image_path
    )
    return StoredFrame(change.frame_id, change.source, change.timestamp, change.image_path), previous


def _in_order(frame: Frame) -> tuple[datetime, bool, int, str, int, int, str]:
    """Sorts as the table `frame_changes` does."""
    number = frame.frame_number
    where = (frame.topic, frame.partition, frame.offset)
    return (frame.timestamp, number is None, number or 0, *where, frame.frame_id)


def _seen(rule: ObjectRule, frames: Iterable[Frame]) -> list[SeenFrame]:
    """Returns the processed frames with the objects that a rule looks at."""
    return [
        SeenFrame(
            frame.frame_id,
            frame.source,
            frame.timestamp,
            frame.source_image_path,
            (frame.image_width or 0, frame.image_height or 0),
            tuple(
                SeenObject(found.label, found.confidence, found.box_xywh)
                for found in frame.detections
                if (not rule.labels or found.label in rule.labels) and found.confidence >= rule.min_confidence
            ),
        )
        for frame in frames
        if frame.status is FrameStatus.PROCESSED
    ]
