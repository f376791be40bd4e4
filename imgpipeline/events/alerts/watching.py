"""Follows the ledger and raises an alert for each event while frames arrive.

At its start, a watch reads the current days from their first frame, so it finds the same events and cooldowns as the
daily build; it reuses the stored image comparisons. Nothing else is kept between runs: the alert chain shows which
events already have an alert.
"""

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from imgpipeline.contracts.keys import ChainId, day_table_key
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.contracts.times import Clock, day_of, find_timezone
from imgpipeline.errors import TransientError
from imgpipeline.events.alerts.audit import note_watched
from imgpipeline.events.alerts.chain import Alert, AlertChain
from imgpipeline.events.comparing import Comparisons
from imgpipeline.events.configuration import ImageChangeRule, Rule, Rules
from imgpipeline.events.evaluate import SourceRule
from imgpipeline.events.reading import read_events, read_stored_changes
from imgpipeline.events.rule_tables import store_difference
from imgpipeline.events.values import Event, FrameChange, SeenFrame, SeenObject, in_order
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.ledger.checkpoint import Checkpoint
from imgpipeline.ledger.days import known_days, read_days
from imgpipeline.ledger.follow import follow
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.ledger.repair.repair_list import last_handled, list_repairs
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings

_POLL_S = 0.5
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _LiveSource:
    """The frames of one source, and the state of its rules."""

    frames: dict[str, tuple[tuple[Any, ...], Frame]] = field(default_factory=dict)
    """The frame that the day tables keep for each id, with its rank."""
    new: list[Frame] = field(default_factory=list)
    is_late: bool = False
    """Whether all frames must be evaluated again."""
    last: Frame | None = None
    rules: list[SourceRule] = field(default_factory=list)
    """The rules that apply to this source, with their state after that frame."""

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
    """The frames of one UTC day that the ledger has so far, evaluated as the daily build evaluates them.

    Each call evaluates only new frames; after a frame that is late or replaces another one, it evaluates the whole day
    of that source again.
    """

    def __init__(
        self, rules: Rules, settings: Settings, images: ImageReader, compared: Iterable[FrameChange] = ()
    ) -> None:
        """Starts without frames; `compared` are comparisons that are known already. Ignores rules about tracks."""
        self._rules = rules
        self._zone = find_timezone(settings.timezone)
        self._comparisons = Comparisons(images, compared)
        self._sources: dict[str, _LiveSource] = {}

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
        # First, because it may fail.
        changes = self._comparisons.of([_seen(frame) for frame in (*before, *frames)]) if is_compared else []
        rules = [SourceRule(self._rules, rule, self._zone) for rule in wanted] if is_whole else source.rules
        seen = in_order([_seen(frame) for frame in frames if frame.status is FrameStatus.PROCESSED])
        events = [event for rule in rules for event in rule.take(seen, changes)]
        source.rules, source.last, source.is_late = rules, frames[-1], False
        source.new.clear()
        return events

    def _is_for(self, rule: Rule, source: str) -> bool:
        wanted = self._rules.sources_of(rule)
        return rule.reads != "track_points" and (not wanted or source in wanted)


def _in_order(frame: Frame) -> tuple[datetime, bool, int, str, int, int, str]:
    """Sorts like the table `frame_changes`."""
    number = frame.frame_number
    where = (frame.topic, frame.partition, frame.offset)
    return (frame.timestamp, number is None, number or 0, *where, frame.frame_id)


def _seen(frame: Frame) -> SeenFrame:
    return SeenFrame(
        frame.frame_id,
        frame.source,
        frame.timestamp,
        frame.source_image_path,
        (frame.image_width or 0, frame.image_height or 0),
        tuple(SeenObject(found.label, found.confidence, found.box_xywh) for found in frame.detections),
    )


