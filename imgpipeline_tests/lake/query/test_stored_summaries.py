"""A span of days is read from stored summaries; only days with newer segments are computed again."""

import functools
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.query.summaries import ask_session, hourly_counts
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.days.test_summary_numbers import assert_same, build_day
from imgpipeline_tests.lake.samples import counted_days, gated, seen
from imgpipeline_tests.lake.summary_oracle import expected_rows
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, frame, write_chain, writer
from imgpipeline_tests.objectstore.noting import NotingStore
from imgpipeline_tests.objectstore.stores import copy_objects

DAYS = [DAY + timedelta(days=n) for n in range(4)]
STRICT = Settings(summary_threshold=0.52)


@pytest.fixture
def counting(folder: ObjectStore) -> NotingStore:
    return NotingStore(folder)


def several_days(store: ObjectStore):
    """Write four days into one chain, a segment each; build the first three of them."""
    copy_objects(_several_days(), store)
    return writer(store)


@functools.cache
def _several_days() -> ObjectStore:
    store = open_memory_store()
    write_chain(
        store,
        *([seen(10 * n, ["car", "dog", "car"], day), seen(10 * n + 1, ["car"], day), *rest(10 * n + 2, day)]
          for n, day in enumerate(DAYS)),
    )  # fmt: skip
    for day in DAYS[:3]:
        build_day(store, day)
    return store


def rest(offset: int, day: date) -> list:
    bare = [frame(n, day) for n in range(offset + 2, offset + 8)]
    return [
        gated(offset, timestamp=frame(offset, day).timestamp, frame_id=f"{offset:032x}"),
        dead_letter(offset + 1, day),
        *bare,
    ]


def check(store: ObjectStore, tmp_path, settings: Settings, days: list[date], counted_now: list[date], names=SUMMARIES):
    """Assert that each summary has the rows of an independent count, and which days were counted again.

    Of a session that is asked for these summaries only, and of one that shows all tables.
    """
    for only in (names, ()):
        with open_lake(store, settings=settings, days=days, summaries=only, cache_dir=tmp_path / "cache") as lake:
            assert lake.snapshot.days == tuple(days)
            for name in names:
                assert counted_days(lake, name) == counted_now, name
                for day in days:
                    sql = f"SELECT * EXCLUDE (day) FROM {name} WHERE day = ? ORDER BY ALL NULLS LAST"  # noqa: S608 - own names
                    expected = expected_rows(store, name, day, settings.summary_threshold)
                    assert expected
                    assert_same(lake.query(sql, [day]).rows, expected, name)


@pytest.mark.slow
def test_current_days_are_read_and_the_others_computed(store, tmp_path):
    made = several_days(store)
    check(store, tmp_path, Settings(), DAYS, [DAYS[3]])
    append(made, [seen(40, ["person"], DAYS[1]), dead_letter(41, DAYS[0])])
    check(store, tmp_path, Settings(), DAYS, [DAYS[0], DAYS[1], DAYS[3]])
    for day in (DAYS[0], DAYS[1], DAYS[3]):
        build_day(store, day)
    check(store, tmp_path, Settings(), DAYS, [])
    check(store, tmp_path, Settings(), DAYS[1:3], [])


@pytest.mark.medium
def test_current_days_do_not_read_the_ledger(counting, tmp_path):
    several_days(counting)
    asked = {"days": DAYS[:3], "summaries": SUMMARIES, "cache_dir": tmp_path / "cache"}
    with open_lake(counting, settings=Settings(), **asked):
        pass  # what is known of the chain's end is noted
    counting.fetched.clear()
    with open_lake(counting, settings=Settings(), **asked) as lake:
        totals = "SELECT label, CAST(sum(count) AS BIGINT) FROM label_totals GROUP BY label ORDER BY label"
        assert lake.query(totals).rows == [("car", 9), ("dog", 3)]
    assert len(counting.segments) <= 2  # the ends of chains


@pytest.mark.medium
def test_all_days_are_those_of_the_ledger_and_of_the_summaries(memory, tmp_path):
    several_days(memory)
    with open_lake(memory, settings=Settings(), summaries=["label_totals"], cache_dir=tmp_path / "cache") as lake:
        assert lake.snapshot.days == tuple(DAYS)
        assert lake.query("SELECT CAST(sum(count) AS BIGINT) FROM label_totals").rows == [(16,)]


