"""The day tables `frames`, `detections` and `dead_letters`: one Parquet object a day and table.

Owns building them from the ledger, and saying which days are behind it. It promises:

* All tables of a build come from one reading of the ledger, up to one set of ends, which the manifests name.
* A manifest never goes backwards: an object is put only over the version that was read; where another build was
  faster, everything is done again from the greater ends of both.
* Several objects cannot be put at once. `frames` comes first, then `detections`, then `dead_letters`; between the
  puts, and after a crash there, each table is right up to the ends of its own manifest, and the day is stale until all
  three have the same ends and the ledger has nothing behind them. A reader that joins them compares the manifests'
  ends, or asks a query session (`session`), which brings frames and detections to one state. The dead letters come last
  because neither of the others is joined with them: a dead letter stays one whatever becomes of its replay, so that a
  reader in between only sees fewer of them.
* A table whose columns are of another version (or that is not there, since an older release has built the day) counts
  as missing: its day is stale.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.lake.day_checks import refuse_unsound
from imgpipeline.lake.day_rows import add_newer, read_whole
from imgpipeline.lake.engine import Engine, open_engine
from imgpipeline.lake.manifest import Manifest, Stored, read_stored
from imgpipeline.lake.outcomes import RECIPE, stored
from imgpipeline.lake.parquet_objects import replace_whole, write_parquet
from imgpipeline.lake.repair_notes import noted_days
from imgpipeline.lake.tables import DAY_TABLES, SCHEMA_VERSION
from imgpipeline.ledger import fix_ends, index_buckets, read_day
from imgpipeline.objectstore import ForbiddenError, ObjectStore

_NAMES = tuple(table.name for table in DAY_TABLES)
_STORED = {table.name: stored(table) for table in DAY_TABLES}
_ATTEMPTS = 8
_READERS = 16


@dataclass(frozen=True, slots=True)
class DayBuild:
    """How a day was built, or that there was nothing to do."""

    day: date
    """UTC day."""
    skipped: bool
    """Whether the stored tables had everything already."""
    frames: int
    """Rows of `frames`."""
    detections: int
    """Rows of `detections`."""
    dead_letters: int
    """Rows of `dead_letters`."""
    duplicates: int
    """Further outcomes of frames that are there already; they are left out."""
    size_bytes: int
    """Size of all three objects."""
    ends: Mapping[ChainId, int]
    """Up to which end each chain is covered; chains without anything of this day are left out."""
    built_at: datetime
    """When the stored tables were made, UTC."""
    duration_s: float
    """How long this call took, in seconds."""
    is_extended: bool = False
    """Whether the stored tables were made by adding newer segments to older tables."""


def rebuild_day(
    store: ObjectStore, day: date, *, force: bool = False, now: datetime, ends: Mapping[ChainId, int] | None = None
) -> DayBuild:
    """Brings all tables of a day up to the ledger.

    Args:
        store: The object store.
        day: UTC day.
        force: Read the whole day from the ledger, also where nothing is new.
        now: What the manifests say as the time of building.
        ends: Ends of all chains, where they were fixed already; default: they are read.

    Returns:
        What is stored now.

    Raises:
        LedgerError: A segment cannot be read, or a chain has a hole.
        TransientError: The store does not answer, or other builds of this day were faster time and again.
        PermanentError: A stored table is no Parquet file of this project, or the local disk is full.
    """
    began_s = time.perf_counter()
    if ends is None:
        ends = {chain: end.offset for chain, end in fix_ends(store).items()}
    for _ in range(_ATTEMPTS):
        before = {table: read_stored(store, day_table_key(table, day)) for table in _NAMES}
        ends = join_ends(ends, *(found.manifest.ends for found in before.values() if found))
        buckets = [bucket for bucket in index_buckets(store, day) if bucket.chain in ends]
        done: DayBuild | None
        if not force and _is_current(store, day, before, ends, buckets):
            done = _skipped(day, before)
        else:
            done = _build(store, day, before, ends=ends, buckets=buckets, whole=force, now=now)
        if done is not None:
            return replace(done, duration_s=time.perf_counter() - began_s)
    raise TransientError(f"{_ATTEMPTS} builds of {day} were overtaken by others; the tables are theirs.")


def join_ends(*several: Mapping[ChainId, int]) -> dict[ChainId, int]:
    """Returns the greatest end of each chain: each was read from a header, so the chain reaches that far."""
    joined: dict[ChainId, int] = {}
    for ends in several:
        for chain, end in ends.items():
            joined[chain] = max(end, joined.get(chain, 0))
    return joined


def covered_ends(*manifests: Manifest | None) -> dict[ChainId, int]:
    """Returns up to where all of some tables reach: what is behind that is news to one of them.

    A table that is missing, or whose columns are of another version, reaches nowhere.
    """
    if not manifests or any(manifest is None or manifest.schema_version != SCHEMA_VERSION for manifest in manifests):
        return {}
    several = [manifest.ends for manifest in manifests if manifest is not None]
    return {chain: min(ends.get(chain, 0) for ends in several) for chain in several[0]}


def reach_differently(*manifests: Manifest | None) -> bool:
    """Tells whether the tables of a day were made up to different ends: one build was killed, or two were at it.

    Each is right, but what reads several of them waits for equal ends, also where the ledger has nothing of the day
    between these.
    """
    first, *others = [manifest.ends for manifest in manifests if manifest is not None] or [{}]
    return any(ends != first for ends in others)


def has_news(
    store: ObjectStore,
    day: date,
    ends: Mapping[ChainId, int],
    since: Mapping[ChainId, int],
    buckets: Iterable[Bucket] | None = None,
) -> bool:
    """Tells whether a segment that touches a day lies between two sets of ends.

    Raises:
        LedgerError: A segment there cannot be read.
    """
    segments = read_day(store, day, ends, since=since, buckets=buckets)
    return next(iter(segments), None) is not None


def stale_days(store: ObjectStore, ends: Mapping[ChainId, int]) -> list[date]:
    """Returns the days whose tables are missing, damaged, of another version, or behind the ledger, sorted.

    A day with a segment that cannot be read is one of them: its build says what is wrong, and no other day has to wait.

    Args:
        store: The object store.
        ends: Ends of the chains, fixed before.

    Raises:
        ForbiddenError: The store refuses access.
        TransientError: The store does not answer.
    """
    by_day: dict[date, list[Bucket]] = defaultdict(list)
    for bucket in index_buckets(store):
        by_day[bucket.day].append(bucket)

    def is_stale(day: date) -> bool:
        try:
            found = [read_stored(store, day_table_key(table, day)) for table in _NAMES]
            manifests = [stored.manifest if stored else None for stored in found]
            return reach_differently(*manifests) or has_news(store, day, ends, covered_ends(*manifests), by_day[day])
        except ForbiddenError:
            raise
        except PermanentError:
            return True

    with ThreadPoolExecutor(_READERS) as pool:
        days = sorted(by_day)
        return [day for day, stale in zip(days, pool.map(is_stale, days), strict=True) if stale]


def _is_current(
    store: ObjectStore,
    day: date,
    before: Mapping[str, Stored | None],
    ends: Mapping[ChainId, int],
    buckets: list[Bucket],
) -> bool:
    manifests = [found.manifest if found else None for found in before.values()]
    if not all(map(_is_of_this_recipe, manifests)):
        return False
    return not reach_differently(*manifests) and not has_news(store, day, ends, covered_ends(*manifests), buckets)


def _build(
    store: ObjectStore,
    day: date,
    before: Mapping[str, Stored | None],
    *,
    ends: Mapping[ChainId, int],
    buckets: list[Bucket],
    whole: bool,
    now: datetime,
) -> DayBuild | None:
    """Builds and puts the tables; None where another build was faster."""
    extended = None if whole else _extensible(store, day, before)
    with open_engine() as engine:
        if extended is None:
            rows = read_whole(engine, store, day, ends, buckets)
        else:
            added = add_newer(engine, store, day, extended, ends, buckets)
            if added is None:
                return None
            rows = added
        refuse_unsound(engine, day)
        covered = {chain: ends[chain] for chain in sorted({bucket.chain for bucket in buckets})}
        made = Manifest("", day, SCHEMA_VERSION, RECIPE, covered, 0, built_at=now, duplicates=rows.duplicates,
                        is_extended=extended is not None)  # fmt: skip
        # All are written before the first is put, so that readers see tables of different ends as briefly as possible.
        files = {name: _write(engine, name, query, made) for name, query in rows.queries.items()}
        for name, (_, data) in files.items():
            if not replace_whole(store, day_table_key(name, day), data, before[name]):
                return None
        counts = {name: count for name, (count, _) in files.items()}
        size_bytes = sum(len(data) for _, data in files.values())
    return DayBuild(day, False, **counts, duplicates=rows.duplicates, size_bytes=size_bytes, ends=covered, built_at=now,
                    duration_s=0.0, is_extended=extended is not None)  # fmt: skip


def _write(engine: Engine, name: str, query: str, made: Manifest) -> tuple[int, memoryview]:
    """Writes the rows of one table; returns their number and the file."""
    count: int = engine.value(f"SELECT count(*) FROM ({query})")  # noqa: S608 - own SQL
    manifest = replace(made, table=name, rows=count)
    return count, write_parquet(engine, f"SELECT {_STORED[name]} FROM ({query})", manifest)  # noqa: S608 - own SQL


def _extensible(store: ObjectStore, day: date, before: Mapping[str, Stored | None]) -> dict[str, Stored] | None:
    """Returns the stored tables if the newer segments can be added to them; None if the day has to be read as a whole.

    A repair changes outcomes before the tables' ends, so a day of an open repair is read as a whole.
    """
    found = {name: stored for name, stored in before.items() if stored is not None}
    manifests = [stored.manifest for stored in found.values()]
    if len(found) < len(before) or any(not _is_of_this_recipe(manifest) for manifest in manifests):
        return None
    return None if reach_differently(*manifests) or day in noted_days(store) else found


def _is_of_this_recipe(manifest: Manifest | None) -> bool:
    return manifest is not None and (manifest.schema_version, manifest.made_by) == (SCHEMA_VERSION, RECIPE)


def _skipped(day: date, before: Mapping[str, Stored | None]) -> DayBuild:
    found = [stored for stored in before.values() if stored is not None]
    manifests = [stored.manifest for stored in found]
    return DayBuild(
        day=day,
        skipped=True,
        **{manifest.table: manifest.rows for manifest in manifests},
        duplicates=max(manifest.duplicates for manifest in manifests),
        size_bytes=sum(stored.size_bytes for stored in found),
        ends=covered_ends(*manifests),
        built_at=max(manifest.built_at for manifest in manifests),
        duration_s=0.0,
        is_extended=any(manifest.is_extended for manifest in manifests),
    )


def list_days(store: ObjectStore, prefix: str) -> Iterator[date]:
    """Yields the days that have an object below a prefix such as `frames` or `summaries/label_counts`, in order."""
    names = (name.removeprefix("day=") for name in store.list_folders(prefix) if name.startswith("day="))
    for name in names:
        try:
            yield date.fromisoformat(name)
        except ValueError:
            continue
