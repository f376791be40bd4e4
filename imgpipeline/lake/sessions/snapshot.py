"""A snapshot of the lake: the stored day tables plus the newer segments of the ledger.

Creates the tables `frames`, `detections` and `notices` of a query session, and the dead letters that summaries count.
They show everything up to one set of ends exactly once, whatever builds run meanwhile:

* Each day's files are fetched first, each in one version. Then the ends are fixed, so no file goes beyond them.
* Segments after the smallest end of a day's tables are added. If such a frame has the `frame_id` of a stored one, the
  rule of the day tables decides between them, and the detections are those of the chosen frame. Dead letters and
  notices are identified by their offsets.
* The newer segments of all days are read in a single pass, each once, even if one touches several days. The day
  catalogue knows which days have any, so a session of all days costs no request for days that are over.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key
from imgpipeline.errors import TransientError
from imgpipeline.lake.days.day_catalog import TABLES, DayCatalog, join_versions, open_catalog
from imgpipeline.lake.days.day_rows import WORKING, create_stored, lay_over, load_outcomes
from imgpipeline.lake.days.summary_inputs import list_versions
from imgpipeline.lake.schema.tables import (
    DAY_TABLE_NAMES,
    DAY_TABLES,
    DETECTIONS,
    FRAMES,
    NOTICES,
    STORED_DEAD_LETTERS,
    WEAK_DETECTIONS,
)
from imgpipeline.lake.storage.cache import LakeCache
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.lake.storage.manifest import Manifest, covered_ends, have_equal_ends, join_ends, parse_footer
from imgpipeline.ledger.days import days_since, index_buckets, read_days
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_READERS = 16
SHOWN_LETTERS = f"{WORKING}.shown_letters"
"""The dead letters of the session's days, as summaries count them. The table `dead_letters` that users see has more
columns, and filling it reads the ledger."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of a session."""

    ends: Mapping[ChainId, int]
    """The end up to which each chain is shown."""
    days: tuple[date, ...]
    """The days, sorted."""
    newer_frames: int
    """Number of frames from segments newer than the stored tables."""
    newer_days: frozenset[date] = frozenset()
    """The days that such segments touch."""
    versions: Mapping[date, Mapping[str, str]] = field(default_factory=dict)
    """The version of each stored table, of the days that show nothing newer."""


def take_snapshot(
    store: ObjectStore,
    engine: Engine,
    cache: LakeCache,
    days: Sequence[date] | None,
    stored: Mapping[str, str] | None = None,
    catalog: DayCatalog | None = None,
) -> Snapshot:
    """Creates the views `frames`, `detections`, `weak_detections`, `notices` and `SHOWN_LETTERS`.

    Args:
        engine: DuckDB with the session's folder.
        days: Only these; None: all.
        stored: Only these versions of the tables of `days`, e-tags by key, and no newer segment.
        catalog: The day catalogue, if the caller has one; it is saved.

    Returns:
        The content.

    Raises:
        LedgerError: A segment newer than the tables cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk is full.
        TransientError: The tables of a `stored` day changed, because a build is under way.
    """
    files = _take_files(store, engine.folder, cache, days, stored)
    ends = join_ends(*(manifest.ends for day in files.values() for manifest in day.manifests))
    shown, newer_days = sorted(set(days or ())), frozenset[date]()
    engine.run(f"CREATE SCHEMA {WORKING}")
    engine.run(f"SET search_path = '{WORKING},main'")
    if stored is None:
        catalog = catalog or open_catalog(store)
        ends = join_ends(catalog.ends, ends)
        newer = _NewerSegments(store, catalog, ends, files)
        shown = sorted({*files, *catalog.days}) if days is None else shown
        newer.look_for(shown)
        load_outcomes(engine, newer.read(), newer.since)
        newer_days = frozenset(newer.found)
        catalog.save()
    else:
        _check_built(files, shown)
        load_outcomes(engine, (), {})
    for table in (*DAY_TABLES, WEAK_DETECTIONS):
        create_stored(engine, table, [day.paths[table.name] for day in files.values() if table.name in day.paths])
    overlay = lay_over(engine)
    for loaded in ("found", "buried", "noticed", "weakened"):
        engine.run(f"DROP TABLE {loaded}")
    engine.run("SET search_path = 'main'")
    for table in (FRAMES, DETECTIONS, WEAK_DETECTIONS, NOTICES):
        engine.run(f"CREATE VIEW {table.name} AS {overlay.rows(table)}")
    engine.run(f"CREATE VIEW {SHOWN_LETTERS} AS {overlay.rows(STORED_DEAD_LETTERS)}")
    versions = {day: each.versions for day, each in files.items() if day not in newer_days}
    return Snapshot(ends, tuple(shown), overlay.frames, newer_days, versions)


