"""What calls that name no day cost, with many days that are over, and with very many partitions.

Each day has 2,000 entries in the day index, tables and summaries. One day is built; the others get copies of its files
with manifests of their own. Requests are counted by a relay before the S3 server. *First* is a call on a store without
the followers' objects; it grows with the days, so it is not measured with the most of
them, and with many partitions for two calls only. *Idle* is a call with nothing new; *news* one after a segment for
the newest day. The audit reads whatever it has not compared yet; `lake/test_days_over.py` counts its requests.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.place import bucket_settings, say
from imgpipeline.contracts.keys import (
    BUCKET_OFFSETS,
    FOLLOWERS,
    Bucket,
    ChainId,
    bucket_key,
)
from imgpipeline.contracts.outcomes import Gap, GapReason, Outcome
from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.states import day_states
from imgpipeline.lake.build.day_tables import rebuild_day, stale_days
from imgpipeline.lake.build.summaries import SUMMARIES, build_summary
from imgpipeline.lake.build.summary_inputs import stored_key
from imgpipeline.lake.query.summaries import open_summaries
from imgpipeline.lake.schema import DAY_TABLES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.lake.storage.manifest import FOOTER_KEY, parse_footer
from imgpipeline.ledger import ChainEnd, ChainWriter, DayIndex, find_end
from imgpipeline.ledger.dead_letter_list import find_dead_letters
from imgpipeline.ledger.dead_letters import Wanted
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.reports.inputs import reported_days
from imgpipeline.settings import load_settings
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, append, dead_letter
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

_ENTRIES = 2_000
_CHAIN = ChainId("frames", "synthetic", 0)
_WRITERS = 8
_MOST_FIRST_DAYS = 100

Call = Callable[[ObjectStore, Path], object]


def _query(store: ObjectStore, cache: Path) -> object:
    with open_lake(store, cache_dir=cache) as session:
        return session.query("SELECT count(*) FROM frames").rows


def _summarize(store: ObjectStore, cache: Path) -> object:
    with open_summaries(store, load_settings(), ["label_counts"], cache_dir=cache) as span:
        return span.query("SELECT sum(count) FROM label_counts").rows


_CALLS: dict[str, Call] = {
    "stale_days": lambda store, _: stale_days(store),
    "day_states": lambda store, _: day_states(store, load_settings(), now=utc_now()),
    "reported_days": lambda store, _: reported_days(store),
    "query session": _query,
    "summary": _summarize,
    "dead-letters list": lambda store, _: find_dead_letters(store, Wanted()),
}


def measure_days_over(s3: S3Server, folder: Path, days: Sequence[int], partitions: int) -> dict[str, Any]:
    """Returns requests and seconds of each call.

    Args:
        s3: A running server on a folder, without buckets that begin with `days-`.
        folder: For the cache of tables.
        days: How many days that are over, in increasing order.
        partitions: How many partitions the second store has, all with frames of one day.
    """
    return {"days": _measure_days(s3, folder, days), "partitions": _measure_partitions(s3, folder, partitions)}


def _measure_days(s3: S3Server, folder: Path, wanted: Sequence[int]) -> list[dict[str, Any]]:
    bucket, measured, made = s3.create_bucket("days-over"), [], 0
    with CountingRelay(s3.port) as relay:
        store = _open(bucket, relay.endpoint)
        for count in wanted:
            _make_days(store, s3.data_dir / bucket.name, range(made, count))
            made = count
            measured.append({"days": count, "calls": _measure(store, relay, folder, count)})
            say(f"days: {count} days that are over are measured")
    return measured


def _measure(store: ObjectStore, relay: CountingRelay, folder: Path, days: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, call in _CALLS.items():
        is_first = days <= _MOST_FIRST_DAYS
        if is_first:
            for info in list(store.list_objects(FOLLOWERS)):
                store.delete(info.key)
        first = _time(relay, lambda call=call: call(store, folder))  # type: ignore[misc]  # bound for the loop
        idle = _time(relay, lambda call=call: call(store, folder))  # type: ignore[misc]  # as above
        end = find_end(store, _CHAIN)
        writer = ChainWriter(store, end, DayIndex(store))
        append(writer, [seen(end.offset, ["car"], DAY + timedelta(days=days - 1))])
        news = _time(relay, lambda call=call: call(store, folder))  # type: ignore[misc]  # as above
        found[name] = {"first": first if is_first else None, "idle": idle, "news": news}
        _build(store, days - 1)
    return found


def _time(relay: CountingRelay, call: Callable[[], object]) -> dict[str, float]:
    relay.requests.clear()
    began_s = time.perf_counter()
    call()
    return {"s": time.perf_counter() - began_s, "requests": sum(relay.requests.values())}


def _make_days(store: ObjectStore, bucket_dir: Path, days: range) -> None:
    """Makes days of five frames, a dead letter and a long gap each; the index entries are written into the folder."""
    for number in days:
        day = DAY + timedelta(days=number)
        writer = ChainWriter(store, find_end(store, _CHAIN), DayIndex(store))
        start = writer.end.offset
        frames: list[Outcome] = [seen(start + n, ["car"], day) for n in range(5)]
        append(writer, [*frames, dead_letter(start + 5, day)])
        append(writer, [Gap(start + 6, start + _ENTRIES * BUCKET_OFFSETS, GapReason.MARKER)])
        first = start // BUCKET_OFFSETS
        for entry in range(first + 1, first + _ENTRIES):
            (bucket_dir / bucket_key(Bucket(day, _CHAIN, entry))).touch()
        if number == 0:
            _build(store, number)
        else:
            _copy_day(store, day, writer.end.offset)


def _copy_day(store: ObjectStore, day: date, end: int) -> None:
    """Puts the first day's tables and summaries under another day, with manifests of that day."""
    versions: dict[str, str] = {}
    for name in (*(table.name for table in DAY_TABLES), *SUMMARIES):
        rows = pq.read_table(pa.BufferReader(store.get(stored_key(name, DAY))))
        manifest = parse_footer(store.get(stored_key(name, DAY)), name)
        inputs = SUMMARIES[name].inputs if name in SUMMARIES else ()
        made = replace(manifest, day=day, ends={_CHAIN: end}, made_of={table: versions[table] for table in inputs})
        sink = pa.BufferOutputStream()
        pq.write_table(rows.replace_schema_metadata({FOOTER_KEY: made.to_json()}), sink)
        store.put(stored_key(name, day), sink.getvalue().to_pybytes())
        info = store.head(stored_key(name, day))
        versions[name] = info.e_tag if info else ""


