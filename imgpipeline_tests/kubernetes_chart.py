"""Renders the Helm chart in deploy/kubernetes/ as users do, without a cluster."""

import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from imgpipeline_tests.servers import programs

REPOSITORY = Path(__file__).resolve().parents[1]
CHART = REPOSITORY / "deploy" / "kubernetes"
PAGE = REPOSITORY / "docs" / "kubernetes.md"
RELEASE, NAMESPACE = "site", "cameras"
OLDEST = "1.28"
"""The oldest Kubernetes that the chart accepts."""
Documents = tuple[dict[str, Any], ...]


def documented_sets() -> list[tuple[str, ...]]:
    """Return the names of the files of values in each `helm` command of the page, in the order of the command."""
    commands = [line for line in PAGE.read_text().splitlines() if re.search(r"\bhelm (install|upgrade)\b", line)]
    return sorted({tuple(re.findall(r"-f deploy/kubernetes/values/(\S+)", line)) for line in commands})


@cache
def render(*files: str, sets: str = "") -> Documents:
    """Return the documents that the chart makes of files in values/, and of a JSON object of further values."""
    values = [argument for file in files for argument in ("-f", str(CHART / "values" / file))]
    command = [
        str(programs.helm()),
        "template",
        RELEASE,
        str(CHART),
        "--namespace",
        NAMESPACE,
        "--kube-version",
        OLDEST,
    ]
    more = ["-f", "-"] if sets else []
    done = subprocess.run([*command, *values, *more], input=sets, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def of_kind(documents: Documents, kind: str) -> dict[str, dict[str, Any]]:
    """Return the documents of a kind by name, without the name of the release."""
    found = [document for document in documents if document["kind"] == kind]
    return {document["metadata"]["name"].removeprefix(f"{RELEASE}-"): document for document in found}


def containers(documents: Documents) -> dict[str, dict[str, Any]]:
    """Return the container of each Deployment by the name of its process."""
    deployments = of_kind(documents, "Deployment")
    return {name: each["spec"]["template"]["spec"]["containers"][0] for name, each in deployments.items()}


def instance_configuration(documents: Documents) -> dict[str, Any]:
    """Return the `dagster.yaml` of the release."""
    loaded: dict[str, Any] = yaml.safe_load(of_kind(documents, "ConfigMap")["dagster"]["data"]["dagster.yaml"])
    return loaded


def is_selected(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a selector of labels (`matchLabels` only) selects a pod."""
    return dict(labels, **selector.get("matchLabels", {})) == labels


def allowed_connections(
    documents: Documents, pods: Mapping[str, Mapping[str, str]], ports: Iterable[int]
) -> set[tuple[str, str, int]]:
    """Return every connection by TCP (from, to, port) between pods that the NetworkPolicies allow.

    As the API defines it: a pod that no policy selects for a direction is open in it; otherwise one rule of any policy
    that selects it must match.
    """
    policies = [each["spec"] for each in of_kind(documents, "NetworkPolicy").values()]

    def allows(direction: str, own: Mapping[str, str], other: Mapping[str, str], port: int) -> bool:
        selecting = [each for each in policies if is_selected(each["podSelector"], own)]
        selecting = [each for each in selecting if direction in each["policyTypes"]]
        rules = [rule for each in selecting for rule in each.get(direction.lower()) or ()]
        peers = "from" if direction == "Ingress" else "to"
        return not selecting or any(
            (not rule.get(peers) or any(is_selected(peer["podSelector"], other) for peer in rule[peers]))
            and ({"protocol": "TCP", "port": port} in rule["ports"])
            for rule in rules
        )

    return {
        (source, target, port)
        for source, from_labels in pods.items()
        for target, to_labels in pods.items()
        for port in ports
        if allows("Egress", from_labels, to_labels, port) and allows("Ingress", to_labels, from_labels, port)
    }
