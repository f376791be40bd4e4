"""Runs as Jobs of Kubernetes: what the real launcher asks of the API with the chart's configuration and rights."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.launcher import LaunchRunContext, WorkerStatus

from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline_tests.defs.site import PROGRAMS, REPOSITORY
from imgpipeline_tests.kubernetes_chart import NAMESPACE, OLDEST, RELEASE, instance_configuration, of_kind, render
from imgpipeline_tests.servers.kubernetes_api import KubernetesApi

pytestmark = pytest.mark.servers
CHART = ("small.yaml",)


@dg.op
def end_at_once() -> None: ...


@dg.job(executor_def=dg.in_process_executor)
def short() -> None:
    end_at_once()


@dataclass
class Cluster:
    """Dagster with the chart's launcher, and the API that it uses."""

    api: KubernetesApi
    instance: dg.DagsterInstance
    configuration: dict[str, Any]
    """`run_launcher` of the chart's dagster.yaml."""
    home: Path
    """DAGSTER_HOME, with the kubeconfig."""

    def launch(self, **tags: str) -> dg.DagsterRun:
        origin = dg.reconstructable(short).get_python_origin()
        run = self.instance.create_run_for_job(short, tags=tags, job_code_origin=origin)
        self.instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        return self.instance.get_run_by_id(run.run_id)

    def start(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """Report what the pod of a run reports first."""
        started = DagsterEvent(event_type_value=DagsterEventType.RUN_START.value, job_name=run.job_name)
        self.instance.handle_new_event(
            EventLogEntry(None, 10, "", run.run_id, 0.0, job_name=run.job_name, dagster_event=started)
        )
        return self.instance.get_run_by_id(run.run_id)

    def job(self, run: dg.DagsterRun) -> dict[str, Any]:
        return self.api.jobs[f"dagster-run-{run.run_id}"]

    def container(self, run: dg.DagsterRun) -> dict[str, Any]:
        return self.job(run)["spec"]["template"]["spec"]["containers"][0]

    def health(self, run: dg.DagsterRun) -> WorkerStatus:
        return self.instance.run_launcher.check_run_worker_health(run).status


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("dagster")
    chosen = instance_configuration(render(*CHART))["run_launcher"]
    with KubernetesApi() as api:
        api.write_kubeconfig(home / "kubeconfig")
        here = {"load_incluster_config": False, "kubeconfig_file": str(home / "kubeconfig")}
        launcher = {**chosen, "config": {**chosen["config"], **here}}
        (home / "dagster.yaml").write_text(yaml.safe_dump({"telemetry": {"enabled": False}, "run_launcher": launcher}))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield Cluster(api, instance, chosen["config"], home)


@pytest.fixture
def cluster(running_cluster) -> Cluster:
    """The cluster of all tests, without Jobs."""
    running_cluster.api.reset()
    return running_cluster


@pytest.mark.parametrize("work", ["detection", "tables", "redetection"])
def test_a_job_has_the_resources_of_its_work(cluster, work):
    own = cluster.configuration["run_k8s_config_by_work"][work]["container_config"]["resources"]
    assert cluster.container(cluster.launch(**{WORK_TAG: work}))["resources"] == own


def test_other_work_has_the_resources_of_all_runs_and_a_tag_takes_precedence(cluster):
    own = {"limits": {"memory": "9Gi"}, "requests": {"cpu": "3", "memory": "5Gi"}}
    tag = {"dagster-k8s/config": json.dumps({"container_config": {"resources": own}})}
    assert cluster.container(cluster.launch(**{WORK_TAG: "sinks"}))["resources"] == cluster.configuration["resources"]
    assert cluster.container(cluster.launch())["resources"] == cluster.configuration["resources"]
    assert cluster.container(cluster.launch(**{WORK_TAG: "tables"}, **tag))["resources"] == own


def test_a_job_is_valid_restricted_and_never_retried_or_kept(cluster):
    job = cluster.job(cluster.launch(**{WORK_TAG: "detection"}))
    kubernetes_validate.validate(job, OLDEST, strict=True)
    pod = job["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    deployed = of_kind(render(*CHART), "Deployment")["viewer"]["spec"]["template"]["spec"]
    assert (job["spec"]["backoffLimit"], job["spec"]["ttlSecondsAfterFinished"]) == (0, 600)
    assert pod["spec"]["restartPolicy"] == "Never"
    assert (cluster.api.namespaces, container["image"]) == ({NAMESPACE}, deployed["containers"][0]["image"])
    assert pod["spec"]["securityContext"] == deployed["securityContext"]
    assert container["securityContext"] == deployed["containers"][0]["securityContext"]
    assert (pod["spec"]["serviceAccountName"], pod["spec"]["automountServiceAccountToken"]) == (RELEASE, False)
    assert pod["spec"]["enableServiceLinks"] is False
    assert {volume["name"] for volume in pod["spec"]["volumes"]} == {"tmp", "home", "dagster"}
    assert {each["mountPath"] for each in container["volumeMounts"]} == {
        each["mountPath"] for each in deployed["containers"][0]["volumeMounts"]
    } - {"/etc/imgpipeline/keys"}
    labels = {f"app.kubernetes.io/{name}": value for name, value in
              (("name", "imgpipeline"), ("instance", RELEASE), ("component", "run"))}  # fmt: skip
    assert labels.items() <= pod["metadata"]["labels"].items(), "the NetworkPolicy of runs finds them by these"


def fail_pod(api: KubernetesApi, job: dict[str, Any]) -> None:
    """Let the only pod of a Job end."""
    job["status"] = {"failed": 1, "startTime": "2026-01-09T12:00:00Z"}
    status = {"name": "dagster", "image": "x", "imageID": "x", "ready": False, "restartCount": 0,
              "state": {"terminated": {"exitCode": 137}}}  # fmt: skip
    name, spec = job["metadata"]["name"] + "-x", job["spec"]["template"]["spec"]
    api.pods.append({"metadata": {"name": name}, "spec": spec, "status": {"containerStatuses": [status]}})


def test_a_run_without_its_pod_or_its_job_is_lost(cluster):
    run = cluster.start(cluster.launch())
    assert cluster.health(run) is WorkerStatus.RUNNING
    fail_pod(cluster.api, cluster.job(run))
    assert cluster.health(run) is WorkerStatus.FAILED
    cluster.api.jobs.clear()
    assert cluster.health(run) is WorkerStatus.UNKNOWN


def test_an_api_server_that_is_away_fails_no_run(cluster, monkeypatch):
    run = cluster.start(cluster.launch())
    cluster.api.is_away = True
    monkeypatch.setattr("dagster_k8s.client.time.sleep", lambda _s: None)  # 30 s, before its last attempt
    assert cluster.health(run) is WorkerStatus.RUNNING


def rights_of(process: str) -> set[tuple[str, str, str]]:
    rules = of_kind(render(*CHART), "Role")[process]["rules"]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def explain_failure(cluster: Cluster, run: dg.DagsterRun) -> None:
    assert "Job" in str(cluster.instance.run_launcher.get_run_worker_debug_info(run)), "without a pod"
    fail_pod(cluster.api, cluster.job(run))
    assert "the log of a pod" in str(cluster.instance.run_launcher.get_run_worker_debug_info(run))


def check_health(cluster: Cluster, run: dg.DagsterRun) -> None:
    assert cluster.health(run) is WorkerStatus.RUNNING


def terminate(cluster: Cluster, run: dg.DagsterRun) -> None:
    if not cluster.api.pods:
        fail_pod(cluster.api, cluster.job(run))
    assert cluster.instance.run_launcher.terminate(run.run_id)
    assert (cluster.api.jobs, cluster.api.pods) == ({}, [])


@pytest.mark.parametrize(
    ("process", "acts"),
    [
        ("daemon", [Cluster.launch, check_health, explain_failure, terminate]),
        ("code", [check_health, terminate]),
        ("webserver", [terminate]),
    ],
    ids=["daemon", "code", "webserver"],
)
def test_a_role_allows_exactly_what_its_process_asks_for(cluster, process: str, acts: list[Callable[..., Any]]):
    run = cluster.launch()
    if Cluster.launch not in acts:
        cluster.api.used_rights.clear()
    for act in acts:
        if act is not Cluster.launch:
            act(cluster, run)
    assert cluster.api.used_rights == rights_of(process)


@pytest.mark.slow
def test_the_pod_of_a_run_needs_no_kubernetes_api(cluster):
    """It has no token, so a run that asked its launcher for something would fail."""
    run = cluster.launch()
    kubeconfig = cluster.home / "kubeconfig"
    kubeconfig.rename(kubeconfig.with_suffix(".away"))
    cluster.api.used_rights.clear()
    environment = {**os.environ, "DAGSTER_HOME": str(cluster.home), "PYTHONPATH": str(REPOSITORY)}
    program, *arguments = cluster.container(run)["args"]
    subprocess.run([PROGRAMS / program, *arguments], check=True, env=environment, cwd=cluster.home, capture_output=True)
    kubeconfig.with_suffix(".away").rename(kubeconfig)
    assert cluster.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS
    assert cluster.api.used_rights == set()
