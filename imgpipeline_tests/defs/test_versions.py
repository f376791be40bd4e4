"""What Dagster shows as stale, by code and data versions, with the real definitions and Dagster's own resolver."""

from datetime import date, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from imgpipeline.definitions import defs
from imgpipeline.defs.assets.daily import day_assets
from imgpipeline.defs.assets.frame_metadata import frame_metadata
from imgpipeline.defs.assets.redetections import redetections
from imgpipeline.defs.resources import Pipeline
from imgpipeline.lake.days import summaries
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline_tests.defs.keeping import announce
from imgpipeline_tests.defs.stored_days import add_frames, build, data_version, newest

DAY = date(2026, 3, 1)
DAYS = [DAY + timedelta(days=n) for n in range(3)]
TABLES = ["frames", "detections", "dead_letters", "notices"]
OF_FRAMES = ["frame_stats", "source_activity"]
OF_LABELS = ["label_counts", "label_timestamps", "label_totals"]
ALL = [*TABLES, *OF_FRAMES, *OF_LABELS, "daily_report"]

pytestmark = pytest.mark.medium


def definitions_now() -> dg.Definitions:
    """Return the definitions of a code server that starts now, with the current settings and queries."""
    settings = load_settings()
    return dg.Definitions(
        assets=[frame_metadata, day_assets(settings), redetections],
        resources={"pipeline": Pipeline()},
        executor=dg.in_process_executor,
    )


def stale(instance: dg.DagsterInstance, definitions: dg.Definitions, day: date = DAY) -> set[str]:
    """Return the assets whose day Dagster shows as stale, by the resolver behind the UI's `staleStatus`."""
    resolver = CachingStaleStatusResolver(
        instance, definitions.resolve_asset_graph(), loading_context=LoadingContextForTest(instance)
    )
    statuses = {name: resolver.get_status(dg.AssetKey(name), day.isoformat()) for name in ALL}
    assert StaleStatus.MISSING not in statuses.values()
    return {name for name, status in statuses.items() if status is StaleStatus.STALE}


def versions(instance: dg.DagsterInstance, day: date = DAY) -> dict[str, str]:
    return {name: data_version(instance, name, day) for name in ALL}


@pytest.fixture
def built(store: ObjectStore, instance: dg.DagsterInstance) -> ObjectStore:
    """One built day with a weak and a strong detection."""
    add_frames(store, DAY, 0.6, 0.9)
    announce(instance, DAY)
    assert build(instance, DAY).success
    return store


@pytest.mark.slow
def test_the_same_content_always_has_the_same_version(built, instance):
    """Whether forced or skipped, alone or in a range, and after the chains of other days have grown."""
    before = versions(instance)
    assert build(instance, DAY, force=True).success
    said = newest(instance, "frames", DAY)
    assert said.metadata["skipped"].value is False
    assert versions(instance) == before
    add_frames(built, DAYS[1], 0.7)
    announce(instance, DAYS[1])
    assert build(instance, *DAYS, force=True).success
    assert versions(instance) == before
    assert len({data_version(instance, "frames", day) for day in DAYS}) == 3
    assert all(stale(instance, defs, day) == set() for day in DAYS)


@pytest.mark.slow
def test_a_new_threshold_makes_summaries_of_labels_stale_and_requests_nothing(built, instance, monkeypatch):
    before = versions(instance)
    monkeypatch.setenv("IMGPIPELINE_SUMMARY_THRESHOLD", "0.8")
    changed = definitions_now()
    assert stale(instance, changed) == {*OF_LABELS, "daily_report"}

    assert build(instance, DAY, definitions=changed, select=["label_counts"]).success
    assert data_version(instance, "label_counts", DAY) != before["label_counts"]
    assert build(instance, DAY, definitions=changed).success
    assert stale(instance, changed) == set()
    after = versions(instance)
    assert {name for name in ALL if after[name] != before[name]} == {*OF_LABELS, "daily_report"}


def test_new_sql_of_a_summary_makes_it_and_its_downstream_stale(built, instance, monkeypatch):
    read = summaries.read_sql
    other = {
        "source_activity": summaries.SUMMARIES["source_activity"].sql.replace(
            "ORDER BY source", "ORDER BY frames, source"
        )
    }
    monkeypatch.setattr(summaries, "read_sql", lambda package, name: other.get(name) or read(package, name))
    changed = definitions_now()
    assert stale(instance, changed) == {"source_activity", "daily_report"}


@pytest.mark.slow
def test_new_rows_of_a_day_make_its_downstream_stale(store, instance):
    """Also if the day was built in a range; the other days of the range stay fresh."""
    for day in DAYS:
        add_frames(store, day, 0.6)
    announce(instance, *DAYS)
    assert build(instance, *DAYS).success
    assert [stale(instance, defs, day) for day in DAYS] == [set()] * 3
    add_frames(store, DAYS[1], 0.7, number=1, camera=1)
    announce(instance, DAYS[1])
    assert build(instance, DAYS[1], select=["day_tables"]).success
    made_of_them = {*OF_FRAMES, "label_counts", "label_timestamps", "daily_report"}
    assert [stale(instance, defs, day) for day in DAYS] == [set(), made_of_them, set()]


def test_events_without_new_content_leave_downstream_fresh(built, instance):
    """A second announcement of a frame changes the ledger and the manifests, but no row."""
    before = versions(instance)
    assert stale(instance, defs) == set(), "a new build is not stale"
    add_frames(built, DAY, 0.6, 0.9, number=1)
    announce(instance, DAY)
    assert build(instance, DAY, select=["day_tables"]).success
    said = newest(instance, "frames", DAY)
    assert (said.metadata["skipped"].value, said.metadata["announced_again"].value) == (False, 2)
    assert versions(instance) == before
    assert stale(instance, defs) == set()
