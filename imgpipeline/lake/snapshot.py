"""One moment of the lake: the stored day tables, and over them what the ledger has behind them.

Owns the tables `frames` and `detections` of a query session, and the dead letters that its summaries count. It promises
that they show everything up to one set of ends exactly once, whatever builds go on meanwhile:

* The ends are fixed first. Then each day's files are taken, each in one version. Where a file was made after the ends
  were fixed, the ends grow to its own: the ledger is read after that, up to those.
* Behind a day is what came after the smallest of its tables' ends. Where such a frame has the `frame_id` of a stored
  one, the rule of the day tables decides between them, and the detections are those of the frame that was chosen.
  A dead letter is named by its offset.
* The segments behind all days are read in a single pass, each once, however their days are mixed.
* A file with columns of another version is left aside; its day is read from the ledger.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key, parse_day
from imgpipeline.lake.cache import LakeCache
from imgpipeline.lake.day_ends import covered_ends, join_ends
from imgpipeline.lake.engine import Engine
from imgpipeline.lake.manifest import Manifest, parse_footer
from imgpipeline.lake.outcomes import load_outcomes
from imgpipeline.lake.overlay import WORKING, create_stored, lay_over
from imgpipeline.lake.quiet import QuietNotes, fix_ends_with_notes, write_notes
from imgpipeline.lake.tables import DAY_TABLES, DETECTIONS, FRAMES, SCHEMA_VERSION, STORED_DEAD_LETTERS
from imgpipeline.ledger import ChainEnd, Segment, days_since, index_buckets, read_days
from imgpipeline.objectstore import ObjectStore

_READERS = 16
SHOWN_LETTERS = f"{WORKING}.shown_letters"
"""The dead letters of the session's days, as its summaries count them. The table `dead_letters` that users see says
more of each, and costs a reading of the ledger."""
_TABLES = tuple(table.name for table in DAY_TABLES)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a session shows."""

    ends: Mapping[ChainId, int]
    """Up to which end each chain is shown."""
    days: tuple[date, ...]
    """The days that are shown, sorted."""
    behind: int
    """How many frames came from segments behind the stored tables."""


def take_snapshot(store: ObjectStore, engine: Engine, cache: LakeCache, days: Sequence[date] | None) -> Snapshot:
    """Creates the views `frames`, `detections` and `SHOWN_LETTERS`.

    Args:
        store: The object store.
        engine: DuckDB with the session's folder.
        cache: Where fetched files are kept.
        days: Only these; None: all that there are.

    Returns:
        What is shown.

    Raises:
        LedgerError: A segment behind the tables cannot be read.
        PermanentError: A stored table is no Parquet file of this project, or the local disk is full.
    """
    fixed, notes = fix_ends_with_notes(store, cache.folder)
    files = _take_files(store, engine.folder, cache, days)
    manifests = [manifest.ends for tables in files.values() for manifest, _ in tables.values()]
    ends = join_ends({chain: end.offset for chain, end in fixed.items()}, *manifests)
    buckets = _buckets(store, days)
    shown = sorted(set(days) if days is not None else {*files, *buckets})
    engine.run(f"CREATE SCHEMA {WORKING}")
    engine.run(f"SET search_path = '{WORKING},main'")
    behind = _Behind(store, fixed, ends, buckets, notes, _covered_by_day(files, shown))
    load_outcomes(engine, behind.read(), behind.since)
    write_notes(store, cache.folder, notes, fixed.values())
    for table in DAY_TABLES:
        create_stored(engine, table, [tables[table.name][1] for tables in files.values()])
    overlay = lay_over(engine)
    engine.run("DROP TABLE found")
    engine.run("DROP TABLE buried")
    engine.run("SET search_path = 'main'")
    for table in (FRAMES, DETECTIONS):
        engine.run(f"CREATE VIEW {table.name} AS {overlay.rows(table)}")
    engine.run(f"CREATE VIEW {SHOWN_LETTERS} AS {overlay.rows(STORED_DEAD_LETTERS)}")
    return Snapshot(ends, tuple(shown), overlay.frames)


_Files = dict[date, dict[str, tuple[Manifest, Path]]]


@dataclass(slots=True)
class _Behind:
    """Reads what the ledger has behind the files."""

    store: ObjectStore
    fixed: Mapping[ChainId, ChainEnd]
    ends: Mapping[ChainId, int]
    buckets: Mapping[date, list[Bucket]]
    notes: QuietNotes
    covered: Mapping[date, Mapping[ChainId, int]]
    since: Mapping[date, Mapping[ChainId, int]] = field(init=False)
    """For each day the offset from which each chain is read."""

    def __post_init__(self) -> None:
        """Fixes where reading starts, before new notes are made."""
        self.since = {day: self.notes.skip(day, covered) for day, covered in self.covered.items()}

    def read(self) -> Iterator[Segment]:
        """Yields each segment behind any of the days once, and notes the days that have none."""
        quiet = set(self.since)
        buckets = [bucket for day in self.since for bucket in self.buckets.get(day, [])]
        for segment in read_days(self.store, self.since, self.ends, buckets=buckets):
            quiet.difference_update(days_since(segment.header, self.since))
            yield segment
        for day in sorted(quiet):
            chains = {bucket.chain for bucket in self.buckets.get(day, [])} & self.fixed.keys()
            self.notes.note(day, self.covered[day], {chain: self.fixed[chain].offset for chain in chains})


def _covered_by_day(files: _Files, days: Sequence[date]) -> dict[date, dict[ChainId, int]]:
    """Returns up to where the files of each day reach in each chain."""
    return {day: covered_ends(*(manifest for manifest, _ in files.get(day, {}).values())) for day in days}


def _take_files(store: ObjectStore, folder: Path, cache: LakeCache, days: Sequence[date] | None) -> _Files:
    """Links the files of all days, all tables of a day or none: where one is missing, the ledger tells the day."""
    wanted: list[tuple[date, str, str, str]] = []
    for table in _TABLES:
        for info in store.list_objects(table):
            day = parse_day(info.key)
            if day is not None and info.key == day_table_key(table, day) and (days is None or day in days):
                wanted.append((day, table, info.key, info.e_tag))

    def take(key: str, e_tag: str) -> tuple[Manifest, Path] | None:
        path = folder / key
        if not cache.link(key, e_tag, path):
            return None
        manifest = parse_footer(path, key)
        return (manifest, path) if manifest.schema_version == SCHEMA_VERSION else None

    with ThreadPoolExecutor(_READERS) as pool:
        taken = list(pool.map(lambda item: take(item[2], item[3]), wanted))
    cache.trim()
    files: _Files = defaultdict(dict)
    for (day, table, _, _), found in zip(wanted, taken, strict=True):
        if found:
            files[day][table] = found
    return {day: tables for day, tables in files.items() if len(tables) == len(_TABLES)}


def _buckets(store: ObjectStore, days: Sequence[date] | None) -> dict[date, list[Bucket]]:
    by_day: dict[date, list[Bucket]] = defaultdict(list)
    for day in [None] if days is None else days:
        for bucket in index_buckets(store, day):
            by_day[bucket.day].append(bucket)
    return by_day
