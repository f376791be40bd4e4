"""The scale test in a shorter form."""

import os
import subprocess
import sys

import pytest

from imgpipeline_tests.defs.site import REPOSITORY
from imgpipeline_tests.scale import redetection
from imgpipeline_tests.servers.programs import CACHE_HOME

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(840)]


def test_nothing_is_lost_or_doubled_while_a_worker_redis_and_the_daemon_are_killed(tmp_path):
    """Other tests use the same cores, so lost work may be requested again later than in the whole form."""
    command = [sys.executable, "-m", "imgpipeline_tests.scale", "--frames", "1500", "--days", "4"]
    done = subprocess.run(
        [*command, "--minutes", "12", "--again-within", "150", "--keep", str(tmp_path)],
        cwd=REPOSITORY, env={**os.environ, "XDG_CACHE_HOME": str(CACHE_HOME)}, capture_output=True, text=True,
        timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


def test_four_processes_share_a_day_and_do_nothing_twice_although_one_is_killed():
    redetection.main(["--frames", "3000", "--part-frames", "100"])
