"""The pods of the chart, in sandboxes: their probes succeed, and frames are processed by Jobs."""

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from imgpipeline.contracts.times import utc_now
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline_tests.defs.frames import START, announce_frames
from imgpipeline_tests.defs.site import ledger_end, make_site
from imgpipeline_tests.kubernetes_chart import NAMESPACE, RELEASE, Documents, of_kind, render
from imgpipeline_tests.servers.certificates import make_certificates
from imgpipeline_tests.servers.kubernetes_api import KubernetesApi
from imgpipeline_tests.servers.pods import Machine
from imgpipeline_tests.servers.postgres_server import USER
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.servers]


@pytest.fixture
def brokers(kafka) -> str:
    return kafka.bootstrap_servers


@pytest.fixture
def documents(brokers, topic, bucket, postgres) -> Documents:
    """The chart with the addresses of the tests' servers."""
    database = f"dagster_{uuid.uuid4().hex[:8]}"
    postgres.create_database(database)
    settings = {
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": brokers, "IMGPIPELINE_KAFKA_TOPIC": topic,
        "IMGPIPELINE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT", "IMGPIPELINE_STORE_URL": bucket.url,
        "IMGPIPELINE_S3_ENDPOINT": bucket.endpoint, "IMGPIPELINE_MODEL": "demo", "IMGPIPELINE_LINGER_S": "1",
        "IMGPIPELINE_FIRST_DAY": str(START.date()),
    }  # fmt: skip
    dagster = {
        "postgres": {"host": postgres.host, "port": postgres.port, "database": database},
        "logs": {"bucket": bucket.name, "endpoint": bucket.endpoint},
    }
    return render("small.yaml", sets=json.dumps({"settings": settings, "dagster": dagster}))


@pytest.fixture
def api(tmp_path) -> Iterator[KubernetesApi]:
    with KubernetesApi(make_certificates(tmp_path / "certificates").server_file) as running:
        yield running


@pytest.fixture
def machine(tmp_path, documents, bucket, api) -> Iterator[Machine]:
    keys = KeyFile(tmp_path / "api_keys.json")
    keys.add((), utc_now(), scopes=(Scope.READ,))
    keys.add(("*",), utc_now(), scopes=(Scope.INGEST,))
    database = {"DAGSTER_POSTGRES_USER": USER, "DAGSTER_POSTGRES_PASSWORD": "the server trusts this machine"}
    secrets = {
        "imgpipeline-dagster": database,
        "imgpipeline-site": {name: value for name, value in bucket.environment().items() if name.startswith("AWS_")},
        "imgpipeline-cameras": {"GATE_CREDENTIALS": "user:password"},
        "imgpipeline-api-keys": {"api_keys.json": keys.path.read_text()},
    }  # fmt: skip
    account = {"token": "x", "namespace": NAMESPACE, "ca.crt": (tmp_path / "certificates" / "ca.pem").read_text()}
    variables = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api.port)}
    config_maps = {each["metadata"]["name"]: each["data"] for each in of_kind(documents, "ConfigMap").values()}
    made = Machine(tmp_path / "machine", config_maps, secrets, account, variables)
    made.name_services(f"{RELEASE}-code")
    workspace = tmp_path / "machine" / f"{RELEASE}-dagster" / "workspace.yaml"
    server = yaml.safe_load(workspace.read_text())
    server["load_from"][0]["grpc_server"]["port"] = made.port(4000)
    workspace.write_text(yaml.safe_dump(server))
    yield made
    made.stop()


@pytest.fixture
def pod(documents) -> Callable[[str], dict[str, Any]]:
    deployments = of_kind(documents, "Deployment")
    return lambda name: deployments[name]["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", ["viewer", "ingest", "sources", "exporter"])
def test_a_process_runs_as_its_pod_may_and_answers_its_probes(machine, pod, name):
    machine.start(name, pod(name))
    assert machine.probe(pod(name), "livenessProbe")
    wait_until(lambda: machine.probe(pod(name), "readinessProbe"), limit_s=30, what="readiness")
    if name == "sources":
        wait_until(lambda: machine.status(9464, "/health") == 503, limit_s=30, what="the report of an absent camera")
        assert machine.probe(pod(name), "livenessProbe"), "an absent camera restarts nothing"
    assert "is not a setting" not in machine.processes[name].log_tail()


@pytest.mark.parametrize("brokers", ["127.0.0.1:9"], ids=["no broker"])
def test_ingest_is_alive_but_not_ready_while_kafka_does_not_answer(machine, pod, brokers):
    machine.start("ingest", pod("ingest"))
    assert machine.probe(pod("ingest"), "livenessProbe")
    assert not machine.probe(pod("ingest"), "readinessProbe")


def first_job(api: KubernetesApi, name: str) -> dict[str, Any]:
    """Return the first Job that is made for a job of Dagster."""

    def found() -> list[dict[str, Any]]:
        return [each for each in api.jobs.values() if each["metadata"]["labels"]["dagster/job"] == name]

    wait_until(lambda: bool(found()), limit_s=120, what=f"a Job of {name}", interval_s=0.2)
    return found()[0]


def test_frames_are_processed_by_the_pod_of_a_job(machine, pod, api, documents, bucket, tmp_path):
    for name in ("code", "daemon", "webserver"):
        machine.start(name, pod(name))
    settings = of_kind(documents, "ConfigMap")["settings"]["data"]
    given = {name: value for name, value in settings.items() if name.startswith("IMGPIPELINE_")}
    site = make_site(tmp_path / "site", {**given, **bucket.environment()})
    announce_frames(site.settings, 3)
    run = first_job(api, "detect_frames")["spec"]["template"]["spec"]
    words = machine.sandbox(run, run["containers"][0]["args"])
    done = subprocess.run(words, env={}, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert ledger_end(site) == 3
    for name in ("code", "daemon", "webserver"):
        assert machine.probe(pod(name), "livenessProbe")
        assert "is not a setting" not in machine.processes[name].log_tail()