def _build(store: ObjectStore, number: int) -> None:
    day = DAY + timedelta(days=number)
    rebuild_day(store, day, now=utc_now())
    for name in SUMMARIES:
        build_summary(store, name, day, settings=load_settings(), now=utc_now())


def _measure_partitions(s3: S3Server, folder: Path, partitions: int) -> dict[str, Any]:
    bucket = s3.create_bucket("days-partitions")

    def fill(number: int) -> None:
        chain = ChainId("frames", "synthetic", number)
        writer = ChainWriter(store, ChainEnd(chain, 0, None), DayIndex(store))
        append(writer, [seen(0, ["car"], source=f"camera-{number}", frame_id=f"{number:032x}", partition=number)])

    store = _open(bucket, s3.endpoint)
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(fill, range(partitions)))
    _build(store, 0)
    say(f"days: {partitions} partitions are there")
    with CountingRelay(s3.port) as relay:
        store = _open(bucket, relay.endpoint)
        calls: dict[str, Any] = {}
        for name, call in _CALLS.items():
            first = None
            if name in ("stale_days", "dead-letters list"):  # it makes the stored object that the other calls share
                first = _time(relay, lambda call=call: call(store, folder))  # type: ignore[misc]  # bound for the loop
            idle = _time(relay, lambda call=call: call(store, folder))  # type: ignore[misc]  # as above
            calls[name] = {"first": first, "idle": idle}
            say(f"days: {name} over {partitions} partitions: {idle['requests']} requests, {idle['s']:.1f} s")
    return {"partitions": partitions, "calls": calls}


def _open(bucket: S3Bucket, endpoint: str) -> ObjectStore:
    return open_store(bucket_settings(bucket, endpoint))
