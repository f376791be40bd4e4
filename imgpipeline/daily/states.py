"""What is stale: `day_states` compares every derived object of a day with the ledger and with its inputs.

    for day, states in day_states(store, settings, now=now).items():
        print(day, [f"{name}: {found.why}" for name, found in states.items() if found.is_due])

The store is the only source. A day whose objects, recipes and segments are those of an earlier look costs no request of
its own: the day catalogue keeps what that look found.
"""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from hashlib import sha256

from imgpipeline.accuracy.plans import days_with_plans
from imgpipeline.contracts.keys import AUDIT, audit_verdict_key, known_features_key, parse_day, report_key
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.daily.build import derived_of
from imgpipeline.daily.objects import COMPARISON, MEASURED, REPORT, TABLES, DayObject, objects_of
from imgpipeline.errors import PermanentError
from imgpipeline.events.configuration import Rules, read_rules
from imgpipeline.lake.days.day_catalog import TABLES as CATALOGED
from imgpipeline.lake.days.day_catalog import DayCatalog, open_catalog
from imgpipeline.lake.days.day_tables import DayTables
from imgpipeline.lake.days.derived import State, state_of
from imgpipeline.lake.days.summary_inputs import UnsettledError, stored_key
from imgpipeline.lake.schema.tables import FRAMES
from imgpipeline.lake.storage.manifest import DamagedObjectError, read_manifest
from imgpipeline.objectstore import ForbiddenError, ObjectMissingError, ObjectStore
from imgpipeline.redetect.pairs import days_with_redetections
from imgpipeline.settings import Settings

_NOTE = "states"
"""The name under which the day catalogue keeps what a look found."""
_READERS = 16
_FEW_DAYS = 4
"""Up to this many named days, a request for each object is less work than listing those of all days."""
_WHY = {
    State.MISSING: "missing",
    State.STALE: "older than its inputs",
    State.DAMAGED: "cannot be read",
    State.OTHER_RECIPE: "built by another release or with other settings",
}
NEW_FEATURE = "newer than the tables of the day"


@dataclass(frozen=True, slots=True)
class Found:
    """The state of one object of a day."""

    state: State
    is_due: bool = False
    """Whether it is built automatically; other objects that are not current wait for a person."""
    why: str = ""
    """What is wrong with it; empty if it is current."""

    @property
    def can_be_built(self) -> bool:
        """Whether it is built again when an input of it is."""
        return self.state is not State.DAMAGED and self.why != NEW_FEATURE


CURRENT = Found(State.CURRENT)
DayStates = Mapping[str, Found]
"""The state of each object of a day, by name."""


def day_states(
    store: ObjectStore, settings: Settings, days: Iterable[date] | None = None, *, now: datetime
) -> dict[date, DayStates]:
    """Returns the state of every derived object of each day, sorted by day.

    Stale and missing objects are due. Damaged objects, those of another recipe, and those that are missing because
    their feature is newer than the day's tables wait for a person.

    Args:
        days: UTC days; default: all days with tables or segments.
        now: The current time, UTC.

    Raises:
        ConfigurationError: The rules are missing or invalid.
        ForbiddenError: The store refuses access.
        TransientError: The store does not answer.
    """
    catalog = open_catalog(store)
    named = None if days is None else sorted(set(days))
    look = _Look.begin(store, settings, catalog, now, named)
    wanted = sorted(set(catalog.days) | look.stored_days) if named is None else named
    remembered = {day: look.remembered(day) for day in wanted}
    unsure = [day for day, found in remembered.items() if found is None]
    with ThreadPoolExecutor(_READERS) as pool:
        found = dict(zip(unsure, pool.map(look.compare, unsure), strict=True))
    states = {day: remembered[day] or found[day] for day in wanted}
    judged: dict[date, DayStates] = {day: look.judge(day, states[day]) for day in wanted}
    for day in {*found, *look.read}:
        look.note(day, states[day])
    if found or look.read:
        catalog.save()
    return judged


def due_days(states: Mapping[date, DayStates]) -> dict[date, str]:
    """Returns the days with due objects, each with the first of them and its reason."""
    due = {day: [f"{name}: {one.why}" for name, one in found.items() if one.is_due] for day, found in states.items()}
    return {day: reasons[0] for day, reasons in due.items() if reasons}


