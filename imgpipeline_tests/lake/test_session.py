"""A query session shows one moment: each frame once, whatever was built, killed or written meanwhile."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import duckdb
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgpipeline.contracts.keys import ChainId, day_table_key, segment_key, summary_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.errors import ConfigurationError, LedgerError
from imgpipeline.lake import day_tables, snapshot
from imgpipeline.lake.day_tables import rebuild_day
from imgpipeline.lake.session import LakeSession, open_lake
from imgpipeline.lake.summaries import build_summary
from imgpipeline.ledger import ChainWriter
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.lake.samples import again, chosen_frames, counted_labels, day_outcomes, gated, seen
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    append,
    dead_letter,
    frames,
    gap,
    stored_segments,
    write_chain,
)

NEXT = DAY + timedelta(days=1)
OTHER = ChainId("frames", "another_id", 4)


def shown_frames(session: LakeSession) -> list[tuple]:
    asked = f"SELECT frame_id, source_kafka_offset, status FROM frames WHERE day = DATE '{DAY}'"  # noqa: S608 - a day
    return sorted(session.query(asked).rows)


def shown_detections(session: LakeSession) -> list[tuple]:
    columns = "frame_id, source_kafka_offset, detection_number, label, confidence"
    asked = f"SELECT {columns} FROM detections WHERE day = DATE '{DAY}'"  # noqa: S608 - own names
    return sorted(session.query(asked).rows)


def expected_frames(found: dict[str, Frame]) -> list[tuple]:
    return sorted((name, f.offset, f.status.value) for name, f in found.items())


def expected_detections(found: dict[str, Frame]) -> list[tuple]:
    return sorted(
        (name, f.offset, n, d.label, d.confidence) for name, f in found.items() for n, d in enumerate(f.detections)
    )


def check(session: LakeSession, store: ObjectStore) -> None:
    found = chosen_frames(store)
    assert shown_frames(session) == expected_frames(found)
    assert shown_detections(session) == expected_detections(found)


def test_an_empty_store_has_all_tables_and_no_rows(store: ObjectStore, lake):
    with lake(store) as session:
        for table in ("frames", "detections", "label_counts", "dead_letters", "segments"):
            assert session.query(f"SELECT * FROM {table}").rows == []  # noqa: S608 - own names
        assert [row[0] for row in session.query("SHOW TABLES").rows] == sorted(
            ["frames", "detections", "label_counts", "dead_letters", "segments"]
        )


def test_a_frame_is_shown_before_its_day_was_ever_built_and_after(store: ObjectStore, lake):
    made = write_chain(store, day_outcomes(0, 5), [dead_letter(5), gap(6, 9)])
    with lake(store) as session:
        check(session, store)
        assert session.snapshot.behind == 5
    rebuild_day(store, DAY, now=NOON)
    with lake(store) as session:
        check(session, store)
        assert session.snapshot.behind == 0
    append(made, day_outcomes(9, 12))
    with lake(store) as session:
        check(session, store)
        assert session.snapshot.behind == 3


def test_of_a_frame_in_parquet_and_behind_it_the_rule_of_the_day_tables_decides(store: ObjectStore, lake):
    made = write_chain(store, [seen(0, ["car"]), gated(1), seen(2, []), seen(3, ["dog", "car"])])
    rebuild_day(store, DAY, now=NOON)
    append(made, [
        again(4, of=0, labels=["dog", "dog"]), again(5, of=1, labels=["person"]), again(6, of=2, labels=["car"]),
    ])  # fmt: skip
    write_chain(store, [replace(again(0, of=3, labels=["person"]), partition=4)], chain=OTHER)
    with lake(store) as session:
        check(session, store)
        chosen = session.query("SELECT source_kafka_offset, label FROM detections").rows
        assert sorted(chosen) == [(0, "car"), (3, "car"), (3, "dog"), (5, "person")]


def test_both_tables_show_one_moment_also_between_the_two_puts_of_a_build(memory: ObjectStore, lake):
    """A build died after `frames`; among what came behind is a second announcement of a stored frame."""
    made = write_chain(memory, [gated(0), seen(1, []), seen(2, ["car"])])
    rebuild_day(memory, DAY, now=NOON)
    append(made, [again(3, of=0, labels=["dog"]), again(4, of=1, labels=["dog"]), seen(5, ["car", "dog"])])
    _die_after_frames(memory)
    with lake(memory) as session:
        check(session, memory)
    append(made, [again(6, of=5, labels=["person"]), seen(7, ["person"])])
    with lake(memory) as session:
        check(session, memory)


def test_a_table_that_is_missing_is_made_up_for_by_the_ledger(memory: ObjectStore, lake):
    write_chain(memory, day_outcomes(0, 6))
    rebuild_day(memory, DAY, now=NOON)
    memory.delete(day_table_key("detections", DAY))
    with lake(memory) as session:
        check(session, memory)


def test_label_counts_are_those_of_the_stored_summary_when_nothing_is_behind(folder: ObjectStore, lake, tmp_path):
    write_chain(folder, day_outcomes(0, 30), [seen(30, ["dog"], NEXT)])
    for day in (DAY, NEXT):
        rebuild_day(folder, day, now=NOON)
        build_summary(folder, "label_counts", day, now=NOON)
    with lake(folder) as session:
        live = session.query("SELECT * FROM label_counts ORDER BY day, hour, label")
        columns = ", ".join(live.columns)
        stored = []
        for day in (DAY, NEXT):
            path = f"{tmp_path}/store/{summary_key('label_counts', day)}"
            with duckdb.connect() as connection:
                asked = f"SELECT {columns} FROM read_parquet(?) ORDER BY hour, label"  # noqa: S608 - own names
                stored += connection.execute(asked, [path]).fetchall()
        assert live.rows == stored
        columns = "hour, label, count, distinct_frames, distinct_sources"
        asked = f"SELECT {columns} FROM label_counts WHERE day = DATE '{DAY}' ORDER BY hour, label"  # noqa: S608 - a day
        assert session.query(asked).rows == [row[:5] for row in counted_labels(chosen_frames(folder).values())]


def test_a_session_shows_the_same_while_others_write_and_build(store: ObjectStore, lake):
    made = write_chain(store, day_outcomes(0, 5), [dead_letter(5)])
    rebuild_day(store, DAY, now=NOON)
    append(made, day_outcomes(6, 8))
    before = chosen_frames(store)
    with lake(store) as session:
        append(made, day_outcomes(8, 20))
        append(made, [dead_letter(20)])
        rebuild_day(store, DAY, now=NOON)
        with lake(store) as later:
            check(later, store)
        assert shown_frames(session) == expected_frames(before)
        assert shown_detections(session) == expected_detections(before)
        assert session.query("SELECT count(*) FROM dead_letters").rows == [(1,)]
        assert session.query('SELECT max("end") FROM segments').rows == [(8,)]


def test_a_build_between_fixing_the_ends_and_fetching_the_tables_moves_the_moment_for_all(
    memory: ObjectStore, lake, monkeypatch
):
    made = write_chain(memory, day_outcomes(0, 5))
    fix = snapshot.fix_ends

    def fix_and_be_overtaken(store):
        ends = fix(store)
        append(made, [*day_outcomes(5, 8), seen(8, ["car"], NEXT)])
        rebuild_day(store, DAY, now=NOON)
        return ends

    monkeypatch.setattr(snapshot, "fix_ends", fix_and_be_overtaken)
    with lake(memory) as session:
        assert session.snapshot.ends == {CHAIN: 9}
        check(session, memory)
        assert session.query("SELECT count(*) FROM frames WHERE day = DATE '2026-01-10'").rows == [(1,)]


def test_only_the_days_that_are_asked_for_are_fetched_and_shown(store: ObjectStore, lake, tmp_path):
    write_chain(store, day_outcomes(0, 5), [seen(5, ["dog"], NEXT), dead_letter(6, NEXT), dead_letter(7, None)])
    for day in (DAY, NEXT):
        rebuild_day(store, day, now=NOON)
    with lake(store, days=[NEXT]) as session:
        assert session.query("SELECT DISTINCT day FROM frames").rows == [(NEXT,)]
        assert session.query("SELECT label FROM detections").rows == [("dog",)]
        assert session.query('SELECT "offset" FROM dead_letters').rows == [(6,)]
        assert session.query("SELECT start FROM segments").rows == [(5,)]
    assert len(list((tmp_path / "cache" / "objects").iterdir())) == 2


def test_dead_letters_and_segments_show_the_ledger_as_it_is(store: ObjectStore, lake):
    write_chain(store, [seen(0), dead_letter(1), dead_letter(2, None)], [gap(3, 10)], [gated(10)])
    with lake(store) as session:
        letters = session.query('SELECT * FROM dead_letters ORDER BY "offset"')
        assert letters.columns[:4] == ("topic", "topic_id", "partition", "offset")
        values = dict(zip(letters.columns, letters.rows[0], strict=True))
        expected = {name: getattr(dead_letter(1), name) for name in values if name not in letters.columns[:3]}
        assert values == expected | {
            "topic": CHAIN.topic,
            "topic_id": CHAIN.topic_id,
            "partition": 0,
            "code": "DECODE_FAILED",
        }
        segments = session.query(
            'SELECT start, "end", frames, gated, dead_letters, gaps, days, run_id, key FROM segments'
        )
        headers = [segment.header for segment in stored_segments(store)]
        assert segments.rows == [
            (h.start, h.end, h.frames, h.gated, h.dead_letters, dict(h.gaps), list(h.days), "run-1",
             segment_key(CHAIN, h.start)) for h in headers
        ]  # fmt: skip


def test_times_are_utc_and_aware(memory: ObjectStore, lake):
    write_chain(memory, [seen(0)])
    with lake(memory) as session:
        (time,) = session.query('SELECT "timestamp" FROM frames').rows[0]
        assert time == NOON
        assert time.utcoffset() == timedelta(0)
        assert session.query("SELECT current_setting('TimeZone')").rows == [("UTC",)]


REFUSED = {
    "a file": "SELECT * FROM read_text('/etc/hostname')",
    "a folder": "SELECT * FROM glob('/etc/*')",
    "the internet": "SELECT * FROM read_parquet('https://127.0.0.1:1/x.parquet')",
    "writing": "COPY (SELECT 1) TO '/tmp/written.csv'",
    "explained writing": "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/written.csv'",
    "attaching": "ATTACH '/tmp/other.db'",
    "a setting": "SET enable_external_access = true",
    "an extension": "INSTALL httpfs",
    "dropping": "DROP VIEW frames",
    "two at once": "SELECT 1; SELECT 2",
    "nothing": "",
    "a Python variable": "SELECT * FROM secret_rows",
    "no SQL": "SELEC 1",
    "no such column": "SELECT colour FROM frames",
}


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
def test_a_query_can_neither_write_nor_read_what_is_not_the_lake_s(memory: ObjectStore, lake, sql: str):
    secret_rows = pd.DataFrame({"secret": [1]})
    with lake(memory) as session:
        with pytest.raises(ConfigurationError) as refusal:
            session.query(sql)
        assert refusal.value.next_step
        assert session.query("SELECT 1").rows == [(1,)]
    assert len(secret_rows) == 1


@pytest.mark.parametrize(
    "sql", ["DESCRIBE frames", "SUMMARIZE frames", "EXPLAIN SELECT 1", "FROM frames", "WITH a AS (FROM frames) FROM a",
            "VALUES (1)", "PIVOT detections ON label IN ('car') USING count(*)"],
)  # fmt: skip
def test_whatever_only_reads_is_answered(memory: ObjectStore, lake, sql: str):
    with lake(memory) as session:
        assert session.query(sql).columns


def test_the_connection_has_all_tables_for_arrow_and_pandas(memory: ObjectStore, lake):
    write_chain(memory, day_outcomes(0, 5), [dead_letter(5)])
    with lake(memory) as session:
        assert session.connection.sql("FROM frames").df().shape == (5, 25)
        assert session.connection.sql("FROM dead_letters").fetchall()


def test_a_damaged_segment_behind_the_tables_is_named(memory: ObjectStore, lake):
    made = write_chain(memory, day_outcomes(0, 5))
    append(made, day_outcomes(5, 6))
    memory.put(segment_key(CHAIN, 0), b"")
    with pytest.raises(LedgerError, match=segment_key(CHAIN, 0)), lake(memory):
        pass


steps = st.lists(
    st.sampled_from(["frame", "again", "gated", "late", "build", "die after frames", "older build"]),
    min_size=1,
    max_size=12,
)


class DiedError(Exception):
    """The process ended here."""


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.data())
def test_whatever_came_in_and_was_built_each_frame_is_shown_once(tmp_path, taken: list[str], data: st.DataObject):
    store = open_memory_store()
    made = write_chain(store, [gap(0, 1)])
    for step in taken:
        STEPS[step](store, made, lambda most: data.draw(st.integers(1, max(most, 1))))
    with open_lake(store, cache_dir=tmp_path / "cache") as session:
        check(session, store)


def _append(made: ChainWriter, frame: Frame) -> None:
    assert append(made, [frame])


def _die_after_frames(store: ObjectStore, *_: object) -> None:
    put, calls = day_tables.replace_whole, []

    def die(*arguments):
        calls.append(1)
        if len(calls) > 1:
            raise DiedError
        return put(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(day_tables, "replace_whole", die)
        with pytest.raises(DiedError):
            rebuild_day(store, DAY, now=NOON, force=True)


def _frame(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    _append(made, seen(made.end.offset, ["car"] * (draw(3) - 1)))


def _again(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    _append(made, again(made.end.offset, of=draw(made.end.offset), labels=["dog"] * (draw(3) - 1)))


def _gated(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    _append(made, replace(gated(draw(made.end.offset)), offset=made.end.offset))


def _late(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    append(made, frames(made.end.offset, made.end.offset + 1, NEXT))


def _build(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    rebuild_day(store, DAY, now=NOON)


def _older_build(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    rebuild_day(store, DAY, now=NOON, force=True, ends={CHAIN: 1})


STEPS = {
    "frame": _frame,
    "again": _again,
    "gated": _gated,
    "late": _late,
    "build": _build,
    "die after frames": _die_after_frames,
    "older build": _older_build,
}
