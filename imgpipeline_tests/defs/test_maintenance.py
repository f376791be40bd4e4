"""The hourly passes write missing bundles and delete old images, and show what they did."""

import dagster as dg
import pytest

from imgpipeline.contracts.keys import RAW_RECORDS
from imgpipeline.definitions import defs
from imgpipeline.defs.maintenance import deleted_images, hourly_bundles, hourly_retention, segment_bundles
from imgpipeline.defs.resources import Pipeline
from imgpipeline.ledger.dead_letters import put_raw_records
from imgpipeline_tests.defs.ticking import tick
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_keys, sparse
from imgpipeline_tests.ledger.samples import CHAIN, NOON, dead_letter, frame, write_chain

pytestmark = pytest.mark.usefixtures("store")


def materialize(asset: dg.AssetsDefinition = segment_bundles) -> dict[str, object]:
    result = dg.materialize([asset], resources={"pipeline": Pipeline()})
    [event] = result.asset_materializations_for_node(asset.key.to_user_string())
    return {name: value.value for name, value in event.metadata.items()}


def test_a_pass_shows_segments_bundles_bytes_and_saved_requests(store):
    write_chain(store, *(sparse(start, 250, DAYS[0]) for start in range(0, 20_250, 250)))
    shown = materialize()
    [first, second] = bundle_keys(store)
    assert shown == {
        "segments": 80,
        "bundles": 2,
        "bytes": len(store.get(first)) + len(store.get(second)),
        "requests_saved": 76,
        "not_bundled": 0,
        "complete": True,
    }
    assert materialize()["bundles"] == 0


def test_a_pass_removes_raw_records_without_a_dead_letter(store):
    put_raw_records(store, CHAIN, [dead_letter(0), dead_letter(1)])
    write_chain(store, [frame(0), dead_letter(1)])
    materialize()
    assert [info.key[-74:-70] for info in store.list_objects(RAW_RECORDS)] == ["0001"]


def test_a_range_that_cannot_be_bundled_is_counted_and_does_not_fail_the_run(store):
    write_chain(store, *(sparse(start, 250, DAYS[0]) for start in range(0, 20_250, 250)))
    [key] = [info.key for info in store.list_objects("metadata") if info.key.endswith("00000500.jsonl.zst")]
    store.put(key, b"")
    shown = materialize()
    assert (shown["bundles"], shown["not_bundled"]) == (1, 1)


def test_bundles_are_requested_once_an_hour():
    schedule = defs.resolve_schedule_def("hourly_bundles")
    assert (schedule.job_name, schedule.cron_schedule) == ("bundle_segments", "23 * * * *")
    assert isinstance(tick(hourly_bundles, NOON), list), "a pass also removes raw records"


@pytest.mark.medium
def test_no_deletion_is_requested_without_a_limit(monkeypatch):
    assert "Images are kept" in str(tick(hourly_retention, NOON))
    monkeypatch.setenv("IMGPIPELINE_KEEP_IMAGES_BYTES", "1000")
    assert isinstance(tick(hourly_retention, NOON), list)


@pytest.mark.medium
def test_a_pass_shows_the_number_of_deleted_images(store, monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_KEEP_IMAGES_BYTES", "1")
    store.put("images/cam-1/2026-01-09/orphan.jpg", b"12345")
    store.put("images/cam-1/0.jpg", b"no image of ours: it has no day")
    write_chain(store, [frame(0)])
    assert materialize(deleted_images) == {"images": 0, "bytes": 0, "left": 1, "complete": True}
    assert [info.key for info in store.list_objects("images")] == [
        "images/cam-1/0.jpg",
        "images/cam-1/2026-01-09/orphan.jpg",
    ]