def note_features(store: ObjectStore, settings: Settings, *, now: datetime) -> None:
    """Notes which objects this deployment builds, so that a later feature does not rebuild history by itself.

    The sensor that builds automatically calls it. Without a note, all of today's objects count as old.

    Raises:
        TransientError: The store does not answer.
    """
    known = _known_features(store)
    new = objects_of(settings).keys() - known.keys()
    if new:
        since = format_time(now) if known else ""
        store.put(known_features_key(), json.dumps(known | dict.fromkeys(sorted(new), since)).encode())


def _known_features(store: ObjectStore) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(store.get(known_features_key()))
    except (ObjectMissingError, ValueError):
        return {}
    return found


@dataclass(slots=True)
class _Look:
    """One comparison of the store with itself."""

    store: ObjectStore
    settings: Settings
    catalog: DayCatalog
    now: datetime
    rules: Rules
    objects: Mapping[str, DayObject]
    listed: Mapping[str, Mapping[date, str]]
    """E-tag of each stored day by table; they only tell whether anything changed since an earlier look."""
    asked_for: Mapping[str, Mapping[date, str]]
    """The days of objects that only some days have, by name; each with what changes when their inputs do."""
    recipes: str
    """Hash of all recipes."""
    features: Mapping[str, str] = field(default_factory=dict)
    """Since when each feature exists, RFC 3339; empty: longer than the note."""
    unsettled: set[date] = field(default_factory=set)
    """Days that the next look compares again: a build was storing tables that they or their neighbours read."""
    built_at: dict[date, str] = field(default_factory=dict)
    """When the tables of a day were built, RFC 3339, if that was asked; empty without tables."""
    read: set[date] = field(default_factory=set)
    """Days of `built_at` that this look has read."""

    @classmethod
    def begin(
        cls, store: ObjectStore, settings: Settings, catalog: DayCatalog, now: datetime, days: list[date] | None
    ) -> "_Look":
        """Lists what is stored; for a few named days, asks for each object instead."""
        rules, objects = read_rules(settings, store), objects_of(settings)
        tables = sorted({AUDIT, *(table for each in objects.values() for table in each.stored or each.tables)})
        with ThreadPoolExecutor(_READERS) as pool:
            few = days if days and len(days) <= _FEW_DAYS else None
            versions = pool.map(lambda table: _stored_versions(store, table, few), tables)
            listed = dict(zip(tables, versions, strict=True))
        made_by = {name: each.recipe(settings) for name, each in objects.items()}
        parts = (made_by, settings.timezone, rules.model_dump_json())
        recipes = sha256(repr(parts).encode()).hexdigest()[:16]
        asked_for = {COMPARISON: days_with_redetections(store), MEASURED: days_with_plans(store)}
        return cls(store, settings, catalog, now, rules, objects, listed, asked_for, recipes, _known_features(store))

    @property
    def stored_days(self) -> set[date]:
        """The days that have tables."""
        return set(self.listed[FRAMES.name])

    def remembered(self, day: date) -> dict[str, Found] | None:
        """Returns what an earlier look found; None if anything changed since."""
        known = self.catalog.known.days.get(day)
        note = known.complete.get(_NOTE, "") if known else ""
        fingerprint, _, found = note.partition(" ")
        if fingerprint != self._fingerprint(day):
            return None
        built_at, data = json.loads(found)
        if built_at is not None:
            self.built_at[day] = built_at
        return {name: Found(State(state), False, why) for name, (state, why) in data.items()}

    def note(self, day: date, states: DayStates) -> None:
        """Keeps what this look found, unless a segment can change it without any object being written."""
        is_known = day in self.catalog.known.days and day not in self.unsettled
        if is_known and not states[TABLES].state.is_behind:
            data = self.built_at.get(day), {name: [found.state, found.why] for name, found in states.items()}
            self.catalog.known.days[day].complete[_NOTE] = f"{self._fingerprint(day)} {json.dumps(data)}"

    def _fingerprint(self, day: date) -> str:
        versions = [self.listed[table].get(day, "") for table in sorted(self.listed)]
        asked_for = [days.get(day) for days in self.asked_for.values()]
        parts = (self.recipes, day < self.now.date(), asked_for, versions)
        return sha256(repr(parts).encode()).hexdigest()[:16]

    def compare(self, day: date) -> dict[str, Found]:
        """Reads the manifests of a day's objects and compares them with their inputs."""
        tables = self._state_of_tables(day)
        states = {TABLES: tables}
        for name, each in self.objects.items():
            if name == TABLES or (name in self.asked_for and day not in self.asked_for[name]):
                continue
            if tables.state in (State.STALE, State.MISSING):  # everything else is built after the tables anyway
                states[name] = Found(State.STALE if self._is_stored(each, day) else State.MISSING)
            else:
                states[name] = self._state(each, day)
        return states

    def _is_stored(self, each: DayObject, day: date) -> bool:
        return all(self.listed[table].get(day) for table in each.stored or each.tables)

    def _state_of_tables(self, day: date) -> Found:
        entry = DayTables(self.store, day, self.catalog.ends, self.now, known=self.catalog.known)
        try:
            state = state_of(entry)
            if state.is_behind and state is not State.DAMAGED and not entry.has_outcomes():
                return CURRENT  # the index entry belongs to a segment that was never stored
        except ForbiddenError:
            raise
        except PermanentError as error:
            return Found(State.STALE, why=error.message)  # the build reports it, and no other day has to wait
        if state is State.CURRENT:
            self.catalog.known.note_complete(day, CATALOGED, entry.version)
        why = _WHY.get(state, "")
        if state is State.STALE:
            why = "the ledger was repaired after it was built" if entry.is_repaired else "the ledger has newer segments"
        return Found(state, why=why)

    def _state(self, each: DayObject, day: date) -> Found:
        try:
            entry = derived_of(self.store, self.settings, day, each.name, rules=self.rules, now=self.now)
            state = state_of(entry)
        except ForbiddenError:
            raise
        except UnsettledError:  # another object is due that settles them
            self.unsettled.add(day)
            return CURRENT if self._is_stored(each, day) else Found(State.MISSING, why="missing")
        except DamagedObjectError as error:
            return Found(State.DAMAGED, why=f"an input cannot be read: {error.message}")
        except PermanentError as error:
            return Found(State.STALE if self._is_stored(each, day) else State.MISSING, why=error.message)
        return Found(state, why=_WHY.get(state, ""))

    def judge(self, day: date, states: DayStates) -> dict[str, Found]:
        """Decides which objects are due."""
        judged: dict[str, Found] = {}
        for name, found in states.items():
            each = self.objects[name]
            inputs = [judged[need] for need in each.needs if need in judged]
            waits = any(need.state in (State.MISSING, State.DAMAGED) and not need.is_due for need in inputs)
            is_built_anew = name != TABLES and judged[TABLES].is_due
            is_new = found.state is State.MISSING and not is_built_anew and not self._is_expected(each, day)
            is_due = not waits and not is_new and found.state in (State.STALE, State.MISSING)
            judged[name] = Found(found.state, is_due, NEW_FEATURE if is_new else found.why)
        return judged

    def _is_expected(self, each: DayObject, day: date) -> bool:
        """Tells whether a missing object would have been built with the day's tables."""
        since = self.features.get(each.name, "") if self.features else ""
        if each.is_always_built or not since:
            return True
        if day not in self.built_at:
            manifest = read_manifest(self.store, FRAMES.name, day)
            self.built_at[day] = format_time(manifest.built_at) if manifest else ""
            self.read.add(day)
        built_at = self.built_at[day]
        return not built_at or parse_time(built_at) >= parse_time(since)


def _stored_versions(store: ObjectStore, table: str, days: list[date] | None) -> dict[date, str]:
    """Returns the e-tag of each stored day of a table: of the given days, or of all."""
    key_of = {REPORT: report_key, AUDIT: audit_verdict_key}.get(table, partial(stored_key, table))
    if days is not None:
        heads = ((day, store.head(key_of(day))) for day in days)
        return {day: info.e_tag for day, info in heads if info}
    below = key_of(date.min).partition("/day=")[0]
    listed = ((parse_day(info.key), info) for info in store.list_objects(below))
    return {day: info.e_tag for day, info in listed if day and info.key == key_of(day)}
