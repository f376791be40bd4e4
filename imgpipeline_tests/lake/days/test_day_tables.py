"""The day tables have each frame once, name the ends that they cover, and never go backwards."""

from dataclasses import replace
from datetime import timedelta

import duckdb
import pandas as pd
import pytest

from imgpipeline.contracts.keys import ChainId, day_table_key, segment_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.errors import LedgerError, PermanentError
from imgpipeline.lake.days import derived
from imgpipeline.lake.days.day_tables import list_days, rebuild_day
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.lake.storage.manifest import read_manifest
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.daily.looking import stale_days
from imgpipeline_tests.lake.oracle import rows
from imgpipeline_tests.lake.samples import again, chosen_frames, day_outcomes, gated, seen, stored_letters
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, dead_letter, frame, frames, gap, write_chain

LATER = NOON + timedelta(hours=1)
NEXT = DAY + timedelta(days=1)
OTHER = ChainId("frames", "another_id", 4)


def ends_of(store: ObjectStore) -> dict[ChainId, int]:
    return {chain: end.offset for chain, end in fix_ends(store).items()}


def test_a_day_becomes_one_object_per_table_that_names_its_ends(store: ObjectStore):
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


def test_any_engine_reads_the_tables_by_their_hive_paths(folder: ObjectStore, tmp_path):
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


def test_rows_are_sorted_by_time_and_compressed(folder: ObjectStore, tmp_path):
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


def test_a_build_without_newer_segments_does_nothing(store: ObjectStore):
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
def test_a_late_frame_makes_only_its_own_day_stale(store: ObjectStore):
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
def test_days_without_tables_or_without_one_of_them_are_stale(memory: ObjectStore, missing: str):
    write_chain(memory, frames(0, 3), frames(3, 5, NEXT))
    assert stale_days(memory) == [DAY, NEXT]
    rebuild_day(memory, DAY, now=NOON)
    memory.delete(day_table_key(missing, DAY))
    assert stale_days(memory) == [DAY, NEXT]
    assert not rebuild_day(memory, DAY, now=LATER).skipped
    assert stale_days(memory) == [NEXT]
    assert list(list_days(memory, "frames")) == [DAY]


def test_tables_of_another_version_are_refused_until_they_are_moved_aside(memory: ObjectStore, monkeypatch):
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


def test_dead_letters_are_listed_once_under_their_day(store: ObjectStore, tmp_path):
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


def test_a_day_of_dead_letters_or_of_nothing_has_empty_tables(memory: ObjectStore, tmp_path):
    write_chain(memory, [dead_letter(0)])
    for day in (DAY, NEXT):
        assert rebuild_day(memory, day, now=NOON).of("frames").rows == 0
        assert rows(memory, "detections", "*", tmp_path, day) == []
        assert rebuild_day(memory, day, now=NOON).skipped


@pytest.mark.fault(32)
def test_a_late_build_with_older_ends_does_not_go_backwards(store: ObjectStore):
    made = write_chain(store, day_outcomes(0, 5))
    old = ends_of(store)
    append(made, day_outcomes(5, 9))
    assert rebuild_day(store, DAY, now=NOON).of("frames").rows == 9
    late = rebuild_day(store, DAY, now=LATER, force=True, ends=old)
    assert (late.of("frames").rows, late.of("frames").ends) == (9, {CHAIN: 9})


@pytest.mark.fault(32)
def test_a_build_that_loses_a_race_starts_again_from_the_greater_ends(store: ObjectStore, monkeypatch):
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


@pytest.mark.medium
@pytest.mark.fault(40)
@pytest.mark.fault(32)
def test_tables_with_different_ends_are_rebuilt_without_newer_segments(memory: ObjectStore):
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


def test_a_hole_or_damage_in_the_ledger_stops_the_build_and_leaves_the_tables(memory: ObjectStore):
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
