"""Compares alerts with the stored events of their days.

Late frames, repairs and new rules can change the events of a day after its alerts were raised, so a difference is not
an error; it is listed with its cause and the next step. Damaged alerts and two alerts of one event are errors.

Each watch records its rules, so that the comparison can tell which events should have raised an alert.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from imgpipeline.contracts.keys import WATCHED
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.contracts.times import Timestamp, day_of, format_time
from imgpipeline.errors import ConfigurationError, LedgerError, PermanentError
from imgpipeline.events.alerts.chain import Alert, read_alerts
from imgpipeline.events.configuration import Rules, read_rules
from imgpipeline.events.reading import read_events
from imgpipeline.events.recipe import rule_recipe
from imgpipeline.events.rule_tables import RULES, DayEvents
from imgpipeline.events.values import Event
from imgpipeline.lake.days.derived import State, state_of
from imgpipeline.lake.days.summary_inputs import list_versions, open_tables, stored_key
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.lake.schema.tables import FRAMES
from imgpipeline.lake.storage.manifest import Manifest, read_stored
from imgpipeline.ledger.days import read_days
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.numbered import append_entry, read_entries
from imgpipeline.settings import Settings

_RESTART_S = 60.0
"""If a rule changes sooner after a frame was processed, the watch may not have evaluated it for that frame."""
_PENDING = timedelta(seconds=120)
"""How long a watch may take to raise an alert, from the processing of a frame or the build of a table with tracks."""


@dataclass(frozen=True, slots=True)
class WatchedRules:
    """The rules that watches used from a point in time, stored by each watch whose rules differ from the last ones."""

    since: Timestamp
    """Start of the first watch with these rules, UTC."""
    recipes: Mapping[str, str]
    """Hash of each rule and its zone or line, by rule name."""
    max_age_s: float
    """Maximum age of events that raised an alert, in seconds."""


_WATCHED_RULES = TypeAdapter(WatchedRules)


def recipes_of(rules: Rules, settings: Settings) -> dict[str, str]:
    """Returns the hash of each rule and its zone or line, by rule name."""
    return {rule.name: rule_recipe(rules, rule, settings) for rule in rules.rule}


def note_watched(store: ObjectStore, rules: Rules, settings: Settings, *, now: datetime) -> None:
    """Records the rules of a watch at its start, unless the last record is the same.

    Raises:
        PermanentError: A record is damaged.
        TransientError: The store does not answer.
    """
    recipes = recipes_of(rules, settings)
    known = read_watched(store)
    if known and (known[-1].recipes, known[-1].max_age_s) == (recipes, settings.alert_max_age_s):
        return
    watched = WatchedRules(now, recipes, settings.alert_max_age_s)
    append_entry(store, WATCHED, _WATCHED_RULES.dump_python(watched, mode="json"))


def read_watched(store: ObjectStore) -> list[WatchedRules]:
    """Returns all records, oldest first.

    Raises:
        PermanentError: A record is damaged.
        TransientError: The store does not answer.
    """
    return [_WATCHED_RULES.validate_python(entry) for entry in read_entries(store, WATCHED)]


def watched_at(known: Sequence[WatchedRules], at: datetime) -> WatchedRules | None:
    """Returns the rules that watches used at a time; None before the first watch."""
    return next((each for each in reversed(known) if each.since <= at), None)


def is_watched(known: Sequence[WatchedRules], name: str, recipe: str, at: datetime, seconds: float) -> bool:
    """Whether watches used a rule with this recipe during the whole time from `at` for `seconds`."""
    until = at + timedelta(seconds=seconds)
    first = watched_at(known, at)
    of_the_time = [*([first] if first else []), *(each for each in known if at < each.since <= until)]
    return first is not None and all(each.recipes.get(name) == recipe for each in of_the_time)


@dataclass(slots=True)
class AlertAudit:
    """The result of the comparison."""

    alerts: int = 0
    days: int = 0
    differences: list[str] = field(default_factory=list)
    """Alerts without an event, and events without an alert, each with its cause if known, and the next step."""
    changed_rules: int = 0
    """Number of differences that are ignored because the rule changed between alert and build."""
    newer_alerts: int = 0
    """Number of alerts about frames that are newer than the stored events."""
    not_compared: dict[date, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Errors in the alerts themselves."""


def audit_alerts(store: ObjectStore, settings: Settings, *, now: datetime) -> AlertAudit:
    """Compares all alerts with the stored events, from the first day on which rules were watched.

    Raises:
        TransientError: The store does not answer.
    """
    report = AlertAudit()
    try:
        alerts, known = list(read_alerts(store)), read_watched(store)
    except PermanentError as error:
        report.problems.append(str(error))
        return report
    rules = _current_rules(store, settings) if alerts or known else Rules()
    report.alerts = len(alerts)
    report.problems += _repeated(alerts)
    by_day: dict[date, list[Alert]] = defaultdict(list)
    for alert in alerts:
        by_day[day_of(alert.event.timestamp)].append(alert)
    first = day_of(known[0].since - timedelta(seconds=known[0].max_age_s)) if known else None
    built = {day for day in list_versions(store, EVENTS.name) if first is not None and day >= first}
    for day in sorted(by_day.keys() | built):
        entry = DayEvents(store, settings, rules, day, now, keeps_rules=True)
        why = _why_not_compared(entry)
        if why:
            report.not_compared[day] = why
        else:
            try:
                _Day(entry, known, report).compare(by_day[day])
            except LedgerError as error:
                report.not_compared[day] = str(error)
    return report


