"""Finds the events of one UTC day in the frames that the ledger has so far.

It uses the functions of the daily build on the same frames, so event ids are the same. Each look evaluates only new
frames; after a frame that is late or replaces another one, it evaluates the whole day of that source again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.contracts.times import find_timezone
from imgpipeline.events.comparing import StoredFrame, compare_pairs
from imgpipeline.events.configuration import ImageChangeRule, Rule, Rules, Zone
from imgpipeline.events.evaluate import Choice, StretchEvents, StretchRule, change_event
from imgpipeline.events.values import Event, FrameChange, SeenFrame, SeenObject, in_order
from imgpipeline.objectstore import ImageReader
from imgpipeline.settings import Settings

_Pair = tuple[StoredFrame, StoredFrame]


class _LiveRule:
    """One rule at one source, with the state after the last evaluated frame."""

    def __init__(self, rules: Rules, rule: Rule, zone: tzinfo) -> None:
        place = rules.place_of(rule)
        self._rule, self._choice = rule, Choice(rule, zone)
        self._stretches = (
            StretchEvents(rule, place if isinstance(place, Zone) else None) if isinstance(rule, StretchRule) else None
        )

    def take(self, frames: Iterable[Frame], changes: Iterable[FrameChange]) -> list[Event]:
        """Takes the next frames and their comparisons, and returns the events that are new or have not ended."""
        found: list[Event | None] = []
        if isinstance(self._rule, ImageChangeRule):
            found += [change_event(self._rule, change) for change in changes]
        elif isinstance(self._rule, StretchRule) and self._stretches:
            found += [self._stretches.take(frame) for frame in in_order(_seen(frames))]
            found.append(self._stretches.current)
        return [event for event in found if event and self._choice.takes(event)]


@dataclass(slots=True)
class _LiveSource:
    """The frames of one source, and the state of its rules."""

    frames: dict[str, tuple[tuple[Any, ...], Frame]] = field(default_factory=dict)
    """The frame that the day tables keep for each id, with its rank."""
    new: list[Frame] = field(default_factory=list)
    """Frames that were not evaluated yet."""
    is_late: bool = False
    """Whether all frames must be evaluated again."""
    last: Frame | None = None
    """The last evaluated frame."""
    rules: list[_LiveRule] = field(default_factory=list)
    """The rules that apply to this source."""

    def add(self, rank: tuple[Any, ...], frame: Frame) -> None:
        """Adds a frame; of several with the same id, keeps the one with the lowest rank."""
        known = self.frames.get(frame.frame_id)
        if known is not None and known[0] <= rank:
            return
        self.frames[frame.frame_id] = (rank, frame)
        self.new.append(frame)
        is_next = self.last is None or frame.timestamp > self.last.timestamp
        self.is_late = self.is_late or known is not None or not is_next


class LiveDay:
    """One day; for one thread at a time."""

    def __init__(
        self, rules: Rules, settings: Settings, images: ImageReader, compared: Iterable[FrameChange] = ()
    ) -> None:
        """Starts without frames.

        Args:
            rules: The rules; rules about tracked objects are ignored.
            settings: Has the time zone of hours.
            images: Reads the images to compare.
            compared: Comparisons that are already known.
        """
        self._rules = rules
        self._zone = find_timezone(settings.timezone)
        self._images = images
        self._sources: dict[str, _LiveSource] = {}
        self._changes: dict[_Pair, FrameChange] = {_pair_of(change): change for change in compared}

    def add(self, chain: ChainId, frame: Frame) -> None:
        """Adds a frame; of several with the same id, keeps the same one as the day tables."""
        rank = (frame.status is FrameStatus.GATED, frame.topic, frame.partition, frame.offset, chain.topic_id)
        self._sources.setdefault(frame.source, _LiveSource()).add(rank, frame)

    def find_events(self) -> Iterator[Event]:
        """Yields the events that are new or have not ended; after a late frame, all events of its source.

        Raises:
            TransientError: The store does not answer; the next call finds the events again.
            ForbiddenError: The store refuses access.
        """
        for name, source in sorted(self._sources.items()):
            if source.new:
                yield from self._evaluate(name, source)

    def _evaluate(self, name: str, source: _LiveSource) -> list[Event]:
        is_whole = source.is_late or source.last is None
        frames = [frame for _, frame in source.frames.values()] if is_whole else source.new
        frames = sorted(frames, key=_in_order)
        wanted = [rule for rule in self._rules.rule if self._is_for(rule, name)]
        before = [] if is_whole or source.last is None else [source.last]
        is_compared = any(isinstance(rule, ImageChangeRule) for rule in wanted)
        changes = self._compare([*before, *frames]) if is_compared else []  # first, because it may fail
        rules = [_LiveRule(self._rules, rule, self._zone) for rule in wanted] if is_whole else source.rules
        events = [event for rule in rules for event in rule.take(frames, changes)]
        source.rules, source.last, source.is_late = rules, frames[-1], False
        source.new.clear()
        return events

    def _is_for(self, rule: Rule, source: str) -> bool:
        wanted = self._rules.sources_of(rule)
        return rule.reads != "track_points" and (not wanted or source in wanted)

    def _compare(self, frames: Sequence[Frame]) -> list[FrameChange]:
        """Returns the comparison of each frame with the previous one; compares each pair once."""
        stored = [
            StoredFrame(frame.frame_id, frame.source, frame.timestamp, frame.source_image_path) for frame in frames
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
    """Sorts like the table `frame_changes`."""
    number = frame.frame_number
    where = (frame.topic, frame.partition, frame.offset)
    return (frame.timestamp, number is None, number or 0, *where, frame.frame_id)


def _seen(frames: Iterable[Frame]) -> list[SeenFrame]:
    """Returns the processed frames with their objects."""
    return [
        SeenFrame(
            frame.frame_id,
            frame.source,
            frame.timestamp,
            frame.source_image_path,
            (frame.image_width or 0, frame.image_height or 0),
            tuple(SeenObject(found.label, found.confidence, found.box_xywh) for found in frame.detections),
        )
        for frame in frames
        if frame.status is FrameStatus.PROCESSED
    ]
