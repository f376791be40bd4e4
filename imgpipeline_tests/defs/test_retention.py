"""The hourly pass deletes old images if a limit is set, and shows how many."""

from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.retention import deleted_images, hourly_retention
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.ledger.samples import NOON, frame, write_chain

pytestmark = pytest.mark.medium


@pytest.fixture(autouse=True)
def store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tick() -> dg.RunRequest | str:
    with dg.build_schedule_context(scheduled_execution_time=NOON, resources={"pipeline": Pipeline()}) as context:
        data = hourly_retention.evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else str(data.skip_message)


def test_nothing_is_requested_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Images are kept" in str(tick())
    monkeypatch.setenv("IMGPIPELINE_KEEP_IMAGES_BYTES", "1000")
    assert isinstance(tick(), dg.RunRequest)


def test_a_pass_shows_what_it_has_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGPIPELINE_KEEP_IMAGES_BYTES", "1")
    store = open_store(load_settings())
    store.put("images/cam-1/2026-01-09/orphan.jpg", b"12345")
    store.put("images/cam-1/0.jpg", b"no image of ours: it has no day")
    write_chain(store, [frame(0)])
    result = dg.materialize([deleted_images], resources={"pipeline": Pipeline()})
    [event] = result.asset_materializations_for_node("deleted_images")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert shown == {"images": 0, "bytes": 0, "left": 1, "complete": True}
    assert [info.key for info in store.list_objects("images")] == [
        "images/cam-1/0.jpg",
        "images/cam-1/2026-01-09/orphan.jpg",
    ]
