"""Days in a folder store, built through the real definitions with Dagster's storage in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Outcome, make_frame_id
from imgpipeline.definitions import defs
from imgpipeline.defs.assets.daily import STEP
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.samples import detection, seen
from imgpipeline_tests.ledger.samples import write_chain

OBJECTS = ("day_tables", *SUMMARIES, "daily_report")


def chain_of(day: date, number: int = 0) -> ChainId:
    """Return a separate chain for a day."""
    return ChainId("frames", f"of-{day}-{number}", 0)


def add_frames(
    store: ObjectStore, day: date, *confidences: float, number: int = 0, camera: int = 0, **changes: Any
) -> None:
    """Write a segment with one frame and one car for each confidence, at noon of a day, to a separate chain."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    outcomes: list[Outcome] = []
    for offset, confidence in enumerate(confidences):
        frame_id = make_frame_id(f"camera-{camera}", noon, offset)
        own = {"timestamp": noon, "frame_id": frame_id, "detections": (detection("car", confidence),), **changes}
        outcomes.append(replace(seen(offset, day=day), **own))
    write_chain(store, outcomes, chain=chain_of(day, number))


def build(
    instance: dg.DagsterInstance,
    *days: date,
    select: Sequence[str] | None = None,
    definitions: dg.Definitions = defs,
    **config: Any,
) -> dg.ExecuteInProcessResult:
    """Materialize the daily assets of a day, or of the range from the first to the last day, as one run."""
    first, last = days[0].isoformat(), days[-1].isoformat()
    tags = {"dagster/partition": first}
    if len(days) > 1:
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    job = definitions.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in _assets(select or OBJECTS)]
    run_config = {"ops": {STEP: {"config": config}}} if config else None
    return job.execute_in_process(
        instance=instance, tags=tags, run_config=run_config, raise_on_error=False, asset_selection=keys
    )


def _assets(objects: Sequence[str]) -> list[str]:
    tables = ["frames", "detections", "dead_letters", "notices"]
    return [name for each in objects for name in (tables if each == "day_tables" else [each])]


def newest(instance: dg.DagsterInstance, asset: str, day: date) -> dg.AssetMaterialization | None:
    """Return the newest materialization of an asset's day."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[day.isoformat()])
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].asset_materialization if records else None


def data_version(instance: dg.DagsterInstance, asset: str, day: date) -> str:
    """Return the data version of an asset's day."""
    return newest(instance, asset, day).tags["dagster/data_version"]
