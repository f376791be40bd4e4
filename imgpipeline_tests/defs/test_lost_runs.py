"""Builds whose process is gone are found by the process that they or Dagster recorded."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, RunLauncher, WorkerStatus
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.daily.pace import Wanted
from imgpipeline.definitions import defs
from imgpipeline.defs.detection_job import JOB_NAME
from imgpipeline.defs.keep_tables import request_of
from imgpipeline.defs.lost_runs import describe_process, describe_table, end_process, is_gone, mark_lost_builds
from imgpipeline.defs.run_records import mark_failed
from imgpipeline.defs.run_tags import PROCESS_TABLE_TAG, PROCESS_TAG, noted

HERE = {PROCESS_TABLE_TAG: describe_table()}
ELSEWHERE = {PROCESS_TABLE_TAG: json.dumps(["another machine", "", ""])}
GONE = json.dumps([*json.loads(describe_process())[:-1], "1"])
"""An earlier process that had the id of this one."""
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Builds:
    """Runs of the real asset job in Dagster's storage, in the states that the tests need."""

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
        return self.instance.get_run_by_id(run_id).status


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
def test_a_build_whose_recorded_process_is_gone_is_marked(builds, note, is_lost):
    run_id = builds.launch()
    builds.instance.add_run_tags(run_id, noted(run_id, PROCESS_TAG, note))
    assert builds.lost() == [run_id] * is_lost
    assert (builds.status(run_id) is dg.DagsterRunStatus.FAILURE) == is_lost


@pytest.mark.fault(44)
def test_fault_44_a_build_whose_process_died_before_its_first_step_is_marked(builds, ended_pid):
    run_id = builds.launch(pid=ended_pid, **HERE)
    assert builds.lost() == [run_id]
    assert builds.status(run_id) is dg.DagsterRunStatus.FAILURE


def test_a_build_whose_process_is_alive_is_not_marked(builds):
    builds.launch(pid=os.getpid(), **HERE)
    assert builds.lost() == []


@pytest.mark.parametrize("tags", [ELSEWHERE, {}], ids=["another machine", "unknown"])
def test_a_process_id_of_another_process_table_is_ignored(builds, ended_pid, tags):
    builds.launch(pid=ended_pid, **tags)
    assert builds.lost() == []


@pytest.mark.fault(44)
def test_fault_44_a_build_that_never_reported_is_lost_once_its_code_server_was_replaced(builds):
    run_id = builds.launch(**HERE)
    builds.now += timedelta(seconds=31)
    assert builds.lost() == [], "its code server lives, and tells Dagster itself"
    replaced_at = builds.now - timedelta(seconds=20)
    assert builds.lost(serving_since=replaced_at) == [run_id]


def test_a_build_that_was_just_launched_may_still_report_after_its_code_server_was_replaced(builds):
    builds.launch(**HERE)
    builds.now += timedelta(seconds=10)
    assert builds.lost(serving_since=builds.now) == []


def test_a_re_executed_build_is_not_mistaken_for_the_first_one(builds):
    """Dagster copies all tags of a run that is re-executed."""
    first = builds.launch()
    builds.instance.add_run_tags(first, noted(first, PROCESS_TAG, GONE))
    assert builds.lost() == [first]
    builds.launch(parent=first, **builds.instance.get_run_by_id(first).tags)
    assert builds.lost() == []


def test_runs_of_jobs_record_the_process_table_whoever_requests_them():
    for name in ("detect_frames", "watch_events", "rebuild_days", "redetect_days"):
        assert defs.resolve_job_def(name).tags[PROCESS_TABLE_TAG] == describe_table()


def test_builds_that_the_sensor_requests_end_within_an_hour():
    request = request_of(Wanted(("day_tables",), (date(2026, 3, 1),), "missing"))
    assert 0 < float(request.tags["dagster/max_runtime"]) <= 3600


def test_a_process_that_was_killed_is_gone_even_before_its_parent_collects_it():
    child = subprocess.Popen([sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    child.stdout.readline()
    note = describe_process(child.pid)
    assert not is_gone(note)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(note)
    child.wait()
    assert is_gone(note)
    child.stdout.close()
    child.stdin.close()


@pytest.mark.parametrize("place", [0, 1, 2], ids=["another machine", "another boot", "another container"])
def test_a_process_on_another_machine_is_not_gone(place):
    note = json.loads(describe_process())
    note[place], note[-1] = "other", "1"
    assert not is_gone(json.dumps(note))


@given(st.one_of(st.none(), st.text(), st.lists(st.one_of(st.integers(), st.text())).map(json.dumps)))
def test_an_invalid_note_is_not_gone(note):
    assert not is_gone(note)


def test_a_recorded_process_is_killed_even_if_it_is_stopped_and_no_other_one():
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


class PooledWorkers(RunLauncher):
    """A launcher like Celery's, whose worker processes execute many runs one after another, on any machine."""

    def __init__(self) -> None:
        super().__init__()
        self.health = WorkerStatus.RUNNING
        self.terminated: list[str] = []
        self.is_reachable = True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:  # noqa: ARG002 - Dagster's name
        return CheckRunHealthResult(self.health)

    def launch_run(self, context: object) -> None:
        raise NotImplementedError("the tests create their runs in Dagster's storage")

    def terminate(self, run_id: str) -> bool:
        if not self.is_reachable:
            raise ConnectionError("the broker is away")
        self.terminated.append(run_id)
        return True


@pytest.fixture
def workers(builds, monkeypatch) -> PooledWorkers:
    launcher = PooledWorkers()
    launcher.register_instance(builds.instance)
    monkeypatch.setattr(type(builds.instance), "run_launcher", launcher)
    return launcher


def test_a_takeover_does_not_kill_a_pooled_process_that_executes_another_run(builds, workers):
    child = subprocess.Popen(["sleep", "600"])
    try:
        run_id = builds.launch()
        builds.instance.add_run_tags(run_id, noted(run_id, PROCESS_TAG, describe_process(child.pid)))
        mark_failed(builds.instance, run_id, "it made no progress")
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    assert builds.status(run_id) is dg.DagsterRunStatus.FAILURE
    assert workers.terminated == [run_id]


def test_a_takeover_succeeds_while_the_launcher_cannot_terminate(builds, workers):
    workers.is_reachable = False
    run_id = builds.launch()
    mark_failed(builds.instance, run_id, "it made no progress")
    assert builds.status(run_id) is dg.DagsterRunStatus.FAILURE


def test_a_process_id_of_a_remote_worker_is_not_searched_in_this_process_table(builds, workers, ended_pid):
    builds.launch(pid=ended_pid, **HERE)
    assert builds.lost() == []


def test_a_run_that_waits_for_a_remote_worker_survives_a_restart_of_the_code_server(builds, workers):
    workers.health = WorkerStatus.UNKNOWN
    builds.launch(**HERE)
    builds.now += timedelta(hours=1)
    assert builds.lost(serving_since=builds.now) == []


def test_a_run_whose_worker_failed_according_to_its_launcher_is_marked(builds, workers):
    run_id = builds.launch()
    workers.health = WorkerStatus.FAILED
    assert builds.lost() == [run_id]
