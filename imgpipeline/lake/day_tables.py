"""The day tables `frames` and `detections`: one Parquet object a day and table.

Owns building them from the ledger, and saying which days are behind it. It promises:

* Both tables of a build come from one reading of the ledger, up to one set of ends, which the manifests name.
* A manifest never goes backwards: an object is put only over the version that was read; where another build was
  faster, everything is done again from the greater ends of both.
* Two objects cannot be put at once. `frames` comes first; between the two puts, and after a crash there, each table is
  right up to the ends of its own manifest. A reader that joins them compares the manifests' ends, or asks a query
  session (`session`), which brings both to one state.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key
from imgpipeline.errors import TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.engine import Engine, disk_errors, open_engine, quoted
from imgpipeline.lake.manifest import FOOTER_KEY, Manifest, Stored, read_stored
from imgpipeline.lake.outcomes import DETECTION_ROWS, FRAME_ROWS, KEEP_UNIQUE, RECIPE, load_frames, stored
from imgpipeline.lake.tables import DETECTIONS, FRAMES, SCHEMA_VERSION
from imgpipeline.ledger import fix_ends, index_buckets, read_day
from imgpipeline.objectstore import ObjectStore

_ATTEMPTS = 8
_READERS = 16
_ROWS = {FRAMES.name: FRAME_ROWS, DETECTIONS.name: DETECTION_ROWS}
_ORDER = {FRAMES.name: '"timestamp", frame_id', DETECTIONS.name: '"timestamp", frame_id, detection_number'}


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
    duplicates: int
    """Further outcomes of frames that are there already; they are left out."""
    size_bytes: int
    """Size of both objects."""
    ends: Mapping[ChainId, int]
    """Up to which end each chain is covered; chains without anything of this day are left out."""
    built_at: datetime
    """When the stored tables were made, UTC."""
    duration_s: float
    """How long this call took, in seconds."""


def rebuild_day(
    store: ObjectStore, day: date, *, force: bool = False, now: datetime, ends: Mapping[ChainId, int] | None = None
) -> DayBuild:
    """Brings both tables of a day up to the ledger.

    Args:
        store: The object store.
        day: UTC day.
        force: Build again also where nothing is new.
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
        before = {table: read_stored(store, day_table_key(table, day)) for table in (FRAMES.name, DETECTIONS.name)}
        ends = join_ends(ends, *(found.manifest.ends for found in before.values() if found))
        buckets = [bucket for bucket in index_buckets(store, day) if bucket.chain in ends]
        done: DayBuild | None
        if not force and _is_current(store, day, before, ends, buckets):
            done = _skipped(day, before)
        else:
            done = _build(store, day, before, ends=ends, buckets=buckets, now=now)
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
    """Returns up to where all of some tables reach: what is behind that is news to one of them."""
    if not manifests or any(manifest is None for manifest in manifests):
        return {}
    several = [manifest.ends for manifest in manifests if manifest is not None]
    return {chain: min(ends.get(chain, 0) for ends in several) for chain in several[0]}


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
    """Returns the days whose tables are missing or behind the ledger, sorted.

    Args:
        store: The object store.
        ends: Ends of the chains, fixed before.

    Raises:
        LedgerError: A segment behind a day's tables cannot be read.
    """
    by_day: dict[date, list[Bucket]] = defaultdict(list)
    for bucket in index_buckets(store):
        by_day[bucket.day].append(bucket)

    def is_stale(day: date) -> bool:
        found = [read_stored(store, day_table_key(table, day)) for table in (FRAMES.name, DETECTIONS.name)]
        since = covered_ends(*(stored.manifest if stored else None for stored in found))
        return has_news(store, day, ends, since, by_day[day])

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
    if any(m is None or (m.schema_version, m.made_by) != (SCHEMA_VERSION, RECIPE) for m in manifests):
        return False
    return not has_news(store, day, ends, covered_ends(*manifests), buckets)


def _build(
    store: ObjectStore,
    day: date,
    before: Mapping[str, Stored | None],
    *,
    ends: Mapping[ChainId, int],
    buckets: list[Bucket],
    now: datetime,
) -> DayBuild | None:
    """Builds and puts both tables; None where another build was faster."""
    with open_engine() as engine:
        load_frames(engine, ((day, segment) for segment in read_day(store, day, ends, buckets=buckets)))
        outcomes = engine.value("SELECT count(*) FROM found")
        engine.run(KEEP_UNIQUE)
        frames = engine.value("SELECT count(*) FROM found")
        detections = engine.value("SELECT coalesce(sum(len(detections)), 0)::BIGINT FROM found")
        covered = {chain: ends[chain] for chain in sorted({bucket.chain for bucket in buckets})}
        size_bytes = 0
        for table, rows in ((FRAMES, frames), (DETECTIONS, detections)):
            name = table.name
            manifest = Manifest(
                name, day, SCHEMA_VERSION, RECIPE, covered, rows, built_at=now, duplicates=outcomes - frames
            )
            sorted_rows = f"SELECT {stored(table)} FROM ({_ROWS[name]}) ORDER BY {_ORDER[name]}"  # noqa: S608 - own SQL
            data = write_parquet(engine, sorted_rows, manifest)
            if not replace_whole(store, day_table_key(name, day), data, before[name]):
                return None
            size_bytes += len(data)
    return DayBuild(day, False, frames, detections, outcomes - frames, size_bytes, covered, now, 0.0)


def write_parquet(engine: Engine, query: str, manifest: Manifest) -> bytes:
    """Returns the rows of a query as a Parquet file (zstd) with a manifest in its footer."""
    path = engine.folder / f"{manifest.table}.parquet"
    engine.run(
        f"COPY ({query}) TO {quoted(str(path))} "
        f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{FOOTER_KEY}: {quoted(manifest.to_json())}}})"
    )
    reach("table write", manifest.table)
    with disk_errors(engine.folder):
        return _taken(path)


def _taken(path: Path) -> bytes:
    data = path.read_bytes()
    path.unlink()
    return data


def replace_whole(store: ObjectStore, key: str, data: bytes, before: Stored | None) -> bool:
    """Puts an object over the version that was read; tells whether it is there now.

    A refusal may be the client's own repeated request: what is stored decides.
    """
    reach("table put", key)
    is_there = store.replace(key, data, before.e_tag if before else None) or store.get(key) == data
    reach("table put done", key)
    return is_there


def _skipped(day: date, before: Mapping[str, Stored | None]) -> DayBuild:
    frames, detections = (found for found in before.values() if found is not None)
    return DayBuild(
        day=day,
        skipped=True,
        frames=frames.manifest.rows,
        detections=detections.manifest.rows,
        duplicates=frames.manifest.duplicates,
        size_bytes=frames.size_bytes + detections.size_bytes,
        ends=covered_ends(frames.manifest, detections.manifest),
        built_at=max(frames.manifest.built_at, detections.manifest.built_at),
        duration_s=0.0,
    )


def list_days(store: ObjectStore, prefix: str) -> Iterator[date]:
    """Yields the days that have an object below a prefix such as `frames` or `summaries/label_counts`, in order."""
    names = (name.removeprefix("day=") for name in store.list_folders(prefix) if name.startswith("day="))
    for name in names:
        try:
            yield date.fromisoformat(name)
        except ValueError:
            continue
