"""Publishes in a separate process that kills itself at a step."""

import signal
import subprocess
import sys

from imgpipeline.faultpoints import PLAN_VARIABLE
from imgpipeline.settings import Settings
from imgpipeline_tests.faults.child_runs import environment_of

STEPS = ("publish opened", "publish batch", "batch sent", "batch committed")
"""Before the checkpoint is read; before, in and after a transaction."""


def publish_and_die(settings: Settings, step: str, *arguments: str) -> None:
    """Run `imgpipeline publish` until it is killed at a step.

    Args:
        settings: Store and broker.
        step: A step of the fault points, such as `batch sent` or `batch sent:2`, the second time.
        arguments: The subcommand and its options.
    """
    command = [sys.executable, "-m", "imgpipeline.cli", "publish", *arguments]
    environment = {**environment_of(settings), PLAN_VARIABLE: f"{step}=kill"}
    killed = subprocess.run(command, env=environment, check=False, timeout=60, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
