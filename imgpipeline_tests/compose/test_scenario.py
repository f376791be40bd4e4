"""Parts of `make site-test`: a site starts from its compose file, and each process has only its rights and secrets."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgpipeline.site.folder import SiteAnswers, write_site
from imgpipeline_tests.compose.image import image_entrypoint
from imgpipeline_tests.compose.project import read_project, services_of
from imgpipeline_tests.compose.sandbox import Sandboxes
from imgpipeline_tests.servers import programs


@pytest.mark.slow
@pytest.mark.servers
def test_the_process_of_the_sources_reads_the_login_of_each_camera(tmp_path):
    programs.compose_check()
    programs.bubblewrap()
    if os.geteuid() != 0:
        pytest.skip("a sandbox with another user needs root")
    folder = tmp_path / "site"
    cameras = [("gate", "rtsp://a:b@10.0.0.2/live"), ("yard", "rtsp://c:d@10.0.0.3/live")]
    write_site(folder, SiteAnswers(domain="localhost", cameras=cameras), datetime(2026, 11, 26, tzinfo=UTC))
    service = services_of(read_project(folder / "compose.yaml", folder / ".env", ["kafka", "s3"]))["sources"]
    command = [*image_entrypoint(), "imgpipeline", "sources", "run", "/site/sources.toml", "--check"]
    wrapped = Sandboxes(tmp_path, [service]).inside(service, command)
    done = subprocess.run(wrapped, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "/site/sources.toml is valid: 2 sources.\n")
    (folder / "secrets" / "cameras" / "yard").unlink()
    done = subprocess.run(wrapped, capture_output=True, text=True, check=False, timeout=100)
    assert "The secret in /run/secrets/cameras/yard cannot be read" in done.stderr


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
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=880)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "forbidden requests were refused" in done.stdout
