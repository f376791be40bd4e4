"""What a day of small segments costs to build, query and audit as it grows, and how much the ledger stores.

A day is read from its segments, then through bundles. A relay before the S3 server counts requests. Next to the builds
stands the least that any build has to do: DuckDB rewrites the stored tables, without a store, in the same minute.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import duckdb

from benchmarks.place import Effort, Place, bucket_settings, say
from benchmarks.report import Table, at_least, at_most
from benchmarks.synthetic_days import DAY, SyntheticDay, make_day
from imgpipeline.contracts.keys import BUNDLE_OFFSETS, BUNDLES, DAY_INDEX, METADATA, day_table_key
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.bundles.making import bundle_ledger
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.ledger.segment import Provenance
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.reading import fetch_to_file
from imgpipeline_tests.faults.counting_relay import CountingRelay

_FRAMES = 5
"""Frames of a segment: what a busy partition puts each second."""
_ROUNDS = 3
_FEWER = 50.0
_RATES = (1, 5, 25)
"""Frames a second, and of a segment: a partition puts one segment a second."""
_SECONDS_A_YEAR = 365 * 86_400

Cost = tuple[int, float]
"""Requests and seconds."""


def measure_growth(place: Place, effort: Effort) -> list[Table]:
    """Measures days of more and more segments, and the size of what is stored."""
    _measure_day(place, 200)  # the first query of a process loads DuckDB's extensions
    builds, reads = [], []
    for count in effort.of((1_000, 4_000, 16_000), (2_000,)):
        built, read = _measure_day(place, count)
        builds.append(built)
        reads += read
    columns = ("segments", "first build", "build after one more segment", "its requests", "bare rewrite", "goal")
    works = ("live query", "audit", "build")
    asked = ("segments", "read from", *(f"{work}: requests, s" for work in works), "fewer requests", "goal")
    return [Table(columns, builds), Table(asked, reads), _sizes(place)]


def _measure_day(place: Place, count: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns the row of the builds, and the rows of what is read from segments and through bundles."""
    bucket = place.s3.create_bucket(f"growth-{count}")
    wanted = SyntheticDay((count + _ROUNDS) * _FRAMES, partitions=1, segment_frames=_FRAMES)
    with CountingRelay(place.s3.port) as relay:
        store = open_store(bucket_settings(bucket, relay.endpoint))
        make_day(store, wanted, slice(count))
        _, first_s = _timed(relay, lambda: _build(store))
        nexts, bare_s = [], []
        for number in range(count, count + _ROUNDS):
            make_day(store, wanted, slice(number, number + 1))
            nexts.append(_timed(relay, lambda: _build(store)))
            bare_s.append(_rewrite_s(store, place.folder))
        _end_day(store)
        ways = {"segments": _read(store, relay)}
        bundle_ledger(store)
        ways["bundles"] = _read(store, relay)
    next_s, requests = median(s for _, s in nexts), max(sent for sent, _ in nexts)
    goal_s = 1.5 * median(bare_s) + 0.5
    say(f"growth: {count} segments: first build {first_s:.2f} s, next {next_s:.2f} s")
    built = (f"{count:,}", f"{first_s:.2f} s", f"{next_s:.2f} s", str(requests), f"{median(bare_s):.2f} s",
             at_most(next_s, goal_s, f"{goal_s:.2f} s"))  # fmt: skip
    return built, [_row(count, way, ways["segments"], costs) for way, costs in ways.items()]


def _row(count: int, way: str, segments: list[Cost], costs: list[Cost]) -> tuple[str, ...]:
    fewer = min(before / after for (before, _), (after, _) in zip(segments, costs, strict=True))
    shown = (f"{requests:,}, {seconds:.2f}" for requests, seconds in costs)
    goals = ("", "") if way == "segments" else (f"{fewer:.0f} x at least", at_least(fewer, _FEWER))
    return f"{count:,}", way, *shown, *goals