def show_nothing(engine: Engine) -> None:
    """Creates the tables that summaries read, without rows; this is much cheaper than a snapshot of no days."""
    engine.run(f"CREATE SCHEMA {WORKING}")
    tables = {table.name: table for table in (FRAMES, DETECTIONS, NOTICES)} | {SHOWN_LETTERS: STORED_DEAD_LETTERS}
    for name, table in tables.items():
        engine.run(f"CREATE TABLE {name} ({table.typed_columns})")


@dataclass(frozen=True, slots=True)
class _DayFiles:
    """The files of all tables of one day."""

    manifests: tuple[Manifest, ...]
    paths: Mapping[str, Path]
    version: str

    @property
    def versions(self) -> dict[str, str]:
        """Version of each table, by name."""
        return {manifest.table: manifest.version for manifest in self.manifests}

    @property
    def version_noted(self) -> str:
        """Version of these tables in the day catalogue; empty if their ends differ."""
        return self.version if have_equal_ends(self.manifests) else ""


_Files = dict[date, _DayFiles]


def _check_built(files: _Files, days: Sequence[date]) -> None:
    for day in days:
        if day not in files or not files[day].version_noted:
            raise TransientError(
                f"The tables of {day} changed while they were read.",
                next_step="try again; a build of the day is under way",
            )


@dataclass(slots=True)
class _NewerSegments:
    """Reads the segments that are newer than the files."""

    store: ObjectStore
    catalog: DayCatalog
    ends: Mapping[ChainId, int]
    files: _Files
    since: dict[date, Mapping[ChainId, int]] = field(default_factory=dict)
    """For each day to check, the offset from which each chain is read."""
    found: set[date] = field(default_factory=set)
    """The days that have newer segments, after `read`."""

    def look_for(self, days: Sequence[date]) -> None:
        """Chooses the days to check: all but those whose files are complete according to the catalogue."""
        for day in days:
            files = self.files.get(day)
            version = files.version_noted if files else ""
            covered = covered_ends(*files.manifests) if files else {}
            is_complete = self.catalog.known.is_complete(day, TABLES, version)
            if not is_complete and self.catalog.known.has_newer_segments(day, covered) is not False:
                self.since[day] = covered

    def read(self) -> Iterator[Segment]:
        """Yields each newer segment of any day once, and notes the days that have none."""
        unread = [day for day, since in self.since.items() if self._is_open(since)]
        buckets = [
            bucket for listed in map_ahead(self._index, unread, workers=_READERS, ahead=_READERS) for bucket in listed
        ]
        for segment in read_days(self.store, self.since, self.ends, buckets=buckets):
            self.found.update(days_since(segment.header, self.since))
            yield segment
        for day in (self.since.keys() - self.found) & self.files.keys():
            self.catalog.known.note_complete(day, TABLES, self.files[day].version_noted)

    def _is_open(self, since: Mapping[ChainId, int]) -> bool:
        return any(since.get(chain, 0) < end for chain, end in self.ends.items())

    def _index(self, day: date) -> list[Bucket]:
        return index_buckets(self.store, day)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A file that was linked into the session's folder."""

    day: date
    e_tag: str
    manifest: Manifest
    path: Path


def _take_files(
    store: ObjectStore, folder: Path, cache: LakeCache, days: Sequence[date] | None, stored: Mapping[str, str] | None
) -> _Files:
    """Links the files of all days. If a table of a day is missing, the whole day is read from the ledger."""
    taken = _take_tables(store, folder, cache, days, stored, DAY_TABLE_NAMES)
    # A build stores weak detections first, so those of the fetched frames are listed by now, if there are any.
    weak = _take_tables(store, folder, cache, days, stored, (WEAK_DETECTIONS.name,))
    cache.trim()
    files: dict[date, dict[str, _Taken]] = defaultdict(dict)
    for each in (*taken, *weak):
        files[each.day][each.manifest.table] = each
    return {
        day: _DayFiles(
            tuple(each.manifest for each in tables.values()),
            {table: each.path for table, each in tables.items()},
            join_versions(tables[table].e_tag for table in DAY_TABLE_NAMES),
        )
        for day, tables in files.items()
        if tables.keys() >= set(DAY_TABLE_NAMES)
    }


def _take_tables(
    store: ObjectStore,
    folder: Path,
    cache: LakeCache,
    days: Sequence[date] | None,
    stored: Mapping[str, str] | None,
    tables: Sequence[str],
) -> list[_Taken]:
    wanted = [
        (day, day_table_key(table, day), e_tag)
        for table in tables
        for day, e_tag in list_versions(store, table, stored).items()
        if days is None or day in days
    ]

    def take(item: tuple[date, str, str]) -> _Taken | None:
        day, key, e_tag = item
        path = folder / key
        return _Taken(day, e_tag, parse_footer(path, key), path) if cache.link(key, e_tag, path) else None

    with ThreadPoolExecutor(_READERS) as pool:
        return [each for each in pool.map(take, wanted) if each]
