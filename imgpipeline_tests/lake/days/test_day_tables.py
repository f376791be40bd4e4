"""The day tables have each frame once, name the ends that they cover, and never go backwards."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from imgpipeline.contracts.keys import BUNDLE_OFFSETS, ChainId, day_table_key, segment_key, summary_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.errors import LedgerError, PermanentError, TransientError
from imgpipeline.lake.days import derived
from imgpipeline.lake.days.day_tables import list_days, rebuild_day
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.lake.storage.manifest import read_manifest, read_stored
from imgpipeline.ledger.bundles.making import bundle_ledger
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.daily.looking import stale_days
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.lake.audits import is_current
from imgpipeline_tests.lake.oracle import check, rows
from imgpipeline_tests.lake.samples import again, chosen_frames, day_outcomes, gated, seen, stored_letters
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    append,
    dead_letter,
    ends_of,
    frame,
    frames,
    gap,
    write_chain,
    writer,
)
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, s3_settings, store_settings
from imgpipeline_tests.servers.waiting import wait_until

LATER = NOON + timedelta(hours=1)
NEXT = DAY + timedelta(days=1)
OTHER = ChainId("frames", "another_id", 4)


def test_a_day_becomes_one_object_per_table_that_names_its_ends(store):
    write_chain(store, day_outcomes(0, 5), [frame(5, NEXT), dead_letter(6), gap(7, 9)], [gated(9)])
    built = rebuild_day(store, DAY, now=NOON)
    assert not built.skipped
    listed = {info.key: info.size_bytes for info in store.list_objects() if not info.key.startswith("metadata")}
    assert set(listed) == {day_table_key(table, DAY) for table in ("frames", "detections", "dead_letters", "notices")}
    assert built.size_bytes == sum(listed.values())
    for table, count in (("frames", 6), ("detections", 0 + 1 + 2 + 3 + 0), ("dead_letters", 1), ("notices", 0)):
        manifest = read_manifest(store, table, DAY)
        assert manifest is not None
        assert (manifest.table, manifest.day, manifest.ends, manifest.rows) == (table, DAY, {CHAIN: 10}, count)
        assert (built.of(table), manifest.duplicates) == (manifest, 0)
        assert manifest.built_at == NOON


def test_any_engine_reads_the_tables_by_their_hive_paths(folder, tmp_path):
    write_chain(folder, day_outcomes(0, 8), [seen(8, ["dog"], NEXT)])
    for day in (DAY, NEXT):
        rebuild_day(folder, day, now=NOON)
    with duckdb.connect() as connection:
        asked = "SELECT day, count(*) FROM read_parquet($path) GROUP BY day ORDER BY day"
        found = connection.execute(asked, {"path": f"{tmp_path}/store/frames/*/*.parquet"}).fetchall()
    assert found == [(DAY, 8), (NEXT, 1)]
    table = pd.read_parquet(tmp_path / "store" / "detections")
    assert table.groupby("day", observed=True).size().to_dict() == {str(DAY): 12, str(NEXT): 1}
    assert table["label"].value_counts()["dog"] == sum(
        1 for f in chosen_frames(folder).values() for d in f.detections if d.label == "dog"
    ) + 1  # fmt: skip


def test_rows_are_sorted_by_time_and_compressed(folder, tmp_path):
    shuffled = [replace(f, offset=n) for n, f in enumerate(reversed(day_outcomes(0, 50))) if isinstance(f, Frame)]
    write_chain(folder, shuffled)
    rebuild_day(folder, DAY, now=NOON)
    for table in ("frames", "detections"):
        times = [row[0] for row in rows(folder, table, '"timestamp"', tmp_path)]
        assert times == sorted(times)
    path = tmp_path / "store" / day_table_key("frames", DAY)
    with duckdb.connect() as connection:
        found = connection.execute("SELECT DISTINCT compression FROM parquet_metadata(?)", [str(path)]).fetchall()
    assert found == [("ZSTD",)]


@pytest.mark.fault(19)
def test_a_frame_announced_twice_has_one_row_processed_before_gated_then_the_lowest_offset(memory, tmp_path):
    write_chain(
        memory,
        [seen(0, ["car"]), gated(1), again(2, of=0, labels=["dog", "dog"]), again(3, of=1, labels=["person"])],
        [again(4, of=1, labels=["car", "car"])],
    )
    write_chain(memory, [again(0, of=3, labels=["dog"])], chain=OTHER)
    built = rebuild_day(memory, DAY, now=NOON)
    assert (built.of("frames").rows, built.of("frames").duplicates) == (3, 3)
    assert sorted(rows(memory, "detections", "source_kafka_offset, label", tmp_path)) == [
        (0, "car"),
        (0, "dog"),
        (3, "person"),
    ]
    assert len(chosen_frames(memory)) == 3


def test_a_build_without_newer_segments_does_nothing(store):
    made = write_chain(store, day_outcomes(0, 5))
    first = rebuild_day(store, DAY, now=NOON)
    append(made, frames(5, 8, NEXT))
    second = rebuild_day(store, DAY, now=LATER)
    assert second.skipped
    assert second.manifests == first.manifests
    assert second.sizes == first.sizes
    forced = rebuild_day(store, DAY, now=LATER, force=True)
    assert not forced.skipped
    assert {(made.built_at, made.ends[CHAIN]) for made in forced.manifests.values()} == {(LATER, 8)}


@pytest.mark.fault(29)
def test_a_late_frame_makes_only_its_own_day_stale(store):
    made = write_chain(store, frames(0, 3), frames(3, 5, NEXT))
    for day in (DAY, NEXT):
        rebuild_day(store, day, now=NOON)
    assert stale_days(store) == []
    append(made, [frame(5, DAY)])
    assert stale_days(store) == [DAY]
    assert rebuild_day(store, DAY, now=LATER).of("frames").rows == 4
    assert rebuild_day(store, NEXT, now=LATER).skipped
    assert stale_days(store) == []


@pytest.mark.parametrize("missing", ["frames", "detections", "dead_letters"])
def test_days_without_tables_or_without_one_of_them_are_stale(memory, missing):
    write_chain(memory, frames(0, 3), frames(3, 5, NEXT))
    assert stale_days(memory) == [DAY, NEXT]
    rebuild_day(memory, DAY, now=NOON)
    memory.delete(day_table_key(missing, DAY))
    assert stale_days(memory) == [DAY, NEXT]
    assert not rebuild_day(memory, DAY, now=LATER).skipped
    assert stale_days(memory) == [NEXT]
    assert list(list_days(memory, "frames")) == [DAY]


def test_tables_of_another_version_are_refused_until_they_are_moved_aside(memory, monkeypatch):
    write_chain(memory, day_outcomes(0, 3))
    with monkeypatch.context() as other_release:
        other_release.setattr("imgpipeline.lake.storage.manifest.SCHEMA_VERSION", 99)
        rebuild_day(memory, DAY, now=NOON)
    refused = r"frames/day=.* have version 99, expected 4.*Next: move that object aside; it is then rebuilt"
    with pytest.raises(PermanentError, match=refused):
        rebuild_day(memory, DAY, now=LATER)
    with pytest.raises(PermanentError, match=refused), open_lake(memory):
        pass
    assert stale_days(memory) == [DAY]
    audited = audit(memory, list, now=NOON)
    assert any("have version 99, expected 4" in problem for problem in audited.problems)
    for table in DAY_TABLE_NAMES:
        memory.delete(day_table_key(table, DAY))
    assert not rebuild_day(memory, DAY, now=LATER).skipped
    assert stale_days(memory) == []


def test_dead_letters_are_listed_once_under_their_day(store, tmp_path):
    replayed = replace(dead_letter(7), replay_of="frames/0/1", message="é \U0001f697 \n \"'")
    timeless = replace(dead_letter(8), timestamp=None, source="yard", image_path="a.jpg")
    write_chain(store, [seen(0), dead_letter(1)], [dead_letter(2, NEXT), dead_letter(3, None)], [seen(4), seen(5)])
    write_chain(store, [*day_outcomes(6, 7), replayed, timeless], chain=CHAIN)
    write_chain(store, [dead_letter(0), dead_letter(1)], chain=OTHER)
    for day, count in ((DAY, 5), (NEXT, 1)):
        assert rebuild_day(store, day, now=NOON).of("dead_letters").rows == count
        found = rows(store, "dead_letters", "* EXCLUDE (day)", tmp_path, day)
        assert found == stored_letters(store, day)
        assert len(found) == count


def test_a_day_of_dead_letters_or_of_nothing_has_empty_tables(memory, tmp_path):
    write_chain(memory, [dead_letter(0)])
    for day in (DAY, NEXT):
        assert rebuild_day(memory, day, now=NOON).of("frames").rows == 0
        assert rows(memory, "detections", "*", tmp_path, day) == []
        assert rebuild_day(memory, day, now=NOON).skipped


@pytest.mark.fault(32)
def test_a_late_build_with_older_ends_does_not_go_backwards(store):
    made = write_chain(store, day_outcomes(0, 5))
    old = ends_of(store)
    append(made, day_outcomes(5, 9))
    assert rebuild_day(store, DAY, now=NOON).of("frames").rows == 9
    late = rebuild_day(store, DAY, now=LATER, force=True, ends=old)
    assert (late.of("frames").rows, late.of("frames").ends) == (9, {CHAIN: 9})


@pytest.mark.fault(32)
def test_a_build_that_loses_a_race_starts_again_from_the_greater_ends(store, monkeypatch):
    """The older build has read its ends and the ledger; then the newer one is done; then the older one puts."""
    made = write_chain(store, day_outcomes(0, 5))
    put, calls = derived.publish, []

    def overtaken(where, key, data, before):
        if not calls:
            calls.append(key)
            append(made, day_outcomes(5, 9))
            assert rebuild_day(store, DAY, now=NOON).of("frames").rows == 9
        return put(where, key, data, before)

    monkeypatch.setattr(derived, "publish", overtaken)
    late = rebuild_day(store, DAY, now=LATER)
    assert (late.of("frames").rows, late.of("frames").ends) == (9, {CHAIN: 9})
    for table in ("frames", "detections", "dead_letters"):
        manifest = read_manifest(store, table, DAY)
        assert manifest is not None
        assert manifest.ends == {CHAIN: 9}


@pytest.mark.slow
@pytest.mark.fault(40)
@pytest.mark.fault(32)
def test_tables_with_different_ends_are_rebuilt_without_newer_segments(memory):
    """After a forced build was killed, or two builds raced, summaries of several tables could not be made."""
    made = write_chain(memory, day_outcomes(0, 5))
    rebuild_day(memory, DAY, now=NOON)
    older = {table: memory.get(day_table_key(table, DAY)) for table in ("detections", "dead_letters")}
    append(made, frames(5, 8, NEXT))
    rebuild_day(memory, NEXT, now=NOON)
    rebuild_day(memory, DAY, now=LATER, force=True)
    for table, data in older.items():
        memory.put(day_table_key(table, DAY), data)
    assert stale_days(memory) == [DAY]
    assert [day.day for day in audit(memory, list, now=NOON).days if day.stale] == [DAY]
    assert not rebuild_day(memory, DAY, now=LATER).skipped
    assert stale_days(memory) == []
    assert not any(day.stale for day in audit(memory, list, now=NOON).days)
    assert not build_summary(memory, "frame_stats", DAY, settings=Settings(), now=LATER).skipped


def test_a_hole_or_damage_in_the_ledger_stops_the_build_and_leaves_the_tables(memory):
    made = write_chain(memory, day_outcomes(0, 4), day_outcomes(4, 6))
    rebuild_day(memory, DAY, now=NOON)
    before = memory.fetch(day_table_key("frames", DAY))
    append(made, day_outcomes(6, 8))
    append(made, day_outcomes(8, 10))
    memory.put(segment_key(CHAIN, 6), b"damaged")
    with pytest.raises(LedgerError, match=segment_key(CHAIN, 6)):
        rebuild_day(memory, DAY, now=LATER)
    memory.delete(segment_key(CHAIN, 6))
    with pytest.raises(LedgerError, match="hole"):
        rebuild_day(memory, DAY, now=LATER)
    assert memory.fetch(day_table_key("frames", DAY)) == before


TABLES = ("frames", "detections", "dead_letters")
RACING = ("label_counts", "label_totals", "frame_stats")
"""One over a day table, one over a summary, one over several tables."""
REPOSITORY = Path(__file__).resolve().parents[3]

_BUILDER = """
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline.contracts.times import utc_now
from imgpipeline_tests.ledger.samples import DAY
store = open_store(load_settings())
while True:
    rebuild_day(store, DAY, force=True, now=utc_now())
    print("built", flush=True)
