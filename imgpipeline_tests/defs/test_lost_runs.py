"""Builds whose process is gone: found by what they, or Dagster, have noted."""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from imgpipeline.definitions import defs
from imgpipeline.defs.automation import keep_tables_current
from imgpipeline.defs.detection_job import JOB_NAME
from imgpipeline.defs.lost_runs import mark_lost_builds
from imgpipeline.defs.processes import describe_process, describe_table
from imgpipeline.defs.run_tags import PROCESS_TABLE_TAG, PROCESS_TAG, noted

HERE = {PROCESS_TABLE_TAG: describe_table()}
ELSEWHERE = {PROCESS_TABLE_TAG: json.dumps(["another machine", "", ""])}
GONE = json.dumps([*json.loads(describe_process())[:-1], "1"])
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Builds:
    """Runs of the real asset job in Dagster's storage, as far as this test takes them."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.now = datetime.now(UTC)
        self._job = defs.resolve_implicit_global_asset_job_def()

    def launch(self, *, pid: int | None = None, parent: str | None = None, **tags: str) -> str:
        """Launch a build; with `pid`, its process has reported its start."""
        run_id = self.instance.create_run_for_job(self._job, tags=tags, parent_run_id=parent, root_run_id=parent).run_id
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_STARTING.value, self._job.name)
        self.instance.report_dagster_event(event, run_id, timestamp=self.now.timestamp())
        if pid is not None:
            run = self.instance.get_run_by_id(run_id)
            said = EngineEventData({"pid": str(pid)})
            self.instance.report_engine_event(f"Started process for run (pid: {pid}).", run, said)
        return run_id

    def lost(self, *, serving_since: datetime = LONG_AGO) -> list[str]:
        return mark_lost_builds(self.instance, but=JOB_NAME, now=self.now, serving_since=serving_since)

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status


@pytest.fixture
def builds() -> Iterator[Builds]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Builds(instance)


@pytest.fixture
def ended_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.fault(41)
@pytest.mark.parametrize(("note", "is_lost"), [(GONE, True), (describe_process(), False)], ids=["gone", "here"])
def test_a_build_that_noted_its_process_is_marked_when_that_is_gone(builds: Builds, note: str, is_lost: bool) -> None:
    run_id = builds.launch()
    builds.instance.add_run_tags(run_id, noted(run_id, PROCESS_TAG, note))
    assert builds.lost() == [run_id] * is_lost
    assert (builds.status(run_id) is dg.DagsterRunStatus.FAILURE) == is_lost


@pytest.mark.fault(44)
def test_fault_44_a_build_whose_process_died_before_its_first_step_is_marked(builds: Builds, ended_pid: int) -> None:
    run_id = builds.launch(pid=ended_pid, **HERE)
    assert builds.lost() == [run_id]
    assert builds.status(run_id) is dg.DagsterRunStatus.FAILURE


def test_a_build_whose_process_lives_is_left_alone(builds: Builds) -> None:
    builds.launch(pid=os.getpid(), **HERE)
    assert builds.lost() == []


@pytest.mark.parametrize("tags", [ELSEWHERE, {}], ids=["another machine", "unknown"])
def test_a_process_id_of_another_process_table_tells_nothing(
    builds: Builds, ended_pid: int, tags: dict[str, str]
) -> None:
    builds.launch(pid=ended_pid, **tags)
    assert builds.lost() == []


@pytest.mark.fault(44)
def test_fault_44_a_build_that_never_reported_is_lost_once_its_code_server_was_replaced(builds: Builds) -> None:
    run_id = builds.launch(**HERE)
    builds.now += timedelta(seconds=31)
    assert builds.lost() == [], "its code server lives, and tells Dagster itself"
    replaced_at = builds.now - timedelta(seconds=20)
    assert builds.lost(serving_since=replaced_at) == [run_id]


def test_a_build_that_was_just_launched_may_still_report_after_its_code_server_was_replaced(builds: Builds) -> None:
    builds.launch(**HERE)
    builds.now += timedelta(seconds=10)
    assert builds.lost(serving_since=builds.now) == []


def test_a_build_that_is_executed_again_is_not_taken_for_the_process_of_the_first(builds: Builds) -> None:
    """Dagster copies all tags of a run that is executed again."""
    first = builds.launch()
    builds.instance.add_run_tags(first, noted(first, PROCESS_TAG, GONE))
    assert builds.lost() == [first]
    run = builds.instance.get_run_by_id(first)
    assert run is not None
    builds.launch(parent=first, **run.tags)
    assert builds.lost() == []


def test_runs_of_an_earlier_release_are_understood(builds: Builds) -> None:
    run_id = builds.launch(**{"imgpipeline/process": GONE})
    assert builds.lost() == [run_id]


def test_the_builds_that_automation_requests_name_their_process_table() -> None:
    assert keep_tables_current.run_tags[PROCESS_TABLE_TAG] == describe_table()
