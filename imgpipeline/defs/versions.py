"""Data versions: what Dagster records about a built day's content and its inputs.

The same content gets the same version in a run of one day and in a run of a range. Dagster gives all days of a run one
version, and takes the newest upstream event of any of them as the input of each. So that a day's version depends on
that day alone, a range run stores an additional event for each day after Dagster's own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg

from imgpipeline.defs.dagster_internals import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)

_RECORDS_READ = 50
_UNKNOWN = "INITIAL"
"""Dagster's own word for the version of something that was never materialized."""


@dataclass(frozen=True, slots=True)
class SeenEvents:
    """The newest upstream events of one day, when its build began."""

    by_asset: Mapping[dg.AssetKey, int]
    """Storage id of the newest materialization of each upstream asset; 0 if it has none."""

    def to_json(self) -> dict[str, int]:
        """Returns the note that a build leaves."""
        return {key.to_user_string(): event for key, event in self.by_asset.items()}


@dataclass(frozen=True, slots=True)
class Built:
    """One day of one asset, as it is stored now."""

    metadata: Mapping[str, Any]
    """What the UI shows of it."""
    data_version: str
    """Changes with the content, and only with it."""


def day_event(
    context: dg.AssetExecutionContext, key: dg.AssetKey, day: date, built: Built, seen: SeenEvents,
    versions: Mapping[int, str],
) -> dg.AssetMaterialization:  # fmt: skip
    """Returns one day's event, with everything that Dagster decides by.

    Args:
        context: The run.
        key: The asset.
        day: The day.
        built: What is stored now.
        seen: The events of its inputs.
        versions: Data versions of the seen events, by storage id.
    """
    tags = {
        CODE_VERSION_TAG: context.assets_def.code_versions_by_key[key] or context.run_id,
        DATA_VERSION_TAG: built.data_version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
    }
    inputs = {dep.asset_key for dep in context.assets_def.get_asset_spec(key).deps}
    for upstream, event in seen.by_asset.items():
        if upstream not in inputs:
            continue  # a build may follow more than Dagster knows as its inputs
        tags[get_input_event_pointer_tag(upstream)] = str(event) if event else "NULL"
        tags[get_input_data_version_tag(upstream)] = versions.get(event, _UNKNOWN)
    return dg.AssetMaterialization(key, partition=day.isoformat(), metadata=dict(built.metadata), tags=tags)


def versions_of(instance: dg.DagsterInstance, seen: Iterable[SeenEvents]) -> dict[int, str]:
    """Returns the data versions of events, by storage id; events without one are left out."""
    by_asset: dict[dg.AssetKey, set[int]] = {}
    for events in seen:
        for key, event in events.by_asset.items():
            by_asset.setdefault(key, set()).add(event)
    found: dict[int, str] = {}
    for key, ids in by_asset.items():
        ordered = sorted(ids - {0})
        for first in range(0, len(ordered), _RECORDS_READ):
            chosen = dg.AssetRecordsFilter(key, storage_ids=ordered[first : first + _RECORDS_READ])
            for record in instance.fetch_materializations(chosen, limit=_RECORDS_READ).records:
                tags = (record.asset_materialization.tags or {}) if record.asset_materialization else {}
                if DATA_VERSION_TAG in tags:
                    found[record.storage_id] = tags[DATA_VERSION_TAG]
    return found
