"""The hourly pass makes the missing bundles and shows what it saves."""

from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.definitions import defs
from imgpipeline.defs.bundling import hourly_bundles, segment_bundles
from imgpipeline.defs.resources import Pipeline
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_keys, sparse
from imgpipeline_tests.ledger.samples import NOON, write_chain


@pytest.fixture(autouse=True)
def store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", (tmp_path / "store").as_uri())


def materialize() -> dict[str, object]:
    result = dg.materialize([segment_bundles], resources={"pipeline": Pipeline()})
    [event] = result.asset_materializations_for_node("segment_bundles")
    return {name: value.value for name, value in event.metadata.items()}


def test_a_pass_shows_segments_bundles_bytes_and_requests_saved() -> None:
    store = open_store(load_settings())
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


def test_a_range_that_cannot_be_bundled_is_counted_and_fails_no_run() -> None:
    store = open_store(load_settings())
    write_chain(store, *(sparse(start, 250, DAYS[0]) for start in range(0, 20_250, 250)))
    [key] = [info.key for info in store.list_objects("metadata") if info.key.endswith("00000500.jsonl.zst")]
    store.put(key, b"")
    shown = materialize()
    assert (shown["bundles"], shown["not_bundled"]) == (1, 1)


def tick() -> dg.RunRequest | str:
    resources = {"pipeline": Pipeline()}
    with dg.build_schedule_context(scheduled_execution_time=NOON, resources=resources) as context:
        data = hourly_bundles.evaluate_tick(context)
    assert bool(data.run_requests) != bool(data.skip_message)
    return data.run_requests[0] if data.run_requests else str(data.skip_message)


@pytest.mark.medium
def test_the_schedule_asks_for_a_pass_once_there_is_something_to_bundle() -> None:
    store = open_store(load_settings())
    assert "Nothing to bundle" in str(tick())
    write_chain(store, *(sparse(start, 250, DAYS[0]) for start in range(0, 10_000, 250)))
    assert "Nothing to bundle" in str(tick())
    write_chain(store, sparse(10_000, 1, DAYS[0]))
    assert isinstance(tick(), dg.RunRequest)
    materialize()
    assert "Nothing to bundle" in str(tick())


def test_the_schedule_is_on_from_the_start() -> None:
    schedule = defs.resolve_schedule_def("hourly_bundles")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert (schedule.job_name, schedule.cron_schedule) == ("bundle_segments", "23 * * * *")
