"""Detection has metrics, beside those of the sources."""

from datetime import UTC, datetime
from urllib.request import urlopen

import pytest

from imgpipeline.detect.state import DetectionCollector, DetectionState, write_state
from imgpipeline.objectstore import ObjectStore
from imgpipeline.sources.board import Board
from imgpipeline.sources.metrics import serve_metrics

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


def metrics_of(store: ObjectStore) -> dict[str, float]:
    with (
        serve_metrics(Board(), 0, also=DetectionCollector(store)) as port,
        urlopen(f"http://127.0.0.1:{port}/metrics") as page,
    ):
        lines = page.read().decode().splitlines()
    named = (line.split() for line in lines if line.startswith("imgpipeline_detection_"))
    return {name.removeprefix("imgpipeline_detection_"): float(value) for name, value in named}


@pytest.mark.fault(64)
def test_the_metrics_are_what_the_sensor_saw_last(memory):
    assert metrics_of(memory) == {}
    write_state(memory, DetectionState(NOON, 7, NOON, ("frames/0 stops.",), 3, "The model is damaged."))
    assert metrics_of(memory) == {
        "sensor_timestamp_seconds": NOON.timestamp(),
        "last_commit_timestamp_seconds": NOON.timestamp(),
        "lag_offsets": 7,
        "failing_runs": 3,
        "stopped_partitions": 1,
    }
