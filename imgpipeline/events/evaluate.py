"""Finds the events of rules in frames, detections and image changes.

All functions are pure: the same frames give the same events. Later frames add events and move `ended_at` of the last
one; they change nothing else.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import TypeVar

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import Hours
from imgpipeline.events.configuration import (
    AbsenceRule,
    CountRule,
    DwellTimeRule,
    ImageChangeRule,
    Line,
    LineCrossingRule,
    ObjectRule,
    Rule,
    Rules,
    Zone,
    ZoneOccupancyRule,
)
from imgpipeline.events.geometry import find_crossings, objects_in
from imgpipeline.events.values import Event, FrameChange, SeenFrame, SeenObject, in_order

StretchRule = ZoneOccupancyRule | CountRule | AbsenceRule
"""A rule about a condition that holds from frame to frame, without following single objects."""
GivenT = TypeVar("GivenT", SeenFrame, FrameChange)


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame, and whether the condition of a rule holds in it."""

    frame: SeenFrame
    objects: tuple[SeenObject, ...]
    holds: bool

    @property
    def at(self) -> datetime:
        """Time of the frame, UTC."""
        return self.frame.timestamp


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time during which a condition holds."""

    first: Moment
    """The first frame in which it holds."""
    met: Moment
    """The first frame in which it has held for long enough."""
    last: Moment
    """The last frame in which it holds."""

    @property
    def met_after_s(self) -> float:
        """Seconds from the first frame until it had held for long enough."""
        return (self.met.at - self.first.at).total_seconds()


class StretchFinder:
    """Finds stretches moment by moment.

    Later moments can prolong the current stretch and add others; they never change where a stretch begins or is met.
    """

    def __init__(self, rule: ObjectRule, least_s: float) -> None:
        """Starts before the first moment; `least_s` is the shortest time from its first to its last frame."""
        self._least = timedelta(seconds=least_s)
        self._longest_gap, self._bridge = timedelta(seconds=rule.longest_gap_s), timedelta(seconds=rule.bridge_s)
        self._first: Moment | None = None
        self._met: Moment | None = None
        self._last: Moment | None = None
        self._before: Moment | None = None

    @property
    def current(self) -> Stretch | None:
        """The stretch that has not ended, if it has reached the minimum time."""
        return Stretch(self._first, self._met, self._last) if self._first and self._met and self._last else None

    def take(self, moment: Moment) -> Stretch | None:
        """Takes the next moment, and returns the stretch that ended before it, if any."""
        ended: Stretch | None = None
        if self._before and self._last:
            has_gap = moment.at - self._before.at > self._longest_gap
            both_hold = moment.holds and self._before.holds
            if has_gap or (not both_hold and moment.at - self._last.at > self._bridge):
                ended = self.current
                self._first = self._met = self._last = None
        self._before = moment
        if moment.holds:
            self._first, self._last = self._first or moment, moment
            self._met = self._met or (moment if moment.at - self._first.at >= self._least else None)
        return ended


class SourceRule:
    """Evaluates one rule at one source: a build passes the whole day at once, a watch the frames as they arrive.

    Both find the same events. Only the rules about tracked objects need the whole day, because its tracks do.
    """

    def __init__(self, rules: Rules, rule: Rule, zone: tzinfo) -> None:
        """Starts before the first frame; `zone` is the time zone of the rule's hours."""
        self._rule, self._place = rule, rules.place_of(rule)
        least_s = rule.seconds if isinstance(rule, CountRule | AbsenceRule) else 0.0
        self._finder = StretchFinder(rule, least_s) if isinstance(rule, StretchRule) else None
        self._hours = Hours.parse(rule.hours, zone) if rule.hours else None
        self._cooldown = timedelta(seconds=rule.cooldown_s)
        self._until: datetime | None = None

    def take(self, frames: Sequence[SeenFrame], changes: Iterable[FrameChange] = ()) -> list[Event]:
        """Takes the next frames by time, and the comparisons of their images.

        Returns:
            The events that are new or have not ended, by time, within the hours of the rule and outside its cooldown.
        """
        found = sorted(self._find(frames, changes), key=lambda event: (event.timestamp, event.event_id))
        return [event for event in found if self._is_chosen(event)]

    def _find(self, frames: Sequence[SeenFrame], changes: Iterable[FrameChange]) -> Iterator[Event]:
        rule, place = self._rule, self._place
        if isinstance(rule, ImageChangeRule):
            yield from (event for change in changes if (event := change_event(rule, change)))
        elif isinstance(rule, LineCrossingRule):
            yield from _crossing_events(rule, place, frames) if isinstance(place, Line) else ()
        elif isinstance(rule, DwellTimeRule):
            yield from _dwell_events(rule, place, frames) if isinstance(place, Zone) else ()
        elif self._finder:
            zone = place if isinstance(place, Zone) else None
            ended = [self._finder.take(_moment(rule, zone, frame)) for frame in frames]
            yield from (_condition_event(rule, zone, one) for one in (*ended, self._finder.current) if one)

    def _is_chosen(self, event: Event) -> bool:
        if self._hours and not self._hours.contain(event.timestamp):
            return False
        if self._until is not None and event.timestamp < self._until:
            return False
        self._until = event.timestamp + self._cooldown
        return True


