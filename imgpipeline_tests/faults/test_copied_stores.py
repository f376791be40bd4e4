"""A copied store is current everywhere: manifests name their inputs by content, not by the store's e-tags."""

import shutil
from collections.abc import Callable
from datetime import timedelta

import obstore
import pytest

from imgpipeline.daily.states import day_states, due_days
from imgpipeline.events.configuration import Rules
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.days.summary_inputs import list_versions
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.redetect.run import redetect_day
from imgpipeline.reports.evidence import Verdict, last_audit
from imgpipeline.reports.inputs import read_inputs
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_comparison, build_report, build_summary, build_table, build_tracks
from imgpipeline_tests.events.samples import EVERY_KIND, rules
from imgpipeline_tests.lake.audits import log_range, run_audit
from imgpipeline_tests.lake.samples import counted_days
from imgpipeline_tests.objectstore.stores import folder_settings, s3_settings
from imgpipeline_tests.redetect.days import DAY, NOON, build_live, redetector

pytestmark = [pytest.mark.medium, pytest.mark.fault(62)]
LATER = NOON + timedelta(days=3)
FRAMES = 12


def derived_objects(settings: Settings, store: ObjectStore, given: Rules) -> dict[str, Callable[[], bool]]:
    """Return what builds each derived object of the day, and tells whether there was nothing to do."""
    found: dict[str, Callable[[], bool]] = {}
    for name in SUMMARIES:
        found[name] = lambda name=name: build_summary(store, name, DAY, settings=settings, now=LATER).skipped
    found["tracks"] = lambda: build_tracks(store, DAY, settings=settings, now=LATER).skipped
    for table in (*EVENT_TABLES, *PLACE_TABLES):
        found[table.name] = lambda table=table: (
            build_table(store, DAY, table, rules=given, settings=settings, now=LATER).skipped
        )
    found["redetection"] = lambda: redetect_day(redetector(settings, store), DAY).skipped
    found["comparison"] = lambda: build_comparison(settings, store, DAY, now=LATER).skipped
    found["report"] = lambda: build_report(store, settings, DAY, now=LATER).skipped
    return found


def audit_says(store: ObjectStore) -> tuple[bool, set[str]]:
    """Audit a store; return whether it is sound, and the summaries that are not made of the current tables."""
    report = run_audit(store, log_range(FRAMES))
    return report.ok, {summary.name for summary in report.summaries if summary.stale}


def versions(store: ObjectStore) -> set[str]:
    """Return the versions that the store itself gives to the day's tables and summaries."""
    return {list_versions(store, name)[DAY] for name in (*(table.name for table in DAY_TABLES), *SUMMARIES)}


def make_site(settings: Settings, store: ObjectStore) -> None:
    """Make a day with every kind of derived object, all current and audited."""
    build_live(settings, store, range(0, 4 * FRAMES, 4))
    builds = derived_objects(settings, store, rules(EVERY_KIND))
    assert [name for name, is_current in builds.items() if is_current()] == []
    assert audit_says(store) == (True, set())
    assert not builds["report"](), "it shows the audit"
    assert [name for name, is_current in builds.items() if not is_current()] == []


def check_copy(settings: Settings, store: ObjectStore) -> None:
    """Check that nothing of a copied day is built again, and that every reader takes it for current."""
    assert due_days(day_states(store, settings, now=LATER)) == {}
    with open_lake(store, settings=settings, summaries=SUMMARIES) as lake:
        assert {name: counted_days(lake, name) for name in SUMMARIES} == {name: [] for name in SUMMARIES}
    assert last_audit(read_inputs(store, settings, DAY, now=LATER)).verdict is Verdict.OK
    builds = derived_objects(settings, store, rules(EVERY_KIND))
    assert [name for name, is_current in builds.items() if not is_current()] == []
    assert audit_says(store) == (True, set())
    assert due_days(day_states(store, settings, now=LATER)) == {}


@pytest.mark.slow
def test_fault_62_a_copied_folder_is_current_everywhere(tmp_path):
    settings = folder_settings(tmp_path)
    make_site(settings, open_store(settings))
    shutil.copytree(tmp_path / "store", tmp_path / "copy" / "store", copy_function=shutil.copyfile)
    copied = folder_settings(tmp_path / "copy")
    assert versions(open_store(copied)).isdisjoint(versions(open_store(settings)))
    check_copy(copied, open_store(copied))


@pytest.mark.slow
@pytest.mark.servers
def test_fault_62_a_bucket_copied_object_by_object_is_current_everywhere(bucket):
    settings = s3_settings(bucket)
    store = open_store(settings)
    make_site(settings, store)
    copied = s3_settings(bucket, store_url=f"{bucket.url}/copy")
    target = bucket.store("copy")
    for info in store.list_objects():
        obstore.put(target, info.key, store.get(info.key), use_multipart=True)
    assert versions(open_store(copied)).isdisjoint(versions(store))
    check_copy(copied, open_store(copied))