def _current_rules(store: ObjectStore, settings: Settings) -> Rules:
    """Returns the current rules; none if they are invalid, since past days have their own."""
    try:
        return read_rules(settings, store)
    except ConfigurationError:
        return Rules()


def _repeated(alerts: Iterable[Alert]) -> Iterator[str]:
    numbers: dict[str, int] = {}
    for alert in alerts:
        earlier = numbers.setdefault(alert.event.event_id, alert.number)
        if earlier != alert.number:
            yield f"Alerts {earlier} and {alert.number} are about the same event {alert.event.event_id}."


def _why_not_compared(entry: DayEvents) -> str | None:
    try:
        state = state_of(entry)
    except PermanentError as error:
        return str(error)
    return None if state is State.CURRENT else f"its table `events` is {state.value}"


@dataclass(slots=True)
class _Day:
    """The comparison of one day."""

    entry: DayEvents
    known: Sequence[WatchedRules]
    report: AlertAudit

    def compare(self, alerts: Sequence[Alert]) -> None:
        store, settings, day = self.entry.store, self.entry.settings, self.entry.day
        stored = read_stored(store, stored_key(EVENTS.name, day))
        try:
            rules = Rules.model_validate_json(stored.manifest.made_with.get(RULES, "") if stored else "")
        except ValidationError:
            self.report.not_compared[day] = "its table `events` was built by another release"
            return
        recipes, cooldowns = recipes_of(rules, settings), {rule.name: rule.cooldown_s for rule in rules.rule}
        events = {event.event_id: event for event in read_events(store, settings, day)}
        lone_alerts = [alert for alert in alerts if alert.event.event_id not in events]
        newer = self._newer_frames(stored.manifest) if lone_alerts and stored else frozenset()
        self.report.days += 1
        alerted = {alert.event.event_id for alert in alerts}
        is_new = stored is not None and self.entry.now - stored.manifest.built_at < _PENDING
        pending = {rule.name for rule in rules.rule if is_new and rule.reads == "track_points"}  # found in the table
        lone_events = [one for one in events.values() if one.event_id not in alerted and one.rule not in pending]
        for alert in lone_alerts:
            watched = watched_at(self.known, alert.raised_at)
            recipe = recipes.get(alert.event.rule)
            if not newer.isdisjoint(alert.event.frame_ids):
                self.report.newer_alerts += 1
            elif recipe is None or watched is None or watched.recipes.get(alert.event.rule) != recipe:
                self.report.changed_rules += 1
            else:
                near = _near(alert.event, cooldowns[alert.event.rule], events.values())
                self.report.differences.append(_without_event(alert, near))
        if lone_events:
            processed = self._processed()
            for event in sorted(lone_events, key=lambda event: (event.timestamp, event.event_id)):
                self._judge(event, recipes, processed.get(event.frame_ids[-1]) or event.timestamp)

    def _newer_frames(self, manifest: Manifest) -> frozenset[str]:
        """Returns the frames that the ledger has after the ends of the stored events."""
        ends = {chain: end.offset for chain, end in fix_ends(self.entry.store).items()}
        segments = read_days(self.entry.store, {self.entry.day: manifest.ends}, ends)
        return frozenset(one.frame_id for found in segments for one in found.outcomes() if isinstance(one, Frame))

    def _judge(self, event: Event, recipes: Mapping[str, str], processed_at: datetime) -> None:
        """Reports an event without an alert, if a watch should have raised one."""
        if not is_watched(self.known, event.rule, recipes[event.rule], processed_at, _RESTART_S):
            self.report.changed_rules += 1
            return
        watched = watched_at(self.known, processed_at)
        max_age = timedelta(seconds=watched.max_age_s if watched else 0)
        is_too_old = processed_at + _PENDING - event.timestamp > max_age
        if is_too_old or self.entry.now - processed_at < _PENDING:
            return
        watch, when = "`imgpipeline alerts watch` or the sensor events_sensor", "yet"
        step = f"start {watch}; it can still raise an alert"
        if self.entry.now - event.timestamp > max_age:
            when = f"within {max_age}"
            step = f"keep {watch} running, or raise IMGPIPELINE_ALERT_MAX_AGE_S; this event stays without an alert"
        what = f"Event {event.event_id} ({_shown(event)}) has no alert: no watch raised one {when}."
        self.report.differences.append(f"{what} Next: {step}.")

    def _processed(self) -> dict[str, datetime | None]:
        """Returns when each frame of the day was processed; None if an import does not say."""
        store, memory = self.entry.store, self.entry.settings.duckdb_memory
        with open_tables(store, (FRAMES.name,), self.entry.day, memory=memory) as opened:
            return dict(opened.engine.run("SELECT frame_id, processing_timestamp FROM frames"))


def _near(event: Event, cooldown_s: float, others: Iterable[Event]) -> Event | None:
    """Returns another event of the same rule and source within the rule's cooldown."""
    return next(
        (
            other
            for other in others
            if (other.rule, other.source) == (event.rule, event.source)
            and abs(other.timestamp - event.timestamp) < timedelta(seconds=cooldown_s)
        ),
        None,
    )


def _without_event(alert: Alert, near: Event | None) -> str:
    cause = (
        f"event {near.event_id} is within the cooldown of its rule, because frames that arrived later moved it."
        if near
        else "frames that arrived later, or a repair, changed the day."
    )
    step = f"run `imgpipeline alerts show {alert.number}`, and acknowledge the alert if there is nothing to do"
    return f"Alert {alert.number} ({_shown(alert.event)}) has no event: {cause} Next: {step}."


def _shown(event: Event) -> str:
    return f"{event.rule} at {event.source}, {format_time(event.timestamp)}"
