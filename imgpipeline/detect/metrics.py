"""Prometheus metrics of detection: what `frames_sensor` saw last."""

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from imgpipeline.detect.state import read_state
from imgpipeline.errors import ImgpipelineError
from imgpipeline.objectstore import ObjectStore


class DetectionCollector(Collector):
    """Collects the metrics; there are none while the store does not answer, or before the sensor has run."""

    def __init__(self, store: ObjectStore) -> None:
        """Takes the store with the sensor's state."""
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """Returns the current metrics."""
        try:
            state = read_state(self._store)
        except ImgpipelineError:
            return
        if state.at is None:
            return
        values = {
            "sensor_timestamp_seconds": ("When frames_sensor last ran.", state.at.timestamp()),
            "lag_offsets": ("Offsets without an outcome, with transaction markers.", state.lag),
            "failing_runs": ("Runs that failed at the current end of the ledger.", state.failing_runs),
            "stopped_partitions": ("Partitions that stop because records expired unread.", len(state.expired)),
        }
        if state.moved_at:
            values["last_commit_timestamp_seconds"] = ("When a commit was last seen.", state.moved_at.timestamp())
        for name, (meaning, value) in values.items():
            yield GaugeMetricFamily(f"imgpipeline_detection_{name}", meaning, value=value)