@dataclass(slots=True)
class Watch:
    """One run that watches for events; for one thread at a time."""

    store: ObjectStore
    settings: Settings
    """Limits of images, the time zone of hours, and the maximum age of events."""
    rules: Rules
    clock: Clock
    chain: AlertChain = field(init=False)
    changed_at: datetime = field(init=False)
    """When the ledger or the stored events last changed, UTC."""
    _days: dict[date, LiveDay] = field(default_factory=dict)
    _checkpoint: Checkpoint | None = None
    _tables: dict[date, str] = field(default_factory=dict)
    _pending: dict[str, Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Opens the alert chain."""
        self.chain, self.changed_at = AlertChain(self.store), self.clock()

    @property
    def tracked_rules(self) -> frozenset[str]:
        """Names of the rules about tracked objects; their events are read from the day's table once it is built."""
        return frozenset(rule.name for rule in self.rules.rule if rule.reads == "track_points")

    def look(self) -> list[Alert]:
        """Reads new segments of the ledger, and returns the alerts that it raised.

        Raises:
            LedgerError: A segment cannot be read, or the ledger was replaced.
            PermanentError: An alert is damaged, or numbers are missing.
            TransientError: The store does not answer; the next call continues.
        """
        now = self.clock()
        oldest = now - timedelta(seconds=self.settings.alert_max_age_s)
        first = day_of(oldest)
        if self._checkpoint is None:
            self._start(first)
        else:
            self._read_on(self._checkpoint, first)
        for day in [day for day in self._days if day < first]:
            del self._days[day]
        for event in self._events():
            if event.timestamp >= oldest and not self.chain.has(event):
                self._pending[event.event_id] = event
        return list(self._raise_pending(now))

    def run(
        self, stop: threading.Event, *, seconds: float | None = None, idle_s: float | None = None
    ) -> Iterator[list[Alert]]:
        """Calls `look` repeatedly, and yields the alerts that each look has raised.

        If the store does not answer, it logs the failure and tries again. It stops after `seconds`, or after `idle_s`
        seconds without a change; None: never.

        Raises:
            LedgerError: A segment cannot be read, or the ledger was replaced.
            PermanentError: An alert is damaged, or numbers are missing.
        """
        until = None if seconds is None else self.clock() + timedelta(seconds=seconds)
        while not stop.is_set():
            try:
                yield self.look()
            except TransientError as error:
                _LOG.warning("%s", error)
            now = self.clock()
            is_idle = idle_s is not None and now - self.changed_at >= timedelta(seconds=idle_s)
            if is_idle or (until is not None and now >= until):
                return
            stop.wait(_POLL_S)

    def _start(self, first: date) -> None:
        note_watched(self.store, self.rules, self.settings, now=self.clock())
        repairs = list_repairs(self.store)
        ends = fix_ends(self.store)
        self._days.clear()
        days = [day for day in known_days(self.store) if day >= first]
        if days:
            for segment in read_days(self.store, {d: {} for d in days}, {c: end.offset for c, end in ends.items()}):
                for outcome in segment.outcomes():
                    if isinstance(outcome, Frame) and outcome.day >= first:
                        self._live(outcome.day).add(segment.header.chain, outcome)
        positions = {chain: end.last for chain, end in ends.items() if end.last}
        self._checkpoint = Checkpoint(positions, last_handled(repairs, after=0))

    def _read_on(self, checkpoint: Checkpoint, first: date) -> None:
        for batch in follow(self.store, checkpoint):
            if batch.forgotten:  # a repair has changed frames that were already read
                self._checkpoint = None
                self._start(first)
                return
            for chain, outcome in batch.outcomes():
                if isinstance(outcome, Frame) and outcome.day >= first:  # imports of old days raise no alerts
                    self._live(outcome.day).add(chain, outcome)
            self._checkpoint, self.changed_at = batch.checkpoint, self.clock()

    def _live(self, day: date) -> LiveDay:
        if day not in self._days:
            is_compared = any(isinstance(rule, ImageChangeRule) for rule in self.rules.rule)
            compared = read_stored_changes(self.store, self.settings, day) if is_compared else ()
            self._days[day] = LiveDay(self.rules, self.settings, ImageReader(self.store, self.settings), compared)
        return self._days[day]

    def _events(self) -> Iterator[Event]:
        for live in self._days.values():
            yield from live.find_events()
        tracked = self.tracked_rules
        for day in self._days if tracked else ():
            info = self.store.head(day_table_key(EVENTS.name, day))
            if info is not None and self._tables.get(day) != info.e_tag:
                yield from (event for event in read_events(self.store, self.settings, day) if event.rule in tracked)
                self._tables[day], self.changed_at = info.e_tag, self.clock()

    def _raise_pending(self, now: datetime) -> Iterator[Alert]:
        """Yields the alerts of pending events; an event stays pending until it has one, even if the store fails."""
        if self._pending:
            self.chain.catch_up()
        notified = {rule.name: rule.notify for rule in self.rules.rule}
        for event in sorted(self._pending.values(), key=lambda event: (event.timestamp, event.event_id)):
            if not self.chain.has(event):
                difference = store_difference(self.store, self.settings, event)
                notify = notified.get(event.rule, ())
                alert = self.chain.append(event, difference_image=difference, now=now, notify=notify)
                if alert is not None:
                    yield alert
            del self._pending[event.event_id]