def evaluate(
    rules: Rules, rule: Rule, zone: tzinfo, *, frames: Iterable[SeenFrame] = (), changes: Iterable[FrameChange] = ()
) -> list[Event]:
    """Returns the events of a rule on a whole day, by source and time.

    Args:
        rules: All rules; they have the zone or line that the rule reads.
        zone: Time zone of the rule's hours.
        frames: All processed frames of the day, of any source, in any order, for a rule about objects.
        changes: All comparisons of the day, of any source, in any order, for a rule about image changes.
    """
    seen, compared = _by_source(frames), _by_source(changes)
    wanted = rules.sources_of(rule)
    return [
        event
        for source in sorted(seen.keys() | compared.keys())
        if not wanted or source in wanted
        for event in SourceRule(rules, rule, zone).take(in_order(seen[source]), compared[source])
    ]


def change_event(rule: ImageChangeRule, change: FrameChange) -> Event | None:
    """Returns the event of a comparison of two images; None if they are too similar for the rule."""
    if change.outcome != "sizes_differ" and (change.norm is None or change.norm <= rule.threshold):
        return None
    return Event(
        rule.name,
        rule.kind,
        change.source,
        timestamp=change.timestamp,
        started_at=change.previous_timestamp,
        ended_at=change.timestamp,
        place=None,
        label=None,
        direction=None,
        value=change.norm,
        reason=change.reason or f"the image differs by {change.norm:.6g}, threshold {rule.threshold:g}",
        frame_ids=(change.previous_frame_id, change.frame_id),
        image_paths=(change.previous_image_path, change.source_image_path),
    )


def _by_source(given: Iterable[GivenT]) -> defaultdict[str, list[GivenT]]:
    grouped: defaultdict[str, list[GivenT]] = defaultdict(list)
    for one in given:
        grouped[one.source].append(one)
    return grouped


def _wanted(rule: ObjectRule, zone: Zone | None, frame: SeenFrame) -> tuple[SeenObject, ...]:
    """Returns the objects of a frame that a rule is about: by label and confidence, and in its zone."""
    objects = tuple(
        each
        for each in frame.objects
        if (not rule.labels or each.label in rule.labels) and each.confidence >= rule.min_confidence
    )
    return objects_in(zone, objects, frame.size) if zone else objects


def _moment(rule: StretchRule, zone: Zone | None, frame: SeenFrame) -> Moment:
    objects = _wanted(rule, zone, frame)
    most = rule.above if isinstance(rule, CountRule) else 0
    return Moment(frame, objects, not objects if isinstance(rule, AbsenceRule) else len(objects) > most)


def _condition_event(rule: StretchRule, zone: Zone | None, stretch: Stretch) -> Event:
    count = len(stretch.met.objects)
    if isinstance(rule, AbsenceRule):
        value, what = stretch.met_after_s, f"nothing for {stretch.met_after_s:g} s"
    else:
        value, what = float(count), counted(count, "object")
    return _stretch_event(rule, zone, stretch, value=value, reason=f"{what} in {zone.name}" if zone else what)


def _dwell_events(rule: DwellTimeRule, zone: Zone, frames: Iterable[SeenFrame]) -> Iterator[Event]:
    """Yields an event for each time that one tracked object stayed in a zone for long enough."""
    by_track: dict[str, list[Moment]] = defaultdict(list)
    for frame in frames:
        inside = {each.track_id for each in _wanted(rule, zone, frame)}
        for each in frame.objects:
            if each.track_id is not None:
                by_track[each.track_id].append(Moment(frame, (each,), each.track_id in inside))
    for _, moments in sorted(by_track.items()):
        finder = StretchFinder(rule, rule.seconds)
        ended = [finder.take(moment) for moment in moments]
        for stretch in (*ended, finder.current):
            if stretch:
                reason = f"{stretch.met_after_s:g} s in {zone.name}"
                yield _stretch_event(rule, zone, stretch, value=stretch.met_after_s, reason=reason)


def _stretch_event(rule: ObjectRule, zone: Zone | None, stretch: Stretch, *, value: float, reason: str) -> Event:
    first, met, objects = stretch.first.frame, stretch.met.frame, stretch.met.objects
    shown = (first, met) if first.frame_id != met.frame_id else (met,)
    labels = {each.label for each in objects}
    return Event(
        rule.name,
        rule.kind,
        met.source,
        timestamp=stretch.met.at,
        started_at=stretch.first.at,
        ended_at=stretch.last.at,
        place=zone.name if zone else None,
        label=labels.pop() if len(labels) == 1 else None,
        direction=None,
        value=value,
        reason=reason,
        frame_ids=tuple(frame.frame_id for frame in shown),
        image_paths=tuple(frame.image_path for frame in shown),
        track_ids=tuple(sorted({each.track_id for each in objects if each.track_id is not None})),
    )


def _crossing_events(rule: LineCrossingRule, line: Line, frames: Sequence[SeenFrame]) -> Iterator[Event]:
    """Yields an event for each crossing of the line in a wanted direction."""
    wanted = [replace(frame, objects=_wanted(rule, None, frame)) for frame in frames]
    for crossing in find_crossings(line, wanted):
        if rule.direction in (None, crossing.direction):
            yield Event(
                rule.name,
                rule.kind,
                line.source,
                timestamp=crossing.after.timestamp,
                started_at=crossing.before.timestamp,
                ended_at=crossing.after.timestamp,
                place=line.name,
                label=crossing.label,
                direction=crossing.direction,
                value=None,
                reason=f"{crossing.label} crossed {line.name}, {crossing.direction}",
                frame_ids=(crossing.before.frame_id, crossing.after.frame_id),
                image_paths=(crossing.before.image_path, crossing.after.image_path),
                track_ids=(crossing.track_id,),
            )
