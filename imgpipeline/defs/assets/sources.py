"""The assets of sources: cameras, videos and folders, and the images that they store; and the check for silent sources.

Both assets are external. A detection run that writes a notice of a source into the ledger reports a materialization of
`stored_images`. Silence causes no event, so a sensor evaluates the check every five minutes and reports only
changes, without a run.
"""

from typing import TYPE_CHECKING

import dagster as dg

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.dagster_internals import as_evaluation
from imgpipeline.defs.partitions import DAYS
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.specs import OWNERS
from imgpipeline.errors import ImgpipelineError

if TYPE_CHECKING:
    from imgpipeline.lake.query.source_status import Silence
    from imgpipeline.objectstore import ObjectStore
    from imgpipeline.settings import Settings


SOURCES = dg.AssetKey("sources")
STORED_IMAGES = dg.AssetKey("stored_images")
sources = dg.AssetSpec(
    SOURCES,
    group_name="sources",
    kinds={"kafka"},
    owners=OWNERS,
    description="Where do the frames come from? Cameras, videos, folders and other producers. The command imgpipeline "
    "sources list shows the state of each source; imgpipeline sources books shows the outcome of all its frames.",
)
stored_images = dg.AssetSpec(
    STORED_IMAGES,
    deps=[SOURCES],
    partitions_def=DAYS,
    group_name="sources",
    kinds={"s3"},
    owners=OWNERS,
    description="Which images did the sources store, and which frames did they lose? A day gets a materialization when "
    "reports of its sources arrive; the command imgpipeline sources books adds them up.",
)
CHECK = "no_source_is_silent"
_STORE_PATIENCE_S = 5.0
"""Timeout of the store for a tick; the next tick tries again."""


@dg.asset_check(
    asset=STORED_IMAGES,
    name=CHECK,
    description="Every source whose session has not ended has sent a record within IMGPIPELINE_SOURCE_SILENT_S. A "
    "source may report that it is offline for that long. Sources without notices are checked if the setting names "
    "them.",
)
def no_source_is_silent(pipeline: Pipeline) -> dg.AssetCheckResult:
    """Evaluates the check."""
    with known_failures():
        return _result(_judge(pipeline.store(), pipeline.settings()))


@dg.sensor(
    name="source_silence",
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Checks every five minutes whether a source has been silent or offline for longer than "
    "IMGPIPELINE_SOURCE_SILENT_S. Evaluates the check no_source_is_silent of stored_images when the answer changes.",
)
def source_silence(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Evaluates the check when its answer changes."""
    pipeline = Pipeline()
    try:
        silence = _judge(pipeline.store(patience_s=_STORE_PATIENCE_S), pipeline.settings())
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    answer = "\n".join(sorted(silence.found)) or "none"
    if answer == context.cursor or (not silence.sources and context.cursor is None):
        return dg.SkipReason(silence.said)
    evaluation = as_evaluation(STORED_IMAGES, CHECK, _result(silence))
    return dg.SensorResult(asset_events=[evaluation], cursor=answer)


def _judge(store: "ObjectStore", settings: "Settings") -> "Silence":
    from imgpipeline.lake.query.source_status import judge_silence, read_source_status  # noqa: PLC0415 - loads DuckDB

    now = utc_now()
    return judge_silence(read_source_status(store, settings, now=now), settings.source_silent_s, now=now)


def _result(silence: "Silence") -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not silence.found,
        severity=dg.AssetCheckSeverity.WARN,
        description=silence.said,
        metadata={
            "sources": dg.MetadataValue.int(silence.sources),
            "silent": dg.MetadataValue.int(len(silence.found)),
            **({"silent_sources": dg.MetadataValue.json(list(silence.found))} if silence.found else {}),
        },
    )
