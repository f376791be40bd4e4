"""Runs on Celery workers: a lost worker, a termination, and a broker that is away, with a real Redis."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import PythonFileTarget
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from imgpipeline.defs.celery_launcher import WatchfulCeleryLauncher
from imgpipeline.errors import ConfigurationError
from imgpipeline_tests.defs.launching import create_run
from imgpipeline_tests.defs.site import PROGRAMS, REPOSITORY
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.processes import ServerProcess
from imgpipeline_tests.servers.redis_server import RedisServer
from imgpipeline_tests.servers.waiting import wait_until

JOBS = """
import sys
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

@dg.op
def use_what_is_loaded():
    assert {"imgpipeline.definitions", "dagster_postgres", "dagster_aws.s3.compute_log_manager"} <= sys.modules.keys()

@dg.job(executor_def=dg.in_process_executor, tags={"imgpipeline/work": "detection"})
def hasty():
    use_what_is_loaded()

defs = dg.Definitions(jobs=[short, long, hasty])
"""


class Machines:
    """Dagster with the launcher, a Redis for messages and one for results, and one worker for the queue `detection`."""

    def __init__(self, home: Path, broker: RedisServer, results: RedisServer, instance: dg.DagsterInstance) -> None:
        self.broker, self.results, self.instance, self._home = broker, results, instance, home
        self.launcher = instance.run_launcher
        self.worker, self.other_worker = self._make_worker("one"), self._make_worker("two")
        self.start_worker()

    def _make_worker(self, name: str) -> ServerProcess:
        worker = ["-A", "dagster_celery.app", "worker", "-Q", "detection", "-c", "1", "-n", f"{name}@x", "-l", "INFO"]
        command = [PROGRAMS / "celery", *worker]
        return ServerProcess("worker", command, self._home / f"worker-{name}.log", environment=dict(os.environ))

    def start_worker(self) -> None:
        self._start(self.worker)

    def start_other_worker(self) -> None:
        """Start a worker of another name for the same queue."""
        self._start(self.other_worker)

    def _start(self, worker: ServerProcess) -> None:
        begin = worker.log_path.stat().st_size if worker.log_path.exists() else 0
        worker.start(lambda: b"ready." in worker.log_path.read_bytes()[begin:], limit_s=90)

    def kill_worker(self) -> None:
        """Kill the worker and the processes in which it executes runs."""
        self.worker.kill_group()

    def stop(self) -> None:
        for worker in (self.worker, self.other_worker):
            worker.kill_group()

    def has_logged(self, text: str) -> bool:
        """Tell whether the worker has logged something."""
        return text.encode() in self.worker.log_path.read_bytes()

    def launch(self, job: str) -> str:
        target = PythonFileTarget(str(self._home / "jobs.py"), None, str(self._home), "jobs")
        with create_test_daemon_workspace_context(target, self.instance) as process:
            workspace = process.create_request_context()
            run = create_run(self.instance, workspace, job, {})
            self.instance.launch_run(run.run_id, workspace)
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        return self.instance.get_run_by_id(run_id)

    def wait_for(self, run_id: str, status: dg.DagsterRunStatus, *, limit_s: float = 60) -> None:
        wait_until(lambda: self.run(run_id).status is status, limit_s=limit_s, what=status.value, interval_s=0.1)

    def end_task(self, run_id: str, *, state: str = "SUCCESS") -> None:
        """Store that the task of a run has ended, as a duplicate of the task or Terminate would."""
        task_id = self.run(run_id).tags[DAGSTER_CELERY_TASK_ID_TAG]
        self.launcher.celery.backend.store_result(task_id, None, state)

    def health(self, run_id: str) -> WorkerStatus:
        return self.launcher.check_run_worker_health(self.run(run_id)).status


@pytest.fixture
def machines(tmp_path, monkeypatch) -> Iterator[Machines]:
    (tmp_path / "jobs.py").write_text(JOBS)
    with RedisServer(tmp_path / "broker") as broker, RedisServer(tmp_path / "results") as results:
        variables = {
            "IMGPIPELINE_CELERY_BROKER": broker.url(0),
            "IMGPIPELINE_CELERY_BACKEND": results.url(0),
            "DAGSTER_HOME": str(tmp_path),
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'deploy' / 'celery'}",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        deployed = yaml.safe_load((REPOSITORY / "deploy" / "celery" / "dagster.yaml").read_text())
        configuration = {name: deployed[name] for name in ("telemetry", "run_launcher", "run_monitoring")}
        configuration["run_monitoring"]["poll_interval_seconds"] = 5
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(configuration))
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            made = Machines(tmp_path, broker, results, instance)
            try:
                yield made
            finally:
                made.stop()


class Control:
    """The code server and the daemon, as two processes."""

    def __init__(self, home: Path) -> None:
        port = free_port()
        workspace = home / "workspace.yaml"
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": {"host": "127.0.0.1", "port": port}}]}))
        code = [PROGRAMS / "dagster", "code-server", "start", "-h", "127.0.0.1", "-p", str(port)]
        code += ["-f", home / "jobs.py"]
        daemon = [PROGRAMS / "dagster-daemon", "run", "-w", workspace]
        self.code_server = ServerProcess("code server", code, home / "code.log", environment=dict(os.environ))
        self.daemon = ServerProcess("daemon", daemon, home / "daemon.log", environment=dict(os.environ))
        self._port = port

    def start(self) -> None:
        self.code_server.start(lambda: self.code_server.listens_on(self._port), limit_s=90)
        begin = self._log_size()
        self.daemon.start(lambda: b"MonitoringDaemon" in self.daemon.log_path.read_bytes()[begin:], limit_s=90)

    def kill(self) -> None:
        for process in (self.daemon, self.code_server):
            process.kill_group()

    def wait_for_checks(self, run_id: str, *, count: int) -> None:
        """Wait until the daemon has checked the run so many times from now on."""
        begin, line = self._log_size(), f"Checking run {run_id}".encode()
        is_checked = lambda: self.daemon.log_path.read_bytes()[begin:].count(line) >= count  # noqa: E731 - one line
        wait_until(is_checked, limit_s=60, what=f"{count} checks of a run", interval_s=0.1)

    def _log_size(self) -> int:
        return self.daemon.log_path.stat().st_size if self.daemon.log_path.exists() else 0


@pytest.fixture
def control(machines, tmp_path) -> Iterator[Control]:
    made = Control(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.mark.parametrize("backend", [None, "rpc://"])
def test_a_backend_that_hides_the_state_of_tasks_is_refused(backend):
    with pytest.raises(ConfigurationError, match="rpc://"):
        WatchfulCeleryLauncher("tables", "redis://localhost/0", backend)


@pytest.mark.parametrize(
    "kept", [{"result_expires": 3599}, {"broker_transport_options": {"visibility_timeout": 3599}}], ids=str
)
def test_what_redis_keeps_for_less_time_than_a_run_may_take_is_refused(kept):
    launcher = WatchfulCeleryLauncher("tables", "redis://localhost/0", "redis://localhost/1", config_source=kept)
    settings = {"run_monitoring": {"enabled": True, "max_runtime_seconds": 3600}}
    refused = pytest.raises(ConfigurationError, match="is 3599 s, but max_runtime_seconds of a run is 3600 s")
    with dg.DagsterInstance.ephemeral(settings=settings) as instance, refused:
        launcher.register_instance(instance)


def test_a_result_that_never_expires_is_accepted():
    kept = {"result_expires": 0}
    launcher = WatchfulCeleryLauncher("tables", "redis://localhost/0", "redis://localhost/1", config_source=kept)
    settings = {"run_monitoring": {"enabled": True, "max_runtime_seconds": 3600}}
    with dg.DagsterInstance.ephemeral(settings=settings) as instance:
        launcher.register_instance(instance)


@pytest.mark.slow
def test_a_run_succeeds_on_a_worker_of_its_queue(machines):
    machines.wait_for(machines.launch("short"), dg.DagsterRunStatus.SUCCESS)


@pytest.mark.slow
def test_a_worker_has_loaded_the_definitions_and_the_storage_before_its_first_run(machines):
    """The storage here is SQLite, so the run itself loads nothing of that."""
    machines.wait_for(machines.launch("hasty"), dg.DagsterRunStatus.SUCCESS)


@pytest.mark.slow
def test_a_run_whose_task_has_ended_fails_after_a_minute(machines):
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    machines.end_task(run_id)
    assert machines.health(run_id) is WorkerStatus.SUCCESS
    ended_at_s = time.monotonic()
    is_failed = lambda: machines.health(run_id) is WorkerStatus.FAILED  # noqa: E731 - one line
    wait_until(is_failed, limit_s=75, what="the run to be lost", interval_s=1)
    assert time.monotonic() - ended_at_s > 59


@pytest.mark.slow
def test_a_run_that_is_being_terminated_is_not_lost(machines):
    """Celery revokes the task at once. A sensor that takes the run over then makes its end a failure."""
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    machines.end_task(run_id, state="REVOKED")
    assert machines.health(run_id) is WorkerStatus.SUCCESS


@pytest.mark.slow
@pytest.mark.parametrize("is_restarted", [False, True], ids=["gone", "restarted at once"])
def test_a_run_whose_whole_worker_was_killed_fails_after_silent_rounds(machines, is_restarted):
    """A worker that was started again has the same name and answers, but does not execute the run."""
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    assert machines.health(run_id) is WorkerStatus.RUNNING
    machines.kill_worker()
    if is_restarted:
        machines.start_worker()
    is_failed = lambda: machines.health(run_id) is WorkerStatus.FAILED  # noqa: E731 - one line
    wait_until(is_failed, limit_s=60, what="a failed worker", interval_s=1)


@pytest.mark.slow
def test_the_runs_of_a_silent_worker_share_the_wait_for_its_answer(machines):
    """A tick of a sensor has 60 s, and a large machine dozens of runs."""
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    machines.kill_worker()
    began_s = time.monotonic()
    assert {machines.health(run_id) for _ in range(20)} == {WorkerStatus.RUNNING}
    assert time.monotonic() - began_s < 10


@pytest.mark.slow
def test_a_run_that_waits_behind_another_one_is_not_lost_with_the_worker(machines):
    machines.wait_for(machines.launch("long"), dg.DagsterRunStatus.STARTED)
    waiting = machines.launch("short")
    machines.start_other_worker()
    machines.wait_for(waiting, dg.DagsterRunStatus.SUCCESS)


@pytest.mark.slow
def test_terminate_ends_a_run_within_15_s(machines):
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    assert machines.launcher.terminate(run_id)
    machines.wait_for(run_id, dg.DagsterRunStatus.CANCELED, limit_s=15)


@pytest.mark.slow
def test_a_redis_that_is_away_fails_nothing_even_if_workers_return_later(machines):
    """The pauses of a worker that connects again grow up to 30 s."""
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    servers = (machines.broker, machines.results)
    for server in servers:
        server.kill()

    def runs_until_logged() -> bool:  # looks as often as Dagster's daemon, which has to know how long Redis was away
        assert machines.health(run_id) is WorkerStatus.RUNNING
        return machines.has_logged("Trying again in 14.00 seconds")

    wait_until(runs_until_logged, limit_s=90, what="a worker that tries again later", interval_s=1)
    for server in servers:
        server.start()
    back_at_s = time.monotonic()
    while time.monotonic() - back_at_s < 25:
        assert machines.health(run_id) is WorkerStatus.RUNNING
        time.sleep(1)


@pytest.mark.slow
@pytest.mark.parametrize("away", ["broker", "results"])
def test_a_launch_waits_while_redis_is_away(machines, away):
    """Of a launcher that has reached Redis before; another one gives up after some seconds."""
    server: RedisServer = getattr(machines, away)
    machines.wait_for(machines.launch("short"), dg.DagsterRunStatus.SUCCESS)
    server.kill()
    with ThreadPoolExecutor(1) as pool:
        launched, until_s = pool.submit(machines.launch, "short"), time.monotonic() + 30
        is_over = lambda: launched.done() or time.monotonic() > until_s  # noqa: E731 - one line
        wait_until(is_over, limit_s=40, what="30 s of a launch")
        server.start()
        machines.wait_for(launched.result(), dg.DagsterRunStatus.SUCCESS)


@pytest.mark.slow
def test_a_run_whose_launch_was_interrupted_fails(machines):
    """The daemon was killed after Dagster had the run as STARTING, and before Redis had its message."""

    @dg.job
    def interrupted(): ...

    run = machines.instance.create_run_for_job(interrupted, status=dg.DagsterRunStatus.STARTING)
    assert machines.health(run.run_id) is WorkerStatus.RUNNING
    is_failed = lambda: machines.health(run.run_id) is WorkerStatus.FAILED  # noqa: E731 - one line
    wait_until(is_failed, limit_s=60, what="a lost run", interval_s=1)


@pytest.mark.slow
def test_the_daemon_fails_a_run_within_60_s_after_its_whole_worker_was_killed(machines, control, record_property):
    run_id = machines.launch("long")
    machines.wait_for(run_id, dg.DagsterRunStatus.STARTED)
    control.wait_for_checks(run_id, count=2)
    assert machines.run(run_id).status is dg.DagsterRunStatus.STARTED
    killed_at_s = time.monotonic()
    machines.kill_worker()
    machines.wait_for(run_id, dg.DagsterRunStatus.FAILURE, limit_s=60)
    record_property("seconds_until_failed", round(time.monotonic() - killed_at_s, 1))


@pytest.mark.slow
def test_a_run_queued_without_a_worker_outlives_restarts_of_code_server_and_daemon(machines, control):
    machines.kill_worker()
    run_id = machines.launch("short")
    control.wait_for_checks(run_id, count=1)
    control.kill()
    control.start()
    control.wait_for_checks(run_id, count=4)
    assert machines.run(run_id).status is dg.DagsterRunStatus.STARTING
    machines.start_worker()
    machines.wait_for(run_id, dg.DagsterRunStatus.SUCCESS)
