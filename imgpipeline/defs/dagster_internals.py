"""The parts of Dagster without a public name that this project depends on; no other module imports any.

After an upgrade of Dagster, run the tests in `imgpipeline_tests/defs`, then add the release to `TESTED_VERSIONS`.
"""

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
    "lend_instance",
]

TESTED_VERSIONS: Final = ("1.13.27",)
"""Releases of Dagster with which all tests have passed."""


def lend_instance(context: dg.SensorEvaluationContext, instance: dg.DagsterInstance) -> None:
    """Gives a tick a storage that is already open; without this, Dagster opens one for each tick."""
    context._instance = instance  # noqa: SLF001 - Dagster has no public way
