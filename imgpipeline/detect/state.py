"""Why detection stands still: partitions that stop, and what `frames_sensor` saw last.

`DetectionCollector` shows the same as Prometheus metrics.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import TypeAdapter, ValidationError

from imgpipeline.contracts.keys import ChainId, detection_state_key
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.records import LogRange
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ImgpipelineError, LedgerError
from imgpipeline.ledger.chain import current_chain
from imgpipeline.ledger.reading import ChainEnd, find_ends, list_chains
from imgpipeline.ledger.segment import DamagedSegmentError
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.client import ask_time

_RECENT = timedelta(minutes=2)
_MOST_SKEW = timedelta(minutes=10)
"""A larger difference between two clocks is that of a copy: it is newer than what it says."""


class ExpiredRecordsError(LedgerError):
    """Kafka has deleted records of one partition before they were read."""

    def __init__(self, log: LogRange, end: int) -> None:
        """Takes the partition's log, and the end of its chain. `gap` holds the lost offsets."""
        self.log, self.gap = log, Gap(end, log.log_start, GapReason.EXPIRED)
        super().__init__(
            f"Kafka has deleted the offsets [{end}, {log.log_start}) of {log.at} before they were read. This partition "
            "stops; the others continue.",
            next_step="`imgpipeline ledger accept-loss` records these offsets as a gap, and the partition continues",
        )


def find_expired(log: LogRange, end: ChainEnd) -> ExpiredRecordsError | None:
    """Returns why a partition stops, or None. What expired before the first segment is a gap without being asked.

    Args:
        log: The log, read before the end, so that the progress of a live run cannot look like a loss.
        end: The end of its chain.
    """
    return ExpiredRecordsError(log, end.offset) if end.hint is not None and log.log_start > end.offset else None


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """How far the ledger is behind the log of one topic partition."""

    chain: ChainId
    log: LogRange | None
    """None if the broker no longer has this incarnation of the topic."""
    end: ChainEnd | None
    """None before the first segment."""

    @property
    def offset(self) -> int:
        """First offset without an outcome."""
        return self.end.offset if self.end else 0

    @property
    def stopped(self) -> ExpiredRecordsError | DamagedSegmentError | None:
        """Why the partition stops; None if it does not."""
        if self.end and self.end.damage:
            return self.end.damage
        return find_expired(self.log, self.end) if self.log and self.end else None


def read_progress(store: ObjectStore, topics: Sequence[str], logs: Sequence[LogRange]) -> list[PartitionProgress]:
    """Returns how far the ledger is behind each log, followed by the chains of the topics that have no log any more."""
    ends = find_ends(store, [chain for topic in topics for chain in list_chains(store, topic)])
    closed = {chain for chain, end in ends.items() if end.is_closed}
    by_chain = {current_chain(log.chain, closed): log for log in logs}
    gone = sorted(ends.keys() - by_chain)
    return [PartitionProgress(chain, by_chain.get(chain), ends.get(chain)) for chain in (*by_chain, *gone)]


@dataclass(frozen=True, slots=True)
class DetectionState:
    """What the sensor saw in one of its last ticks."""

    at: datetime | None = None
    """Time of the tick, UTC; None if the sensor has not run on this store."""
    lag: int = 0
    """Offsets without an outcome, with transaction markers; partitions that stop are left out."""
    moved_at: datetime | None = None
    """When the end of a chain was last seen to move, UTC; None without partitions."""
    stopped: tuple[str, ...] = ()
    """Why partitions stop: records that expired unread, or a damaged last segment."""
    failing_runs: int = 0
    """Number of runs that failed at the current end of the ledger."""
    failure: str = ""

    def is_recent(self, now: datetime) -> bool:
        """Returns whether the sensor runs."""
        return self.at is not None and now - self.at <= _RECENT

    def problems(self, now: datetime) -> list[str]:
        """Returns why detection stands still; if the sensor does not run, nothing else is known."""
        if not self.is_recent(now):
            since = f"since {format_time(self.at)}" if self.at else "yet"
            return [f"frames_sensor has not read the topics {since}: it is off, or Dagster or Kafka is down."]
        failing = f"{counted(self.failing_runs, 'detection run')} failed at the same offset: {self.failure}"
        return [*self.stopped, *([failing] if self.failing_runs else [])]


_STATE = TypeAdapter(DetectionState)


def read_state(store: ObjectStore) -> DetectionState:
    """Returns what the sensor saw last."""
    try:
        return _STATE.validate_json(store.get(detection_state_key()))
    except (ObjectMissingError, ValidationError):
        return DetectionState()


def read_state_by_store_clock(store: ObjectStore, now: datetime) -> DetectionState:
    """Returns what the sensor saw last. If it seems to be off, the store's clock decides: others may be wrong."""
    state = read_state(store)
    if state.at is None or state.is_recent(now) or (written := store.head(detection_state_key())) is None:
        return state
    if abs(written.last_modified - state.at) > _MOST_SKEW:
        return state
    return replace(state, at=now - (ask_time(store) - written.last_modified))


def write_state(store: ObjectStore, state: DetectionState) -> None:
    """Stores what the sensor saw."""
    store.put(detection_state_key(), _STATE.dump_json(state))


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
            "stopped_partitions": (
                "Partitions that stop until a command is run.",
                len(state.stopped),
            ),
        }
        if state.moved_at:
            values["last_commit_timestamp_seconds"] = ("When a commit was last seen.", state.moved_at.timestamp())
        for name, (meaning, value) in values.items():
            yield GaugeMetricFamily(f"imgpipeline_detection_{name}", meaning, value=value)
