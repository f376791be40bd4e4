"""The command that runs a service in a sandbox: what its container would see of the file system, and as which user."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from imgpipeline_tests.compose.image import CHECKOUT, ENTRYPOINT_FILE, image_entrypoint
from imgpipeline_tests.compose.project import Service
from imgpipeline_tests.servers import programs

NOT_RUN = (
    "the images themselves: programs of this machine stand in for them (Traefik 3.0, PostgreSQL of the system)",
    "networks: all services share one network of the sandbox; a static test compares the networks of the file",
    "limits of memory, processors and processes, log rotation, restarts by Docker, published ports",
    "Let's Encrypt: the proxy makes its own certificate",
)
"""What the site test cannot do without a container engine."""

_ETC = ("ssl", "ca-certificates", "alternatives", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
        "java-17-openjdk", "nsswitch.conf", "mime.types", "magic", "protocols", "services")  # fmt: skip
_KAFKA_PROGRAMS = {
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-server-start.sh": "kafka.Kafka",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
}
_POSTGRES = """\
#!/bin/sh
set -eu
PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -1):$PATH
[ -s "$PGDATA/PG_VERSION" ] || initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" \\
  --auth-host=scram-sha-256 --auth-local=scram-sha-256 --no-sync >/tmp/initdb.log
echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
exec postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
"""
"""What the image's entry point does, as its documentation says it."""


