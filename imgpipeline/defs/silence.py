"""The check that no source is silent for too long, and the sensor that asks for it every five minutes.

Silence brings no event, so nothing that follows events would notice it. The sensor reads the stored tables and tells
Dagster only what has changed, without a run.
"""

from typing import TYPE_CHECKING

import dagster as dg
from dagster import AssetCheckEvaluation

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.assets.sources import STORED_IMAGES
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.resources import Pipeline
from imgpipeline.errors import ImgpipelineError

if TYPE_CHECKING:
    from imgpipeline.lake.query.source_silence import Silence

CHECK = "no_source_is_silent"
_STORE_PATIENCE_S = 5.0
"""The next tick asks again."""


@dg.asset_check(
    asset=STORED_IMAGES,
    name=CHECK,
    description="From every source whose session has not ended, a record arrived within IMGPIPELINE_SOURCE_SILENT_S. "
    "A source may report that it is offline for that long. Sources that send no notices are judged if the setting "
    "names them.",
)
def no_source_is_silent(pipeline: Pipeline) -> dg.AssetCheckResult:
    """Asks now."""
    from imgpipeline.lake.query.source_silence import judge_silence  # noqa: PLC0415 - loads DuckDB

    with known_failures():
        silence = judge_silence(pipeline.store(), pipeline.settings(), now=utc_now())
    return dg.AssetCheckResult(
        passed=not silence.found,
        severity=dg.AssetCheckSeverity.WARN,
        description=silence.said,
        metadata=_metadata(silence),
    )


@dg.sensor(
    name="source_silence",
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every five minutes: checks whether a source is silent, or offline, for longer than "
    "IMGPIPELINE_SOURCE_SILENT_S, and evaluates the check no_source_is_silent of stored_images if the answer changed.",
)
def source_silence(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Evaluates the check when its answer changes."""
    from imgpipeline.lake.query.source_silence import judge_silence  # noqa: PLC0415 - loads DuckDB

    pipeline = Pipeline()
    try:
        silence = judge_silence(pipeline.store(patience_s=_STORE_PATIENCE_S), pipeline.settings(), now=utc_now())
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    answer = "\n".join(sorted(silence.found)) or "none"
    if answer == context.cursor or (not silence.sources and context.cursor is None):
        return dg.SkipReason(silence.said)
    evaluation = AssetCheckEvaluation(
        asset_key=STORED_IMAGES,
        check_name=CHECK,
        passed=not silence.found,
        metadata=_metadata(silence),
        severity=dg.AssetCheckSeverity.WARN,
        description=silence.said,
    )
    return dg.SensorResult(asset_events=[evaluation], cursor=answer)


def _metadata(silence: "Silence") -> dict[str, dg.MetadataValue]:
    return {
        "sources": dg.MetadataValue.int(silence.sources),
        "silent": dg.MetadataValue.int(len(silence.found)),
        **({"silent_sources": dg.MetadataValue.json(list(silence.found))} if silence.found else {}),
    }
