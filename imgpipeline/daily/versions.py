"""Compares the versions in the store with those of this program: what happens if it is started on this store?

A sample is enough. The last segment shows the version of its whole chain, because a run reads it before it adds one,
and refuses any other version. Of the bundles the newest is read, of each table the oldest and the newest day.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from imgpipeline.daily.states import day_states
from imgpipeline.lake.days.day_tables import list_days
from imgpipeline.lake.days.derived import State
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.lake.schema.tables import DAY_TABLES, FRAMES, SCHEMA_VERSION, SUMMARY_TABLES, WEAK_DETECTIONS
from imgpipeline.lake.storage.manifest import BaseManifest, DamagedObjectError, read_object
from imgpipeline.ledger import segment
from imgpipeline.ledger.bundles import stored as bundles
from imgpipeline.ledger.reading import ChainEnd, fix_ends
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_TABLES = (*DAY_TABLES, WEAK_DETECTIONS, *SUMMARY_TABLES, *EVENT_TABLES, *PLACE_TABLES)
_RECENT_OFFSETS = 1_000_000


class Verdict(StrEnum):
    """What happens to a part of the store if this program is started."""

    SAME = "same"
    IGNORED = "not read: the segments are read instead"
    KEPT = "kept until you rebuild them (docs/backfills.md)"
    OUTDATED = "do not start: first move these tables aside, they are rebuilt then (docs/upgrading.md)"
    TOO_OLD = "program too old: do not start"
    TOO_NEW = "program too new: do not start (docs/upgrading.md)"
    UNREADABLE = "do not start: damaged, or of a later release"


@dataclass(frozen=True, slots=True)
class PartVersions:
    """The versions of one part of the store."""

    part: str
    stored: str | None
    """The sampled versions, `?` for one that cannot be read; None if nothing is stored."""
    program: int | None
    verdict: Verdict

    @property
    def may_start(self) -> bool:
        """Whether this program may be started."""
        return self.verdict in (Verdict.SAME, Verdict.IGNORED, Verdict.KEPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _AnyManifest(BaseManifest):
    """The manifest of a table with columns of any version."""

    schema_version: int


def compare_versions(store: ObjectStore, settings: Settings, *, now: datetime) -> list[PartVersions]:
    """Compares each part of the store with this program. Writes nothing but the day catalogue, which is a cache.

    Raises:
        ConfigurationError: The rules are missing or invalid.
        TransientError: The store does not answer.
    """
    ends: Collection[ChainEnd] = ()
    in_segments: set[object]
    try:
        ends = fix_ends(store).values()
        in_segments = {None if end.damage else segment.FORMAT_VERSION for end in ends if end.offset}
    except segment.OtherVersionError as error:
        in_segments = {error.version}
    parts = [
        _compare("segments", in_segments, segment.FORMAT_VERSION, Verdict.TOO_NEW),
        _compare("bundles", set(_of_bundles(store, ends)), bundles.FORMAT_VERSION, Verdict.IGNORED, Verdict.IGNORED),
        _compare("tables", set(_of_tables(store)), SCHEMA_VERSION, Verdict.OUTDATED),
    ]
    if all(part.may_start for part in parts):
        parts.append(_compare_recipes(store, settings, now))
    return parts


def _compare(
    part: str, stored: set[object], own: int, older: Verdict, newer: Verdict = Verdict.TOO_OLD
) -> PartVersions:
    numbers = sorted(version for version in stored if isinstance(version, int))
    verdict = Verdict.SAME
    if len(numbers) < len(stored):
        verdict = Verdict.UNREADABLE
    elif numbers and numbers[-1] > own:
        verdict = newer
    elif numbers and numbers[0] < own:
        verdict = older
    shown = [*map(str, numbers), *(["?"] if len(numbers) < len(stored) else [])]
    return PartVersions(part, ", ".join(shown) or None, own, verdict)


def _of_bundles(store: ObjectStore, ends: Iterable[ChainEnd]) -> Iterator[object]:
    for longest in sorted(ends, key=lambda end: end.offset)[-1:]:
        end = longest.offset
        found = bundles.find_bundles(store, longest.chain, max(0, end - _RECENT_OFFSETS), end, end)
        for newest in list(found.values())[-1:]:
            try:
                bundles.open_bundle(store, newest)
                yield bundles.FORMAT_VERSION
            except segment.OtherVersionError as error:
                yield error.version
            except bundles.DamagedBundleError:
                return  # its first reader removes it


def _of_tables(store: ObjectStore) -> Iterator[object]:
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
    shown = f"{others} of {newest[0]}" if others else None
    return PartVersions("recipes", shown, None, Verdict.KEPT if others else Verdict.SAME)
