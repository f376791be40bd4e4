"""The example source in docs/sources.md works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from imgpipeline_tests.faults.child_runs import environment_of
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sources.md"


@pytest.mark.servers
def test_a_source_is_written_in_about_twenty_lines(settings, tmp_path):
    section = PAGE.read_text(encoding="utf-8").partition("## Write a source")[2]
    code, said = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)[:2]
    assert len([line for line in code.splitlines() if line.strip() and "import" not in line]) <= 20
    script = tmp_path / "counter.py"
    script.write_text(code)
    env = environment_of(settings)
    ended = subprocess.run([sys.executable, script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, said), ended.stderr
    found = read_published(settings)
    assert [message.frame_number for message in frames_in(found)] == list(range(20))
    assert [account.account.announced for account in accounts_in(found) if account.account] == [20]
