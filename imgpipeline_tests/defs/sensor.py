"""Evaluates the Kafka sensor in the test process, with Dagster's storage in memory."""

from collections.abc import Mapping

import dagster as dg
import pytest

from imgpipeline.defs.detection_job import JOB_NAME, run_config_of
from imgpipeline.defs.frames_sensor import FramesWatcher, frames_sensor
from imgpipeline.defs.run_tags import noted
from imgpipeline.stream.lanes import Lane
from imgpipeline_tests.defs.site import Site

EVERYTHING = Lane(0, 1)


class Sensor:
    """The sensor with its memory and its storage."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.site = site
        self._monkeypatch = monkeypatch
        self.forget()
        self.set(**site.variables)

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def forget(self) -> None:
        """Lose the memory of earlier ticks, as a restart of the code server does."""
        self._monkeypatch.setattr("imgpipeline.defs.frames_sensor.watcher", FramesWatcher())

    def tick(self) -> dg.SensorResult | dg.SkipReason:
        return frames_sensor(dg.build_sensor_context(self.instance))

    def requests(self) -> list[dg.RunRequest]:
        answer = self.tick()
        assert isinstance(answer, dg.SensorResult), answer
        return list(answer.run_requests or [])

    def skip_reason(self) -> str:
        answer = self.tick()
        reason = answer.skip_reason if isinstance(answer, dg.SensorResult) else answer
        assert isinstance(reason, dg.SkipReason)
        return str(reason.skip_message)

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        return self.instance.get_run_by_id(run_id).status

    def add_run(
        self,
        status: dg.DagsterRunStatus,
        lane: Lane = EVERYTHING,
        notes: Mapping[str, str] | None = None,
        **tags: str,
    ) -> str:
        """Add a detection run; `notes` are what it has noted of itself, by tag."""
        run = self.instance.create_run_for_job(
            dg.Definitions(jobs=[_empty_job]).resolve_job_def(JOB_NAME),
            run_config=run_config_of(lane),
            status=status,
            tags=tags,
        )
        for tag, value in (notes or {}).items():
            self.instance.add_run_tags(run.run_id, noted(run.run_id, tag, value))
        return run.run_id


@dg.op(name="follow_lane", config_schema=dg.Permissive())
def _empty_op() -> None: ...


@dg.job(name=JOB_NAME)
def _empty_job() -> None:
    _empty_op()
