"""Dagster warns of a misspelt setting once, when it loads the code location, and not in each run."""

import subprocess
import sys
from pathlib import Path

import pytest

from imgpipeline_tests.cli.command import environment

LOAD = "import imgpipeline.definitions"
LOAD_TWICE = """
import importlib, multiprocessing
if __name__ == "__main__":
    importlib.import_module("imgpipeline.definitions")
    start = multiprocessing.get_context("spawn").Process
    run = start(target=importlib.import_module, args=("imgpipeline.definitions",))
    run.start()
    run.join()
"""


@pytest.mark.medium
@pytest.mark.parametrize("script", [LOAD, LOAD_TWICE], ids=["code server", "with a run"])
def test_a_misspelt_setting_is_logged_once(script: str, tmp_path: Path):
    file = tmp_path / "load.py"
    file.write_text(script)
    env = environment({"IMGPIPELINE_STOR_URL": "canary-1"})
    done = subprocess.run(
        [sys.executable, str(file)], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("IMGPIPELINE_STOR_URL") == 1
    assert "Did you mean IMGPIPELINE_STORE_URL?" in done.stderr
    assert "canary" not in done.stdout + done.stderr