"""


@pytest.fixture(params=SHARED_KINDS)
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of a fresh store that several processes can open."""
    return store_settings(request.param, request)


def variables(settings: Settings) -> dict[str, str]:
    found = {"IMGPIPELINE_STORE_URL": settings.store_url}
    if settings.s3_endpoint and settings.s3_access_key_id and settings.s3_secret_access_key:
        found["IMGPIPELINE_S3_ENDPOINT"] = settings.s3_endpoint
        found["AWS_ACCESS_KEY_ID"] = settings.s3_access_key_id.get_secret_value()
        found["AWS_SECRET_ACCESS_KEY"] = settings.s3_secret_access_key.get_secret_value()
    return found


def reached(store: ObjectStore) -> list[int]:
    manifests = [read_manifest(store, table, DAY) for table in TABLES]
    return [manifest.ends.get(CHAIN, 0) if manifest else 0 for manifest in manifests]


def summarised(store: ObjectStore) -> list[int]:
    found = [read_stored(store, summary_key(name, DAY)) for name in RACING]
    return [each.manifest.ends.get(CHAIN, 0) if each else 0 for each in found]


@pytest.mark.slow
@pytest.mark.fault(30)
@pytest.mark.fault(32)
def test_ends_only_grow_while_builds_race_with_a_writer(store, lake):
    made = write_chain(store, day_outcomes(0, 5))
    over, seen = threading.Event(), [[*reached(store), *summarised(store)]]

    def build() -> None:
        while not over.is_set():
            with contextlib.suppress(TransientError):  # overtaken by the others, eight times
                rebuild_day(store, DAY, force=True, now=NOON)
                for name in RACING:
                    build_summary(store, name, DAY, settings=Settings(), now=NOON)

    def watch() -> None:
        while not over.is_set():
            seen.append([*reached(store), *summarised(store)])

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(build) for _ in range(3)] + [pool.submit(watch)]
        for start in range(5, 45, 5):
            append(made, [*day_outcomes(start, start + 4), dead_letter(start + 4)])
            wait_until(lambda at=start: min(reached(store)) >= at, limit_s=60, what="a build")
        over.set()
        for future in working:
            future.result(60)
    for ends in zip(*seen, strict=True):
        assert list(ends) == sorted(ends)
    rebuild_day(store, DAY, now=NOON)
    for name in RACING:
        build_summary(store, name, DAY, settings=Settings(), now=NOON)
    assert {*reached(store), *summarised(store)} == {45}
    assert is_current(audit(store, list, full=True, now=NOON))
    with lake(store) as session:
        check(session, store)


