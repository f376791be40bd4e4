"""The Kafka sensor: starts detection runs for lanes with lag.

It reads the state of Kafka, the store and Dagster, and applies the decision of `stream.lanes.decide`. A tick reads all
offsets from Kafka at once; in the store it looks up only the partitions that seem to lag, and a few others in turn.
Requests have no run key: Dagster would not repeat a failed run with the same key, and the ledger takes each frame only
once anyway.
"""

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import dagster as dg

from imgpipeline.contracts.records import LogRange
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA, STOPPED_CHECK, judge_stopped
from imgpipeline.defs.dagster_internals import AssetCheckEvaluation, as_evaluation, kept_instance
from imgpipeline.defs.detection_job import JOB_NAME, detect_frames, run_config_of
from imgpipeline.defs.lost_runs import mark_lost_builds
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_records import failed_runs, format_ends, live_runs, mark_failed
from imgpipeline.defs.run_tags import CAREFUL_TAG, ENDS_TAG, LANE_TAG, MAX_RUNTIME_TAG, REASON_TAG
from imgpipeline.detect.sensor_memory import SensorMemory
from imgpipeline.detect.state import DetectionState, ExpiredRecordsError, find_expired, read_state, write_state
from imgpipeline.errors import ImgpipelineError, LedgerError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.chain import find_current_end
from imgpipeline.ledger.reading import ChainEnd
from imgpipeline.ledger.segment import DamagedSegmentError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.stream.lanes import Decision, LaneStart, PartitionView, decide

_STORE_READERS = 16
_STORE_PATIENCE_S = 5.0
"""The next tick asks again."""
_SHOWN_REASONS = 5
_STARTING_S = 300.0
_NOTED_EVERY = timedelta(seconds=30)
_SERVING_SINCE = utc_now()
"""Time at which this code server loaded the definitions."""


class FramesWatcher:
    """Reads the ends of the Kafka logs and of the chains. A code server has one, which remembers earlier ticks."""

    def __init__(self) -> None:
        """Remembers nothing, so the first tick searches for the end of each chain."""
        self._memory = SensorMemory()
        self._lock = threading.Lock()

    def look(
        self, settings: Settings, store: ObjectStore, now: datetime
    ) -> tuple[list[PartitionView], list[ImgpipelineError]]:
        """Reads the ends.

        Returns:
            The view of every known partition that does not stop, and an error for each partition that stops because its
            records expired unread or its last segment is damaged, and for each unreadable topic.

        Raises:
            ImgpipelineError: Kafka or the store does not answer, or a setting is wrong.
        """
        from imgpipeline.stream.log import read_logs  # noqa: PLC0415 - loads kafka-python, which only the sensor needs

        with self._lock:
            logs = read_logs(settings)
            chosen = self._memory.choose(logs.ranges)
            found = self._find_ends(store, chosen)
            stopped: dict[LogRange, LedgerError] = {}
            for log, end in found.items():
                if isinstance(end, DamagedSegmentError):
                    stopped[log] = end
                elif not settings.allow_gaps and (lost := find_expired(log, end)):
                    stopped[log] = lost
            ends = {log.chain: end for log, end in found.items() if isinstance(end, ChainEnd)}
            followed = [log for log in logs.ranges if log not in stopped]
            views, self._memory = self._memory.look(followed, ends, now=now, topics=settings.kafka_topics)
            return views, [*logs.unreadable.values(), *stopped.values()]

    def _find_ends(
        self, store: ObjectStore, logs: Sequence[LogRange]
    ) -> dict[LogRange, ChainEnd | DamagedSegmentError]:
        def find(log: LogRange) -> ChainEnd | DamagedSegmentError:
            seen = self._memory.seen.get(log.chain)
            try:
                return find_current_end(store, log.chain, hint=seen.end.hint if seen else log.log_end)
            except DamagedSegmentError as error:
                return error

        with ThreadPoolExecutor(_STORE_READERS) as pool:
            return dict(zip(logs, pool.map(find, logs), strict=True))


watcher = FramesWatcher()


