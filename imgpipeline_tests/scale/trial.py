"""One scale test: its faults one after another, what is measured meanwhile, and the proof at its end."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import dagster as dg
from rich.console import Console
from rich.table import Table

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.states import DayStates, day_states, due_days
from imgpipeline.defs.detection_job import JOB_NAME
from imgpipeline.defs.lost_runs import ended_at
from imgpipeline.defs.partitions import days_of_run
from imgpipeline.ledger.chain import find_current_end
from imgpipeline.stream.log import read_log
from imgpipeline_tests.defs.test_ways_of_use import ask
from imgpipeline_tests.faults.invariant import read_ledger
from imgpipeline_tests.scale.place import ScalePlace
from imgpipeline_tests.scale.runs import FAILED, all_runs, requested_again_at, runs_on, with_status
from imgpipeline_tests.scale.work import (
    FRAMES_PER_DAY,
    announce_frames,
    days_before,
    is_stored_day,
    launch_backfill,
    store_days,
)
from imgpipeline_tests.servers.waiting import wait_until

REDIS_AWAY_S = 30.0
LATE_FRAMES = 400
TERMINATED_WITHIN_S = 15.0
WORKERS = ("w1@scale", "w2@scale")
_PROGRESS_EVERY_S = 15.0
_TERMINATE = """
mutation Terminate($id: String!) {
  terminateRun(runId: $id) { __typename ... on TerminateRunFailure { message } ... on PythonError { message } }
}
"""
_console = Console(width=120, highlight=False)


@dataclass
class Trial:
    """A scale test while it runs."""

    place: ScalePlace
    frames: int
    """The backlog; `LATE_FRAMES` follow while Redis is away, and while no daemon runs."""
    days: int
    limit_s: float
    """It gives up after this time."""
    again_within_s: float
    """Longest time until a lost run has failed and its work is requested again."""
    figures: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What was not as it should be."""
    _announced: int = 0
    _ends: dict[ChainId, int] = field(default_factory=dict)
    _began_s: float = field(default_factory=time.monotonic)
    _shown_at_s: float = 0.0

    @property
    def _backfilled(self) -> list[date]:
        return days_before(self.days)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def run(self) -> None:
        """Let the work begin, break one part after another, and prove that nothing is lost."""
        place, days = self.place, self._backfilled
        place.start_control()
        self._tell("code server, webserver and daemon are there")
        self._announce(self.frames)
        launch_backfill(place, days)
        self._tell(f"a backfill of {self.days} days waits, with a run for each")
        store_days(place, days)
        for name in WORKERS:
            place.start_worker(name)
        self._tell("two workers are there")
        began_s = self.elapsed_s
        for percent, break_it in ((5, self.terminate), (20, self.kill_worker), (40, self.kill_redis),
                                  (60, self.kill_daemon)):  # fmt: skip
            least = percent * self.frames / 100
            self._wait(lambda least=least: self._committed() >= least, f"{percent} % of the frames")
            break_it()
        self._wait(self._is_done, "all frames and days")
        self.figures["from the workers' start to the last frame and day"] = f"{self.elapsed_s - began_s:.0f} s"
        self._wait(lambda: not self.place.site.runs(live=True), "all runs to end", limit_s=180)
        self.prove()

    def terminate(self) -> None:
        """Terminate a detection run, as the UI does."""

        def started() -> list[dg.DagsterRun]:
            return [run for run in with_status(self.place, dg.DagsterRunStatus.STARTED) if run.job_name == JOB_NAME]

        self._wait(lambda: bool(started()), "a detection run")
        run_id, began_s = started()[0].run_id, self.elapsed_s
        answer = ask(self.place.address, _TERMINATE, {"id": run_id})["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer
        wanted = dg.DagsterRunStatus.CANCELED
        self._wait(lambda: self.place.instance.get_run_by_id(run_id).status is wanted, "a terminated run", limit_s=60)
        self._note("Terminate ends a run after", self.elapsed_s - began_s, TERMINATED_WITHIN_S)

    def kill_worker(self) -> None:
        """Kill a worker with all its processes; start it again once its runs have failed and are requested again."""
        name = WORKERS[0]
        self._wait(lambda: bool(runs_on(self.place, name)), "a run on the first worker", limit_s=120)
        lost = [run.run_id for run in runs_on(self.place, name)]
        killed_at = utc_now()
        self.place.workers[name].kill_group()
        self._tell(f"killed a worker that executed {len(lost)} runs")
        self._wait_until_again(lambda: self._records(lost), killed_at, "after a worker was killed")
        self.place.start_worker(name)
        self._tell("the worker is back")

    def kill_redis(self) -> None:
        """Kill Redis, which comes back after a while."""
        killed_at = utc_now()
        self.place.redis.kill()
        self._announce(LATE_FRAMES)  # so that runs are launched meanwhile
        self._tell("killed Redis")
        until_s = self.elapsed_s + REDIS_AWAY_S
        self._wait(lambda: self.elapsed_s > until_s, "Redis to have been away")
        self.place.redis.start()
        back_at = utc_now()
        self._tell("Redis is back")
        self._wait_until_again(lambda: self._failed_since(killed_at), back_at, "after Redis was away")

    def kill_daemon(self) -> None:
        """Kill the daemon, and start it again."""
        killed_at = utc_now()
        self.place.daemon.kill_group()
        self._announce(LATE_FRAMES)
        self.place.start_daemon()
        back_at = utc_now()
        self._tell(f"killed the daemon; a new one was there after {(back_at - killed_at).total_seconds():.1f} s")
        self._wait_until_again(lambda: self._failed_since(killed_at), back_at, "after the daemon was killed")

    def _announce(self, count: int) -> None:
        announce_frames(self.place, range(self._announced, self._announced + count))
        self._announced += count

    def _records(self, run_ids: Sequence[str]) -> list[dg.RunRecord]:
        return [record for record in all_runs(self.place) if record.dagster_run.run_id in run_ids]

    def _failed_since(self, since: datetime) -> list[dg.RunRecord]:
        return [r for r in all_runs(self.place) if r.dagster_run.status in FAILED and ended_at(r) > since]

    def _wait_until_again(self, lost: Callable[[], list[dg.RunRecord]], since: datetime, when: str) -> None:
        """Wait until lost runs have failed and their work was requested again, and note the longest times."""

        def is_over() -> bool:
            if not all(record.dagster_run.is_finished for record in lost()):
                return False
            return all(self._again_at(record) or self._is_settled(record.dagster_run) for record in failed())

        def failed() -> list[dg.RunRecord]:
            return [record for record in lost() if record.dagster_run.status in FAILED]

        self._wait(is_over, f"lost runs to fail and their work to be requested again, {when}", limit_s=300)
        found = failed()
        self.figures[f"lost runs {when}"] = str(len(found))
        ends = [ended_at(record) for record in found]
        again = [at for record in found if (at := self._again_at(record))]
        for what, times in (("failed", ends), ("requested again", again)):
            took_s = max([0.0, *((at - since).total_seconds() for at in times)])
            self._note(f"lost runs {when}: {what} after", took_s, self.again_within_s)

    def _again_at(self, record: dg.RunRecord) -> datetime | None:
        return requested_again_at(record, all_runs(self.place))

    def _is_settled(self, run: dg.DagsterRun) -> bool:
        """Tell whether nothing is left to do for a run: its work was done before it was lost."""
        if run.job_name == JOB_NAME:
            return self._committed() == self._announced
        return set(days_of_run(run)).isdisjoint(due_days(self._states()))

    def _is_done(self) -> bool:
        if self._committed() < self._announced:
            return False
        states = self._states()
        return states.keys() >= set(self._backfilled) and set(self._backfilled).isdisjoint(due_days(states))

    def _states(self) -> dict[date, DayStates]:
        return day_states(self.place.store, self.place.site.settings, now=utc_now())

    def prove(self) -> None:
        """Compare what is there with what was announced, and let the audit that users have do so."""
        held = read_ledger(self.place.store)
        announced = [frame for frame in held.frames if not is_stored_day(frame["chain"])]
        names = {frame["frame_id"] for frame in held.frames}
        if (len(announced), len(names)) != (self._announced, self._announced + self.days * FRAMES_PER_DAY):
            self.faults.append(f"{len(announced)} announced frames, {len(names)} different frames in all")
        done = self.place.site.run("imgpipeline", "audit", "--full", "--json", limit_s=600, check=False)
        report = json.loads(done.stdout or "{}")
        if done.returncode or not report.get("ok"):
            self.faults.append(f"the audit ended with {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
            return
        built = {day["day"] for day in report["days"] if day["state"] == "compared" and not day["stale"]}
        if missing := {str(day) for day in self._backfilled} - built:
            self.faults.append(f"the tables of {', '.join(sorted(missing))} are not current")
        self.figures["audit"] = f"ok: {len(report['partitions'])} chains, {len(built)} days"

    def show(self) -> int:
        """Print the figures and what went wrong; return the status of the command."""
        counts = Counter((r.dagster_run.job_name, r.dagster_run.status.value) for r in all_runs(self.place))
        self.figures |= {f"runs of {job}, {status}": str(count) for (job, status), count in sorted(counts.items())}
        table = Table(title=f"{self.frames} frames, {self.days} days", title_justify="left", show_header=False)
        for name, value in self.figures.items():
            table.add_row(name, value)
        _console.print(table)
        for fault in self.faults:
            _console.print(f"NOT as it should be: {fault}")
        if not self.faults:
            _console.print("Every offset has one outcome, every day is built, nothing is there twice.")
        return 1 if self.faults else 0

    def _committed(self) -> int:
        """Return how many announced frames have an outcome."""
        for log in read_log(self.place.site.settings):
            hint = self._ends.get(log.chain)
            self._ends[log.chain] = find_current_end(self.place.store, log.chain, hint=hint).offset
        return sum(self._ends.values())

    def _tell(self, text: str) -> None:
        _console.print(f"{self.elapsed_s:6.0f} s  {text}")

    def _note(self, name: str, took_s: float, limit_s: float) -> None:
        self.figures[name] = f"{took_s:.1f} s (at most {limit_s:.0f})"
        self._tell(f"{name} {took_s:.1f} s")
        if took_s > limit_s:
            self.faults.append(f"{name} {took_s:.1f} s, which is more than {limit_s:.0f} s")

    def _wait(self, condition: Callable[[], bool], what: str, *, limit_s: float = float("inf")) -> None:
        """Wait with lines of progress, within the time of the whole test."""

        def asked() -> bool:
            self._show_progress()
            return condition()

        wait_until(asked, limit_s=min(self.limit_s - self.elapsed_s, limit_s), what=what, interval_s=1)

    def _show_progress(self) -> None:
        if self.elapsed_s - self._shown_at_s > _PROGRESS_EVERY_S:
            self._shown_at_s = self.elapsed_s
            counts = Counter(record.dagster_run.status.value for record in all_runs(self.place))
            runs = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
            self._tell(f"{self._committed()} of {self._announced} frames; runs: {runs or 'none'}")
