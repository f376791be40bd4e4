"""The asset `frame_metadata`: the outcome of every announced frame in the ledger.

The asset is external: a detection run writes segments with frames of many days, so no run materializes a single
partition. This module turns the report of a run into materializations.
"""

from collections.abc import Iterator

import dagster as dg

from imgpipeline.defs.assets.sources import STORED_IMAGES
from imgpipeline.defs.partitions import DAYS
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.specs import OWNERS
from imgpipeline.detect.report import LaneReport
from imgpipeline.detect.state import DetectionState, read_state

FRAME_METADATA = dg.AssetKey("frame_metadata")
STOPPED_CHECK = "no_partition_stops"

frame_metadata = dg.AssetSpec(
    FRAME_METADATA,
    deps=[STORED_IMAGES],
    partitions_def=DAYS,
    group_name="ledger",
    kinds={"kafka", "s3"},
    owners=OWNERS,
    description="What is the outcome of every announced frame? One outcome per Kafka offset: metadata with "
    "detections, a dead letter, a notice, or a gap, in immutable segments below metadata/. Written by detect_frames "
    "within about a second of a frame's arrival; a day gets a materialization every minute while its frames are "
    "processed.",
)


def materializations(report: LaneReport) -> Iterator[dg.AssetMaterialization]:
    """Yields an event of `frame_metadata` for each day of a report, and of `stored_images` for new accounts."""
    for day in report.accounted:
        yield dg.AssetMaterialization(STORED_IMAGES, partition=day.isoformat())
    for day in report.days:
        yield dg.AssetMaterialization(FRAME_METADATA, partition=day.isoformat(), metadata=run_metadata(report))


@dg.asset_check(
    asset=FRAME_METADATA,
    name=STOPPED_CHECK,
    description="No partition stops because Kafka deleted records before they were read, or because the last segment "
    "of its chain is damaged. frames_sensor evaluates the check when the answer changes. Commands: imgpipeline ledger "
    "accept-loss accepts the loss, imgpipeline ledger repair repairs the segment.",
)
def no_partition_stops(pipeline: Pipeline) -> dg.AssetCheckResult:
    """Evaluates the check by what the sensor saw last."""
    with known_failures():
        return judge_stopped(read_state(pipeline.store()))


def judge_stopped(state: DetectionState) -> dg.AssetCheckResult:
    """Returns the result of the check for what the sensor saw."""
    said = " ".join(state.stopped) or "No partition stops."
    return dg.AssetCheckResult(passed=not state.stopped, description=said)


def run_metadata(report: LaneReport) -> dict[str, dg.MetadataValue]:
    """Returns the metadata of the whole run; leaves out unknown numbers."""
    numbers = {
        "frames_per_s": report.frames_per_s,
        "latency_p50_s": report.latency_p50_s,
        "latency_p95_s": report.latency_p95_s,
    }
    return {
        "lag": dg.MetadataValue.int(report.lag),
        **{name: dg.MetadataValue.float(round(value, 3)) for name, value in numbers.items() if value is not None},
    }


def stages_table(report: LaneReport) -> dg.TableMetadataValue:
    """Returns where the run spends its time; the busiest stage with a queue before it limits the run."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "stage": line.stage.value,
                    "items": line.items,
                    "busy s": round(line.busy_s, 3),
                    "ms each": round(line.ms_each, 3),
                    "at work": round(line.at_work, 2),
                    "queue": round(line.queue_length, 2),
                }
            )
            for line in report.stages
        ]
    )
