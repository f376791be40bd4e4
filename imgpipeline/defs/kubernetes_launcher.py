"""Launches runs as Jobs of Kubernetes, with resources by kind of work; used by the chart in `deploy/kubernetes/`."""

import json
from typing import Any

import dagster as dg
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import USER_DEFINED_K8S_CONFIG_KEY as CONFIG_TAG

from imgpipeline.defs.dagster_internals import CheckRunHealthResult, WorkerStatus
from imgpipeline.defs.run_tags import WORK_TAG


class KubernetesLauncher(K8sRunLauncher):
    """Takes `run_k8s_config_by_work`, a `run_k8s_config` for each value of the tag `imgpipeline/work`."""

    def __init__(self, *, run_k8s_config_by_work: dict[str, Any] | None = None, **given: Any) -> None:
        super().__init__(**given)
        self._by_work = run_k8s_config_by_work or {}

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Adds `run_k8s_config_by_work`."""
        config: dict[str, Any] = super().config_type()  # type: ignore[no-untyped-call]  # dagster_k8s has no types
        by_work = dg.Map(str, config["run_k8s_config"].config_type)  # type: ignore[no-untyped-call]  # as Dagster has it
        return {**config, "run_k8s_config_by_work": dg.Field(by_work, is_required=False)}

    def get_container_context_for_run(self, dagster_run: dg.DagsterRun) -> Any:
        """Adds the configuration of the run's work, unless the run's tags have one."""
        config = self._by_work.get(dagster_run.tags.get(WORK_TAG, ""), {})
        tags = {CONFIG_TAG: json.dumps(config), **dagster_run.tags}
        return super().get_container_context_for_run(dagster_run.with_tags(tags))

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Reports a run as running while the API server does not answer: its pod may be well."""
        result: CheckRunHealthResult = super().check_run_worker_health(run)
        if result.status is WorkerStatus.UNKNOWN and not str(result.msg).endswith("could not be found"):
            return CheckRunHealthResult(WorkerStatus.RUNNING, result.msg)
        return result
