"""Named steps at which tests end a process."""

import subprocess
import sys
from pathlib import Path
from signal import SIGKILL, SIGSEGV

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.faultpoints import ONCE_VARIABLE, PLAN_VARIABLE, note_of, parse_plan

WALK = """
from imgpipeline.faultpoints import reach
for number in range(3):
    reach("segment put", f"chain/{number}")
    print(number, flush=True)
"""


def walk(plan: str | None, once: Path | None = None) -> tuple[int, str]:
    variables = {PLAN_VARIABLE: plan} if plan else {}
    if once:
        variables[ONCE_VARIABLE] = str(once)
    done = subprocess.run([sys.executable, "-c", WALK], env=variables, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.replace("\n", "")


def test_without_a_plan_nothing_happens():
    assert walk(None) == (0, "012")


@pytest.mark.parametrize(
    ("plan", "ended"),
    [
        ("segment put:2=kill", (-SIGKILL, "0")),
        ("segment put~chain/2=kill", (-SIGKILL, "01")),
        ("other step=kill; segment put:1=segfault", (-SIGSEGV, "")),
        ("segment put:9=kill", (0, "012")),
    ],
)
def test_a_process_ends_at_the_planned_step(plan, ended):
    assert walk(plan) == ended


def test_processes_that_share_a_folder_meet_a_fault_once(tmp_path):
    assert walk("segment put=kill", tmp_path) == (-SIGKILL, "")
    assert note_of(tmp_path, "segment put=kill").exists()
    assert walk("segment put=kill", tmp_path) == (0, "012")


@pytest.mark.parametrize("plan", ["segment put", "segment put=explode", "=kill"])
def test_what_is_no_plan_is_refused_by_name(plan):
    with pytest.raises(ConfigurationError, match=PLAN_VARIABLE):
        parse_plan(plan)
