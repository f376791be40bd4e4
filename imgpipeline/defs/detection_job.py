"""The job `detect_frames`: one run follows one lane.

This module configures the run, turns its progress into Dagster events, and stops it when Dagster asks for it; `detect`
follows the lane. It is an op job because a run has frames of many days, and it runs in one process so that a killed run
leaves no child process.
"""

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.defs.assets.frame_metadata import day_materializations, run_metadata, stages_table
from imgpipeline.defs.assets.sources import image_materializations
from imgpipeline.defs.lost_runs import note_process
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.run_tags import ENDING_TAG, FAILURE_TAG, LANE_TAG, WORK_TAG, noted
from imgpipeline.detect import LaneReport
from imgpipeline.errors import TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.settings import Settings
from imgpipeline.stream.lanes import Ending, Lane

JOB_NAME = "detect_frames"
OP_NAME = "follow_lane"
_STOP_LIMIT_S = 60.0
_MOST_FAILURE = 400
"""Maximum length of an error in a tag, because databases index tags and reject long ones."""
_POLL_S = 0.5


class LaneConfig(dg.Config):
    """The lane to follow. Default: all partitions as one lane."""

    lane: int = 0
    """Number of the lane, from 0."""
    lanes: int = 1
    linger_s: float | None = None
    """Stop after this many idle seconds; default: `IMGPIPELINE_LINGER_S`."""
    max_run_s: float | None = None
    """Stop after this many seconds; default: `IMGPIPELINE_MAX_RUN_S`."""
    careful: bool = False
    """Process each record in a separate process to find the one that killed earlier runs, then stop; slow."""

    limit: int | None = None
    """Stop after this many records; default: when the lane is idle."""

    def limited(self, settings: Settings) -> Settings:
        """Returns the settings with the limits of this run."""
        own = {"linger_s": self.linger_s, "max_run_s": self.max_run_s}
        return settings.model_copy(update={name: value for name, value in own.items() if value is not None})


@dg.op(name=OP_NAME, description="Follows a lane from the end of the ledger until it is idle.")
def follow_lane_op(context: dg.OpExecutionContext, config: LaneConfig, pipeline: Pipeline) -> None:
    """Follows a lane, and reports the days of its frames while it runs."""
    with known_failures(), _noting_failure(context):
        lane = Lane(config.lane, config.lanes)
        settings = config.limited(pipeline.settings())
        context.instance.add_run_tags(context.run_id, {LANE_TAG: str(lane)})
        note_process(context.instance, context.run_id)
        report = LaneThread(settings, lane, context.run_id, careful=config.careful, limit=config.limit).follow(context)
        context.log.info(
            f"Lane {lane} ended by {report.ended_by}: {counted(report.frames, 'frame')}, "
            f"{counted(report.dead_letters, 'dead letter')}, {counted(report.notices, 'notice')}, "
            f"{counted(report.segments, 'segment')}, lag {report.lag}."
        )
        context.add_output_metadata(
            {
                "frames": report.frames,
                "segments": report.segments,
                "stages": stages_table(report),
                **run_metadata(report),
            }
        )


@dg.job(
    name=JOB_NAME,
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "detection"},
    description="Detects objects in the frames announced on the Kafka topic. Started by frames_sensor; to start "
    "it by hand for all partitions: dagster job launch -j detect_frames.",
)
def detect_frames() -> None:
    """Follows one lane."""
    follow_lane_op()


_NOTHING = LaneReport({}, 0, 0, 0, 0, 0.0, None, None)


@dataclass(slots=True)
class _Handover:
    """A report for Dagster's event log, or the end of the work."""

    report: LaneReport
    is_end: bool = False
    failure: BaseException | None = None
    taken: threading.Event = field(default_factory=threading.Event)


