"""Detection has metrics, beside those of the sources."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pytest

from imgpipeline.detect.state import DetectionCollector, DetectionState, write_state
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.metrics import serve_metrics

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(load_settings(store_url=(tmp_path / "store").as_uri()))


def metrics_of(store: ObjectStore) -> dict[str, float]:
    with (
        serve_metrics(Board(), 0, also=DetectionCollector(store)) as port,
        urlopen(f"http://127.0.0.1:{port}/metrics") as page,
    ):
        lines = page.read().decode().splitlines()
    named = (line.split() for line in lines if line.startswith("imgpipeline_detection_"))
    return {name.removeprefix("imgpipeline_detection_"): float(value) for name, value in named}


@pytest.mark.fault(64)
def test_the_metrics_are_what_the_sensor_saw_last(store):
    assert metrics_of(store) == {}
    write_state(store, DetectionState(NOON, 7, NOON, ("frames/0 stops.",), 3, "The model is damaged."))
    assert metrics_of(store) == {
        "sensor_timestamp_seconds": NOON.timestamp(),
        "last_commit_timestamp_seconds": NOON.timestamp(),
        "lag_offsets": 7,
        "failing_runs": 3,
        "stopped_partitions": 1,
    }
