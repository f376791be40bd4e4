"""`python -m imgpipeline_tests.scale --frames 20000 --days 60`: exits with 1 where anything is lost, doubled or late."""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from rich.console import Console
from rich.table import Table

from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.states import day_states, due_days
from imgpipeline.defs.detection_job import JOB_NAME
from imgpipeline.defs.lost_runs import ended_at
from imgpipeline.ledger.reading import fix_ends
from imgpipeline_tests.defs.test_ways_of_use import ask
from imgpipeline_tests.faults.invariant import read_ledger
from imgpipeline_tests.scale.place import TOPIC, ScalePlace, open_place
from imgpipeline_tests.scale.runs import FAILED, all_runs, next_requests, runs_on, with_status
from imgpipeline_tests.scale.work import FRAMES_PER_DAY, announce_backlog, days_before, launch_backfill, store_days
from imgpipeline_tests.servers.waiting import wait_until

REDIS_AWAY_S = 30.0
AGAIN_WITHIN_S = 60.0
"""How long it may take until a lost run has failed and its work is requested again."""
TERMINATED_WITHIN_S = 15.0
PROGRESS_EVERY_S = 15.0
WORKERS = ("w1@scale", "w2@scale")
TERMINATE = """
mutation Terminate($id: String!) {
  terminateRun(runId: $id) { __typename ... on TerminateRunFailure { message } ... on PythonError { message } }
}
"""
console = Console(width=120, highlight=False)


