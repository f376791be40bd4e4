"""Runs on Celery workers: a lost worker, a termination, and a broker that is away, with a real Redis."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import PythonFileTarget

from imgpipeline.defs.celery_launcher import SILENT_ROUNDS, WatchfulCeleryLauncher
from imgpipeline.errors import ConfigurationError
from imgpipeline_tests.defs.site import PROGRAMS, REPOSITORY
from imgpipeline_tests.servers.processes import ServerProcess
from imgpipeline_tests.servers.redis_server import RedisServer
from imgpipeline_tests.servers.waiting import wait_until

JOBS = """
import time
import dagster as dg

@dg.op
def end_at_once(): ...

@dg.op
def sleep():
    time.sleep(600)

@dg.job(executor_def=dg.in_process_executor, tags={"imgpipeline/work": "detection"})
def short():
    end_at_once()

@dg.job(executor_def=dg.in_process_executor, tags={"imgpipeline/work": "detection"})
def long():
    sleep()

defs = dg.Definitions(jobs=[short, long])
"""


class Machines:
    """Dagster with the launcher, a Redis, and one worker for the queue `detection`."""

    def __init__(self, home: Path, redis: RedisServer, instance: dg.DagsterInstance) -> None:
        self.redis, self.instance, self._home = redis, instance, home
        self.launcher = instance.run_launcher
        log = home / "worker.log"
        worker = ["-A", "dagster_celery.app", "worker", "-Q", "detection", "-c", "1", "-n", "one@x", "-l", "INFO"]
        command = [PROGRAMS / "celery", *worker]
        self.worker = ServerProcess("worker", command, log, environment=dict(os.environ))
        self.worker.start(lambda: "ready." in log.read_text(), limit_s=90)

    def launch(self, job: str) -> str:
        target = PythonFileTarget(str(self._home / "jobs.py"), None, str(self._home), "jobs")
        with create_test_daemon_workspace_context(target, self.instance) as process:
            workspace = process.create_request_context()
            location = workspace.code_locations[0]
            remote = location.get_repository("__repository__").get_full_job(job)
            run = self.instance.create_run(
                job_name=job, run_id=None, run_config={}, resolved_op_selection=None, step_keys_to_execute=None,
                status=None, tags=dict(remote.tags), root_run_id=None, parent_run_id=None,
                job_snapshot=remote.job_snapshot,
                execution_plan_snapshot=None, parent_job_snapshot=None, asset_selection=None,
                asset_check_selection=None,
                op_selection=None, asset_graph=None, remote_job_origin=remote.get_remote_origin(),
                job_code_origin=remote.get_python_origin(),
            )  # fmt: skip
            self.instance.launch_run(run.run_id, workspace)
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        return self.instance.get_run_by_id(run_id)

    def wait_for(self, run_id: str, status: dg.DagsterRunStatus, *, limit_s: float = 60) -> None:
        wait_until(lambda: self.run(run_id).status is status, limit_s=limit_s, what=status.value, interval_s=0.1)

    def health(self, run_id: str) -> WorkerStatus:
        return self.launcher.check_run_worker_health(self.run(run_id)).status


@pytest.fixture
def machines(tmp_path, monkeypatch) -> Iterator[Machines]:
    (tmp_path / "jobs.py").write_text(JOBS)
    with RedisServer(tmp_path / "redis") as redis:
        variables = {
            "IMGPIPELINE_CELERY_BROKER": redis.url(0),
            "IMGPIPELINE_CELERY_BACKEND": redis.url(1),
            "DAGSTER_HOME": str(tmp_path),
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'deploy' / 'celery'}",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        text = (REPOSITORY / "deploy" / "celery" / "dagster.yaml").read_text()
        launcher = text[text.index("run_launcher:") : text.index("run_monitoring:")]
        (tmp_path / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{launcher}")
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            made = Machines(tmp_path, redis, instance)
            try:
                yield made
            finally:
                if made.worker.is_alive:
                    os.killpg(made.worker.pid, signal.SIGKILL)
                made.worker.kill()


@pytest.mark.parametrize("backend", [None, "rpc://"])
def test_a_backend_that_hides_the_state_of_tasks_is_refused(backend):
    with pytest.raises(ConfigurationError, match="rpc://"):
        WatchfulCeleryLauncher("tables", "redis://localhost/0", backend)


@pytest.mark.slow
def test_a_run_succeeds_on_a_worker_of_its_queue(machines):
    machines.wait_for(machines.launch("short"), dg.DagsterRunStatus.SUCCESS)


@pytest.mark.slow
def test_a_run_whose_whole_worker_was_killed_fails_after_silent_rounds(machines):
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    assert machines.health(run_id) is WorkerStatus.RUNNING
    os.killpg(machines.worker.pid, signal.SIGKILL)
    is_failed = lambda: machines.health(run_id) is WorkerStatus.FAILED  # noqa: E731 - one line
    wait_until(is_failed, limit_s=SILENT_ROUNDS * 10, what="a failed worker", interval_s=1)


@pytest.mark.slow
def test_terminate_ends_a_run_within_15_s(machines):
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    assert machines.launcher.terminate(run_id)
    machines.wait_for(run_id, dg.DagsterRunStatus.CANCELED, limit_s=15)


@pytest.mark.slow
def test_a_redis_that_is_away_fails_nothing(machines):
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    machines.redis.kill()
    assert machines.health(run_id) is WorkerStatus.RUNNING
    machines.redis.start()
    wait_until(lambda: machines.health(run_id) is WorkerStatus.RUNNING, limit_s=20, what="health")