class LaneThread:
    """Follows a lane in a thread, and stores its reports in the main thread, which may call Dagster.

    Dagster stops a run with a signal and would raise an exception at any point of the main thread, even while it stores
    an event. Here the signal only asks the thread to stop; it commits and reports finished work first.
    """

    def __init__(
        self, settings: Settings, lane: Lane, run_id: str, *, careful: bool = False, limit: int | None = None
    ) -> None:
        """Stores the arguments; `follow` starts the thread."""
        self._settings = settings
        self._lane = lane
        self._run_id = run_id
        self._careful = careful
        self._limit = limit
        self._inbox: queue.Queue[_Handover] = queue.Queue()
        self._stop = threading.Event()
        self._closed = threading.Event()

    def follow(self, context: dg.OpExecutionContext) -> LaneReport:
        """Follows the lane to its end.

        Returns:
            The last report.

        Raises:
            ImgpipelineError: As raised by `follow_lane`.
            DagsterExecutionInterruptedError: Dagster stopped the run; finished work is committed and reported. If only
                the machine stops it (a container that is shut down), the run succeeds.
        """
        thread = threading.Thread(target=self._work, name="follow-lane", daemon=True)
        try:
            with _on_stop_signal(self._stop.set):
                thread.start()
                last = self._take_reports(context)
        finally:
            self._closed.set()
        run = context.instance.get_run_by_id(self._run_id)
        if self._stop.is_set() and run is not None and run.status is not dg.DagsterRunStatus.STARTED:
            raise dg.DagsterExecutionInterruptedError("The run was stopped; finished work is committed.")
        return last

    def _take_reports(self, context: dg.OpExecutionContext) -> LaneReport:
        waited_s = 0.0
        while waited_s < _STOP_LIMIT_S:
            try:
                handover = self._inbox.get(timeout=_POLL_S)
            except queue.Empty:
                waited_s = waited_s + _POLL_S if self._stop.is_set() else 0.0
                continue
            if handover.failure is not None:
                raise handover.failure
            if handover.is_end:
                return handover.report
            reach("report stored", self._run_id)
            for materialization in (*image_materializations(handover.report), *day_materializations(handover.report)):
                context.log_event(materialization)
            reach("report stored done", self._run_id)
            handover.taken.set()
        raise TransientError(
            f"The lane did not stop within {_STOP_LIMIT_S:.0f} s; its last frames are not committed.",
            next_step="nothing; the next run continues at the end of the ledger",
        )

    def _work(self) -> None:
        try:
            from imgpipeline.detect import follow_lane  # noqa: PLC0415 - loads OpenCV and kafka-python

            last = follow_lane(
                self._settings,
                self._lane,
                run_id=self._run_id,
                report=self._report,
                stop=self._stop,
                careful=self._careful,
                limit=self._limit,
            )
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._inbox.put(_Handover(_NOTHING, failure=error))
        else:
            self._inbox.put(_Handover(last, is_end=True))

    def _report(self, report: LaneReport) -> None:
        handover = _Handover(report)
        self._inbox.put(handover)
        while not handover.taken.wait(_POLL_S):
            if self._closed.is_set():
                raise TransientError("The run ended before its report was stored.", next_step="nothing")


@contextlib.contextmanager
def _noting_failure(context: dg.OpExecutionContext) -> Iterator[None]:
    """Records that a run ends with an error, which distinguishes it from a run whose process died."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):  # the original error is more important
            ending = noted(context.run_id, ENDING_TAG, Ending.FAILED.value)
            failure = noted(context.run_id, FAILURE_TAG, str(error)[:_MOST_FAILURE])
            context.instance.add_run_tags(context.run_id, ending | failure)
        raise


@contextlib.contextmanager
def _on_stop_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` for the signals that end a run, instead of Dagster's handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def lane_of(run_config: Any) -> Lane:
    """Returns the lane in the configuration of a run."""
    try:
        config = run_config["ops"][OP_NAME]["config"]
        return Lane(int(config.get("lane", 0)), int(config.get("lanes", 1)))
    except (KeyError, TypeError, AttributeError):
        return Lane(0, 1)


def run_config_of(lane: Lane, *, careful: bool = False) -> dict[str, Any]:
    """Returns the run configuration for a lane; `lane_of` reads it."""
    config = {"lane": lane.number, "lanes": lane.lanes, **({"careful": True} if careful else {})}
    return {"ops": {OP_NAME: {"config": config}}}
