"""Starts detection runs in processes of their own that kill or stop themselves at planned steps."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from imgpipeline.faultpoints import ONCE_VARIABLE, PLAN_VARIABLE, note_of
from imgpipeline.settings import Settings
from imgpipeline.settings.variables import variables
from imgpipeline_tests.detect.conftest import LaneUnderTest
from imgpipeline_tests.faults.invariant import Held, read_ledger
from imgpipeline_tests.servers.waiting import wait_until

RUN_ID = "child"
FOLLOW = f"""
from imgpipeline.detect.run import follow_lane
from imgpipeline.settings import load_settings
from imgpipeline.stream.lanes import Lane

report = follow_lane(load_settings(), Lane(0, 1), run_id="{RUN_ID}", report=lambda report: None)
print(report.ended_by, report.lag)
"""
CHANGES_FROM_RUN_TO_RUN = {"processing_timestamp", "chain"}


@dataclass
class ChildRun:
    """A detection run in a process of its own."""

    process: "subprocess.Popen[str]"
    """The process."""

    def wait(self, limit_s: float = 60) -> tuple[int, str]:
        """Return its status (negative: the signal that ended it) and what it said last: why it ended, and the lag."""
        said, _ = self.process.communicate(timeout=limit_s)
        return self.process.returncode, said.strip()

    def wait_until_stopped(self, limit_s: float = 60) -> None:
        """Return when it has stopped itself."""
        wait_until(lambda: state_of(self.process.pid) == "T", limit_s=limit_s, what="the run to stop itself")


@contextmanager
def child_run(
    lane: LaneUnderTest, plan: str = "", *, once: Path | None = None, program: str = FOLLOW
) -> Iterator[ChildRun]:
    """Start a detection run; it does not outlive the test.

    Args:
        lane: Its settings.
        plan: What happens to it, as `faultpoints` reads it; empty: nothing.
        once: Folder by which a fault happens once for all runs.
        program: What is run.
    """
    environment = {**environment_of(lane.settings), **variables_of(plan, once)}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            yield ChildRun(process)
        finally:
            process.kill()


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment by which another process has the same settings."""
    fields = Settings.model_fields
    values = {variables(name, fields[name])[0]: getattr(settings, name) for name in settings.model_fields_set}
    return {**os.environ, **{name: _as_text(value) for name, value in values.items()}}


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def variables_of(plan: str, once: Path | None = None) -> dict[str, str]:
    """Return the environment by which a process meets planned faults."""
    variables = {PLAN_VARIABLE: plan} if plan else {}
    return variables | ({ONCE_VARIABLE: str(once)} if once else {})


def happened(once: Path, fault: str) -> bool:
    """Tell whether a fault of a plan has happened in one of the processes that share the folder."""
    return note_of(once, fault).exists()


def state_of(pid: int) -> str:
    """Return the state of a process as Linux names it: `T` for a stopped one; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def content_of(held: Held) -> list[Mapping[str, Any]]:
    """Return every outcome without what differs from run to run (when it was worked on, where it is kept)."""
    return [
        {name: value for name, value in outcome.items() if name not in CHANGES_FROM_RUN_TO_RUN}
        for outcome in (*held.frames, *held.dead_letters, *held.gaps)
    ]


def undisturbed(lane: LaneUnderTest) -> list[Mapping[str, Any]]:
    """Return what a run that nothing happens to makes of the same records, in a store of its own."""
    other = lane.with_settings(
        store_url=f"{lane.settings.store_url}-undisturbed", kafka_group=f"{lane.settings.kafka_group}-undisturbed"
    )
    for info in lane.store.list_objects("images"):
        other.store.put(info.key, lane.store.get(info.key))
    other.follow()
    return content_of(read_ledger(other.store))
