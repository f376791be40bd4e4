"""The daily report follows tracks and events if there are any, never waits for them, and then stays current."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.definitions import defs
from imgpipeline.defs.assets.reports import DAILY_REPORT
from imgpipeline.lake.build.summary_inputs import stored_key
from imgpipeline.lake.schema import TRACK_TABLES
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.defs.stored_days import STEPS, add_frames, build, newest

DAY = date(2026, 3, 1)
FOUND = ("unique_objects", "zone_occupancy", "events")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return open_store(load_settings())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def is_requested(instance: dg.DagsterInstance) -> bool:
    """Return whether automation would build the day's report now."""
    result = dg.evaluate_automation_conditions(defs, instance, asset_selection=dg.AssetSelection.assets(DAILY_REPORT))
    return bool(result.get_requested_partitions(DAILY_REPORT))


@pytest.mark.medium
def test_a_report_is_built_without_tracks_and_events_and_again_with_them(
    store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    add_frames(store, DAY, 0.6, 0.9)
    instance.report_runless_asset_event(dg.AssetMaterialization("frame_metadata", partition=str(DAY)))
    assert build(instance, DAY).success
    said = newest(instance, "daily_report", DAY)
    assert said is not None
    assert "objects" not in said.metadata
    assert not is_requested(instance), "nothing is waited for"
    for table in FOUND:
        instance.report_runless_asset_event(dg.AssetMaterialization(table, partition=str(DAY)))
        assert is_requested(instance), table
        assert build(instance, DAY, select=["daily_report"]).success
        assert not is_requested(instance), "it does not run in circles"


@pytest.mark.medium
def test_a_run_that_builds_both_builds_the_report_after_the_tracks(
    store: ObjectStore, instance: dg.DagsterInstance
) -> None:
    add_frames(store, DAY, 0.6, 0.9)
    instance.report_runless_asset_event(dg.AssetMaterialization("frame_metadata", partition=str(DAY)))
    assert build(instance, DAY, select=[*STEPS, *(table.name for table in TRACK_TABLES)]).success
    said = newest(instance, "daily_report", DAY)
    assert said is not None
    assert "objects" in said.metadata
    assert not is_requested(instance)


@pytest.mark.medium
def test_the_report_is_built_even_if_tracks_cannot_be_built(store: ObjectStore, instance: dg.DagsterInstance) -> None:
    add_frames(store, DAY, 0.6, 0.9)
    store.put(stored_key("track_slices", DAY), b"damaged")
    instance.report_runless_asset_event(dg.AssetMaterialization("frame_metadata", partition=str(DAY)))
    assert not build(instance, DAY, select=[*STEPS, *(table.name for table in TRACK_TABLES)]).success
    assert newest(instance, "tracks", DAY) is None
    assert newest(instance, "daily_report", DAY) is not None
