"""The Helm chart: valid for Kubernetes, with variables, commands and ports that the product has, and least rights."""

import importlib
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import dagster
import kubernetes_validate
import pytest
import yaml
from dagster._cli import cli as dagster_cli
from dagster._config import process_config
from dagster._daemon.cli import cli as daemon_cli
from dagster_webserver.cli import cli as webserver_cli
from jsonschema import Draft7Validator
from typer.main import get_command

from imgpipeline.cli.app import app
from imgpipeline.defs.celery_launcher import QUEUES
from imgpipeline.defs.kubernetes_launcher import KubernetesLauncher
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.loading import unknown_settings
from imgpipeline.settings.variables import variables
from imgpipeline.sources.configuration import load_sources
from imgpipeline_tests.cli.command import all_commands
from imgpipeline_tests.kubernetes_chart import (
    CHART,
    OLDEST,
    PAGE,
    REPOSITORY,
    allowed_connections,
    containers,
    documented_sets,
    instance_configuration,
    of_kind,
    render,
)

pytestmark = pytest.mark.servers
SETS = documented_sets()
ALL = SETS[0]
"""A set with all processes."""
GROUPS = {"dagster": dagster_cli, "dagster-daemon": daemon_cli, "dagster-webserver": webserver_cli}
OUTSIDE = {"kubernetesApi": 6443, "kafka": 9092, "store": 443, "postgres": 5432, "cameras": 554, "targets": 443}
VISITORS = ("proxy", "senders", "monitoring")
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - what pods listen on
every_set = pytest.mark.parametrize("files", SETS, ids="+".join)


def settings_of(documents) -> dict[str, str]:
    data: dict[str, str] = of_kind(documents, "ConfigMap")["settings"]["data"]
    return data


def parsed(command: list[str]) -> dict[str, Any]:
    """Parse a command as its program does, and return the values of its options."""
    program, *arguments = command
    if program == "imgpipeline":
        get_command(app).make_context(program, list(arguments))
        known = dict(all_commands())
        for words, found in sorted(known.items(), key=lambda each: -len(each[0])):
            start = arguments.index(words[0]) if words[0] in arguments else -1
            if start >= 0 and tuple(arguments[start : start + len(words)]) == words:
                return dict(found.make_context(words[-1], arguments[start + len(words) :]).params)
    found = GROUPS[program]
    while hasattr(found, "commands"):
        found = found.commands[arguments.pop(0)]
    return dict(found.make_context(program, arguments).params)


def test_the_page_names_every_file_of_values():
    for_dagster = re.findall(r"values/(dagster-chart\.yaml)", PAGE.read_text())
    named = {file for files in SETS for file in files} | set(for_dagster)
    assert named == {path.name for path in (CHART / "values").iterdir()}


@every_set
@pytest.mark.parametrize("version", [OLDEST, "1.37"])
def test_every_document_is_valid_for_kubernetes(files, version):
    for document in render(*files):
        kubernetes_validate.validate(document, version, strict=True)


def test_a_document_with_a_wrong_type_or_an_unknown_field_is_not_valid():
    service = of_kind(render(*ALL), "Service")["code"]
    for wrong in ({"replicas": 1}, {"ports": [{"port": "4000"}]}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**service, "spec": {**service["spec"], **wrong}}, OLDEST, strict=True)


