"""Follows the ledger and raises an alert for each event while frames arrive.

At its start, a watch reads the current days from their first frame, so it finds the same events and cooldowns as the
daily build; it reuses the stored image comparisons. Nothing else is kept between runs: the alert chain shows which
events already have an alert.
"""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.contracts.times import Clock, day_of
from imgpipeline.errors import TransientError
from imgpipeline.events.alerts.chain import Alert, AlertChain
from imgpipeline.events.alerts.live_day import LiveDay
from imgpipeline.events.alerts.watched import note_watched
from imgpipeline.events.configuration import ImageChangeRule, Rules
from imgpipeline.events.frame_changes import store_difference
from imgpipeline.events.reading import read_events, read_stored_changes
from imgpipeline.events.values import Event
from imgpipeline.lake.schema import EVENTS
from imgpipeline.ledger import Checkpoint, fix_ends, follow, known_days, read_days
from imgpipeline.ledger.repair.repair_list import last_handled, list_repairs
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings

_POLL_S = 0.5
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Watch:
    """One run that watches for events; for one thread at a time."""

    store: ObjectStore
    settings: Settings
    """Limits of images, the time zone of hours, and the maximum age of events."""
    rules: Rules
    clock: Clock
    """The clock, UTC."""
    chain: AlertChain = field(init=False)
    """The alerts so far."""
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

        If the store does not answer, it logs the failure and tries again.

        Args:
            stop: Stops when set.
            seconds: Stops after this many seconds; None: never.
            idle_s: Stops after this many idle seconds; None: never.

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
