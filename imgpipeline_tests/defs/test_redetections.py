"""The redetection assets: partitions of model and day, ranges, metadata, and the comparison that follows."""

import functools
from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
import pytest

from imgpipeline.contracts.keys import comparison_examples_prefix, summary_key
from imgpipeline.definitions import defs
from imgpipeline.defs.assets.redetections import REDETECTIONS
from imgpipeline.defs.partitions import MODELS, model_day_key, redetection_tags
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.defs.keeping import Keeping, assets_of, days_of
from imgpipeline_tests.objectstore.stores import copy_objects
from imgpipeline_tests.redetect.days import build_live, live_rows, objects_below, redetected_rows

COMPARISON = dg.AssetKey("model_comparison")
FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)

pytestmark = pytest.mark.medium


@pytest.fixture
def store(store: ObjectStore) -> ObjectStore:
    """Two days that were detected live."""
    copy_objects(_two_days(), store)
    return store


@functools.cache
def _two_days() -> ObjectStore:
    store = open_memory_store()
    for day in (FIRST, SECOND):
        build_live(Settings(_env_file=None), store, range(0, 24, 4), day=day)
    return store


def redetect(
    instance: dg.DagsterInstance, tags: Mapping[str, str], asset: dg.AssetKey = REDETECTIONS
) -> dg.ExecuteInProcessResult:
    """Run one asset with the tags of a partition or a range."""
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, tags=dict(tags), asset_selection=[asset], raise_on_error=False)


def said_of(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str) -> Mapping[str, Any]:
    wanted = dg.AssetRecordsFilter(asset, asset_partitions=[partition])
    (record,) = instance.fetch_materializations(wanted, limit=5).records
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    event = next(e for e in result.all_events if e.event_type_value == "STEP_FAILURE")
    data: Any = event.event_specific_data
    return str(data.user_failure_data.description if data.user_failure_data else data.error.message)


def test_a_partition_is_a_model_and_a_day(store, instance):
    assert model_day_key("demo", FIRST) == "2026-03-01|demo"
    assert redetect(instance, {"dagster/partition": "2026-03-01|demo"}).success
    assert redetected_rows(store, "detections", "demo", FIRST) == live_rows(store, "detections", FIRST)
    said = said_of(instance, REDETECTIONS, "2026-03-01|demo")
    assert (said["frames"], said["processed"], said["failed"], said["looked_at"]) == (6, 6, 0, 6)
    assert said["dagster/row_count"] == len(live_rows(store, "detections", FIRST))
    assert said["frames_per_s"] > 0
    assert said["path"].endswith("redetections/model=demo/day=2026-03-01/detections.parquet")


def test_a_range_is_one_run_of_days_of_one_model(store, instance):
    assert redetect(instance, redetection_tags("demo", FIRST, SECOND)).success
    for day in (FIRST, SECOND):
        assert said_of(instance, REDETECTIONS, model_day_key("demo", day))["processed"] == 6
    again = dg.DagsterInstance.ephemeral()
    assert redetect(again, redetection_tags("demo", FIRST, SECOND)).success
    assert said_of(again, REDETECTIONS, model_day_key("demo", SECOND))["skipped"]


def test_one_day_that_cannot_be_made_keeps_no_other_from_it(store, instance):
    result = redetect(instance, redetection_tags("demo", FIRST, date(2026, 3, 3)))
    assert not result.success
    assert "1 of 3 partitions could not be built (2026-03-03|demo)" in failure(result)
    assert said_of(instance, REDETECTIONS, model_day_key("demo", SECOND))["processed"] == 6


def test_a_model_that_is_not_here_is_an_error_with_its_command(store, instance, tmp_path, monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_MODEL_DIR", str(tmp_path))
    result = redetect(instance, {"dagster/partition": "2026-03-01|yolox-nano"})
    assert "imgpipeline models pull yolox-nano" in failure(result)
    several = {"dagster/asset_partition_range_start": "2026-03-01|demo"}
    several |= {"dagster/asset_partition_range_end": "2026-03-01|yolox-nano"}
    assert "imgpipeline models pull yolox-nano" in failure(redetect(instance, several))
    assert not objects_below(store, "redetections"), "said before hours were spent on the models that are here"


@pytest.mark.parametrize("tags", [{}, redetection_tags("demo", SECOND, FIRST)])
def test_a_run_that_was_asked_for_nothing_fails(tags, store, instance):
    assert "2026-" in failure(redetect(instance, tags))
    assert "No model and day was requested" in failure(redetect(instance, tags))


def test_a_comparison_shows_labels_and_small_pictures(store, instance):
    assert redetect(instance, {"dagster/partition": "2026-03-01|demo"}).success
    assert redetect(instance, {"dagster/partition": "2026-03-01"}, COMPARISON).success
    said = said_of(instance, COMPARISON, "2026-03-01")
    assert said["models"] == ["live", "demo"]
    assert "| live | demo | car |" in said["labels"]
    assert 1000 < len(said["pictures"]) < 50_000
    stored = read_stored(store, summary_key("model_comparison", FIRST))
    node = defs.resolve_asset_graph().get(COMPARISON)
    assert node.code_version == stored.manifest.made_by, "other SQL makes it stale"
    assert [key.rpartition("/")[2] for key in said["examples"]] == [
        key.rpartition("/")[2] for key in objects_below(store, comparison_examples_prefix(FIRST))
    ]


def test_a_day_without_redetections_has_an_event_and_no_comparison(store, instance):
    """Dagster fails a backfill whose run has no event for one of its days."""
    assert redetect(instance, {"dagster/partition": "2026-03-01"}, COMPARISON).success
    assert said_of(instance, COMPARISON, "2026-03-01")["skipped"]
    assert not objects_below(store, "summaries/model_comparison")


@pytest.mark.slow
def test_a_comparison_is_requested_once_a_model_has_re_processed_the_day(store, instance):
    keeping = Keeping(store, instance)
    keeping.run(keeping.requests())
    assert keeping.requests(after_s=600) == [], "the live results alone are not compared"
    assert redetect(instance, {"dagster/partition": "2026-03-01|demo"}).success
    (request,) = keeping.requests(after_s=600)
    assert (assets_of(request), days_of(request)) == ({"model_comparison"}, ("2026-03-01", "2026-03-01"))
    (result,) = keeping.run([request])
    assert result.success
    assert keeping.requests(after_s=600) == []


@pytest.mark.parametrize("name", ["redetections", "model_comparison"])
def test_each_asset_says_what_it_answers(name):
    node = defs.resolve_asset_graph().get(dg.AssetKey(name))
    assert node.group_name == "redetections"
    assert node.owners
    assert node.kinds
    assert "? " in (node.description or "")
    assert node.backfill_policy == dg.BackfillPolicy.single_run()
    assert node.metadata["dagster/column_schema"].columns


def test_the_partitions_are_the_models_of_the_setting():
    assert MODELS.get_partition_keys() == ["demo", "yolox-nano", "yolov4-tiny"]


def test_the_job_takes_a_range_by_tags(store, instance):
    job = defs.resolve_job_def("redetect_days")
    tags = redetection_tags("demo", FIRST, SECOND)
    assert job.execute_in_process(instance=instance, tags=tags).success
    assert [len(redetected_rows(store, "frames", "demo", day)) for day in (FIRST, SECOND)] == [6, 6]