def _read(store: ObjectStore, relay: CountingRelay) -> list[Cost]:
    """Queries, audits and builds a day that has neither tables nor audit state."""
    _forget(store)
    works: tuple[Callable[[], object], ...] = (
        lambda: _query(store),
        lambda: audit(store, list, now=utc_now()),
        lambda: _build(store, force=True),
    )
    return [_timed(relay, work) for work in works]


def _timed(relay: CountingRelay, work: Callable[[], object]) -> Cost:
    relay.requests.clear()
    began_s = time.perf_counter()
    work()
    return sum(relay.requests.values()), time.perf_counter() - began_s


def _build(store: ObjectStore, *, force: bool = False) -> object:
    return rebuild_day(store, DAY, force=force, now=utc_now())


def _query(store: ObjectStore) -> object:
    with open_lake(store, days=[DAY]) as session:
        return session.query("SELECT count(*) FROM frames").rows


def _forget(store: ObjectStore) -> None:
    for prefix in (*(table.name for table in DAY_TABLES), "audit"):
        for info in list(store.list_objects(prefix)):
            store.delete(info.key)


def _end_day(store: ObjectStore) -> None:
    """Moves the chain past its day, so that all ranges of the day can be bundled."""
    for end in fix_ends(store).values():
        writer = ChainWriter(store, end, DayIndex(store))
        for length in (BUNDLE_OFFSETS, 1):
            writer.append(
                [Gap(writer.end.offset, writer.end.offset + length, GapReason.MARKER)],
                provenance=Provenance("none", "", "", "benchmark"),
                writer_id=f"{length} offsets after the day",
                fingerprint=None,
                created_at=utc_now(),
            )


def _rewrite_s(store: ObjectStore, folder: Path) -> float:
    """Returns the seconds that DuckDB takes to rewrite the stored tables; fetching them is not counted."""
    seconds = 0.0
    for table in DAY_TABLES:
        stored, written = folder / "stored.parquet", folder / "written.parquet"
        fetch_to_file(store, day_table_key(table.name, DAY), stored)
        with duckdb.connect() as connection:
            rows = f"SELECT * FROM read_parquet('{stored}')"  # noqa: S608 - a path of our own
            began_s = time.perf_counter()
            connection.execute(f"COPY ({rows}) TO '{written}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")
            seconds += time.perf_counter() - began_s
    return seconds


def _sizes(place: Place) -> Table:
    """Measures two ranges of a bundle at each rate, and scales them to a year of one partition."""
    columns = ("frames/s", "frames of a segment", "bytes a frame: segments", "bundles", "tables", "segments a year",
               "day index", "bundles", "a year: segments", "bundles", "tables")  # fmt: skip
    rows = []
    for rate in _RATES:
        store = open_store(bucket_settings(place.s3.create_bucket(f"sizes-{rate}")))
        frames = 2 * BUNDLE_OFFSETS
        make_day(store, SyntheticDay(frames, partitions=1, segment_frames=rate, variants=frames))
        segments, index = _size(store, [METADATA]), _size(store, [DAY_INDEX])
        _build(store)
        tables = _size(store, [table.name for table in DAY_TABLES])
        _end_day(store)
        bundle_ledger(store)
        bundles = _size(store, [BUNDLES])
        years = rate * _SECONDS_A_YEAR / frames
        rows.append((
            f"{rate}", f"{rate}",
            *(f"{size / frames:,.0f}" for _, size in (segments, bundles, tables)),
            *(f"{count * years:,.0f}" for count, _ in (segments, index, bundles)),
            *(f"{size * years / 1e9:,.1f} GB" for _, size in (segments, bundles, tables)),
        ))  # fmt: skip
    return Table(columns, rows, "What one partition stores, with three detections a frame:")


def _size(store: ObjectStore, prefixes: Iterable[str]) -> tuple[int, int]:
    """Returns how many objects lie below the prefixes, and their bytes."""
    found = [info.size_bytes for prefix in prefixes for info in store.list_objects(prefix)]
    return len(found), sum(found)
