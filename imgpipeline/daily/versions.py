"""Compares the versions in the store with those of this program: what happens if it is started on this store?

A sample is enough. The last segment shows the version of its chain, because a run reads it before it adds another. Of
each table, the oldest and the newest day are read. Bundles and caches are left out: readers ignore other versions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from imgpipeline.contracts.keys import ChainId
from imgpipeline.daily.states import day_states
from imgpipeline.lake.days.day_tables import list_days
from imgpipeline.lake.days.derived import State
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.lake.schema.tables import DAY_TABLES, FRAMES, SCHEMA_VERSION, SUMMARY_TABLES, WEAK_DETECTIONS
from imgpipeline.lake.storage.manifest import BaseManifest, DamagedObjectError, read_object
from imgpipeline.ledger.reading import find_end, list_chains
from imgpipeline.ledger.segment import FORMAT_VERSION, DamagedSegmentError, OtherVersionError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.settings import Settings

_TABLES = (*DAY_TABLES, WEAK_DETECTIONS, *SUMMARY_TABLES, *EVENT_TABLES, *PLACE_TABLES)


@dataclass(frozen=True, slots=True)
class PartVersions:
    """The versions of one part of the store, and what happens if this program is started."""

    part: str
    stored: str | None
    """The sampled versions, `?` for one that cannot be read; None if nothing is stored."""
    program: int | None = None
    verdict: str = "same"
    may_start: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _AnyManifest(BaseManifest):
    schema_version: int


def compare_versions(store: ObjectStore, settings: Settings, *, now: datetime) -> list[PartVersions]:
    """Compares each part of the store with this program. Writes nothing but the day catalogue, which is a cache."""
    segments = set(map_ahead(lambda chain: _version_of_segment(store, chain), list_chains(store)))
    tables = set(_versions_of_tables(store))
    parts = [
        _compare("segments", segments, FORMAT_VERSION, "program too new: do not start (docs/upgrading.md)"),
        _compare("tables", tables, SCHEMA_VERSION, "do not start: move them aside first (docs/upgrading.md)"),
    ]
    if all(part.may_start for part in parts):
        parts.append(_compare_recipes(store, settings, now))
    return parts


def _compare(part: str, stored: set[object], own: int, if_older: str) -> PartVersions:
    numbers = sorted(version for version in stored if isinstance(version, int))
    shown = [*map(str, numbers), *("?" for version in stored if version not in numbers)]
    if numbers in ([], [own]) and "?" not in shown:
        return PartVersions(part, ", ".join(shown) or None, own)
    verdict = "program too old: do not start" if numbers and numbers[-1] > own else if_older
    verdict = "do not start: damaged, or of a later release" if "?" in shown else verdict
    return PartVersions(part, ", ".join(shown), own, verdict, may_start=False)


def _version_of_segment(store: ObjectStore, chain: ChainId) -> object:
    try:
        find_end(store, chain)
    except OtherVersionError as error:
        return error.version
    except DamagedSegmentError:
        return None
    return FORMAT_VERSION


def _versions_of_tables(store: ObjectStore) -> Iterator[object]:
    for table in _TABLES:
        days = list(list_days(store, stored_key(table.name, date.min).partition("/day=")[0]))
        for day in {*days[:1], *days[-1:]}:
            try:
                found = read_object(store, stored_key(table.name, day), _AnyManifest)
                yield found.manifest.schema_version if found else SCHEMA_VERSION
            except DamagedObjectError:
                yield None


def _compare_recipes(store: ObjectStore, settings: Settings, now: datetime) -> PartVersions:
    """Compares the recipes of the newest day's objects: versions, queries and settings, also of tracks and reports."""
    newest = list(list_days(store, FRAMES.name))[-1:]
    states = [found for each in day_states(store, settings, newest, now=now).values() for found in each.items()]
    others = ", ".join(name for name, found in states if found.state is State.OTHER_RECIPE)
    if not others:
        return PartVersions("recipes", None)
    return PartVersions("recipes", f"{others} of {newest[0]}", None, "kept until you rebuild them (docs/backfills.md)")
