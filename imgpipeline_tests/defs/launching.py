"""Creates runs as Dagster's daemon does, from what a code server tells of its jobs."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.workspace.context import BaseWorkspaceRequestContext


def create_run(
    instance: dg.DagsterInstance, workspace: BaseWorkspaceRequestContext, job: str, run_config: Mapping[str, Any]
) -> dg.DagsterRun:
    """Create a run of a job of the only code location; `instance.launch_run` starts it."""
    (location,) = workspace.code_locations
    remote = location.get_repository("__repository__").get_full_job(job)
    return instance.create_run(
        job_name=job, run_id=None, run_config=run_config, resolved_op_selection=None, step_keys_to_execute=None,
        status=None, tags=dict(remote.tags), root_run_id=None, parent_run_id=None, job_snapshot=remote.job_snapshot,
        execution_plan_snapshot=None, parent_job_snapshot=None, asset_selection=None, asset_check_selection=None,
        op_selection=None, asset_graph=None, remote_job_origin=remote.get_remote_origin(),
        job_code_origin=remote.get_python_origin(),
    )  # fmt: skip
