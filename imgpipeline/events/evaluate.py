"""Finds the events of rules in frames, detections and changes of the image.

All functions are pure: the same frames give the same events. Frames that come later in time add events
and move `ended_at` of the last one; they change nothing else.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo

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
from imgpipeline.events.crossings import find_crossings
from imgpipeline.events.geometry import objects_in
from imgpipeline.events.stretches import Moment, Stretch, StretchFinder, find_stretches
from imgpipeline.events.values import Event, FrameChange, SeenFrame, SeenObject, in_order

StretchRule = ZoneOccupancyRule | CountRule | AbsenceRule
"""A rule about what holds from frame to frame, without following single objects."""
_Seen = tuple[SeenFrame, tuple[SeenObject, ...]]
"""A frame, and the objects in it that a rule looks at."""


def evaluate_objects(rules: Rules, rule: ObjectRule, frames: Iterable[SeenFrame], zone: tzinfo) -> list[Event]:
    """Returns the events of a rule about objects.

    Args:
        rules: Have the zone or line that it reads.
        rule: The rule.
        frames: All processed frames of the day, of any source, in any order.
        zone: Time zone of the rule's hours.

    Returns:
        The events, by source and time.
    """
    events: list[Event] = []
    place = rules.place_of(rule)
    for seen in _by_source(frames, rules.sources_of(rule)):
        if isinstance(rule, LineCrossingRule) and isinstance(place, Line):
            found = _crossing_events(rule, place, seen)
        elif isinstance(rule, DwellTimeRule) and isinstance(place, Zone):
            found = _dwell_events(rule, place, seen)
        elif isinstance(rule, StretchRule):
            found = _stretch_events(rule, place if isinstance(place, Zone) else None, seen)
        else:
            raise TypeError(f"{rule.name!r} of kind {rule.kind!r} reads no {type(place).__name__}")
        events += _chosen(rule, sorted(found, key=_by_time), zone)
    return events


def evaluate_changes(rule: ImageChangeRule, changes: Iterable[FrameChange], zone: tzinfo) -> list[Event]:
    """Returns the events of a rule about changes of the image, by source and time.

    Args:
        rule: The rule.
        changes: All comparisons of the day, of any source, in any order.
        zone: Time zone of the rule's hours.
    """
    by_source: dict[str, list[Event]] = defaultdict(list)
    for change in changes:
        event = change_event(rule, change)
        if event and (not rule.sources or change.source in rule.sources):
            by_source[change.source].append(event)
    return [
        event for _, found in sorted(by_source.items()) for event in _chosen(rule, sorted(found, key=_by_time), zone)
    ]


def change_event(rule: ImageChangeRule, change: FrameChange) -> Event | None:
    """Returns the event of a comparison of two images; None if they are too similar for the rule."""
    is_found = change.outcome == "sizes_differ" or (change.norm is not None and change.norm > rule.threshold)
    return _change_event(rule, change) if is_found else None


def _change_event(rule: ImageChangeRule, change: FrameChange) -> Event:
    reason = change.reason or f"the image differs by {change.norm:.6g}, threshold {rule.threshold:g}"
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
        reason=reason,
        frame_ids=(change.previous_frame_id, change.frame_id),
        image_paths=(change.previous_image_path, change.image_path),
    )


def _by_source(frames: Iterable[SeenFrame], sources: Sequence[str]) -> Iterator[list[SeenFrame]]:
    """Yields the frames of each wanted source in the order of their times."""
    grouped: dict[str, list[SeenFrame]] = defaultdict(list)
    for frame in frames:
        if not sources or frame.source in sources:
            grouped[frame.source].append(frame)
    for _, several in sorted(grouped.items()):
        yield in_order(several)


def _wanted(rule: ObjectRule, zone: Zone | None, frame: SeenFrame) -> tuple[SeenObject, ...]:
    """Returns the objects of a frame that a rule looks at: by label and confidence, and in its zone."""
    objects = tuple(
        each
        for each in frame.objects
        if (not rule.labels or each.label in rule.labels) and each.confidence >= rule.min_confidence
    )
    return objects_in(zone, objects, frame.size) if zone else objects


def _finder(rule: ObjectRule, seconds: float) -> StretchFinder[_Seen]:
    return StretchFinder(
        least=timedelta(seconds=seconds),
        longest_gap=timedelta(seconds=rule.longest_gap_s),
        bridge=timedelta(seconds=rule.bridge_s),
    )


class StretchEvents:
    """Finds, frame by frame, the events of a rule about what holds in the frames of one source."""

    def __init__(self, rule: StretchRule, zone: Zone | None) -> None:
        """Begins before the first frame.

        Args:
            rule: The rule.
            zone: The zone that it reads; None: the whole image.
        """
        self._rule, self._zone = rule, zone
        self._finder = _finder(rule, 0.0 if isinstance(rule, ZoneOccupancyRule) else rule.seconds)

    @property
    def current(self) -> Event | None:
        """What is going on, if it has met the rule."""
        return self._event(self._finder.current)

    def take(self, frame: SeenFrame) -> Event | None:
        """Takes the next frame in time, and returns the event that has ended before it."""
        objects = _wanted(self._rule, self._zone, frame)
        most = self._rule.above if isinstance(self._rule, CountRule) else 0
        holds = not objects if isinstance(self._rule, AbsenceRule) else len(objects) > most
        return self._event(self._finder.take(Moment(frame.timestamp, (frame, objects), holds)))

    def _event(self, stretch: Stretch[_Seen] | None) -> Event | None:
        if stretch is None:
            return None
        count = len(stretch.met.item[1])
        if isinstance(self._rule, AbsenceRule):
            value, what = _seconds(stretch), f"nothing for {_seconds(stretch):g} s"
        else:
            value, what = float(count), counted(count, "object")
        where = f" in {self._zone.name}" if self._zone else ""
        return _stretch_event(self._rule, self._zone, stretch, value=value, reason=f"{what}{where}")


def _stretch_events(rule: StretchRule, zone: Zone | None, frames: Iterable[SeenFrame]) -> Iterator[Event]:
    """Yields an event for each time that a count was high, or nothing was there, for long enough."""
    found = StretchEvents(rule, zone)
    for frame in frames:
        ended = found.take(frame)
        if ended:
            yield ended
    if found.current:
        yield found.current


def _dwell_events(rule: DwellTimeRule, zone: Zone, frames: Iterable[SeenFrame]) -> Iterator[Event]:
    """Yields an event for each time that one tracked object stayed in a zone for long enough."""
    by_track: dict[str, list[Moment[_Seen]]] = defaultdict(list)
    for frame in frames:
        inside = {each.track_id for each in _wanted(rule, zone, frame)}
        for each in frame.objects:
            if each.track_id is not None:
                seen: _Seen = (frame, (each,))
                by_track[each.track_id].append(Moment(frame.timestamp, seen, each.track_id in inside))
    for _, moments in sorted(by_track.items()):
        for stretch in find_stretches(moments, _finder(rule, rule.seconds)):
            seconds = _seconds(stretch)
            yield _stretch_event(rule, zone, stretch, value=seconds, reason=f"{seconds:g} s in {zone.name}")


def _seconds(stretch: Stretch[_Seen]) -> float:
    return (stretch.met.at - stretch.first.at).total_seconds()


def _stretch_event(rule: ObjectRule, zone: Zone | None, stretch: Stretch[_Seen], *, value: float, reason: str) -> Event:
    first, (met, objects) = stretch.first.item[0], stretch.met.item
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
    wanted = [
        SeenFrame(f.frame_id, f.source, f.timestamp, f.image_path, f.size, _wanted(rule, None, f)) for f in frames
    ]
    for crossing in find_crossings(line, wanted, longest_gap=timedelta(seconds=rule.longest_gap_s)):
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


class Choice:
    """Leaves out events outside the rule's hours and within its cooldown, for one source."""

    def __init__(self, rule: Rule, zone: tzinfo) -> None:
        """Begins before the first event; `zone` is the time zone of the hours."""
        self._hours = Hours.parse(rule.hours, zone) if rule.hours else None
        self._cooldown = timedelta(seconds=rule.cooldown_s)
        self._until: datetime | None = None

    def takes(self, event: Event) -> bool:
        """Whether the next event in time stays. The last one that was asked about may be asked about again."""
        if self._hours and not self._hours.contain(event.timestamp):
            return False
        if self._until is not None and event.timestamp < self._until:
            return False
        self._until = event.timestamp + self._cooldown
        return True


def _chosen(rule: Rule, events: Iterable[Event], zone: tzinfo) -> Iterator[Event]:
    """Yields the events within the rule's hours and outside its cooldown; they come from one source, by time."""
    choice = Choice(rule, zone)
    return (event for event in events if choice.takes(event))


def _by_time(event: Event) -> tuple[datetime, str]:
    return event.timestamp, event.event_id
