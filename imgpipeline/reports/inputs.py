"""The inputs of a report: the stored versions of the day's tables, summaries and audit, and whether the day is over.

A stored report is built from tables alone. The command `imgpipeline report` also reads newer segments of the ledger.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING

from imgpipeline.contracts.keys import ChainId, audit_verdict_key, day_table_key
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.day_tables import list_days
from imgpipeline.lake.days.summaries import SUMMARIES, recipe
from imgpipeline.lake.days.summary_inputs import require_equal_ends, stored_key, when_settled
from imgpipeline.lake.quality.audit_state import StoredVerdict, read_verdict
from imgpipeline.lake.query.days import name_nearest_days, nearest_day
from imgpipeline.lake.schema.accuracy import ACCURACY
from imgpipeline.lake.schema.events import EVENTS, PLACE_TABLES
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.schema.tracks import TRACK_TABLES
from imgpipeline.lake.storage.manifest import (
    DamagedObjectError,
    Manifest,
    Stored,
    join_ends,
    read_stored,
)
from imgpipeline.ledger.days import index_buckets, known_days
from imgpipeline.objectstore import ObjectStore
from imgpipeline.reports.figures import day_hours
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    from imgpipeline.lake.sessions.snapshot import Snapshot

FOUND_TABLES = (*TRACK_TABLES, *PLACE_TABLES, EVENTS)
"""Tables of tracking and of the rules. They are optional; the report says which ones a day lacks."""


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """The inputs of a report of one day."""

    day: date
    """The day, in its time zone."""
    recipe: str
    """Hash of code, templates, queries and settings."""
    versions: Mapping[str, str]
    """Version of each stored table and summary of the day, and hash of its verdict, by key."""
    e_tags: Mapping[str, str]
    """E-tag of each stored table and summary, by key; for the cache."""
    manifests: tuple[Manifest, ...]
    """Manifests of the stored day tables; empty if the day is not built yet."""
    behind: Mapping[ChainId, int]
    """Ends of the day's chains if the ledger has segments newer than the tables; otherwise empty."""
    is_over: bool
    timezone: str = "UTC"
    """IANA name of the time zone."""
    parts: tuple["ReportInputs", ...] = ()
    """Inputs of the UTC days that a day of another time zone touches; empty for UTC."""
    verdict: StoredVerdict | None = None
    """Verdict of the last audit on the day; None without one."""

    @property
    def utc_days(self) -> tuple[date, ...]:
        """The UTC days that are read, in order."""
        return tuple(part.day for part in self.parts) or (self.day,)

    def days_with(self, table: str) -> tuple[date, ...]:
        """Returns the UTC days for which a table of tracks, events, zones or lines is built, in order."""
        return tuple(day for day in self.utc_days if stored_key(table, day) in self.versions)

    @property
    def fingerprint(self) -> str:
        """Hash of everything but the recipe, 32 hexadecimal digits."""
        ends = [(str(chain), end) for chain, end in sorted(self.behind.items())]
        parts: tuple[object, ...] = (
            self.day.isoformat(),
            sorted(self.versions.items()),
            ends,
            self.is_over,
        )
        parts += (self.timezone,) if self.parts else ()
        return sha256(repr(parts).encode()).hexdigest()[:32]


def read_inputs(store: ObjectStore, settings: Settings, day: date, *, now: datetime) -> ReportInputs:
    """Reads the inputs of a report of a UTC day's stored tables: only their manifests, no rows and no segments.

    `now` decides whether the day is over.

    Raises:
        DamagedObjectError: A table is not a Parquet file of this project.
        PermanentError: There is nothing for the day (the message names other days), or it is not built yet.
        TransientError: The store does not answer, or a build of the day takes too long.
    """

    def read() -> dict[str, Stored]:
        stored = _stored_tables(store, day)
        if len(stored) < len(DAY_TABLES):
            raise _not_built(store, day)
        require_equal_ends((found.manifest for found in stored.values()), "the report", day)
        return stored

    return _inputs(store, settings, day, when_settled(read), {}, now)


