"""The systemd units: valid, hardened, and with commands that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from imgpipeline_tests.cli.command import all_commands

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
UNITS = {path.name: path for folder in ("systemd", "celery") for path in sorted((DEPLOY / folder).glob("*.service"))}
MOST_EXPOSED = 2.5
LIBRARY_PROGRAMS = {"dagster", "dagster-daemon", "dagster-webserver", "celery"}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder in which the units are installed."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt install systemd")
    made = tmp_path_factory.mktemp("root")
    installed = made / "etc" / "systemd" / "system"
    shutil.copytree(DEPLOY / "systemd", installed)
    for path in UNITS.values():
        shutil.copy(path, installed)
    return made


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_hardened(root, unit):
    started = unit.replace("@.", "@detection.")
    command = ["systemd-analyze", "security", "--offline=yes", f"--root={root}", started]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level is not None
    assert float(level[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_runs_a_command_that_exists(unit):
    line = re.search(r"^ExecStart=/opt/imgpipeline/bin/(.+)$", UNITS[unit].read_text(), re.MULTILINE)
    assert line is not None
    program, *arguments = line[1].split()
    commands = {words: {option for each in command.params for option in each.opts} for words, command in all_commands()}
    if program == "imgpipeline":
        words = next(tuple(arguments[:count]) for count in (2, 1) if tuple(arguments[:count]) in commands)
        assert {argument for argument in arguments if argument.startswith("--")} <= commands[words]
    else:
        assert program in LIBRARY_PROGRAMS


def test_all_units_share_user_environment_and_restarts(root):
    shared = (root / "etc/systemd/system/imgpipeline-.service.d/site.conf").read_text()
    for line in ("User=imgpipeline", "EnvironmentFile=/etc/imgpipeline/environment", "Restart=always"):
        assert line in shared
    assert all(name.startswith("imgpipeline-") for name in UNITS)