@every_set
def test_every_variable_is_a_setting_with_a_valid_value_or_one_of_dagster(files, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = settings_of(render(*files))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert unknown_settings() == []
    assert load_settings().store_url == given["IMGPIPELINE_STORE_URL"]
    others = {name for name in given if not name.startswith("IMGPIPELINE_")} - {"HOME"}
    needed = set(re.findall(r"env: (\w+)", (REPOSITORY / "deploy" / "dagster.yaml").read_text()))
    secret = {"DAGSTER_POSTGRES_USER", "DAGSTER_POSTGRES_PASSWORD"}
    assert needed - secret <= others
    for name in others - needed:
        assert is_read_by_dagster(name)


def is_read_by_dagster(name: str) -> bool:
    search = ["grep", "-rqF", f'"{name}"', "--include=*.py", str(Path(dagster.__file__).parent)]
    return subprocess.run(search, check=False).returncode == 0


@every_set
def test_every_command_and_port_is_one_of_the_product(files, tmp_path):
    documents = render(*files)
    (tmp_path / "workspace.yaml").write_text(of_kind(documents, "ConfigMap")["dagster"]["data"]["workspace.yaml"])
    services, found = of_kind(documents, "Service"), containers(documents)
    assert {"code", "daemon", "webserver"} <= found.keys()
    for name, container in found.items():
        options = parsed([word.replace("/etc/imgpipeline/dagster", str(tmp_path)) for word in container["command"]])
        opened = {options.get("port"), options.get("metrics_port")} - {None}
        offered = {port["containerPort"] for port in container.get("ports", ())}
        assert (name, offered) == (name, opened)
        assert name == "daemon" or services[name]["spec"]["ports"][0]["port"] in opened
        assert {options.get("host"), options.get("metrics_address")} <= {None, ANY_ADDRESS}


@every_set
def test_what_commands_and_dagster_read_is_mounted(files):
    documents = render(*files)
    maps, home = of_kind(documents, "ConfigMap"), settings_of(documents)["DAGSTER_HOME"]
    for name, container in containers(documents).items():
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert "dagster.yaml" in maps[mounts[home]]["data"]
        for path in (Path(word) for word in container["command"] if word.startswith("/etc/")):
            assert path.name in maps[mounts[str(path.parent)]]["data"]
        keys = Path(settings_of(documents)["IMGPIPELINE_API_KEYS_FILE"]).parent
        assert (str(keys) in mounts) == (name in {"viewer", "ingest"})
    (server,) = yaml.safe_load(maps["dagster"]["data"]["workspace.yaml"])["load_from"]
    assert server["grpc_server"]["host"] == of_kind(documents, "Service")["code"]["metadata"]["name"]
    assert server["grpc_server"]["port"] == parsed(containers(documents)["code"]["command"])["port"]


def test_the_sources_of_the_example_are_valid(tmp_path):
    file = tmp_path / "sources.toml"
    file.write_text(of_kind(render(*ALL), "ConfigMap")["sources"]["data"]["sources.toml"])
    assert tomllib.loads(file.read_text())["source"]
    assert [each.name for each in load_sources(file)] == ["gate"]


@every_set
def test_the_instance_is_that_of_other_servers_but_for_the_launcher_and_the_values(files):
    made = instance_configuration(render(*files))
    servers = yaml.safe_load((REPOSITORY / "deploy" / "dagster.yaml").read_text())
    launcher = made.pop("run_launcher")
    assert getattr(importlib.import_module(launcher["module"]), launcher["class"]) is KubernetesLauncher
    assert made.pop("local_artifact_storage")["config"]["base_dir"].startswith(settings_of(render(*files))["HOME"])
    for part in ("run_coordinator", "run_monitoring"):
        own, other = made.pop(part), servers.pop(part)
        own, other = own.get("config", own), other.get("config", other)
        assert own.keys() == other.keys()
        assert own.get("start_timeout_seconds") == other.get("start_timeout_seconds")
    assert made == servers


@every_set
def test_limits_fit_together(files):
    documents = render(*files)
    instance, settings = instance_configuration(documents), settings_of(documents)
    queue = instance["run_coordinator"]["config"]
    limits = {each["value"]: each["limit"] for each in queue["tag_concurrency_limits"]}
    assert sum(limits.values()) < queue["max_concurrent_runs"]
    assert limits["detection"] >= int(settings.get("IMGPIPELINE_LANES", 1))
    longest_s = instance["run_monitoring"]["max_runtime_seconds"]
    assert longest_s > float(settings.get("IMGPIPELINE_MAX_RUN_S", Settings(_env_file=None).max_run_s))
    by_work = instance["run_launcher"]["config"]["run_k8s_config_by_work"]
    assert by_work.keys() == set(QUEUES)
    memory = {name: each["resources"]["limits"]["memory"] for name, each in containers(documents).items()}
    memory["tables"] = by_work["tables"]["container_config"]["resources"]["limits"]["memory"]
    for name in {"tables", "viewer", "exporter"} & memory.keys():
        assert in_bytes(memory[name]) > in_bytes(settings["IMGPIPELINE_DUCKDB_MEMORY"])


def in_bytes(size: str) -> int:
    units = {"GB": 10**9, "Gi": 2**30, "Mi": 2**20}
    return int(size[:-2]) * units[size[-2:]]


@every_set
def test_pods_are_restricted(files):
    for name, deployment in of_kind(render(*files), "Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        security, container = pod["securityContext"], pod["containers"][0]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert pod["enableServiceLinks"] is False, "IMGPIPELINE_CODE_PORT and the like would be taken for settings"
        assert pod["automountServiceAccountToken"] == (name in {"code", "daemon", "webserver"})
        assert {"requests", "limits"} <= container["resources"].keys()


@every_set
def test_there_is_never_a_second_daemon_or_supervisor_of_sources(files):
    for name, deployment in of_kind(render(*files), "Deployment").items():
        is_single = deployment["spec"].get("strategy") == {"type": "Recreate"}
        assert is_single == (name in {"daemon", "sources"})
        assert not is_single or deployment["spec"]["replicas"] == 1


@every_set
def test_only_replicas_have_a_disruption_budget_so_that_no_drain_is_blocked(files):
    documents = render(*files)
    replicas = {name: each["spec"]["replicas"] for name, each in of_kind(documents, "Deployment").items()}
    budgets = of_kind(documents, "PodDisruptionBudget")
    assert budgets.keys() == {name for name, count in replicas.items() if count > 1}
    assert all(each["spec"]["maxUnavailable"] == 1 for each in budgets.values())


def test_no_secret_is_in_the_chart_and_values_with_one_are_refused():
    assert of_kind(render(*ALL), "Secret") == {}
    schema = json.loads((CHART / "values.schema.json").read_text())
    checker = Draft7Validator({**schema["properties"]["settings"], "definitions": schema["definitions"]})
    values = yaml.safe_load((CHART / "values" / "small.yaml").read_text())["settings"]
    secret = [each for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)
              for each in variables(name, field)]  # fmt: skip
    assert "IMGPIPELINE_KAFKA_PASSWORD" in secret
    assert checker.is_valid(values)
    assert [name for name in [*secret, "LD_PRELOAD"] if checker.is_valid({**values, name: "x"})] == []


def test_values_that_cannot_work_are_refused_with_their_place():
    for wrong, place in (
        ({"settings": {"IMGPIPELINE_STORE_URL": "file:///store"}}, "IMGPIPELINE_STORE_URL"),
        ({"network": {"kafka": {"peers": []}}}, "/network/kafka/peers"),
        ({"daemon": {"replicas": 2}}, "replicas"),
        ({"sources": {"file": ""}}, "/sources/file"),
        ({"image": {"tag": 1}}, "/image/tag"),
    ):
        with pytest.raises(AssertionError, match=place):
            render(*ALL, sets=json.dumps(wrong))


def documented_connections() -> set[tuple[str, str, int]]:
    """Read the table of connections of the page: from, to, port."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([\d, ]+) \|", PAGE.read_text(), re.MULTILINE)
    return {(source, target, int(port)) for source, target, ports in rows for port in ports.split(",")}


def test_pods_reach_exactly_what_the_page_says():
    outside = {name: {"outside": name} for name in (*OUTSIDE, *VISITORS, "dns", "stranger")}
    peers = {name: [{"podSelector": {"matchLabels": labels}}] for name, labels in outside.items() if name != "stranger"}
    documents = render(*ALL, sets=json.dumps({"network": {name: {"peers": each} for name, each in peers.items()}}))
    deployments = of_kind(documents, "Deployment")
    pods = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in deployments.items()}
    pods["run"] = instance_configuration(documents)["run_launcher"]["config"]["labels"]
    documented = documented_connections() | {(name, "dns", 53) for name in pods}
    ports = {port for _, _, port in documented} | {22, 5003}
    found = allowed_connections(documents, {**pods, **outside}, ports)
    between_outsiders = {each for each in found if each[0] in outside and each[1] in outside}
    assert found - between_outsiders == documented


def test_without_peers_nobody_may_connect():
    documents = render(*ALL, sets=json.dumps({"network": {name: {"peers": []} for name in (*VISITORS, "cameras")}}))
    policies = {name: each["spec"] for name, each in of_kind(documents, "NetworkPolicy").items()}
    assert [name for name, each in policies.items() if each.get("ingress")] == ["code"]
    assert all(rule["to"] for each in policies.values() for rule in each["egress"])


def test_values_for_dagsters_own_chart_name_what_the_product_has():
    """That chart is in no registry that CI reaches, so its own names are not checked."""
    values = yaml.safe_load((CHART / "values" / "dagster-chart.yaml").read_text())
    (code,) = values["dagster-user-deployments"]["deployments"]
    started = parsed(["dagster", "code-server", "start", *code["codeServerArgs"]])
    assert "imgpipeline.definitions" in str(started["module_name"])
    custom = values["runLauncher"]["config"]["customRunLauncher"]
    assert getattr(importlib.import_module(custom["module"]), custom["class"]) is KubernetesLauncher
    checked = process_config(KubernetesLauncher.config_type(), custom["config"])
    assert checked.success, checked.errors
    queue = values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    assert {each["value"] for each in queue["tagConcurrencyLimits"]} == set(QUEUES)
