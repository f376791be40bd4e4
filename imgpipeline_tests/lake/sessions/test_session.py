"""A query session shows one moment and each frame once, whatever was built, killed or written meanwhile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import product

import duckdb
import pandas as pd
import pytest

from imgpipeline.contracts.keys import ChainId, day_table_key, segment_key, summary_key
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import ConfigurationError, LedgerError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.schema import ALL
from imgpipeline.lake.schema.tables import DAY_TABLES, FRAMES
from imgpipeline.lake.sessions import session as session_module
from imgpipeline.lake.sessions import snapshot
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.killed_builds import die_after_frames
from imgpipeline_tests.lake.oracle import check, expected_detections, expected_frames, shown_detections, shown_frames
from imgpipeline_tests.lake.samples import again, chosen_frames, counted_labels, day_outcomes, gated, seen
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    append,
    dead_letter,
    gap,
    stored_segments,
    write_chain,
)
from imgpipeline_tests.ledger.sessions import account, shot

NEXT = DAY + timedelta(days=1)
OTHER = ChainId("frames", "another_id", 4)


def test_an_empty_store_has_all_tables_and_no_rows(store, lake):
    with lake(store) as session:
        for table in ALL:
            assert session.query(f"SELECT * FROM {table.name}").rows == []  # noqa: S608 - own names
        assert [row[0] for row in session.query("SHOW TABLES").rows] == sorted(table.name for table in ALL)


@pytest.mark.medium
def test_a_frame_is_shown_before_its_day_was_ever_built_and_after(store, lake):
    made = write_chain(store, day_outcomes(0, 5), [dead_letter(5), gap(6, 9)])
    with lake(store) as session:
        check(session, store)
        assert session.snapshot.newer_frames == 5
    rebuild_day(store, DAY, now=NOON)
    with lake(store) as session:
        check(session, store)
        assert session.snapshot.newer_frames == 0
    append(made, day_outcomes(9, 12))
    with lake(store) as session:
        check(session, store)
        assert session.snapshot.newer_frames == 3


def test_the_rule_of_day_tables_decides_between_a_stored_frame_and_a_newer_one(store, lake):
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


@pytest.mark.medium
def test_both_tables_show_one_moment_while_a_build_stores_them(memory, lake):
    """A build died after `frames`. The newer segments include a second announcement of a stored frame."""
    made = write_chain(memory, [gated(0), seen(1, []), seen(2, ["car"])])
    rebuild_day(memory, DAY, now=NOON)
    append(made, [again(3, of=0, labels=["dog"]), again(4, of=1, labels=["dog"]), seen(5, ["car", "dog"])])
    die_after_frames(memory)
    with lake(memory) as session:
        check(session, memory)
    append(made, [again(6, of=5, labels=["person"]), seen(7, ["person"])])
    with lake(memory) as session:
        check(session, memory)


def test_a_missing_table_is_replaced_by_the_ledger(memory, lake):
    write_chain(memory, day_outcomes(0, 6))
    rebuild_day(memory, DAY, now=NOON)
    memory.delete(day_table_key("detections", DAY))
    with lake(memory) as session:
        check(session, memory)


@pytest.mark.medium
def test_label_counts_equal_the_stored_summary_without_newer_segments(folder, lake, tmp_path):
    write_chain(folder, day_outcomes(0, 30), [seen(30, ["dog"], NEXT)])
    for day in (DAY, NEXT):
        rebuild_day(folder, day, now=NOON)
        build_summary(folder, "label_counts", day, settings=Settings(), now=NOON)
    with lake(folder) as session:
        live = session.query("SELECT * FROM label_counts ORDER BY day, hour, source, label")
        columns = ", ".join(live.columns)
        stored = []
        for day in (DAY, NEXT):
            path = f"{tmp_path}/store/{summary_key('label_counts', day)}"
            with duckdb.connect() as connection:
                asked = f"SELECT {columns} FROM read_parquet(?) ORDER BY hour, source, label"  # noqa: S608 - own names
                stored += connection.execute(asked, [path]).fetchall()
        assert live.rows == stored
        columns = "hour, source, label, count, distinct_frames"
        asked = f"SELECT {columns} FROM label_counts WHERE day = DATE '{DAY}' ORDER BY hour, source, label"  # noqa: S608 - a day
        assert session.query(asked).rows == [row[:5] for row in counted_labels(chosen_frames(folder).values())]


@pytest.mark.medium
def test_a_session_shows_the_same_while_others_write_and_build(store, lake):
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
        assert session.query("SELECT max(end_offset) FROM segments").rows == [(8,)]


@pytest.mark.parametrize("overtaken", ["before", "after"])
def test_a_build_between_fetching_tables_and_reading_segments_changes_nothing(memory, lake, monkeypatch, overtaken):
    made = write_chain(memory, day_outcomes(0, 5))
    fix_ends = snapshot.open_catalog

    def overtake() -> None:
        append(made, [*day_outcomes(5, 8), seen(8, ["car"], NEXT)])
        rebuild_day(memory, DAY, now=NOON)

    def fix_ends_and_be_overtaken(store, **options):
        if overtaken == "before":
            overtake()
        catalog = fix_ends(store, **options)
        if overtaken == "after":
            overtake()
        return catalog

    monkeypatch.setattr(snapshot, "open_catalog", fix_ends_and_be_overtaken)
    with lake(memory) as session:
        end = 9 if overtaken == "before" else 5
        assert session.snapshot.ends == {CHAIN: end}
        assert session.query("SELECT max(source_kafka_offset) FROM frames").rows == [(end - 1,)]
        days = session.query("SELECT DISTINCT day FROM frames ORDER BY day").rows
        assert days == ([(DAY,), (NEXT,)] if overtaken == "before" else [(DAY,)])


def test_only_the_requested_days_are_fetched_and_shown(store, lake, tmp_path):
    write_chain(store, day_outcomes(0, 5), [seen(5, ["dog"], NEXT), dead_letter(6, NEXT), dead_letter(7, None)])
    for day in (DAY, NEXT):
        rebuild_day(store, day, now=NOON)
    with lake(store, days=[NEXT]) as session:
        assert session.query("SELECT DISTINCT day FROM frames").rows == [(NEXT,)]
        assert session.query("SELECT label FROM detections").rows == [("dog",)]
        assert session.query("SELECT kafka_offset FROM dead_letters").rows == [(6,)]
        assert session.query("SELECT start FROM segments").rows == [(5,)]
    assert len(list((tmp_path / "cache" / "objects").iterdir())) == len(DAY_TABLES)


def test_dead_letters_and_segments_show_the_ledger_as_it_is(store, lake):
    write_chain(store, [seen(0), dead_letter(1), dead_letter(2, None)], [gap(3, 10)], [gated(10)])
    with lake(store) as session:
        letters = session.query("SELECT * FROM dead_letters ORDER BY kafka_offset")
        assert letters.columns[:4] == ("topic", "topic_id", "partition", "kafka_offset")
        values = dict(zip(letters.columns, letters.rows[0], strict=True))
        of_others = {*letters.columns[:3], "state", "became"}
        expected = {
            name: getattr(dead_letter(1), name.removeprefix("kafka_")) for name in values if name not in of_others
        }
        assert values == expected | {
            "topic": CHAIN.topic,
            "topic_id": CHAIN.topic_id,
            "partition": 0,
            "code": "DECODE_FAILED",
            "state": "open",
            "became": None,
        }
        segments = session.query(
            "SELECT start, end_offset, frames, gated, dead_letters, gaps, days, run_id, key FROM segments"
        )
        headers = [segment.header for segment in stored_segments(store)]
        assert segments.rows == [
            (h.start, h.end, h.frames, h.gated, h.dead_letters, dict(h.gaps), list(h.days), "run-1",
             segment_key(CHAIN, h.start)) for h in headers
        ]  # fmt: skip


def test_times_are_utc_and_aware(memory, lake):
    write_chain(memory, [seen(0)])
    with lake(memory) as session:
        (time,) = session.query('SELECT "timestamp" FROM frames').rows[0]
        assert time == NOON
        assert time.utcoffset() == timedelta(0)
        assert session.query("SELECT current_setting('TimeZone')").rows == [("UTC",)]


def test_the_connection_has_all_tables_for_arrow_and_pandas(memory, lake):
    write_chain(memory, day_outcomes(0, 5), [dead_letter(5)])
    with lake(memory) as session:
        assert session.connection.sql("FROM frames").df().shape == (5, len(FRAMES.names))
        assert session.connection.sql("FROM dead_letters").fetchall()


@pytest.mark.fault(40)
def test_a_damaged_segment_newer_than_the_tables_is_named(memory, lake):
    made = write_chain(memory, day_outcomes(0, 5))
    append(made, day_outcomes(5, 6))
    memory.put(segment_key(CHAIN, 0), b"")
    with pytest.raises(LedgerError, match=segment_key(CHAIN, 0)), lake(memory):
        pass


@pytest.mark.medium
@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("SELECT sum(dead_letters) FROM frame_stats", False),
        ("SELECT 'dead_letters, segments'", False),
        ('SELECT count(*) FROM (SELECT * FROM "DEAD_LETTERS")', True),
        ("EXPLAIN SELECT count(*) FROM segments", True),
        ("WITH frames AS (SELECT * FROM main.segments) SELECT count(*) FROM frames", True),
        ("SELECT * FROM query_table('segments')", True),
        ("SELECT * FROM query('SELECT count(*) FROM dead_letters')", True),
        ("SELECT 'dead_letters' AS query", False),
        ("WITH dead_letters AS (SELECT 1 AS one) SELECT * FROM dead_letters", False),
        ("WITH dead_letters AS (SELECT * FROM dead_letters) SELECT count(*) FROM dead_letters", True),
        ("WITH dead_letters AS (SELECT 1 AS one) SELECT count(*) FROM main.dead_letters", True),
        ("SELECT * FROM (WITH segments AS (SELECT 1 AS one) FROM segments), (SELECT count(*) FROM segments)", True),
    ],
)
def test_the_ledger_is_read_only_for_its_own_tables(memory, lake, monkeypatch, sql, reads):
    """A column or a text of that name is not a reason to read every segment."""
    write_chain(memory, [seen(0), dead_letter(1)])
    filled: list[object] = []
    monkeypatch.setattr(session_module, "fill_ledger_tables", lambda *arguments: filled.append(arguments))
    with lake(memory) as session:
        session.query(sql)
        assert bool(filled) is reads


@pytest.mark.medium
def test_summaries_of_some_days_are_those_of_the_views(memory, lake):
    """Also if an account ends at midnight, or a day has only a dead letter."""
    late = account(3, 0, minute=12 * 60 - 1, observed_s=60)
    over = replace(late, interval_end=late.interval_start + timedelta(minutes=1))
    write_chain(memory, [seen(0, ["car", "dog"]), shot(1), shot(2), over, dead_letter(4), seen(5, ["car"], day=NEXT)])
    with lake(memory) as session:
        for name, days in product(SUMMARIES, ([DAY], [NEXT], [DAY, NEXT], [])):
            with session.of_days(days) as chosen:
                rows = chosen.query(f"SELECT * FROM {name} ORDER BY ALL").rows  # noqa: S608 - own names
            of_days = f"SELECT * FROM {name} WHERE list_contains($days, day) ORDER BY ALL"  # noqa: S608 - own names
            assert rows == session.query(of_days, {"days": days}).rows, (name, days)
            assert bool(rows) == bool(days)


@pytest.mark.medium
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
def test_summaries_of_days_of_a_zone_are_those_of_a_session_of_that_day(memory, lake, zone, tmp_path):
    """A cursor of one session asks for any zone; its views stay those of UTC. `open_lake` takes days of one zone."""
    evening = datetime.combine(DAY, time(20), UTC)
    outcomes = [replace(seen(n, ["car"]), timestamp=evening + timedelta(hours=2 * n)) for n in range(2)]
    outcomes += [replace(seen(n, ["dog"], day=NEXT), timestamp=evening + timedelta(hours=2 * n)) for n in range(2, 6)]
    write_chain(memory, [*outcomes, account(6, 0, minute=18 * 60, observed_s=120), dead_letter(7)])
    asked = {name: f"SELECT * FROM {name} ORDER BY ALL" for name in SUMMARIES}  # noqa: S608 - own names
    if zone == "America/New_York":  # its hours are those of UTC days, and no gap between two frames spans midnight UTC
        asked["frame_stats"] = "SELECT * EXCLUDE (observed_s) FROM frame_stats ORDER BY ALL"
    with lake(memory) as session, session.cursor(find_timezone(zone)) as cursor:
        assert cursor.days
        for name, sql in asked.items():
            assert cursor.query(sql).rows == session.query(sql).rows, name
        for day in cursor.days:
            with (
                open_lake(memory, days=[day], zone=find_timezone(zone), cache_dir=tmp_path / "cache") as of_day,
                cursor.of_days([day]) as chosen,
            ):
                for name, sql in asked.items():
                    assert chosen.query(sql).rows == of_day.query(sql).rows, (name, day)


def test_the_views_use_the_threshold_of_the_settings(memory, tmp_path):
    write_chain(memory, [seen(0, ["car", "car", "dog"])])  # 0.51, 0.52, 0.53
    with open_lake(memory, settings=Settings(summary_threshold=0.52), cache_dir=tmp_path / "cache") as session:
        assert session.query("SELECT label, count FROM label_totals ORDER BY label").rows == [("car", 1), ("dog", 1)]
        assert session.query("SELECT label, len(timestamps) FROM label_timestamps ORDER BY label").rows == [
            ("car", 1), ("dog", 1),
        ]  # fmt: skip
        assert session.query("SELECT count(*) FROM detections").rows == [(3,)]


def test_a_cursor_shows_the_same_moment_in_utc_with_the_same_threshold(memory, tmp_path):
    chain = write_chain(memory, [seen(0, ["car", "dog"])])  # 0.51, 0.52
    with open_lake(memory, settings=Settings(summary_threshold=0.52), cache_dir=tmp_path / "cache") as session:
        append(chain, [seen(1)])
        with session.cursor() as cursor:
            assert cursor.query("SELECT current_setting('TimeZone'), count(*) FROM frames").rows == [("UTC", 1)]
            assert cursor.query("SELECT label, count FROM label_totals").rows == [("dog", 1)]
            assert cursor.query("SELECT count(*) FROM tracks").rows == [(0,)]
            assert cursor.query("SELECT state FROM dead_letters").rows == []
            with pytest.raises(ConfigurationError, match="rejects"):
                cursor.query("SELECT * FROM read_text('pyproject.toml')")
        assert session.query("SELECT count(*) FROM tracks").rows == [(0,)]


def test_cursors_run_in_parallel(memory, tmp_path):
    write_chain(memory, day_outcomes(0, 40), [dead_letter(40)])
    together = threading.Barrier(4)
    with open_lake(memory, cache_dir=tmp_path / "cache") as session:

        def count(_: int) -> list[tuple[object, ...]]:
            with session.cursor() as cursor:
                together.wait(30)
                return cursor.query("SELECT (SELECT count(*) FROM dead_letters), (SELECT count(*) FROM events)").rows

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(count, range(4))) == [[(1, 0)]] * 4


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
def test_a_query_can_neither_write_nor_read_other_files(memory, lake, sql):
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
def test_every_statement_that_only_reads_is_allowed(memory, lake, sql):
    with lake(memory) as session:
        assert session.query(sql).columns