@dataclass
class ScaleTest:
    """One scale test while it runs."""

    place: ScalePlace
    frames: int
    days: int
    limit_s: float
    figures: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What was not as it should be."""
    _began_s: float = field(default_factory=time.monotonic)
    _shown_at_s: float = 0.0

    def tell(self, text: str) -> None:
        console.print(f"{time.monotonic() - self._began_s:6.0f} s  {text}")

    def wait(self, condition: Callable[[], bool], what: str, *, limit_s: float | None = None) -> None:
        """Wait with lines of progress, within the time of the whole test."""
        left_s = self._began_s + self.limit_s - time.monotonic()
        asked = lambda: self._show_progress() or condition()  # noqa: E731 - one line
        wait_until(asked, limit_s=min(left_s, limit_s or left_s), what=what, interval_s=0.5)

    def _show_progress(self) -> None:
        if time.monotonic() - self._shown_at_s > PROGRESS_EVERY_S:
            self._shown_at_s = time.monotonic()
            counts = Counter(record.dagster_run.status.value for record in all_runs(self.place))
            runs = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
            self.tell(f"{self.committed()} of {self.frames} frames; runs: {runs or 'none'}")

    def committed(self) -> int:
        """Return how many announced frames have an outcome."""
        ends = fix_ends(self.place.store).items()
        return sum(end.offset for chain, end in ends if not chain.topic_id.startswith("of-"))

    def run(self) -> None:
        """Let the work begin, break one part after the other, and prove that nothing is lost."""
        place, wanted = self.place, days_before(self.days)
        place.start_control()
        self.tell("code server, webserver and daemon are there")
        announce_backlog(place, self.frames)
        launch_backfill(place, wanted)
        self.tell(f"a backfill has requested {len(self._builds())} runs")
        store_days(place, wanted)
        for name in WORKERS:
            place.start_worker(name)
        self.tell("two workers are there")
        for share, fault in ((0.05, self.terminate), (0.2, self.kill_worker), (0.4, self.kill_redis),
                             (0.6, self.kill_daemon)):  # fmt: skip
            self.wait(lambda least=share * self.frames: self.committed() >= least, f"{share:.0%} of the frames")
            fault()
        self.wait(self._is_done, "all frames and days")
        self.figures["all frames and days after"] = f"{time.monotonic() - self._began_s:.0f} s"
        self.wait(lambda: not self.place.site.runs(live=True), "all runs to end", limit_s=120)
        self.prove()

    def _builds(self) -> list[dg.RunRecord]:
        return [record for record in all_runs(self.place) if record.dagster_run.job_name == "rebuild_days"]

    def terminate(self) -> None:
        """Terminate a detection run, as the UI does."""
        started = lambda: [r for r in with_status(self.place, dg.DagsterRunStatus.STARTED) if r.job_name == JOB_NAME]  # noqa: E731 - one line
        self.wait(lambda: bool(started()), "a detection run")
        run_id, began_s = started()[0].run_id, time.monotonic()
        answer = ask(self.place.address, TERMINATE, {"id": run_id})["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer
        is_over = lambda: self.place.instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.CANCELED  # noqa: E731
        self.wait(is_over, "a terminated run to end", limit_s=60)
        self._note("Terminate ends a run after", time.monotonic() - began_s, TERMINATED_WITHIN_S)

    def kill_worker(self) -> None:
        """Kill a worker with all its processes; start it again once its runs have failed."""
        name = WORKERS[0]
        self.wait(lambda: bool(runs_on(self.place, name)), "a run on the first worker", limit_s=60)
        lost = [run.run_id for run in runs_on(self.place, name)]
        at = datetime.now(UTC)
        self.place.workers[name].kill_group()
        self.tell(f"killed a worker with {len(lost)} runs")
        self._wait_for_lost(lost, at, "killed worker")
        self.place.start_worker(name)
        self.tell("the worker is back")

    def _wait_for_lost(self, lost: Sequence[str], at: datetime, what: str) -> None:
        is_over = lambda: all(self.place.instance.get_run_by_id(one).is_finished for one in lost)  # noqa: E731
        self.wait(is_over, f"the runs of a {what} to fail", limit_s=180)
        records = [record for record in all_runs(self.place) if record.dagster_run.run_id in lost]
        took = [(ended_at(r) - at).total_seconds() for r in records if r.dagster_run.status in FAILED]
        self._note(f"{what}: {len(took)} lost runs have failed after", max(took, default=0), AGAIN_WITHIN_S)

    def kill_redis(self) -> None:
        """Kill Redis, which comes back after a while."""
        began = datetime.now(UTC)
        self.place.redis.kill()
        self.tell("killed Redis")
        away_until_s = time.monotonic() + REDIS_AWAY_S
        self.wait(lambda: time.monotonic() > away_until_s, "Redis to have been away")
        self.place.redis.start()
        self.tell("Redis is back")
        failed = [r for r in all_runs(self.place) if r.dagster_run.status in FAILED and ended_at(r) > began]
        self.figures["runs that failed while Redis was away"] = str(len(failed))

    def kill_daemon(self) -> None:
        """Kill the daemon, and start it again."""
        began_s = time.monotonic()
        self.place.daemon.kill_group()
        self.place.start_daemon()
        self.figures["daemon: it is back after"] = f"{time.monotonic() - began_s:.1f} s"
        self.tell("killed the daemon; a new one is there")

    def _is_done(self) -> bool:
        if self.committed() < self.frames:
            return False
        states = day_states(self.place.store, self.place.site.settings, now=utc_now())
        return len(states) > self.days and not due_days(states)

    def prove(self) -> None:
        """Compare what is there with what was announced, and let users' own audit do so."""
        held = read_ledger(self.place.store)
        announced = [frame for frame in held.frames if not frame["chain"].topic_id.startswith("of-")]
        names = {frame["frame_id"] for frame in held.frames}
        if (len(announced), len(names)) != (self.frames, self.frames + self.days * FRAMES_PER_DAY):
            self.faults.append(f"{len(announced)} announced frames, {len(names)} different frames in all")
        done = self.place.site.run("imgpipeline", "audit", "--full", "--json", limit_s=600, check=False)
        report = json.loads(done.stdout or "{}")
        if done.returncode or not report.get("ok"):
            self.faults.append(f"audit: status {done.returncode}: {done.stderr[-2000:]}")
        self.figures["audit"] = f"ok, {len(report['partitions'])} chains, {len(report['days'])} days"
        self._judge_requests()

    def _judge_requests(self) -> None:
        records = all_runs(self.place)
        for record in records:
            if record.dagster_run.status is dg.DagsterRunStatus.FAILURE:
                again = next_requests(record, records)
                took = "never" if again is None else f"{(again - ended_at(record)).total_seconds():.1f} s"
                self.tell(f"{record.dagster_run.job_name} failed at {ended_at(record):%H:%M:%S}, requested again after {took}")

    def _note(self, name: str, took_s: float, limit_s: float) -> None:
        self.figures[name] = f"{took_s:.1f} s (at most {limit_s:.0f})"
        self.tell(f"{name} {took_s:.1f} s")
        if took_s > limit_s:
            self.faults.append(f"{name} {took_s:.1f} s, which is more than {limit_s:.0f} s")

    def show(self) -> int:
        """Print the figures and what went wrong; return the status of the command."""
        counts = Counter((r.dagster_run.job_name, r.dagster_run.status.value) for r in all_runs(self.place))
        self.figures |= {f"runs: {job}, {status}": str(count) for (job, status), count in sorted(counts.items())}
        table = Table(title="measured", title_justify="left", show_header=False)
        for name, value in self.figures.items():
            table.add_row(name, value)
        console.print(table)
        for fault in self.faults:
            console.print(f"NOT as it should be: {fault}")
        return 1 if self.faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test, and print its figures."""
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000, help="the backlog")
    parser.add_argument("--days", type=int, default=60, help="days of the backfill")
    parser.add_argument("--minutes", type=float, default=20, help="give up after this time")
    parser.add_argument("--keep", type=Path, help="a folder for servers and DAGSTER_HOME that stays, to look into")
    chosen = parser.parse_args(arguments)
    with contextlib.ExitStack() as around:
        folder = chosen.keep or Path(around.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        place = around.enter_context(open_place(folder))
        test = ScaleTest(place, chosen.frames, chosen.days, chosen.minutes * 60)
        try:
            test.run()
        except TimeoutError as error:
            test.faults.append(f"gave up: {error}")
        return test.show()


if __name__ == "__main__":
    sys.exit(main())
