"""Parts of `make site-test`: a site starts from its compose file, and each process has only its rights and secrets."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from imgpipeline.site.folder import SiteAnswers, write_site
from imgpipeline_tests.compose.image import image_entrypoint
from imgpipeline_tests.compose.project import Service, read_project, services_of
from imgpipeline_tests.compose.sandbox import Sandboxes
from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.kafka_broker import KafkaBroker

INTERNAL = "127.0.0.1:9094"
CAMERAS = ["gate=rtsp://a:b@10.0.0.2/live", "yard=rtsp://c:d@10.0.0.3/live"]


def site_with(work_dir: Path, name: str) -> tuple[Path, Service]:
    """Write the folder of a site; return it with one of its services."""
    programs.bubblewrap()
    if os.geteuid() != 0:
        pytest.skip("a sandbox with another user needs root")
    folder = work_dir / "site"
    write_site(folder, SiteAnswers(domain="localhost", cameras=CAMERAS), datetime(2026, 11, 26, tzinfo=UTC))
    return folder, services_of(read_project(folder / "compose.yaml", folder / ".env", ["kafka"]))[name]


@pytest.mark.slow
@pytest.mark.servers
def test_the_process_of_the_sources_reads_the_login_of_each_camera(tmp_path):
    folder, sources = site_with(tmp_path, "sources")
    command = [*image_entrypoint(), "imgpipeline", "sources", "run", "/site/sources.toml", "--check"]
    wrapped = Sandboxes(tmp_path, [sources]).inside(sources, command)
    done = subprocess.run(wrapped, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "/site/sources.toml is valid: 2 sources.\n")
    (folder / "secrets" / "cameras" / "yard").unlink()
    done = subprocess.run(wrapped, capture_output=True, text=True, check=False, timeout=100)
    assert "The secret in /run/secrets/cameras/yard cannot be read" in done.stderr


def is_valid(broker: KafkaBroker, user: str, password: str) -> bool:
    server = {"bootstrap_servers": broker.address("SASL_PLAINTEXT"), "security_protocol": "SASL_PLAINTEXT"}
    login = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": user, "sasl_plain_password": password}
    try:
        KafkaAdminClient(**server, **login, bootstrap_timeout_ms=5000).close()
    except KafkaError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.servers
def test_an_account_of_kafka_gets_a_new_password_and_a_new_account_its_first(tmp_path):
    folder, kafka = site_with(tmp_path, "kafka")
    script = (folder / "kafka" / "password.sh").read_text()
    new = (folder / "secrets" / "kafka_password_code").read_text()
    with KafkaBroker(tmp_path / "kafka", listeners=["SASL_PLAINTEXT"], users={"code": "old"}) as broker:
        assert is_valid(broker, "code", "old")
        assert INTERNAL in script
        sandboxes, script = Sandboxes(tmp_path, [kafka]), script.replace(INTERNAL, broker.bootstrap_servers)
        for user in ("code", "reader"):
            command = sandboxes.inside(kafka, ["sh", "-c", script, "password.sh", user])
            done = subprocess.run(command, input=f"{new}\n", capture_output=True, text=True, check=False, timeout=100)
            assert done.returncode == 0, done.stdout + done.stderr
            assert new not in done.stdout + done.stderr
            assert is_valid(broker, user, new)
        assert not is_valid(broker, "code", "old")


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(900)
def test_a_site_from_the_compose_file_counts_what_its_camera_shows(tmp_path):
    programs.compose_check()
    programs.bubblewrap()
    programs.rtsp_python()
    programs.prometheus()
    if os.geteuid() != 0:
        pytest.skip("a network and mounts of its own need root")
    command = [sys.executable, "-m", "imgpipeline_tests.compose", "--short", "--keep", tmp_path / "site"]
    repository = Path(__file__).resolve().parents[2]
    servers = {"XDG_CACHE_HOME": str(programs.CACHE_HOME)}  # not in the empty cache of this test
    done = subprocess.run(
        command, cwd=repository, env={**os.environ, **servers}, capture_output=True, text=True, check=False, timeout=880
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "forbidden requests were refused" in done.stdout
