"""The event assets: built after the day tables, with the rules of the setting."""

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
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.defs.stored_days import newest
from imgpipeline_tests.events.samples import CHANGE, CROSSES, NOON, ROAD, STOP, at, rotated, stored_frames
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.tracking.films import Car, film

TABLES = ("frame_changes", "events", "zone_occupancy", "line_crossings")

pytestmark = pytest.mark.medium


@pytest.fixture
def rules_file(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the setting names; its rule finds where an image changes."""
    path = tmp_path / "rules.toml"
    path.write_text(CHANGE)
    monkeypatch.setenv("IMGPIPELINE_RULES_FILE", str(path))
    return path


@pytest.fixture
def changing(rules_file: Path, store: ObjectStore) -> ObjectStore:
    """A day with ten frames, two of which differ from the one before."""
    write_chain(store, stored_frames(store, rotated()))
    rebuild_day(store, DAY, now=NOON)
    return store


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


def test_automation_keeps_the_rules_of_past_days_and_a_backfill_uses_the_new_ones(changing, instance, rules_file):
    materialize(instance)
    assert newest(instance, "events", DAY).metadata["dagster/row_count"].value == 2
    rules_file.write_text(CHANGE.replace("changed", "other"))
    materialize(instance, {WORK_TAG: "tables"})
    assert rules_with_events(changing) == [("changed", 2)]
    materialize(instance)
    assert rules_with_events(changing) == [("other", 2)]


@pytest.fixture
def road(rules_file: Path, store: ObjectStore) -> ObjectStore:
    """A car drives over a line, inside a zone, from 12:05 to 12:25; the day has its tracks."""
    rules_file.write_text(ROAD + STOP + CROSSES)
    write_chain(store, film(at(5), at(25), [Car(at(5), at(25))]))
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=load_settings(), now=NOON)
    return store


def test_zones_lines_and_events_are_materialized_from_tracks(road, instance):
    materialize(instance)
    said = {name: newest(instance, name, DAY) for name in ("zone_occupancy", "line_crossings", "events")}
    with open_lake(road) as lake:
        zones = lake.query("SELECT zone, label, objects, occupied_s FROM zone_occupancy").rows
        lines = lake.query("SELECT line, label, direction, crossings, objects FROM line_crossings").rows
    assert zones == [("road", "car", 1, 1195.0)]
    assert lines == [("stop", "car", "out", 1, 1)]
    assert rules_with_events(road) == [("crosses", 1)]
    assert {name: each.metadata["dagster/row_count"].value for name, each in said.items()} == dict.fromkeys(said, 1)


def test_each_materialization_has_code_version_and_data_version(road, instance, rules_file):
    materialize(instance)
    before = {name: newest(instance, name, DAY).tags for name in ("zone_occupancy", "line_crossings")}
    rules_file.write_text(ROAD.replace('"road"', '"lane"') + STOP + CROSSES)
    materialize(instance)
    after = {name: newest(instance, name, DAY).tags for name in before}
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


def test_without_the_setting_nothing_is_due(changing):
    assert set(TABLES) <= day_states(changing, load_settings(), now=NOON)[DAY].keys()
    assert not set(TABLES) & day_states(changing, load_settings(rules_file=None), now=NOON)[DAY].keys()
