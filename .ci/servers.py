"""Install what the tests with real servers need: `make servers`.

Promises to do only what is not done yet (a second call takes a moment), to say what it does, and, where it cannot
install a missing tool, to end with the line that does. What it makes goes into a cache that all checkouts share.
The standard library only: it runs before there is a virtual environment. Which versions, and where they are kept,
stands in `imgpipeline_tests/servers/programs.py`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from imgpipeline_tests.servers import programs  # noqa: E402 - found only through the line above

APT_PACKAGES = {
    "java": "default-jre-headless",
    "openssl": "openssl",
    "postgres": "postgresql",
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "chromium": "chromium",
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    "promtool": "prometheus",
    "bwrap": "bubblewrap",
    "curl": "curl",
    "mvn": "maven",
    "go": "golang-go",
}
"""The Debian package of each tool, in the order in which they are asked for."""

RTSP_PACKAGES = (
    "python3-gst-1.0",
    "gir1.2-gst-rtsp-server-1.0",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad",
)
"""Debian's RTSP server for the system's Python; as in `imgpipeline.sources.simulator.rtsp_simulator`."""

GO_PROGRAMS = (
    (programs.versitygw, "versitygw", programs.VERSITYGW_VERSION, "github.com/versity/versitygw/cmd/versitygw"),
    (programs.toxiproxy, "toxiproxy", programs.TOXIPROXY_VERSION, "github.com/Shopify/toxiproxy/v2/cmd/server"),
    (programs.helm, "helm", programs.HELM_VERSION, "helm.sh/helm/v3/cmd/helm"),
)
"""How to find each program that `go install` builds, its name and version, and its package."""

OLDEST_GO = (1, 21)
"""From this version on, Go fetches by itself the newer one that a program asks for."""


class InstallError(Exception):
    """Something cannot be installed; the message says what the reader can do."""


def main() -> int:
    """Install what is missing and return the exit status."""
    started_s = time.monotonic()
    try:
        install_tools()
        install_kafka()
        install_hadoop()
        install_opensearch()
        install_go_programs()
        install_compose_check()
        if "--site" in sys.argv:
            install_traefik()
    except InstallError as error:
        print(f"make servers: {error}", file=sys.stderr)
        return 1
    servers = "Kafka, Hadoop, OpenSearch, versitygw (S3), toxiproxy, PostgreSQL, Mosquitto, Redis, nginx"
    ready = f"{servers}, Helm, GStreamer and Chromium"
    say(f"{ready} are ready after {time.monotonic() - started_s:.1f} s")
    return 0


def install_tools() -> None:
    """Install by apt what is missing, as root or with sudo.

    Raises:
        InstallError: There is no apt or no way to become root, or apt failed.
    """
    missing = missing_tools()
    packages = [APT_PACKAGES[name] for name in missing] + ([] if is_there(programs.rtsp_python) else [*RTSP_PACKAGES])
    if not packages:
        return
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    advice = f"missing: {', '.join(packages)}. On Debian or Ubuntu, as root: {' '.join(install)}"
    if shutil.which("apt-get") is None or (as_root and shutil.which("sudo") is None):
        raise InstallError(advice)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run([*as_root, "apt-get", "update", "--quiet"], advice, environment=environment)
    run([*as_root, *install], advice, environment=environment)
    if missing_tools() or not is_there(programs.rtsp_python):
        raise InstallError(
            f"{', '.join([*missing_tools(), 'GStreamer'])} cannot be found, though apt installed {' '.join(packages)}"
        )


def missing_tools() -> list[str]:
    """Name the tools to install; what only fetches or builds is not asked for where its work is done."""
    needed = ["java", "openssl", "mosquitto_pub", "chromium", "curl", "redis-server", "promtool", "bwrap"]
    if not all(map(is_there, (programs.kafka_jars, programs.hadoop_jars, programs.opensearch_jars))):
        needed.append("mvn")
    if not all(map(is_there, (*(find for find, *_ in GO_PROGRAMS), programs.compose_check))):
        needed.append("go")
    missing = {name for name in needed if find_tool(name) is None}
    if not is_there(programs.postgres_folder):
        missing.add("postgres")
    if not is_there(programs.mosquitto):
        missing.add("mosquitto")
    if not is_there(programs.nginx):
        missing.add("nginx")
    return [name for name in APT_PACKAGES if name in missing]


def find_tool(name: str) -> str | None:
    """Return the program of a tool; Go is also looked for where its own tar file puts it."""
    return shutil.which(name) or (shutil.which(name, path="/usr/local/go/bin") if name == "go" else None)


def find_go() -> str:
    """Return the Go command.

    Raises:
        InstallError: It is missing or too old, as in Debian 12.
    """
    go = find_tool("go") or "go"
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    version = re.match(r"go(\d+)\.(\d+)", answer)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_GO:
        wanted = ".".join(str(number) for number in OLDEST_GO)
        raise InstallError(
            f"{go} is {answer or 'unknown'}, but {wanted} or newer is needed. "
            "Take a current one from go.dev/dl: its tar file is unpacked to /usr/local/go. Then: make servers"
        )
    return go


def install_kafka() -> None:
    """Fetch the broker and what it needs through Maven.

    Raises:
        InstallError: Maven failed.
    """
    fetch_jars("kafka", programs.KAFKA_VERSION, programs.kafka_jars, "46 jars through Maven, 45 MB")


def install_hadoop() -> None:
    """Fetch Hadoop Streaming, which the commands that take its place are compared with, through Maven.

    Raises:
        InstallError: Maven failed.
    """
    fetch_jars("hadoop", programs.HADOOP_VERSION, programs.hadoop_jars, "9 jars through Maven, 51 MB")


def install_opensearch() -> None:
    """Fetch OpenSearch, which two sinks are tested with, through Maven.

    Raises:
        InstallError: Maven failed.
    """
    fetch_jars("opensearch", programs.OPENSEARCH_VERSION, programs.opensearch_jars, "95 jars through Maven, 53 MB")


def fetch_jars(name: str, version: str, find: Callable[[], Path], size: str) -> None:
    """Fetch the jars that one of the poms beside asks for, unless they are there.

    Raises:
        InstallError: Maven failed.
    """
    if is_there(find):
        return
    target = programs.cache_folder() / f"{name}-{version}"
    say(f"{name.capitalize()} {version}: {size}")
    with new_folder(target.parent) as folder:
        options = [f"-D{name}.version={version}", f"-DoutputDirectory={folder}"]
        pom = REPOSITORY / ".ci" / name / "pom.xml"
        quiet = ["--batch-mode", "--quiet", "-Dstyle.color=never"]
        command = ["mvn", *quiet, "--file", str(pom), *options, "dependency:copy-dependencies"]
        run(command, f"{name.capitalize()}'s jars could not be fetched: see Maven's words above")
        if not is_there(find):  # else another call was quicker
            shutil.rmtree(target, ignore_errors=True)
            Path(folder).rename(target)


def install_go_programs() -> None:
    """Build what `go install` builds: the S3 server, the proxy that makes faults, and Helm.

    Raises:
        InstallError: Go failed.
    """
    for find, name, version, package in GO_PROGRAMS:
        if not is_there(find):
            build(package, version, programs.built_program(name, version))


def install_compose_check() -> None:
    """Build the program that reads compose files, from its source here.

    Raises:
        InstallError: Go failed.
    """
    if not is_there(programs.compose_check):
        program = programs.built_program("compose_check", programs.compose_check_version())
        build_folder(programs.COMPOSE_CHECK, ".", program)


def install_traefik() -> None:
    """Build the proxy of `make site-test`. `go install` refuses its module, which replaces parts of others.

    Raises:
        InstallError: Go failed.
    """
    if is_there(programs.traefik):
        return
    module = f"github.com/traefik/traefik/v3@{programs.TRAEFIK_VERSION}"
    done = subprocess.run([find_go(), "mod", "download", "-json", module], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(f"{module} cannot be downloaded: {done.stderr}")
    program = programs.built_program("traefik", programs.TRAEFIK_VERSION)
    build_folder(Path(json.loads(done.stdout)["Dir"]), "./cmd/traefik", program)


def build_folder(source: Path, package: str, program: Path) -> None:
    """Build a Go program of a folder, and put it into the cache.

    Raises:
        InstallError: Go failed.
    """
    say(f"{program.name}: built with Go, which takes minutes the first time")
    with new_folder(program.parent) as folder:
        # A module in Go's cache is read-only, and a program cannot be built without writing beside it.
        copied = shutil.copytree(source, Path(folder) / "source", copy_function=shutil.copyfile)
        for each in [copied, *copied.rglob("*")]:
            each.chmod(0o755 if each.is_dir() else 0o644)
        built = Path(folder) / program.name
        environment = {**os.environ, "CGO_ENABLED": "0"}
        command = [find_go(), "build", "-C", str(copied), "-ldflags=-s -w", "-o", str(built), package]
        run(command, f"{program.name} could not be built: see Go's words above", environment=environment)
        built.rename(program)


def build(package: str, version: str, program: Path) -> None:
    """Build one Go program and put it into the cache under its name and version.

    Raises:
        InstallError: Go failed.
    """
    go = find_go()
    say(f"{program.name}: built with Go, which takes minutes the first time")
    advice = f"{package}@{version} could not be built: see Go's words above"
    with new_folder(program.parent) as folder:
        environment = {**os.environ, "GOBIN": folder, "CGO_ENABLED": "0"}
        run([go, "install", "-ldflags=-s -w", f"{package}@{version}"], advice, environment=environment)
        (Path(folder) / Path(package).name).rename(program)


def new_folder(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a folder beside its final place: a rename then makes the result appear whole or not at all."""
    parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True)


def run(command: Sequence[str], advice: str, *, environment: dict[str, str] | None = None) -> None:
    """Run a command with its output shown.

    Raises:
        InstallError: It failed; the message is the advice.
    """
    say(" ".join(command))
    try:
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InstallError(f"{error}\n{advice}") from error


def is_there(find: Callable[[], Path]) -> bool:
    """Tell whether a program is found."""
    try:
        find()
    except programs.MissingProgramError:
        return False
    return True


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"servers: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