@dg.sensor(
    name="frames_sensor",
    target=detect_frames,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Watches the Kafka topics with frames. Starts a detect_frames run for each lane that has unread "
    "records and no run that makes progress. Waits longer between runs while they keep failing. Turn it off to pause "
    "detection.",
)
def frames_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Starts detection runs for lanes with lag."""
    # Not a resource argument: to create one, Dagster would open its storage in each tick.
    now, pipeline, instance = utc_now(), Pipeline(), kept_instance(context)
    lost = mark_lost_builds(instance, but=JOB_NAME, now=now, serving_since=_SERVING_SINCE)
    for run_id in lost:  # even if Kafka does not answer
        context.log.warning(f"Marked run {run_id} as failed: its process is gone.")
    try:
        settings = pipeline.settings()
        store = pipeline.store(patience_s=_STORE_PATIENCE_S)
        views, problems = watcher.look(settings, store, now)
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    reach("tick observed")
    live, failures = live_runs(instance, now, _SERVING_SINCE), failed_runs(instance, now)
    decision = decide(
        views,
        live,
        failures,
        lanes=settings.lanes,
        takeover_s=settings.takeover_s,
        retry_pause_s=settings.retry_pause_s,
        now=now,
    )
    reach("tick decided")
    for run_id, reason in decision.overtaken.items():
        context.log.warning(f"Marked run {run_id} as failed: {reason}.")
        mark_failed(instance, run_id, reason)
    reach("tick requested")
    return dg.SensorResult(
        run_requests=[request_run(start, settings) for start in decision.starts],
        skip_reason=None
        if decision.starts
        else dg.SkipReason(" ".join([*map(str, problems), explain(decision, views)])),
        asset_events=_note_state(store, now, views, problems, decision),
    )


def _note_state(
    store: ObjectStore,
    now: datetime,
    views: Sequence[PartitionView],
    problems: Sequence[ImgpipelineError],
    decision: Decision,
) -> list[AssetCheckEvaluation]:
    """Stores what this tick saw if it is new, or else once in a while; returns the check's evaluation if it changed."""
    failure = decision.failing[-1].reason or "the process ended without an error" if decision.failing else ""
    state = DetectionState(
        at=now,
        lag=sum(view.lag for view in views),
        moved_at=max((view.moved_at for view in views), default=None),
        stopped=tuple(str(why) for why in problems if isinstance(why, ExpiredRecordsError | DamagedSegmentError)),
        failing_runs=len(decision.failing),
        failure=failure,
    )
    before = state
    with contextlib.suppress(ImgpipelineError):  # the next tick tries again
        before = read_state(store)
        is_new = (before.stopped, before.failing_runs) != (state.stopped, state.failing_runs)
        if is_new or before.at is None or now - before.at > _NOTED_EVERY:
            write_state(store, state)
    if state.stopped == before.stopped:
        return []
    return [as_evaluation(FRAME_METADATA, STOPPED_CHECK, judge_stopped(state))]


def request_run(start: LaneStart, settings: Settings) -> dg.RunRequest:
    """Returns the run request for a start that was decided on."""
    return dg.RunRequest(
        run_config=run_config_of(start.lane, careful=start.is_careful),
        tags={
            LANE_TAG: str(start.lane),
            REASON_TAG: start.reason,
            **({CAREFUL_TAG: "true"} if start.is_careful else {}),
            ENDS_TAG: format_ends(start.ends),
            MAX_RUNTIME_TAG: str(int(settings.max_run_s + settings.takeover_s + _STARTING_S)),
        },
    )


def explain(decision: Decision, views: Sequence[PartitionView]) -> str:
    """Returns why a tick starts no run."""
    if not decision.waiting:
        return f"Nothing new: the ledger has reached the end of the log in {counted(len(views), 'partition')}."
    more = len(decision.waiting) - _SHOWN_REASONS
    shown = " ".join(decision.waiting[:_SHOWN_REASONS])
    return f"{shown} And {counted(more, 'more lane')}." if more > 0 else shown
