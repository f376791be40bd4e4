"""Query sessions and notebooks read tracks; without tracks the tables are empty, and other counts stay the same."""

from datetime import UTC, datetime, timedelta

import pytest

from imgpipeline import Lake
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.tracks import TRACK_TABLES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.settings import load_settings
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.objectstore.stores import fresh_store
from imgpipeline_tests.tracking.films import Car, film

AT = datetime(2026, 1, 9, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CARS = [Car(AT, AT + 3 * MINUTE), Car(AT, AT + MINUTE, "person", y=300)]


def filmed(request):
    store = fresh_store("folder", request)
    write_chain(store, film(AT, AT + 4 * MINUTE, CARS))
    rebuild_day(store, DAY, now=NOON)
    return store


def test_a_store_without_tracks_reads_as_empty(request, tmp_path):
    with open_lake(filmed(request), cache_dir=tmp_path / "cache") as lake:
        counts = [lake.query(f"SELECT count(*) FROM {table.name}").rows for table in TRACK_TABLES]  # noqa: S608 - own names
        assert counts == [[(0,)]] * len(TRACK_TABLES)
        assert lake.query("SELECT sum(count) FROM label_counts").rows == [(48,)]


@pytest.mark.medium
def test_a_session_shows_the_stored_tracks_of_its_days(request, tmp_path):
    store = filmed(request)
    build_tracks(store, DAY, settings=load_settings(), now=NOON)
    with open_lake(store, cache_dir=tmp_path / "cache") as lake:
        joined = (
            "SELECT tracks.label, object_id, count(*) FROM tracks JOIN track_points USING (day, track_id) "
            "GROUP BY ALL ORDER BY 1"
        )
        assert lake.query(joined).rows == [
            ("car", "gate/car/20260109T1200/1", 36), ("person", "gate/person/20260109T1200/1", 12),
        ]  # fmt: skip
        for table in TRACK_TABLES:
            described = {row[0]: row[1] for row in lake.query(f"DESCRIBE {table.name}").rows}
            wanted = {c.name: c.duckdb_type.replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE") for c in table.columns}
            assert described == wanted
        assert lake.query("SELECT sum(count) FROM label_counts").rows == [(48,)]
    with open_lake(store, cache_dir=tmp_path / "cache", days=[DAY + timedelta(days=1)]) as lake:
        assert lake.query("SELECT count(*) FROM tracks").rows == [(0,)]


@pytest.mark.medium
def test_notebooks_get_tracks_and_unique_objects(request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build_tracks(filmed(request), DAY, settings=load_settings(), now=NOON)
    with Lake.open(tmp_path / "store") as lake:
        assert lake.tracks(DAY, label="car")["stay_s"].tolist() == [175.0]
        assert lake.tracks(source="it's none").empty
        assert lake.unique_objects(DAY, source="gate")[["label", "objects"]].to_numpy().tolist() == [
            ["car", 1], ["person", 1],
        ]  # fmt: skip
