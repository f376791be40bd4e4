"""Runs the containers of pods in sandboxes of this machine: with their user, variables, files and read-only root.

What a kubelet does in addition (images, limits, networks) is missing. Containers share this machine's ports, so each
port of a pod is replaced by a free one.
"""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.processes import ServerProcess

_NOT_OF_AN_IMAGE = {"proc", "dev", "sys", "tmp", "var", "etc", "run"}
_TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_NAMES = "127.0.0.1 localhost "


class Machine:
    """A machine that runs pods."""

    def __init__(
        self,
        folder: Path,
        config_maps: Mapping[str, Mapping[str, str]],
        secrets: Mapping[str, Mapping[str, str]],
        service_account: Mapping[str, str],
        variables: Mapping[str, str],
    ) -> None:
        """Write the files that pods mount.

        Args:
            folder: Where.
            config_maps: Their data by name.
            secrets: The same of Secrets.
            service_account: Files of the token that pods with an account find.
            variables: What Kubernetes tells each pod.
        """
        self._folder, self._config_maps, self._secrets = folder, config_maps, secrets
        self._variables = variables
        self._ports: dict[int, int] = {}
        self.processes: dict[str, ServerProcess] = {}
        for name, data in {**config_maps, **secrets, "token": service_account}.items():
            (folder / name).mkdir(parents=True)
            for file, text in data.items():
                (folder / name / file).write_text(text)
        (folder / "hosts").write_text(_NAMES)

    def name_services(self, *names: str) -> None:
        """Let pods find Services, which are on this machine."""
        (self._folder / "hosts").write_text(_NAMES + " ".join(names) + "\n")

    def port(self, of_pod: int) -> int:
        """Return the port of this machine in place of that of a pod."""
        return self._ports.setdefault(of_pod, free_port())

    def sandbox(self, pod: Mapping[str, Any], words: list[str]) -> list[str]:
        """Return the command that runs words as the only container of a pod would."""
        (container,) = pod["containers"]
        security = pod["securityContext"]
        user = ["--uid", str(security["runAsUser"]), "--gid", str(security["runAsGroup"])]
        alone = ["--die-with-parent", "--unshare-user", *user, "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL"]
        system = ["--proc", "/proc", "--dev", "/dev", *_image(), "--ro-bind", f"{self._folder}/hosts", "/etc/hosts"]
        closed = ["--remount-ro", "/"] if container["securityContext"]["readOnlyRootFilesystem"] else []
        variables = [word for name, value in self._environment(container).items() for word in ("--setenv", name, value)]
        started = ["--chdir", container["workingDir"], "--clearenv", *variables]
        return [str(programs.bubblewrap()), *alone, *system, *self._mounts(pod, container), *closed, *started, *words]

    def start(self, name: str, pod: Mapping[str, Any]) -> None:
        """Start the container of a Deployment, and return when its startup probe succeeds."""
        (container,) = pod["containers"]
        words = [str(self.port(int(word))) if word.isdecimal() else word for word in container["command"]]
        process = ServerProcess(name, self.sandbox(pod, words), self._folder / f"{name}.log", environment={})
        self.processes[name] = process
        process.start(lambda: self.probe(pod, "startupProbe"), limit_s=180)

    def probe(self, pod: Mapping[str, Any], kind: str) -> bool:
        """Tell whether a probe succeeds."""
        probe = pod["containers"][0][kind]
        if "exec" in probe:
            return subprocess.run(self.sandbox(pod, probe["exec"]["command"]), check=False, env={}).returncode == 0
        if "grpc" in probe:
            return _serves(self.port(probe["grpc"]["port"]), probe["grpc"]["service"])
        return self.status(probe["httpGet"]["port"], probe["httpGet"]["path"]) == 200

    def status(self, port: int, path: str) -> int:
        """Return the status of an HTTP request to a port of a pod; 0 without an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port(port)}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def stop(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.kill_group()

    def _environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        made = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **self._variables}
        for source in container["envFrom"]:
            if "secretRef" in source:
                made |= self._secrets[source["secretRef"]["name"]]
            else:
                made |= self._config_maps[source["configMapRef"]["name"]]
        return made | {each["name"]: each["value"] for each in container.get("env", ())}

    def _mounts(self, pod: Mapping[str, Any], container: Mapping[str, Any]) -> list[str]:
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        words: list[str] = []
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            name = volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
            words += ["--ro-bind", str(self._folder / name)] if name else ["--tmpfs"]
            words.append(mount["mountPath"])
        if pod["automountServiceAccountToken"]:
            words += ["--ro-bind", f"{self._folder}/token", _TOKEN_FOLDER]
        return words


def _image() -> list[str]:
    """Return what stands for the image: the programs of this machine, read-only."""
    folders = [entry for entry in Path("/").iterdir() if entry.name not in _NOT_OF_AN_IMAGE]
    files = [entry for entry in Path("/etc").iterdir() if entry.name != "hosts"]
    return [word for entry in (*folders, *files) for word in ("--ro-bind-try", str(entry), str(entry))]


def _serves(port: int, service: str) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
