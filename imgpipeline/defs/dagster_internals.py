"""The private names of Dagster that this project uses; no other module imports any.

After an upgrade of Dagster, run the tests in `imgpipeline_tests/defs`, then add the release to `TESTED_VERSIONS`.
"""

import threading
from typing import Final

import dagster as dg
from dagster._check import CheckError
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher
from dagster._serdes import ConfigurableClassData

TESTED_VERSIONS: Final = ("1.13.27",)
"""Releases of Dagster with which all tests have passed."""
_lock = threading.Lock()
_kept: list[tuple[InstanceRef, dg.DagsterInstance]] = []


__all__ = [
    "DATA_VERSION_TAG",
    "TESTED_VERSIONS",
    "AssetCheckEvaluation",
    "AssetCheckEvaluationTargetMaterializationData",
    "CheckError",
    "CheckRunHealthResult",
    "ConfigurableClassData",
    "DefaultRunLauncher",
    "InstanceRef",
    "SyncInMemoryRunLauncher",
    "WorkerStatus",
    "as_evaluation",
    "kept_instance",
]


def kept_instance(context: dg.SensorEvaluationContext) -> dg.DagsterInstance:
    """Returns Dagster's storage for a tick, opened once per code server.

    When it is opened, Dagster reads all of its database migrations: more than half of the CPU time of an idle tick.

    Args:
        context: The tick. If it was created with an instance, as in tests, that one is returned.
    """
    ref = context.instance_ref
    if ref is None:
        return context.instance
    with _lock:
        if not _kept or _kept[0][0] != ref:
            _kept[:] = [(ref, dg.DagsterInstance.from_ref(ref))]
        return _kept[0][1]


def as_evaluation(asset: dg.AssetKey, check: str, result: dg.AssetCheckResult) -> AssetCheckEvaluation:
    """Returns the result of a check as an event that sensors and ops may report without evaluating the check."""
    return AssetCheckEvaluation(
        asset_key=asset,
        check_name=check,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )
