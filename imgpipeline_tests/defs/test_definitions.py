"""The graph as a user sees it."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from imgpipeline.definitions import defs
from imgpipeline.defs.partitions import DAYS
from imgpipeline.settings import load_settings

GRAPH = defs.resolve_asset_graph()
LAYERS = {
    "frame_metadata": ("ledger", set()),
    "frames": ("day_tables", {"frame_metadata"}),
    "detections": ("day_tables", {"frame_metadata"}),
    "label_counts": ("summaries", {"frames", "detections"}),
}


def test_the_graph_has_these_assets_and_no_others() -> None:
    assert {key.to_user_string() for key in GRAPH.get_all_asset_keys()} == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_each_asset_says_its_layer_owner_kind_and_what_it_answers(name: str) -> None:
    node = GRAPH.get(dg.AssetKey(name))
    group, parents = LAYERS[name]
    assert node.group_name == group
    assert {key.to_user_string() for key in node.parent_keys} == parents
    assert node.owners
    assert node.kinds
    assert "?**" in (node.description or "")
    assert node.partitions_def == DAYS
    if name != "frame_metadata":
        assert node.is_materializable
        assert node.automation_condition is not None
        assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_the_day_tables_are_one_step() -> None:
    assert GRAPH.get(dg.AssetKey("frames")).execution_set_asset_keys == {
        dg.AssetKey("frames"),
        dg.AssetKey("detections"),
    }


def test_the_days_reach_from_the_setting_to_tomorrow() -> None:
    assert DAYS.get_first_partition_key() == load_settings().first_day.isoformat()
    assert DAYS.get_last_partition_key() == (datetime.now(UTC).date() + timedelta(days=1)).isoformat()


def test_what_starts_work_runs_without_being_switched_on() -> None:
    sensors = list(defs.sensors or [])
    assert {sensor.name for sensor in sensors} == {"frames_sensor", "keep_tables_current"}
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in sensors)


def test_the_detection_job_runs_in_one_process_and_counts_as_detection() -> None:
    job = defs.resolve_job_def("detect_frames")
    assert job.executor_def is dg.in_process_executor
    assert job.tags["imgpipeline/work"] == "detection"
