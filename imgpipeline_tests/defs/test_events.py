"""The event assets: built after the day tables with the rules of the setting, and loaded without OpenCV."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.daily.states import day_states
from imgpipeline.defs.assets.daily import daily_assets
from imgpipeline.defs.dagster_internals import DATA_VERSION_TAG
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.events.recipe import events_recipe
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.events.samples import CHANGE, NOON, rotated, stored_frames
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.tracking.films import Car, film

ROAD = '[[zone]]\nname = "road"\nsource = "gate"\npoints = [[0, 0.3], [1, 0.3], [1, 0.4], [0, 0.4]]\n'
STOP = (
    '[[line]]\nname = "stop"\nsource = "gate"\nsize = [640, 480]\npoints = [[95, 100], [95, 300]]\nbackward = "out"\n'
)
CROSSED = '[[rule]]\nname = "crossed"\nkind = "line_crossing"\nline = "stop"\n'
TABLES = ("frame_changes", "events", "zone_occupancy", "line_crossings")

pytestmark = pytest.mark.medium


@pytest.fixture
def rules_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(CHANGE)
    monkeypatch.setenv("IMGPIPELINE_RULES_FILE", str(path))
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", (tmp_path / "store").as_uri())
    return path


@pytest.fixture
def store(rules_file: Path) -> ObjectStore:
    opened = open_store(load_settings())
    write_chain(opened, stored_frames(opened, rotated()))
    rebuild_day(opened, DAY, now=NOON)
    return opened


def materialize(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> None:
    done = dg.materialize(
        [daily_assets],
        selection=TABLES,
        resources={"pipeline": Pipeline()},
        partition_key=DAY.isoformat(),
        instance=instance,
        tags=tags or {},
    )
    assert done.success


def rules_with_events(store: ObjectStore) -> list[tuple[str, int]]:
    with open_lake(store) as lake:
        return lake.query("SELECT rule, count(*) FROM events GROUP BY ALL").rows


def test_the_rotate_pattern_becomes_two_events(store):
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(instance)
        event = instance.get_latest_materialization_event(dg.AssetKey("events"))
    assert rules_with_events(store) == [("changed", 2)]
    assert event
    assert event.asset_materialization
    assert event.asset_materialization.metadata["dagster/row_count"].value == 2


def test_automation_keeps_the_rules_of_past_days_and_a_backfill_uses_the_new_ones(store, rules_file):
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(instance)
        rules_file.write_text(CHANGE.replace("changed", "other"))
        materialize(instance, {WORK_TAG: "tables"})
        assert rules_with_events(store) == [("changed", 2)]
        materialize(instance)
        assert rules_with_events(store) == [("other", 2)]


@pytest.fixture
def road(rules_file: Path) -> ObjectStore:
    """A car drives over a line, inside a zone, from 12:05 to 12:25; the day has its tracks."""
    rules_file.write_text(ROAD + STOP + CROSSED)
    opened, start = open_store(load_settings()), NOON + timedelta(minutes=5)
    end = start + timedelta(minutes=20)
    write_chain(opened, film(start, end, [Car(start, end)]))
    rebuild_day(opened, DAY, now=NOON)
    build_tracks(opened, DAY, settings=load_settings(), now=NOON)
    return opened


def newest(instance: dg.DagsterInstance, asset: str) -> dg.AssetMaterialization:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event
    assert event.asset_materialization
    return event.asset_materialization


def test_zones_lines_and_events_are_materialized_from_tracks(road):
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(instance)
        said = {name: newest(instance, name) for name in ("zone_occupancy", "line_crossings", "events")}
    with open_lake(road) as lake:
        zones = lake.query("SELECT zone, label, objects, occupied_s FROM zone_occupancy").rows
        lines = lake.query("SELECT line, label, direction, crossings, objects FROM line_crossings").rows
    assert zones == [("road", "car", 1, 1195.0)]
    assert lines == [("stop", "car", "out", 1, 1)]
    assert rules_with_events(road) == [("crossed", 1)]
    assert {name: each.metadata["dagster/row_count"].value for name, each in said.items()} == dict.fromkeys(said, 1)


def test_each_materialization_has_code_version_and_data_version(road, rules_file):
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(instance)
        before = {name: newest(instance, name).tags or {} for name in ("zone_occupancy", "line_crossings")}
        rules_file.write_text(ROAD.replace('"road"', '"lane"') + STOP + CROSSED)
        materialize(instance)
        after = {name: newest(instance, name).tags or {} for name in before}
    versions = {key.to_user_string(): version for key, version in daily_assets.code_versions_by_key.items()}
    assert {name: tags["dagster/code_version"] for name, tags in after.items()} == {
        name: versions[name] for name in after
    }
    assert before["zone_occupancy"][DATA_VERSION_TAG] != after["zone_occupancy"][DATA_VERSION_TAG]
    assert before["line_crossings"][DATA_VERSION_TAG] == after["line_crossings"][DATA_VERSION_TAG]


def test_the_time_zone_is_part_of_the_code_version_of_events_only():
    here, there = (
        {name: events_recipe(name, load_settings(timezone=zone)) for name in TABLES}
        for zone in ("UTC", "Europe/Berlin")
    )
    assert len(set(here.values())) == len(TABLES)
    assert {name for name in TABLES if here[name] != there[name]} == {"events"}


def test_without_the_setting_nothing_is_due(store):
    assert set(TABLES) <= day_states(store, load_settings(), now=NOON)[DAY].keys()
    assert not set(TABLES) & day_states(store, load_settings(rules_file=None), now=NOON)[DAY].keys()


def test_the_assets_load_neither_opencv_nor_the_rules():
    code = (
        "import sys, imgpipeline.defs.assets.daily; "
        "print({'cv2', 'imgpipeline.events.configuration'} & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"
