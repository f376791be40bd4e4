"""The asset graph in the UI."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from imgpipeline import definitions
from imgpipeline.definitions import defs
from imgpipeline.defs.assets.daily import STEP
from imgpipeline.defs.partitions import DAYS
from imgpipeline.lake.days.day_rows import RECIPE
from imgpipeline.lake.days.summaries import SUMMARIES, recipe
from imgpipeline.lake.schema.tables import DAY_TABLES, SUMMARY_TABLES
from imgpipeline.lake.schema.tracks import TRACK_TABLES
from imgpipeline.settings import load_settings

GRAPH = defs.resolve_asset_graph()
FROM_FRAMES = {"frames", "dead_letters"}
FROM_DETECTIONS = {"frames", "detections", "notices"}
LAYERS = {
    "frame_metadata": ("ledger", {"stored_images"}),
    "frames": ("day_tables", {"frame_metadata"}),
    "detections": ("day_tables", {"frame_metadata"}),
    "dead_letters": ("day_tables", {"frame_metadata"}),
    "notices": ("day_tables", {"frame_metadata"}),
    "label_counts": ("summaries", {"detections"}),
    "label_timestamps": ("summaries", {"detections"}),
    "label_totals": ("summaries", {"label_counts"}),
    "frame_stats": ("summaries", FROM_FRAMES | {"notices"}),
    "source_activity": ("summaries", FROM_FRAMES),
    "accuracy": ("summaries", {"frames", "detections"}),
    "tracks": ("tracks", FROM_DETECTIONS),
    "track_points": ("tracks", FROM_DETECTIONS),
    "unique_objects": ("tracks", FROM_DETECTIONS),
    "unique_totals": ("tracks", FROM_DETECTIONS),
    "daily_report": (
        "reports",
        FROM_FRAMES | {"detections", "notices", "label_counts", "label_totals", "frame_stats", "source_activity"},
    ),
}
DAILY = [name for name in LAYERS if name != "frame_metadata"]
TABLES = {table.name: table for table in (*DAY_TABLES, *SUMMARY_TABLES)}


def node(name: str) -> dg.AssetSpec:
    return next(spec for spec in defs.resolve_all_asset_specs() if spec.key == dg.AssetKey(name))


def test_the_module_has_one_definitions_object_because_dagster_refuses_more():
    assert [name for name, value in vars(definitions).items() if isinstance(value, dg.Definitions)] == ["defs"]


def test_each_layer_has_these_assets():
    groups = {name for name, _ in LAYERS.values()}
    found = {key.to_user_string() for key in GRAPH.get_all_asset_keys() if GRAPH.get(key).group_name in groups}
    assert found == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_each_asset_says_its_layer_owner_kind_and_what_it_answers(name):
    node = GRAPH.get(dg.AssetKey(name))
    group, parents = LAYERS[name]
    assert node.group_name == group
    assert {key.to_user_string() for key in node.parent_keys} == parents
    assert node.owners
    assert node.kinds
    assert "? " in (node.description or "")
    assert node.partitions_def == DAYS
    if name != "frame_metadata":
        assert node.is_materializable
        assert node.backfill_policy == dg.BackfillPolicy.single_run()


@pytest.mark.parametrize("name", TABLES)
def test_each_table_shows_its_columns_with_type_unit_and_meaning(name):
    schema = node(name).metadata["dagster/column_schema"]
    table = TABLES[name]
    assert [(c.name, c.type, c.description) for c in schema.columns] == [
        (c.name, c.duckdb_type, c.meaning) for c in table.columns
    ]
    assert [list(c.constraints.other) for c in schema.columns] == [
        [c.unit.replace("`", "")] if c.unit else [] for c in table.columns
    ]


@pytest.mark.parametrize("name", TABLES)
def test_each_column_names_the_columns_it_is_made_of_and_they_exist(name):
    """Every column of a summary except `day` has upstream columns; those of day tables have none."""
    lineage = node(name).metadata["dagster/column_lineage"].deps_by_column
    assert set(lineage) == set(TABLES[name].names)
    _, parents = LAYERS[name]
    for column, deps in lineage.items():
        assert bool(deps) == (name in SUMMARIES) or column == "day"
        for dep in deps:
            asset = dep.asset_key.to_user_string()
            assert asset in parents
            assert dep.column_name in TABLES[asset].names


@pytest.mark.parametrize("table", TRACK_TABLES, ids=[table.name for table in TRACK_TABLES])
def test_what_tracks_are_made_of_exists(table):
    lineage = node(table.name).metadata["dagster/column_lineage"].deps_by_column
    assert set(lineage) == set(table.names)
    for dep in (dep for deps in lineage.values() for dep in deps):
        assert dep.asset_key.to_user_string() in FROM_DETECTIONS
        assert dep.column_name in TABLES[dep.asset_key.to_user_string()].names


@pytest.mark.parametrize("name", DAILY)
def test_the_code_version_is_the_hash_by_which_the_lake_decides_what_to_build_again(name):
    version = GRAPH.get(dg.AssetKey(name)).code_version
    if name in SUMMARIES:
        assert version == recipe(name, load_settings())
    elif name in TABLES:
        assert version == RECIPE
    else:
        assert version


def test_the_daily_assets_are_one_step():
    assert {defs.resolve_assets_def(name).op.name for name in DAILY} == {STEP}


def test_what_guards_against_spreading_blocks_and_the_rest_warns():
    checks = {key: GRAPH.get(key) for key in GRAPH.asset_check_keys}
    blocking = {(key.asset_key.to_user_string(), key.name) for key, node in checks.items() if node.blocking}
    assert blocking == {
        ("frames", "schema"), ("frames", "frame_id_unique"), ("frames", "timestamps_in_day"), ("detections", "schema"),
        ("detections", "timestamps_in_day"), ("detections", "boxes_in_image"), ("detections", "confidence_in_range"),
        ("dead_letters", "schema"), ("notices", "schema"),
    }  # fmt: skip
    warning = {(key.asset_key.to_user_string(), key.name) for key, node in checks.items() if not node.blocking}
    assert warning >= {
        ("frames", "agrees_with_ledger"), ("dead_letters", "few_dead_letters"), ("frame_stats", "few_dark_frames"),
        ("label_totals", "usual_labels"), ("label_counts", "adds_up"),
    }  # fmt: skip
    assert all(node.description for node in checks.values())


def test_the_days_reach_from_the_setting_to_today():
    assert DAYS.get_first_partition_key() == load_settings().first_day.isoformat()
    assert DAYS.get_last_partition_key() == datetime.now(UTC).date().isoformat()


def test_descriptions_are_plain_text():
    """The catalog and the pages of sensors and schedules show Markdown source; other pages render it."""
    graph = defs.resolve_asset_graph()
    described = [
        *(graph.get(key) for key in (*graph.get_all_asset_keys(), *graph.asset_check_keys)),
        *(defs.sensors or []),
        *(defs.schedules or []),
        *(defs.resolve_job_def(name) for name in ("detect_frames", "rebuild_days", "redetect_days", "bundle_segments")),
    ]
    texts = [str(thing.description) for thing in described]
    assert all(texts)
    assert [text for text in texts if "`" in text or "**" in text] == []


def test_what_needs_no_choice_of_the_user_runs_without_being_switched_on():
    assert {each.name: each.default_status.value for each in (*defs.sensors, *defs.schedules)} == {
        "frames_sensor": "RUNNING",
        "keep_tables_current": "RUNNING",
        "source_silence": "RUNNING",
        "events_sensor": "STOPPED",
        "nightly_rebuild": "RUNNING",
        "hourly_bundles": "RUNNING",
        "hourly_retention": "RUNNING",
        "weekly_redetect": "STOPPED",
    }


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("ingest_folder", "ingest"),
        ("ingest_video", "ingest"),
        ("detect_frames", "detection"),
        ("redetect_days", "redetection"),
    ],
)
def test_runs_of_jobs_count_as_their_kind_of_work(name, work):
    assert defs.resolve_job_def(name).tags["imgpipeline/work"] == work


@pytest.mark.parametrize("name", ["detect_frames", "redetect_days"])
def test_what_loads_a_model_runs_in_one_process(name):
    assert defs.resolve_job_def(name).executor_def is dg.in_process_executor
