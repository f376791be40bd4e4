"""The job `detect_frames`: one run follows one lane.

This module configures the run, turns its progress into Dagster events, and stops it when Dagster asks for it; `detect`
follows the lane. It is an op job because a run has frames of many days, and it runs in one process so that a killed run
leaves no child process.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.defs.assets.frame_metadata import materializations, run_metadata, stages_table
from imgpipeline.defs.lost_runs import LAUNCHED_HERE, note_process
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.run_tags import ENDING_TAG, FAILURE_TAG, LANE_TAG, WORK_TAG, noted
from imgpipeline.detect.report import LaneReport
from imgpipeline.faultpoints import reach
from imgpipeline.settings import Settings
from imgpipeline.settings.logs import OF_PROCESS
from imgpipeline.stream.lanes import Ending, Lane

JOB_NAME = "detect_frames"
OP_NAME = "follow_lane"
_STOP_LIMIT_S = 60.0
_MOST_FAILURE = 400
"""Maximum length of an error in a tag, because databases index tags and reject long ones."""


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
        OF_PROCESS["run"] = context.run_id
        report = _follow(context, settings, lane, config)
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
    tags={WORK_TAG: "detection", **LAUNCHED_HERE},
    description="Detects objects in the frames announced on the Kafka topic. Started by frames_sensor; to start "
    "it by hand for all partitions: dagster job launch -j detect_frames.",
)
def detect_frames() -> None:
    """Follows one lane."""
    follow_lane_op()


def _follow(context: dg.OpExecutionContext, settings: Settings, lane: Lane, config: LaneConfig) -> LaneReport:
    """Follows a lane to its end, and stores its reports as events.

    Raises:
        ImgpipelineError: As raised by `follow_lane`.
        DagsterExecutionInterruptedError: Dagster stopped the run; finished work is committed and reported. If only the
            machine stops it (a container that is shut down), the run succeeds.
    """
    stop = threading.Event()
    with on_stop_signal(stop.set, limit_s=_STOP_LIMIT_S):
        from imgpipeline.detect.run import follow_lane  # noqa: PLC0415 - loads OpenCV and kafka-python

        last = follow_lane(
            settings,
            lane,
            run_id=context.run_id,
            report=partial(_store, context),
            stop=stop,
            careful=config.careful,
            limit=config.limit,
        )
    run = context.instance.get_run_by_id(context.run_id)
    if stop.is_set() and run is not None and run.status is not dg.DagsterRunStatus.STARTED:
        raise dg.DagsterExecutionInterruptedError("The run was stopped; finished work is committed.")
    return last


def _store(context: dg.OpExecutionContext, report: LaneReport) -> None:
    reach("report stored", context.run_id)
    for materialization in materializations(report):
        context.log_event(materialization)
    reach("report stored done", context.run_id)


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
def on_stop_signal(stop: Callable[[], None], *, limit_s: float) -> Iterator[None]:
    """Calls `stop` for the signals that end a run, in place of Dagster's handlers.

    Those would raise an exception at any point of the main thread, even while it stores an event.

    Args:
        stop: Asks the body to end soon. It is called between any two instructions of the main thread.
        limit_s: Seconds after which a body that has not ended is killed, with its process, by SIGALRM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        stop()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if asked:
            signal.setitimer(signal.ITIMER_REAL, 0)
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