class Sandboxes:
    """Makes the commands of all services of a site."""

    def __init__(self, work_dir: Path, services: Sequence[Service], *, also: Sequence[str] = ()) -> None:
        """Prepares what stands in for the images.

        Args:
            also: Names of hosts that are not services, such as a camera.
        """
        self._volumes = work_dir / "volumes"
        self._images = work_dir / "images"
        self._images.mkdir(parents=True, exist_ok=True)
        names = [*(service.name for service in services), *also]
        hosts = "".join(f"127.0.1.{number} {name}\n" for number, name in enumerate(names, start=1))
        self._etc = {
            "hosts": f"127.0.0.1 localhost\n{hosts}",
            "passwd": "root:x:0:0::/:/bin/sh\nsite:x:10001:10001::/tmp:/bin/sh\n",
            "group": "root:x:0:\nsite:x:10001:\n",
        }
        for name, text in self._etc.items():
            (self._images / name).write_text(text)
        self._write_stand_ins()

    def volume(self, name: str) -> Path:
        """Return the folder of a volume."""
        folder = self._volumes / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def command(self, service: Service) -> list[str]:
        """Return the command that starts a service."""
        entrypoint = service.strings("entrypoint") or self._entrypoint(service)
        return [*self._around(service), *entrypoint, *service.strings("command")]

    def inside(self, service: Service, command: Sequence[str]) -> list[str]:
        """Return a command that runs another program in the sandbox of a service, as `docker exec` does."""
        return [*self._around(service), *command]

    def _around(self, service: Service) -> list[str]:
        given = service.given
        words = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--clearenv"]
        words += [*_bind("/usr"), "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"]
        words += ["--symlink", "usr/lib64", "/lib64", "--symlink", "usr/sbin", "/sbin"]
        words += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108 - as in a container
        for name in _ETC:
            words += _bind(f"/etc/{name}") if Path("/etc", name).exists() else []
        for name in self._etc:
            words += ["--ro-bind", str(self._images / name), f"/etc/{name}"]
        words += self._image(service)
        for volume in given.get("volumes") or []:
            source = volume["source"] if volume["type"] == "bind" else str(self.volume(volume["source"]))
            words += ["--ro-bind" if volume.get("read_only") else "--bind", source, volume["target"]]
        for target, _, options in (each.partition(":") for each in service.strings("tmpfs")):
            # As Docker does it: root owns it, with the mode of the folder in the image, unless a `uid` is given.
            mode = "1777" if target == "/tmp" or "uid=" in options else "0755"  # noqa: S108 - a folder of the container
            words += ["--perms", mode, "--tmpfs", target]
        words += self._secrets(service)
        words += ["--remount-ro", "/"] if given.get("read_only") else []
        environment = {"PATH": self._path(service), **service.environment}
        for name, value in environment.items():
            words += ["--setenv", name, value]
        words += ["--chdir", given.get("working_dir", "/"), "--"]
        return [*_with_open_parents(words), *_as_user(given)]

    def _secrets(self, service: Service) -> list[str]:
        words: list[str] = []
        for secret in service.given.get("secrets") or []:
            target = secret.get("target") or secret["source"]
            path = target if target.startswith("/") else f"/run/secrets/{target}"
            words += ["--ro-bind", secret["file"], path]
        return words

    def _image(self, service: Service) -> list[str]:
        """Return what the image holds besides the system."""
        image = service.given["image"].rpartition(":")[0]
        if image == "imgpipeline":
            folders = (sys.base_prefix, sys.prefix, *(CHECKOUT / name for name in ("imgpipeline", "models", "deploy")))
            words = [word for folder in folders for word in _bind(folder)]
            words += ["--dir", "/var/lib/imgpipeline", "--ro-bind", str(ENTRYPOINT_FILE), image_entrypoint()[0]]
            return words
        if image == "apache/kafka":
            words = ["--ro-bind", str(self._images / "kafka"), "/opt/kafka/bin"]
            for jar in programs.kafka_jars().glob("*.jar"):  # one by one: only root may enter their folder
                words += ["--ro-bind", str(jar), f"/opt/kafka/libs/{jar.name}"]
            return words
        stand_in = {"versity/versitygw": programs.versitygw, "traefik": programs.traefik}.get(image)
        if stand_in is not None:
            return ["--ro-bind", str(stand_in()), f"/opt/image/{image.rpartition('/')[2]}"]
        if image == "postgres":
            return ["--ro-bind", str(self._images / "postgres"), "/opt/image/postgres"]
        return []

    def _path(self, service: Service) -> str:
        system = "/opt/image:/usr/local/bin:/usr/bin:/usr/sbin"
        return f"{sys.prefix}/bin:{system}" if service.given["image"].startswith("imgpipeline:") else system

    def _entrypoint(self, service: Service) -> list[str]:
        image = service.given["image"].rpartition(":")[0]
        known = {"imgpipeline": image_entrypoint(), "traefik": ["traefik"], "postgres": ["/opt/image/postgres"],
                 "prom/prometheus": ["prometheus"]}  # fmt: skip
        return known[image]

    def _write_stand_ins(self) -> None:
        folder = self._images / "kafka"
        folder.mkdir(exist_ok=True)
        for name, main in _KAFKA_PROGRAMS.items():
            options = '${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "/opt/kafka/libs/*"'
            java = f"exec {programs.java()} {options}"
            _write_program(folder / name, f'#!/bin/sh\n{java} {main} "$@"\n')
        _write_program(self._images / "postgres", _POSTGRES)


def _with_open_parents(words: list[str]) -> list[str]:
    """Return the command with the folders above its mounts made first: bubblewrap's own only root can enter."""
    kinds = {"--ro-bind": 2, "--bind": 2, "--tmpfs": 1}
    targets = [Path(words[at + kinds[word]]) for at, word in enumerate(words) if word in kinds]
    parents = sorted({parent for target in targets for parent in target.parents if len(parent.parts) > 1})
    outside = [str(parent) for parent in parents if not parent.is_relative_to("/usr")]
    made = [word for parent in outside for word in ("--perms", "0755", "--dir", parent)]
    return [words[0], *made, *words[1:]]


def _bind(path: str | os.PathLike[str]) -> list[str]:
    return ["--ro-bind", str(path), str(path)]


def _as_user(given: dict) -> list[str]:
    """Return the command that takes the user and the capabilities that the compose file leaves."""
    user, _, group = given["user"].partition(":")
    kept = "".join(f",+{each.lower()}" for each in given.get("cap_add") or [])
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs",
            f"--bounding-set=-all{kept}", f"--inh-caps=-all{kept}"]  # fmt: skip


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
