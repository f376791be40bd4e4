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
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.instance.ref import InstanceRef

TESTED_VERSIONS: Final = ("1.13.27",)
"""Releases of Dagster with which all tests have passed."""
_lock = threading.Lock()
_kept: list[tuple[InstanceRef, dg.DagsterInstance]] = []


def lend_instance(context: dg.SensorEvaluationContext, instance: dg.DagsterInstance) -> None:
    """Gives a tick a storage that is already open; otherwise Dagster opens one for each tick."""
    context._instance = instance  # noqa: SLF001 - Dagster has no public way


__all__ = [
    "CODE_VERSION_TAG",
    "DATA_VERSION_IS_USER_PROVIDED_TAG",
    "DATA_VERSION_TAG",
    "TESTED_VERSIONS",
    "AssetCheckEvaluation",
    "AssetCheckEvaluationTargetMaterializationData",
    "CheckError",
    "InstanceRef",
    "SensorExecutionData",
    "get_input_data_version_tag",
    "get_input_event_pointer_tag",
    "kept_instance",
    "lend_instance",
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
