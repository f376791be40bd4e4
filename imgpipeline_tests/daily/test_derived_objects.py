"""Every derived object of a day names each table that its build reads: a new version of one makes the object stale."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from imgpipeline.contracts.keys import redetection_key
from imgpipeline.events.rule_tables import ENTRIES
from imgpipeline.lake.days.derived import Derived, State, build, state_of
from imgpipeline.lake.days.summaries import SUMMARIES, DaySummary
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.events import EVENT_TABLES
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES
from imgpipeline.lake.storage.manifest import FOOTER_KEY
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.redetect.comparison import DayComparison
from imgpipeline.redetect.run import DayRedetection
from imgpipeline.reports.build import DailyReport
from imgpipeline.settings import Settings
from imgpipeline.tracking.day_tracks import DayTracks
from imgpipeline_tests.events.samples import EVERY_KIND, rules
from imgpipeline_tests.objectstore.stores import folder_settings
from imgpipeline_tests.redetect.days import DAY, LOW, NOON, build_live, redetector

pytestmark = pytest.mark.medium
TABLES = [
    *(stored_key(table.name, DAY) for table in (*DAY_TABLES, *STORED_TRACK_TABLES, *EVENT_TABLES)),
    *(stored_key(name, DAY) for name in SUMMARIES),
    *(redetection_key(LOW, DAY, table) for table in ("frames", "detections")),
]


def derived_objects(settings: Settings, store: ObjectStore) -> dict[str, Derived[Any]]:
    """Return every derived object of the day but the day tables, which are made of the ledger, in build order."""
    given = rules(EVERY_KIND)
    return {
        **{name: DaySummary(store, summary, DAY, settings, NOON) for name, summary in SUMMARIES.items()},
        "tracks": DayTracks(store, DAY, settings, NOON),
        **{name: entry(store, settings, given, DAY, NOON) for name, entry in ENTRIES.items()},
        "redetection": DayRedetection(redetector(settings, store), DAY, lambda _done, _all: None),
        "comparison": DayComparison(settings, store, DAY, NOON),
        "report": DailyReport(store, settings, DAY, NOON, None),
    }


def with_other_content(data: bytes, path: Path) -> bytes:
    """Return a stored table with the same rows whose manifest names another hash of them."""
    path.write_bytes(data)
    table = pq.ParquetFile(path).read()
    metadata = dict(table.schema.metadata)
    content = pq.read_metadata(path).metadata[FOOTER_KEY.encode()]
    metadata[FOOTER_KEY.encode()] = content.replace(b'"content":"', b'"content":"0')
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path.read_bytes()


@pytest.fixture
def site(tmp_path: Path) -> tuple[Settings, ObjectStore]:
    """A day with every derived object, in a store whose tables no cache has."""
    settings = folder_settings(tmp_path)
    store = open_store(settings)
    build_live(settings, store, range(0, 48, 4))
    for entry in derived_objects(settings, store).values():
        assert not build(entry).skipped
    return settings, store


@pytest.mark.slow
def test_an_object_is_stale_after_a_change_of_any_table_that_its_build_reads(site, tmp_path, monkeypatch):
    settings, store = site
    request = ObjectStore.request
    for name, entry in derived_objects(settings, store).items():
        read: list[str] = []

        def note(self: ObjectStore, action: str, key: str, attempt: Any, read: list[str] = read) -> Any:
            read.append(key)
            return request(self, action, key, attempt)

        with monkeypatch.context() as noting:
            noting.setenv("XDG_CACHE_HOME", str(tmp_path / name))
            noting.setattr(ObjectStore, "request", note)
            assert build(entry).skipped, name
            build(entry, force=True)
        inputs = {*read} & {*TABLES} - entry.read().keys()
        assert inputs, name
        for key in sorted(inputs):
            before = store.get(key)
            store.put(key, with_other_content(before, tmp_path / "other.parquet"))
            again = derived_objects(settings, store)[name]
            assert state_of(again) is not State.CURRENT, f"{name} does not name {key}"
            store.put(key, before)
            assert state_of(derived_objects(settings, store)[name]) is State.CURRENT, name
