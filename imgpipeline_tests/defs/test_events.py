"""Events as Dagster builds them: after the day tables, with the rules of the setting, without OpenCV while loading."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.defs.assets.events import event_assets
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.events.samples import CHANGE, NOON, rotated, stored_frames
from imgpipeline_tests.ledger.samples import DAY, write_chain


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
        event_assets(load_settings()),
        resources={"pipeline": Pipeline()},
        partition_key=DAY.isoformat(),
        instance=instance,
        tags=tags or {},
    )
    assert done.success


def rules_with_events(store: ObjectStore) -> list[tuple[str, int]]:
    with open_lake(store) as lake:
        return lake.query("SELECT rule, count(*) FROM events GROUP BY ALL").rows


@pytest.mark.medium
def test_the_rotate_pattern_becomes_two_events(store: ObjectStore):
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(instance)
        event = instance.get_latest_materialization_event(dg.AssetKey("events"))
    assert rules_with_events(store) == [("changed", 2)]
    assert event
    assert event.asset_materialization
    assert event.asset_materialization.metadata["dagster/row_count"].value == 2


@pytest.mark.medium
def test_automation_keeps_the_rules_of_a_day_that_is_over_and_a_backfill_takes_the_new_ones(
    store: ObjectStore, rules_file: Path
):
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(instance)
        rules_file.write_text(CHANGE.replace("changed", "other"))
        materialize(instance, {WORK_TAG: "tables"})
        assert rules_with_events(store) == [("changed", 2)]
        materialize(instance)
        assert rules_with_events(store) == [("other", 2)]


def test_without_the_setting_nothing_is_built_by_itself():
    assert [asset.automation_conditions_by_key for asset in event_assets(load_settings())] == [{}] * 4


@pytest.mark.medium
def test_the_assets_load_neither_opencv_nor_the_rules():
    code = (
        "import sys, imgpipeline.defs.assets.events; "
        "print({'cv2', 'imgpipeline.events.configuration'} & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"
