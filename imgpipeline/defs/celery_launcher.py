"""Launches runs as Celery tasks on several machines, and notices when a worker is lost.

`dagster_celery`'s launcher reports a run as healthy as long as the result backend says STARTED, also after its worker
was killed, and does not tell Dagster that a run is being cancelled. `deploy/celery/dagster.yaml` names this one.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
from celery.exceptions import CeleryError
from celery.result import AsyncResult
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_TASK_ID_TAG
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from imgpipeline.defs.dagster_internals import CheckRunHealthResult, ConfigurableClassData, WorkerStatus
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.errors import ConfigurationError

QUEUES = ("detection", "tables", "redetection")
"""Kinds of work with a queue of their own; any other work goes to the default queue."""
SILENT_ROUNDS = 3
"""Checks without an answer from the worker after which its run has failed."""
_ROUND_S = 5.0
"""Minimum time between two checks that count; the sensor checks more often than Dagster's monitor."""
_ANSWER_S = 2.0
_LONGEST_RECONNECT_S = 35.0
"""After the broker was away, workers connect again within 30 s; until then, silence does not mean that one is lost."""
_RETRIES = {"max_retries": 90, "interval_start": 0, "interval_step": 1, "interval_max": 1}
"""A launch waits for a Redis that is away, one retry a second. Without an answer it fails, and is requested again."""
_UNFINISHED_S = 60.0
"""Maximum time between the end of a task and the end of its run in Dagster's storage."""
_LONGER_THAN_RUNS_S = 7 * 86_400
"""Results and messages are kept for longer than a run may take (`max_runtime_seconds`: one day)."""
_UNREACHABLE = (CeleryError, KombuError, RedisError, OSError)


