"""Telling whether a noted process is still there."""

import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.defs.processes import describe_process, end_process, is_gone


def test_this_process_is_not_gone() -> None:
    assert not is_gone(describe_process())


def test_a_process_that_was_killed_is_gone_even_before_its_parent_collects_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout is not None
    child.stdout.readline()
    note = describe_process(child.pid)
    assert not is_gone(note)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(note)
    child.wait()
    assert is_gone(note)
    child.stdout.close()
    assert child.stdin is not None
    child.stdin.close()


def test_a_process_id_that_is_used_again_is_another_process() -> None:
    *table, pid, _ = json.loads(describe_process())
    assert is_gone(json.dumps([*table, pid, "1"]))


@pytest.mark.parametrize("place", [0, 1, 2], ids=["another machine", "another boot", "another container"])
def test_nothing_is_claimed_of_a_process_elsewhere(place: int) -> None:
    note = json.loads(describe_process())
    note[place], note[-1] = "other", "1"
    assert not is_gone(json.dumps(note))


@given(st.one_of(st.none(), st.text(), st.lists(st.one_of(st.integers(), st.text())).map(json.dumps)))
def test_nothing_is_claimed_of_a_note_that_is_none(note: str | None) -> None:
    assert not is_gone(note)


def test_a_noted_process_is_killed_even_when_it_is_stopped_and_no_other_one() -> None:
    child = subprocess.Popen(["sleep", "600"])
    try:
        note = describe_process(child.pid)
        *rest, started_at = json.loads(note)
        assert not end_process(json.dumps([*rest, str(int(started_at) + 1)]))
        assert not end_process(json.dumps(["elsewhere", *json.loads(note)[1:]]))
        assert not end_process(None)
        assert child.poll() is None
        child.send_signal(signal.SIGSTOP)
        assert end_process(note)
        assert child.wait(60) == -signal.SIGKILL
        assert not end_process(note)
    finally:
        child.kill()
        child.wait()