@pytest.mark.medium
def test_another_threshold_recomputes_what_depends_on_it(memory, tmp_path):
    several_days(memory)
    of_labels = ["label_counts", "label_timestamps", "label_totals"]
    check(memory, tmp_path, STRICT, DAYS[:3], DAYS[:3], of_labels)
    check(memory, tmp_path, STRICT, DAYS[:3], [], ["frame_stats", "source_activity"])


@pytest.mark.medium
def test_a_summary_whose_inputs_were_rebuilt_is_stale(memory, tmp_path):
    """Also if only the summary among its inputs is stale or missing; not if they were rebuilt to the same rows."""
    made = several_days(memory)
    build_summary(memory, "label_counts", DAYS[1], settings=Settings(), force=True, now=NOON)
    check(memory, tmp_path, Settings(), DAYS[:3], [], ["label_totals"])
    append(made, [seen(made.end.offset, ["car"], DAYS[1])])
    rebuild_day(memory, DAYS[1], now=NOON)
    build_summary(memory, "label_counts", DAYS[1], settings=Settings(), now=NOON)
    check(memory, tmp_path, Settings(), DAYS[:3], [DAYS[1]], ["label_totals"])
    check(memory, tmp_path, Settings(), DAYS[:3], [], ["label_counts"])
    memory.delete(day_table_key("detections", DAYS[0]))
    check(memory, tmp_path, Settings(), DAYS[:3], DAYS[:2], ["label_totals"])
    memory.delete(summary_key("label_totals", DAYS[2]))
    check(memory, tmp_path, Settings(), DAYS[:3], DAYS[:3], ["label_totals"])


@pytest.mark.medium
def test_a_question_about_a_finished_day_does_not_read_its_frames(folder, tmp_path):
    """Nor does a session that shows all tables."""
    several_days(folder)
    with open_lake(folder, settings=Settings(), cache_dir=tmp_path / "cache") as lake:
        for table in ("frames", "detections"):
            [linked] = (tmp_path / "cache").glob(f"sessions/*/{day_table_key(table, DAYS[1])}")
            data = linked.read_bytes()
            linked.unlink()  # the cache keeps its own link
            rows_end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # the footer follows
            linked.write_bytes(data[:4].ljust(rows_end, b"?") + data[rows_end:])
        with lake.cursor(ZoneInfo("Europe/Berlin")) as local:
            for asked in (lake, local):
                assert sum(one.count for one in hourly_counts(asked, [DAYS[1]])) == 4
            assert ask_session(local, "label_counts", [DAYS[1]]).table.num_rows == 2


@pytest.mark.medium
def test_a_session_shows_no_summary_that_is_newer_than_its_tables(memory, tmp_path):
    made = several_days(memory)
    with open_lake(memory, settings=Settings(), cache_dir=tmp_path / "cache") as lake:
        append(made, [seen(made.end.offset, ["car"], DAYS[1])])
        build_day(memory, DAYS[1])
        assert sum(one.count for one in hourly_counts(lake, [DAYS[1]])) == 4
        assert DAYS[1] in counted_days(lake, "label_counts")


def test_a_damaged_summary_is_counted(memory, tmp_path):
    several_days(memory)
    memory.put(summary_key("label_counts", DAYS[0]), b"no Parquet file")
    check(memory, tmp_path, Settings(), DAYS[:3], DAYS[:1], ["label_counts", "label_totals"])


def test_an_empty_store_gives_no_rows(memory, tmp_path):
    with open_lake(memory, settings=Settings(), summaries=SUMMARIES, cache_dir=tmp_path / "cache") as lake:
        assert lake.snapshot.days == ()
        assert [lake.query(f"SELECT * FROM {name}").rows for name in SUMMARIES] == [[]] * len(SUMMARIES)  # noqa: S608 - own names
        with pytest.raises(ConfigurationError, match="DuckDB rejects the query"):
            lake.query("SELECT * FROM colour_counts")
