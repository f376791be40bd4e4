"""The job `detect_frames`: one run follows one lane.

Owns its configuration, how its progress becomes Dagster events, and how it ends when it is told to. It is an op job
because one run touches many days; it runs in one process, so that a killed run leaves no child behind. What following
a lane means belongs to `detect`.
"""

import queue
import threading
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from imgpipeline.defs.assets.frame_metadata import day_materializations, run_metadata
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.processes import describe_process
from imgpipeline.defs.resources import Pipeline
from imgpipeline.detect import LaneReport, follow_lane
from imgpipeline.errors import TransientError
from imgpipeline.settings import Settings
from imgpipeline.stream.lanes import Lane

JOB_NAME = "detect_frames"
OP_NAME = "follow_lane"
WORK_TAG = "imgpipeline/work"
"""What a run is for; dagster.yaml gives each kind of work slots of its own."""
PROCESS_TAG = "imgpipeline/process"
"""Which process executes a run."""
_STOP_LIMIT_S = 60.0


class LaneConfig(dg.Config):
    """Which lane to follow. Without any configuration: all partitions, as one lane."""

    lane: int = 0
    """Number of the lane, from 0."""
    lanes: int = 1
    """How many lanes there are."""
    linger_s: float | None = None
    """Ends after so many quiet seconds; default: `IMGPIPELINE_LINGER_S`."""
    max_run_s: float | None = None
    """Ends after so many seconds; default: `IMGPIPELINE_MAX_RUN_S`."""

    def limit(self, settings: Settings) -> Settings:
        """Returns the settings with this run's own limits."""
        own = {"linger_s": self.linger_s, "max_run_s": self.max_run_s}
        return settings.model_copy(update={name: value for name, value in own.items() if value is not None})


@dg.op(name=OP_NAME, description="Follows a lane of the topic from the ledger's end on, until it is quiet.")
def follow_lane_op(context: dg.OpExecutionContext, config: LaneConfig, pipeline: Pipeline) -> None:
    """Follows a lane and reports the days it touches while it runs."""
    with known_failures():
        lane = Lane(config.lane, config.lanes)
        settings = config.limit(pipeline.settings())
        context.instance.add_run_tags(context.run_id, {PROCESS_TAG: describe_process(), "imgpipeline/lane": str(lane)})
        report = LaneThread(settings, lane, context.run_id).follow(context)
        context.log.info(
            f"Lane {lane} ended by {report.ended_by}: {report.frames} frames, {report.dead_letters} dead letters, "
            f"{report.segments} segments, lag {report.lag}."
        )
        context.add_output_metadata({"frames": report.frames, "segments": report.segments, **run_metadata(report)})


@dg.job(
    name=JOB_NAME,
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "detection"},
    description="Detects objects in the frames announced on the Kafka topic. Started by `frames_sensor`; by hand: "
    "`dagster job launch -j detect_frames`, without configuration for all partitions.",
)
def detect_frames() -> None:
    """Follows one lane."""
    follow_lane_op()


_NOTHING = LaneReport({}, 0, 0, 0, 0, 0.0, None, None)


@dataclass(slots=True)
class _Handover:
    """A report on its way to Dagster's event log, or the end of the work."""

    report: LaneReport
    is_end: bool = False
    failure: BaseException | None = None
    taken: threading.Event = field(default_factory=threading.Event)


class LaneThread:
    """Follows a lane in a thread of its own, and hands its reports to the thread that may talk to Dagster.

    Dagster stops a run by raising in its main thread, wherever that is. The work must not be there: it finishes what
    it has and commits it, while the main thread waits. A report counts as made only once its events are stored, since
    the group's offset, by which a later run knows what was reported, is moved after it.
    """

    def __init__(self, settings: Settings, lane: Lane, run_id: str) -> None:
        """Prepares; `follow` starts."""
        self._settings = settings
        self._lane = lane
        self._run_id = run_id
        self._inbox: queue.Queue[_Handover] = queue.Queue()
        self._current: _Handover | None = None
        self._stop = threading.Event()
        self._closed = threading.Event()

    def follow(self, context: dg.OpExecutionContext) -> LaneReport:
        """Follows the lane to its end.

        Returns:
            The last report.

        Raises:
            ImgpipelineError: What `follow_lane` raises.
            DagsterExecutionInterruptedError: The run was told to stop; what was finished is committed and reported.
        """
        threading.Thread(target=self._work, name="follow-lane", daemon=True).start()
        try:
            return self._take_reports(context, limit_s=None)
        except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
            context.log.info("Told to stop: committing what is finished.")
            self._stop.set()
            self._take_reports(context, limit_s=_STOP_LIMIT_S)
            raise
        finally:
            self._stop.set()
            self._closed.set()

    def _take_reports(self, context: dg.OpExecutionContext, limit_s: float | None) -> LaneReport:
        while True:
            try:
                # An interrupt can come between taking a report and storing it: that one is taken once more.
                handover = self._current = self._current or self._inbox.get(timeout=limit_s)
            except queue.Empty:
                raise TransientError(
                    f"The lane did not end within {limit_s:.0f} s of being told to; its last frames are not committed.",
                    next_step="nothing; the next run goes on at the ledger's end",
                ) from None
            if handover.failure is not None:
                raise handover.failure
            if not handover.is_end:
                for materialization in day_materializations(handover.report):
                    context.log_event(materialization)
            handover.taken.set()
            self._current = None
            if handover.is_end:
                return handover.report

    def _work(self) -> None:
        try:
            last = follow_lane(self._settings, self._lane, run_id=self._run_id, report=self._report, stop=self._stop)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._inbox.put(_Handover(_NOTHING, failure=error))
        else:
            self._inbox.put(_Handover(last, is_end=True))

    def _report(self, report: LaneReport) -> None:
        handover = _Handover(report)
        self._inbox.put(handover)
        while not handover.taken.wait(0.5):
            if self._closed.is_set():
                raise TransientError("The run ended before its report was stored.", next_step="nothing")


def lane_of(run_config: Any) -> Lane:
    """Returns the lane that a run of this job follows, by its configuration."""
    try:
        config = run_config["ops"][OP_NAME]["config"]
        return Lane(int(config.get("lane", 0)), int(config.get("lanes", 1)))
    except (KeyError, TypeError, AttributeError):
        return Lane(0, 1)


def run_config_of(lane: Lane) -> dict[str, Any]:
    """Returns the configuration by which a run follows a lane; `lane_of` reads it."""
    return {"ops": {OP_NAME: {"config": {"lane": lane.number, "lanes": lane.lanes}}}}
