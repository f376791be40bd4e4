"""The demo's Dagster: waited for as long as it makes progress, and ended whatever the shell passes on."""

import signal
from pathlib import Path

import pytest

from imgpipeline.demo.servers import dagster_server


@pytest.mark.slow
def test_it_ends_by_itself_where_a_background_shell_ignores_sigint(tmp_path: Path):
    """`dagster dev` takes SIGTERM for SIGINT, so an inherited SIG_IGN would leave it to SIGKILL."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with dagster_server({"DAGSTER_HOME": str(tmp_path)}, tmp_path) as dagster:
            dagster.await_answer()
    finally:
        signal.signal(signal.SIGINT, before)
    assert dagster.process.returncode != -signal.SIGKILL
