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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.lake.day_checks import refuse_unsound
from imgpipeline.lake.day_ends import covered_ends, has_news, join_ends, reach_differently
from imgpipeline.lake.day_rows import add_newer, read_whole
from imgpipeline.lake.engine import Engine, open_engine
from imgpipeline.lake.manifest import Manifest, Stored, parse_footer, read_stored
from imgpipeline.lake.outcomes import RECIPE, stored
from imgpipeline.lake.parquet_objects import replace_whole, write_parquet
from imgpipeline.lake.repair_notes import noted_days
from imgpipeline.lake.tables import DAY_TABLES, DETECTIONS, FRAMES, SCHEMA_VERSION, STORED_DEAD_LETTERS
from imgpipeline.ledger import fix_ends, index_buckets
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
    corrected: tuple[str, ...] = ()
    """Extended tables whose rows were not those of the ledger, so that this build has replaced them."""


def rebuild_day(
    store: ObjectStore,
    day: date,
    *,
    force: bool = False,
    seal: bool = False,
    now: datetime,
    ends: Mapping[ChainId, int] | None = None,
) -> DayBuild:
    """Brings all tables of a day up to the ledger.

    Args:
        store: The object store.
        day: UTC day.
        force: Read the whole day from the ledger, also where nothing is new.
        seal: Where newer segments were added to the stored tables, read the whole day once and compare.
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
        if force or not _is_current(store, day, before, ends, buckets):
            done = _build(store, day, before, ends=ends, buckets=buckets, whole=force, now=now)
        elif seal and any(found.manifest.is_extended for found in before.values() if found):
            compare = day not in noted_days(store)  # a repair has changed outcomes, and its tables are not built yet
            done = _build(store, day, before, ends=ends, buckets=buckets, whole=True, compare=compare, now=now)
        else:
            found = {name: stored for name, stored in before.items() if stored}
            size_bytes = sum(stored.size_bytes for stored in found.values())
            done = _report(day, {name: s.manifest for name, s in found.items()}, size_bytes, skipped=True)
        if done is not None and not (seal and done.is_extended):
            return replace(done, duration_s=time.perf_counter() - began_s)
    raise TransientError(f"{_ATTEMPTS} builds of {day} were overtaken by others; the tables are theirs.")


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
    compare: bool = False,
    now: datetime,
) -> DayBuild | None:
    """Builds and puts the tables; None where another build was faster.

    With `compare`, the stored tables are current, so a table with other rows than the new one is wrong.
    """
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
        manifests = {name: parse_footer(data, name) for name, data in files.items()}
        for name, data in files.items():
            if not replace_whole(store, day_table_key(name, day), data, before[name]):
                return None
        size_bytes = sum(len(data) for data in files.values())
    wrong = [name for name, old in before.items() if old and old.manifest.content != manifests[name].content]
    return replace(_report(day, manifests, size_bytes), corrected=tuple(wrong) if compare else ())


def _write(engine: Engine, name: str, query: str, made: Manifest) -> memoryview:
    """Writes the rows of one table and returns the file."""
    rows: int = engine.value(f"SELECT count(*) FROM ({query})")  # noqa: S608 - own SQL
    return write_parquet(engine, f"SELECT {_STORED[name]} FROM ({query})", replace(made, table=name, rows=rows))  # noqa: S608 - own SQL


def _report(day: date, manifests: Mapping[str, Manifest], size_bytes: int, *, skipped: bool = False) -> DayBuild:
    return DayBuild(
        day=day,
        skipped=skipped,
        frames=manifests[FRAMES.name].rows,
        detections=manifests[DETECTIONS.name].rows,
        dead_letters=manifests[STORED_DEAD_LETTERS.name].rows,
        duplicates=max(manifest.duplicates for manifest in manifests.values()),
        size_bytes=size_bytes,
        ends=covered_ends(*manifests.values()),
        built_at=max(manifest.built_at for manifest in manifests.values()),
        duration_s=0.0,
        is_extended=any(manifest.is_extended for manifest in manifests.values()),
    )


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


def list_days(store: ObjectStore, prefix: str) -> Iterator[date]:
    """Yields the days that have an object below a prefix such as `frames` or `summaries/label_counts`, in order."""
    names = (name.removeprefix("day=") for name in store.list_folders(prefix) if name.startswith("day="))
    for name in names:
        try:
            yield date.fromisoformat(name)
        except ValueError:
            continue
