"""A summary counts each detection of a unique frame once, names its inputs, and never goes backwards."""

from datetime import UTC, datetime, timedelta
from importlib import resources

import duckdb
import pytest

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.samples import again, chosen_frames, counted_labels, day_outcomes, gated, seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, dead_letter, write_chain

LATER = NOON + timedelta(hours=1)
KEY = summary_key("label_counts", DAY)


def stored_counts(store: ObjectStore, tmp_path) -> list[tuple]:
    """Ask the stored summary by plain DuckDB."""
    path = tmp_path / "label_counts.parquet"
    path.write_bytes(store.get(KEY))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = "hour, source, label, count, distinct_frames, mean_confidence"
        return connection.execute(f"SELECT {columns} FROM read_parquet('{path}')").fetchall()  # noqa: S608 - own path


def several_hours() -> list:
    return [
        seen(n, ["car"] * (n % 3), timestamp=datetime(2026, 1, 9, n % 24, 30, tzinfo=UTC), source=f"cam-{n % 2}")
        for n in range(60)
    ]


def test_label_counts_are_what_plain_python_counts(store: ObjectStore, tmp_path):
    write_chain(store, several_hours(), [dead_letter(60), gated(61), again(62, of=61, labels=["dog"])])
    rebuild_day(store, DAY, now=NOON)
    built = build_summary(store, "label_counts", DAY, settings=Settings(), now=NOON)
    expected = counted_labels(chosen_frames(store).values())
    found = stored_counts(store, tmp_path)
    assert [row[:5] for row in found] == [row[:5] for row in expected]
    assert [row[5] for row in found] == pytest.approx([row[5] for row in expected], abs=1e-9)
    assert (built.skipped, built.manifest.rows, built.manifest.ends) == (False, len(expected), {CHAIN: 63})


def test_first_and_last_seen_are_times_of_frames(folder: ObjectStore, tmp_path):
    first, last = NOON + timedelta(minutes=2), NOON + timedelta(minutes=59)
    write_chain(folder, [seen(0, timestamp=last), seen(1, timestamp=first), seen(2, [], timestamp=NOON)])
    rebuild_day(folder, DAY, now=NOON)
    build_summary(folder, "label_counts", DAY, settings=Settings(), now=NOON)
    with duckdb.connect() as connection:
        asked = "SELECT first_seen, last_seen, day FROM read_parquet(?)"
        assert connection.execute(asked, [f"{tmp_path}/store/{KEY}"]).fetchall() == [(first, last, DAY)]


def test_a_summary_is_rebuilt_only_for_other_detections(store: ObjectStore):
    made = write_chain(store, day_outcomes(0, 6))
    rebuild_day(store, DAY, now=NOON)
    first = build_summary(store, "label_counts", DAY, settings=Settings(), now=NOON)
    again_built = build_summary(store, "label_counts", DAY, settings=Settings(), now=LATER)
    assert again_built.skipped
    assert (again_built.manifest, again_built.sizes) == (first.manifest, first.sizes)
    append(made, [seen(6, ["dog"])])
    rebuild_day(store, DAY, now=LATER)
    newer = build_summary(store, "label_counts", DAY, settings=Settings(), now=LATER)
    assert (newer.skipped, newer.manifest.ends) == (False, {CHAIN: 7})
    assert build_summary(store, "label_counts", DAY, settings=Settings(), now=LATER, force=True).skipped is False


def test_a_summary_names_its_detections_and_its_query(memory: ObjectStore):
    write_chain(memory, day_outcomes(0, 6))
    rebuild_day(memory, DAY, now=NOON)
    build_summary(memory, "label_counts", DAY, settings=Settings(), now=NOON)
    stored, detections = read_stored(memory, KEY), read_stored(memory, day_table_key("detections", DAY))
    assert stored is not None
    assert detections is not None
    assert stored.manifest.made_of == {"detections": detections.manifest.version}
    assert stored.manifest.ends == detections.manifest.ends
    assert stored.manifest.sql == SUMMARIES["label_counts"].sql


def test_a_summary_without_detections_says_what_to_do(memory: ObjectStore):
    with pytest.raises(PermanentError, match="dagster asset materialize"):
        build_summary(memory, "label_counts", DAY, settings=Settings(), now=NOON)


def test_every_summary_is_one_self_contained_sql_file():
    files = {item.name for item in resources.files("imgpipeline.lake.days").joinpath("sql").iterdir()}
    assert {f"{name}.sql" for name in SUMMARIES} == {name for name in files if name.endswith(".sql")}
    for summary in SUMMARIES.values():
        assert summary.sql.startswith("--")
        assert len(duckdb.extract_statements(summary.sql)) == 1
