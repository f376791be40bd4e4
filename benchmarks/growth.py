"""What a build costs after one more segment, as a day of small segments grows.

Beside it the least that any build has to do: DuckDB rewrites the stored tables, without a store, in the same minute.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from benchmarks.place import bucket_settings, say
from benchmarks.synthetic_days import DAY, SyntheticDay, make_day
from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.schema import DAY_TABLES
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.reading import fetch_to_file
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.servers.s3_server import S3Server

_FRAMES = 5
"""Frames of a segment: what a busy partition puts each second."""
_ROUNDS = 3


def measure_growth(s3: S3Server, folder: Path, segments: Sequence[int]) -> dict[str, Any]:
    """Returns seconds and requests of the first build of each day, and of the build after one more segment.

    Args:
        s3: A running server without buckets that begin with `growth-`.
        folder: For the files that are rewritten.
        segments: How many segments each day has.
    """
    return {"days": [_measure_day(s3, folder, count) for count in segments]}


def _measure_day(s3: S3Server, folder: Path, count: int) -> dict[str, Any]:
    bucket = s3.create_bucket(f"growth-{count}")
    wanted = SyntheticDay((count + _ROUNDS) * _FRAMES, partitions=1, segment_frames=_FRAMES)
    with CountingRelay(s3.port) as relay:
        store = open_store(bucket_settings(bucket, relay.endpoint))
        make_day(store, wanted, slice(count))
        first_s, next_s, bare_s, requests = _build_s(store), [], [], []
        for number in range(count, count + _ROUNDS):
            make_day(store, wanted, slice(number, number + 1))
            relay.requests.clear()
            next_s.append(_build_s(store))
            requests.append(sum(relay.requests.values()))
            bare_s.append(_rewrite_s(store, folder))
    say(f"growth: {count} segments: first build {first_s:.2f} s, next {median(next_s):.2f} s")
    return {
        "segments": count,
        "first_s": first_s,
        "next_s": median(next_s),
        "next_requests": max(requests),
        "bare_s": median(bare_s),
    }


def _build_s(store: ObjectStore) -> float:
    began_s = time.perf_counter()
    rebuild_day(store, DAY, now=utc_now())
    return time.perf_counter() - began_s


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
