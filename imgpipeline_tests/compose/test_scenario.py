"""The short form of `make site-test`: a site starts from its compose file, and each process has only its rights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgpipeline_tests.servers import programs


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