def read_live_inputs(
    store: ObjectStore, settings: Settings, day: date, snapshot: "Snapshot", *, now: datetime
) -> ReportInputs:
    """Reads the inputs of an up-to-date report of a day of the settings' time zone, for a session of that day.

    `snapshot` tells which UTC days have segments that are newer than their tables.

    Raises:
        DamagedObjectError: A table is not a Parquet file of this project.
        PermanentError: There is nothing for the day; the message names other days.
        TransientError: The store does not answer.
    """
    hours = day_hours(day, find_timezone(settings.timezone))
    touched = sorted({at.date() for at in (*hours.starts, hours.end - timedelta(microseconds=1))})
    found = {one: _stored_tables(store, one) for one in touched}
    parts = tuple(
        _inputs(store, settings, one, stored, snapshot.ends if one in snapshot.newer_days else {}, now)
        for one, stored in found.items()
        if stored or one in snapshot.newer_days
    )
    if not parts:
        raise _nothing_for(store, day)
    if settings.timezone == "UTC":
        return parts[0]
    return ReportInputs(
        day=day,
        recipe=parts[0].recipe,
        versions={key: version for part in parts for key, version in part.versions.items()},
        e_tags={key: e_tag for part in parts for key, e_tag in part.e_tags.items()},
        manifests=tuple(manifest for part in parts for manifest in part.manifests),
        behind=join_ends(*(part.behind for part in parts)),
        is_over=now >= hours.end,
        timezone=settings.timezone,
        parts=parts,
    )


def _stored_tables(store: ObjectStore, day: date) -> dict[str, Stored]:
    found = {key: read_stored(store, key) for key in (day_table_key(table.name, day) for table in DAY_TABLES)}
    return {key: stored for key, stored in found.items() if stored}


def _inputs(
    store: ObjectStore,
    settings: Settings,
    day: date,
    stored: Mapping[str, Stored],
    behind: Mapping[ChainId, int],
    now: datetime,
) -> ReportInputs:
    verdict = read_verdict(store, day)
    optional = _optional_versions(store, day)
    tables = {key: found.manifest.version for key, found in stored.items()}
    others = {key: found.manifest.version for key, found in optional.items()}
    audit = {audit_verdict_key(day): verdict.content} if verdict else {}
    return ReportInputs(
        day=day,
        recipe=report_recipe(settings),
        versions=tables | others | audit,
        e_tags={key: found.e_tag for each in (stored, optional) for key, found in each.items()},
        manifests=tuple(found.manifest for found in stored.values()) if len(stored) == len(DAY_TABLES) else (),
        behind=behind,
        is_over=now >= datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC),
        verdict=verdict,
    )


def _optional_versions(store: ObjectStore, day: date) -> dict[str, Stored]:
    """Returns the stored summaries, `accuracy` and those of `FOUND_TABLES`, by key; a damaged one counts as missing."""
    versions: dict[str, Stored] = {}
    for name in (*sorted(SUMMARIES), ACCURACY.name, *(table.name for table in FOUND_TABLES)):
        with contextlib.suppress(DamagedObjectError):
            if found := read_stored(store, stored_key(name, day)):
                versions[stored_key(name, day)] = found
    return versions


def report_recipe(settings: Settings) -> str:
    """Returns a hash of this package's files and the recipes of the summaries: all that shapes a report but data."""
    digest = sha256()
    for name, text in sorted(_own_files()):
        digest.update(f"{name}\0{text}\0".encode())
    for name in sorted(SUMMARIES):
        digest.update(f"{name}\0{recipe(name, settings)}\0".encode())
    return digest.hexdigest()[:16]


def _own_files() -> list[tuple[str, str]]:
    """Returns the name and text of each module and template of this package."""
    package = resources.files("imgpipeline.reports")
    files = [*package.iterdir(), *package.joinpath("templates").iterdir()]
    return [(f.name, f.read_text(encoding="utf-8")) for f in files if f.name.endswith((".py", ".j2", ".css"))]


def reported_days(store: ObjectStore) -> list[date]:
    """Returns the days that can be reported, sorted."""
    days = set(known_days(store))
    return sorted(days.union(*(list_days(store, table.name) for table in DAY_TABLES)))


def _not_built(store: ObjectStore, day: date) -> PermanentError:
    if next(iter(index_buckets(store, day)), None) is None:
        return _nothing_for(store, day)
    names = ",".join(table.name for table in DAY_TABLES)
    return PermanentError(
        f"The report of {day} cannot be built: the day's tables are not built yet.",
        next_step=f"run `dagster asset materialize -m imgpipeline.definitions --select {names} --partition {day}`",
    )


def _nothing_for(store: ObjectStore, day: date) -> PermanentError:
    days = reported_days(store)
    if not days:
        return PermanentError(
            f"There is nothing for {day}: this store has no frames at all.",
            next_step="check `imgpipeline status` and IMGPIPELINE_STORE_URL (`imgpipeline settings`)",
        )
    return PermanentError(
        f"There is nothing for {day}. Days with frames or dead letters: {name_nearest_days(days, day)}.",
        next_step=f"imgpipeline report --day {nearest_day(days, day)}",
    )