class WatchfulCeleryLauncher(CeleryRunLauncher):
    """A Celery launcher whose lost workers are found, and whose runs can be terminated."""

    def __init__(
        self,
        default_queue: str,
        broker: str | None = None,
        backend: str | None = None,
        include: list[str] | None = None,
        config_source: Mapping[str, Any] | None = None,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        if not backend or backend.startswith("rpc"):
            raise ConfigurationError(
                "Celery's backend rpc:// hides the state of tasks from the daemon, which then fails healthy runs.",
                next_step="Set `backend` of `run_launcher` in dagster.yaml to a Redis database, such as redis://HOST/1.",
            )
        given = dict(config_source or {})
        kept = {"visibility_timeout": _LONGER_THAN_RUNS_S, **given.get("broker_transport_options", {})}
        config = {
            "result_expires": _LONGER_THAN_RUNS_S,
            "task_publish_retry_policy": _RETRIES,
            "result_backend_transport_options": {"retry_policy": _RETRIES},
            **given,
            "broker_transport_options": kept,
        }
        super().__init__(default_queue, broker, backend, include, config, inst_data)
        self._silent: dict[str, tuple[int, float]] = {}
        self._answers: dict[str, tuple[float, frozenset[str]]] = {}
        self._away_since_s, self._away_until_s = float("-inf"), time.monotonic()  # as far as a new process knows
        self._finished_since: dict[str, float] = {}

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Refuses to let Redis forget a result, or deliver a message again, before its run may have ended."""
        super().register_instance(instance)
        longest_run_s = instance.run_monitoring_max_runtime_seconds
        result_expires_s = self.config_source["result_expires"] or float("inf")  # 0: never
        visibility_timeout_s = self.config_source["broker_transport_options"]["visibility_timeout"]
        for name, kept_s in (("result_expires", result_expires_s), ("visibility_timeout", visibility_timeout_s)):
            if kept_s < longest_run_s:
                raise ConfigurationError(
                    f"{name} of run_launcher is {kept_s} s, but max_runtime_seconds of a run is {longest_run_s} s.",
                    next_step=f"Remove {name} from dagster.yaml, or set it to more than {longest_run_s}.",
                )

    @property
    def supports_resume_run(self) -> bool:
        """Whether runs can be resumed: dagster-celery's task for it fails with a TypeError."""
        return False

    def launch_run(self, context: Any) -> None:
        """Puts a run into the queue of its kind of work, unless its tags name a queue."""
        work = context.dagster_run.tags.get(WORK_TAG)
        if work in QUEUES and DAGSTER_CELERY_QUEUE_TAG not in context.dagster_run.tags:
            queued = context.dagster_run.with_tags({**context.dagster_run.tags, DAGSTER_CELERY_QUEUE_TAG: work})
            context = context._replace(dagster_run=queued)
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Tells Dagster that the run is being cancelled, then interrupts its task."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        self._result(run).revoke(terminate=True)
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Reports a run as failed only if that is certain, or its worker has been silent for several rounds."""
        if DAGSTER_CELERY_TASK_ID_TAG not in run.tags and run.status is not dg.DagsterRunStatus.STARTING:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "Not launched through Celery.")
        try:
            return self._check(run)
        except _UNREACHABLE as error:  # a broker that is away says nothing about the workers
            self._note_outage()
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"Celery is unreachable: {type(error).__name__}")

    def _check(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        result = self._result(run)
        meta = result._get_task_meta()  # noqa: SLF001 - state and worker of one moment, in one request
        state, info = meta["status"], meta.get("result")
        if state == "FAILURE":
            return CheckRunHealthResult(WorkerStatus.FAILED, "The Celery task failed.")
        if state in ("SUCCESS", "REVOKED"):  # Terminate revokes the task first; then its process ends the run
            since = self._finished_since.setdefault(run.run_id, time.monotonic())
            is_over = time.monotonic() - since > _UNFINISHED_S
            status = WorkerStatus.FAILED if is_over else WorkerStatus.SUCCESS
            return CheckRunHealthResult(status, "The Celery task ended, but not its run." if is_over else None)
        worker = info.get("hostname") if state == "STARTED" and isinstance(info, dict) else None
        if worker and run.tags[DAGSTER_CELERY_TASK_ID_TAG] in self._tasks_of(worker):
            self._silent.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if DAGSTER_CELERY_TASK_ID_TAG not in run.tags:  # the daemon was killed while it waited for the broker
            return self._count_silence(run, "launch has put no task into a queue")
        if run.status is not dg.DagsterRunStatus.STARTED:  # it waits in a queue; Dagster's start timeout decides
            return CheckRunHealthResult(WorkerStatus.RUNNING, "It waits for a worker.")
        return self._count_silence(run, f"worker {worker} does not execute it" if worker else f"task is {state}")

    def _tasks_of(self, worker: str) -> frozenset[str]:
        """Returns the tasks that a worker executes, asked once a round; none if it does not answer.

        A worker that was killed and started again has the name of the lost one, so an answer alone proves nothing.
        """
        asked_s, tasks = self._answers.get(worker, (float("-inf"), frozenset()))
        if time.monotonic() - asked_s >= _ROUND_S:
            answers = self.celery.control.inspect([worker], timeout=_ANSWER_S).active() or {}
            tasks = frozenset(task["id"] for task in answers.get(worker, ()))
            self._answers[worker] = time.monotonic(), tasks
        return tasks

    def _count_silence(self, run: dg.DagsterRun, reason: str) -> CheckRunHealthResult:
        rounds, last_s = self._silent.get(run.run_id, (0, float("-inf")))
        if time.monotonic() - last_s >= _ROUND_S:
            rounds, last_s = rounds + 1, time.monotonic()
            self._silent[run.run_id] = (rounds, last_s)
        is_lost = rounds >= SILENT_ROUNDS and time.monotonic() - self._away_until_s > self._reconnect_s()
        status = WorkerStatus.FAILED if is_lost else WorkerStatus.RUNNING
        return CheckRunHealthResult(status, f"The {reason} for {rounds} rounds.")

    def _note_outage(self) -> None:
        now_s = time.monotonic()
        if now_s - self._away_until_s > _LONGEST_RECONNECT_S:
            self._away_since_s = now_s
        self._away_until_s = now_s

    def _reconnect_s(self) -> float:
        """Returns how long workers may take to connect again: each of their pauses is 2 s longer than the last one."""
        return min(_LONGEST_RECONNECT_S, 2 * math.sqrt(self._away_until_s - self._away_since_s) + 5)

    def _result(self, run: dg.DagsterRun) -> AsyncResult:
        return self.celery.AsyncResult(run.tags.get(DAGSTER_CELERY_TASK_ID_TAG, run.run_id))
