"""What a day of small segments costs to read: from the segments, through bundles, and in long segments.

Each day has the same frames. Requests are counted, and delayed where latency is added, by a relay before the S3 server.
Latency changes no number of requests, so the segments themselves are read with added latency on the smallest day only.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.place import bucket_settings, say
from benchmarks.synthetic_days import DAY, SyntheticDay, make_day
from imgpipeline.contracts.bundle_keys import BUNDLE_OFFSETS
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.schema import DAY_TABLES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger import ChainWriter, DayIndex, Provenance, fix_ends, read_day
from imgpipeline.ledger.bundles.making import bundle_ledger
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.servers.s3_server import S3Server

_FRAMES = 5
"""Frames of a small segment: what a busy partition puts each second."""
_LONG_FRAMES = 1_000
_DELAYS_S = (0.0, 0.02)
_ROUNDS = 3
WORKS = ("reading", "live query", "audit", "build")
"""What is measured of each way."""


def measure_bundles(s3: S3Server, segments: Sequence[int]) -> dict[str, Any]:
    """Returns requests and seconds of each way to read each day.

    Args:
        s3: A running server without buckets that begin with `bundles-`.
        segments: How many small segments each day has.
    """
    _warm_up(s3)
    return {"days": [_measure_day(s3, count, is_smallest=count == min(segments)) for count in segments]}


def _warm_up(s3: S3Server) -> None:
    """Reads a small day before anything is measured: the first query of a process loads DuckDB's extensions."""
    _read(s3, _fill(s3, "bundles-warm-up", _LONG_FRAMES, _LONG_FRAMES), "warm-up", 0.0)


def _measure_day(s3: S3Server, count: int, *, is_smallest: bool) -> dict[str, Any]:
    frames, measured = count * _FRAMES, []
    long = _fill(s3, f"bundles-long-{count}", frames, _LONG_FRAMES)
    small = _fill(s3, f"bundles-small-{count}", frames, _FRAMES)
    say(f"bundles: a day of {count} segments is there")
    delays_s = _DELAYS_S if is_smallest else _DELAYS_S[:1]
    measured += [_read(s3, small, "small segments", delay_s) for delay_s in delays_s]
    began_s = time.perf_counter()
    made = bundle_ledger(open_store(small))
    bundling_s = time.perf_counter() - began_s
    for delay_s in _DELAYS_S:
        measured += _compare(s3, long, small, delay_s)
    say(f"bundles: a day of {count} segments is measured")
    return {
        "segments": count,
        "frames": frames,
        "bundling_s": bundling_s,
        "bundles": made.bundles,
        "bundle_bytes": made.size_bytes,
        "ways": measured,
    }


def _compare(s3: S3Server, long: Settings, bundled: Settings, delay_s: float) -> list[dict[str, Any]]:
    """Reads long segments and bundles in turns, and takes the best of each: nothing but other work makes it slower."""
    rounds = [
        (_read(s3, long, "long segments", delay_s), _read(s3, bundled, "bundles", delay_s)) for _ in range(_ROUNDS)
    ]
    return [_best(of_way) for of_way in zip(*rounds, strict=True)]


def _best(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    best = dict(rounds[0])
    for name in WORKS:
        best[name] = min((measured[name] for measured in rounds), key=lambda figure: float(figure["s"]))
    return best


def _fill(s3: S3Server, name: str, frames: int, segment_frames: int) -> Settings:
    """Makes a day that is over: its chain goes on with another one."""
    bucket = s3.create_bucket(name)
    settings = bucket_settings(bucket)
    store = open_store(settings)
    make_day(store, SyntheticDay(frames, partitions=1, segment_frames=segment_frames))
    for end in fix_ends(store).values():
        writer = ChainWriter(store, end, DayIndex(store))
        for length in (BUNDLE_OFFSETS, 1):
            writer.append(
                [Gap(writer.end.offset, writer.end.offset + length, GapReason.MARKER)],
                provenance=Provenance("none", "", "", "benchmark"),
                writer_id=f"{length} offsets behind the day",
                fingerprint=None,
                created_at=utc_now(),
            )
    return settings


def _read(s3: S3Server, settings: Settings, way: str, delay_s: float) -> dict[str, Any]:
    with CountingRelay(s3.port, delay_s=delay_s) as relay:
        store = open_store(settings.model_copy(update={"s3_endpoint": relay.endpoint}))
        calls: tuple[Callable[[], object], ...] = (
            lambda: _count(store),
            lambda: _query(store),
            lambda: audit(store, list, now=utc_now()),
            lambda: rebuild_day(store, DAY, force=True, now=utc_now()),
        )
        found: dict[str, Any] = {"way": way, "delay_s": delay_s}
        for name, work in zip(WORKS, calls, strict=True):
            relay.requests.clear()
            began_s = time.perf_counter()
            work()
            found[name] = {"s": time.perf_counter() - began_s, "requests": sum(relay.requests.values())}
        _forget(store)
        return found


def _count(store: ObjectStore) -> int:
    ends = {chain: end.offset for chain, end in fix_ends(store).items()}
    return sum(segment.header.frames for segment in read_day(store, DAY, ends))


def _query(store: ObjectStore) -> object:
    with open_lake(store, days=[DAY]) as session:
        return session.query("SELECT count(*) FROM frames").rows


def _forget(store: ObjectStore) -> None:
    """Removes tables and audit state, so that the next way begins as this one did."""
    for prefix in (*(table.name for table in DAY_TABLES), "audit"):
        for info in list(store.list_objects(prefix)):
            store.delete(info.key)
