"""The asset `alerts`, and the check that every target has them.

The asset is external: a run of `watch_events` writes alerts one by one, and reports the days that they belong to.
"""

from collections.abc import Sequence
from datetime import date

import dagster as dg
from dagster import AssetCheckEvaluation

from imgpipeline.contracts.times import format_time, utc_now
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.partitions import DAYS
from imgpipeline.defs.previews import show_picture, show_table
from imgpipeline.defs.resources import Pipeline
from imgpipeline.events.alerts.chain import Alert
from imgpipeline.events.alerts.delivery import Undelivered, find_undelivered
from imgpipeline.lake.schema import EVENTS
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

ALERTS = dg.AssetKey("alerts")
CHECK = "alerts_are_delivered"
_MOST_ROWS = 10

alerts = dg.AssetSpec(
    ALERTS,
    deps=[FRAME_METADATA, dg.AssetKey(EVENTS.name)],
    partitions_def=DAYS,
    group_name="events",
    kinds={"s3"},
    owners=["team:imgpipeline"],
    description="Who was notified about what? One numbered object below alerts/ for each event that happened while "
    "frames arrived. Written by watch_events; a day gets a materialization when alerts of it were raised.",
)


def alerts_materialization(
    settings: Settings, store: ObjectStore, day: date, latest: Sequence[Alert], in_all: int
) -> dg.AssetMaterialization:
    """Returns what Dagster shows of a day with new alerts.

    Args:
        settings: Limits of images.
        store: The object store.
        day: UTC day.
        latest: Its new alerts, in order; not empty.
        in_all: How many alerts the day has.
    """
    last = latest[-1]
    rows = [
        (alert.number, format_time(alert.event.timestamp), alert.event.rule, alert.event.source, alert.event.reason)
        for alert in latest[: -_MOST_ROWS - 1 : -1]
    ]
    picture = show_picture(settings, store, last.images[-1][1], ()) if last.images else None
    return dg.AssetMaterialization(
        ALERTS,
        partition=day.isoformat(),
        metadata={
            "alerts": dg.MetadataValue.int(in_all),
            "last_number": dg.MetadataValue.int(last.number),
            "latest": show_table(("number", "time", "rule", "source", "reason"), rows),
            **({"sample": picture} if picture else {}),
        },
        tags={"dagster/data_version": str(last.number)},
    )


@dg.asset_check(
    asset=ALERTS,
    name=CHECK,
    description="Every target of IMGPIPELINE_ALERT_TARGETS has every alert. Evaluated by watch_events when the answer "
    "changes.",
)
def alerts_are_delivered(pipeline: Pipeline) -> dg.AssetCheckResult:
    """Asks now."""
    with known_failures():
        found = find_undelivered(pipeline.store(), pipeline.settings(), now=utc_now())
    return dg.AssetCheckResult(
        passed=not found.late,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.said,
        metadata=_metadata(found),
    )


def delivery_evaluation(found: Undelivered) -> AssetCheckEvaluation:
    """Returns the evaluation of the check for an answer."""
    return AssetCheckEvaluation(
        asset_key=ALERTS,
        check_name=CHECK,
        passed=not found.late,
        metadata=_metadata(found),
        severity=dg.AssetCheckSeverity.WARN,
        description=found.said,
    )


def _metadata(found: Undelivered) -> dict[str, dg.MetadataValue]:
    return {
        "undelivered": dg.MetadataValue.int(len(found.numbers)),
        **({"late_alerts": dg.MetadataValue.json(list(found.late))} if found.late else {}),
    }