@pytest.mark.slow
@pytest.mark.fault(5)
def test_a_build_killed_at_any_moment_leaves_correct_tables(settings, lake):
    store = open_store(settings)
    made = write_chain(store, day_outcomes(0, 5))
    for delay_s in (0.0, 0.03, 0.07):
        environment = os.environ | variables(settings)
        builder = subprocess.Popen(
            [sys.executable, "-c", _BUILDER], env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        assert builder.stdout is not None
        assert builder.stdout.readline() == "built\n"
        append(made, day_outcomes(made.end.offset, made.end.offset + 5))
        time.sleep(delay_s)  # somewhere in a build, each time somewhere else
        builder.kill()
        builder.wait(30)
        builder.stdout.close()
        report = audit(store, list, full=True, now=NOON)
        assert report.ok, report.problems
        with lake(store) as session:
            check(session, store)
    rebuild_day(store, DAY, now=NOON)
    assert reached(store) == [20, 20, 20]


READS = Counter({
    "footer of a stored table": 4,
    "listings that find the chains": 3,
    "end of the chain: folders, its last page, its last segment": 3,
    "day index": 1,
    "bundles of the chain": 1,
    "repair list, for the day and for its bundles": 2,
    "the bundle": 1,
})  # fmt: skip


def write_bundled_day(store: ObjectStore, segments: int) -> None:
    """Write a day of small segments that one bundle holds."""
    made = writer(store, ChainId("frames", "dGVzdA_topic-id", 0))
    for number in range(segments):
        assert append(made, [frame(number)])
    for length in (BUNDLE_OFFSETS, 1):
        assert append(made, [gap(made.end.offset, made.end.offset + length)])
    assert bundle_ledger(store).bundles == 1


@pytest.mark.medium
@pytest.mark.servers
@pytest.mark.parametrize("segments", [20, 80])
def test_the_first_build_of_a_bundled_day_reads_nothing_twice(s3, bucket, segments):
    write_bundled_day(open_store(s3_settings(bucket)), segments)
    with CountingRelay(s3.port) as relay:
        built = rebuild_day(open_store(s3_settings(bucket, s3_endpoint=relay.endpoint)), DAY, now=NOON)
    assert built.of("frames").rows == segments
    assert relay.requests == {"GET": READS.total(), "PUT": 4}
