"""Compares warm Celery workers with Dagster's default launcher: the time to start a run, and the throughput.

    python -m benchmarks.workers                                          seven minutes
    python -m benchmarks.workers --launches 1 --frames 400 --rounds 1     a glance

Real Redis, Kafka, S3 server, PostgreSQL, code server and workers, one history for both launchers, and the shipped
model with one thread. Runs are launched by `instance.launch_run`, the call with which Dagster's daemon takes a run from
its queue, so waiting in that queue is not part of any figure.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget

from benchmarks.place import Effort, describe_machine, say
from benchmarks.report import Table
from benchmarks.rounds import Figures, Rounds, spread, take_turns
from benchmarks.same_cores import await_frames
from imgpipeline.defs.detection_job import JOB_NAME, run_config_of
from imgpipeline.defs.lost_runs import is_gone
from imgpipeline.defs.run_tags import PROCESS_TAG, read_noted
from imgpipeline.stream.lanes import Lane
from imgpipeline_tests.defs.launching import create_run
from imgpipeline_tests.scale.place import LANES, LOCATION, ScalePlace, open_place
from imgpipeline_tests.scale.work import announce_frames
from imgpipeline_tests.servers.ports import LOOPBACK
from imgpipeline_tests.servers.waiting import wait_until

_DEFAULT, _WARM, _FRESH = "default launcher", "warm Celery worker", "fresh Celery worker"
_WORKERS = ("one@workers", "two@workers")
_FRESH_WORKERS = 3
_LIMIT_S = 300.0
_LINGER_S = 2.0
_WARM_UP_FRAMES = 400


@dataclass
class Trial:
    """The place, and how many frames it has announced."""

    place: ScalePlace
    celery: WorkspaceProcessContext
    default: WorkspaceProcessContext
    announced: int = 0

    def announce(self, count: int) -> None:
        """Announces frames of a small picture on all partitions."""
        announce_frames(self.place, range(self.announced, self.announced + count))
        self.announced += count

    def launch(self, through: WorkspaceProcessContext, lane: Lane) -> tuple[str, float]:
        """Launches a run; returns its id and when, Unix time."""
        instance, workspace = through.instance, through.create_request_context()
        run_id = create_run(instance, workspace, JOB_NAME, run_config_of(lane)).run_id
        launched_s = time.time()
        instance.launch_run(run_id, workspace)
        return run_id, launched_s

    def await_end(self, run_id: str) -> None:
        """Waits until a run has succeeded."""
        instance = self.place.instance
        is_finished = lambda: instance.get_run_by_id(run_id).is_finished  # noqa: E731 - one line
        wait_until(is_finished, limit_s=_LIMIT_S, what="a run to end", interval_s=0.2)
        if (status := instance.get_run_by_id(run_id).status) is not dg.DagsterRunStatus.SUCCESS:
            raise RuntimeError(f"run {run_id} ended as {status}: see its events and {self.place.site.home}")

    def first_segment(self, through: WorkspaceProcessContext) -> Figures:
        """Announces one frame, and returns the seconds from the launch of a run until the frame's segment is made."""
        self.announce(1)
        run_id, launched_s = self.launch(through, Lane(0, 1))
        _, made_s = await_frames(self.place.store, self.announced, limit_s=_LIMIT_S)
        self.await_end(run_id)
        if through is self.default:  # it has its own process, whose end must not slow the next launch down
            note = read_noted(through.instance.get_run_by_id(run_id), PROCESS_TAG)
            wait_until(lambda: is_gone(note), limit_s=_LIMIT_S, what="the process of a run to end")
        started_s = through.instance.get_run_stats(run_id).start_time
        return {"started_s": started_s - launched_s, "segment_s": made_s - launched_s}

    def fresh_worker(self) -> Figures:
        """Starts a worker whose processes have not executed a run; measures as `first_segment`."""
        name = _WORKERS[0]
        if name in self.place.workers:
            self.place.workers[name].kill_group()
        self.place.start_worker(name, runs=1)
        return self.first_segment(self.celery)

    def backlog(self, through: WorkspaceProcessContext, frames: int) -> Figures:
        """Lets a run for each lane detect a backlog; returns its speed with and without the start of the runs."""
        self.announce(frames)
        launched = [self.launch(through, Lane(number, LANES)) for number in range(LANES)]
        tenth = self.announced - round(0.9 * frames)
        begun, begun_s = await_frames(self.place.store, tenth, limit_s=_LIMIT_S)
        _, last_s = await_frames(self.place.store, self.announced, limit_s=_LIMIT_S)
        for run_id, _ in launched:
            self.await_end(run_id)
        return {
            "frames_per_s": (self.announced - begun) / (last_s - begun_s),
            "from_launch_per_s": frames / (last_s - launched[0][1]),
        }


@contextmanager
def _open_trial(folder: Path) -> Iterator[Trial]:
    """Starts servers and code server, and opens one storage with each of the two launchers."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(open_place(folder, linger_s=_LINGER_S))
        place.code_server.start(lambda: place.code_server.listens_on(place.code_port), limit_s=_LIMIT_S)
        target = GrpcServerTarget(LOOPBACK, place.code_port, None, LOCATION)
        configuration = yaml.safe_load((place.site.home / "dagster.yaml").read_text())
        del configuration["run_launcher"]
        home = folder / "default"
        home.mkdir()
        (home / "dagster.yaml").write_text(yaml.safe_dump(configuration))
        default = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        opened = [
            stack.enter_context(create_test_daemon_workspace_context(target, instance))
            for instance in (place.instance, default)
        ]
        yield Trial(place, *opened)


def _starts(fresh: list[Figures], turns: Rounds) -> Table:
    columns = ("launch to", "through", "launches", "p50", "p95", "longest", "p95 / p95 of the default launcher")
    rows = []
    for what, figure in (("start of the run", "started_s"), ("first segment", "segment_s")):
        figures = {**turns.figures, _FRESH: fresh}
        found = {name: spread([float(each[figure]) for each in of]) for name, of in figures.items()}
        for name, one in found.items():
            times = (f"{one[key]:.2f} s" for key in ("p50_s", "p95_s", "longest_s"))
            ratio = one["p95_s"] / found[_DEFAULT]["p95_s"]
            rows.append((what, name, f"{one['count']:g}", *times, f"{ratio:.2f}"))
    return Table(columns, rows)


def _speeds(frames: int, turns: Rounds) -> Table:
    columns = ("what", *turns.figures, "ratio of the medians", "round by round")
    rows = []
    figures = {
        "frames/s after the first tenth": "frames_per_s",
        "frames/s from the launch on": "from_launch_per_s",
    }
    for what, figure in figures.items():
        medians = [turns.median(name, figure) for name in (_DEFAULT, _WARM)]
        spread_of = turns.ratio(_WARM, _DEFAULT, figure).spread
        rows.append((what, *(f"{one:.1f}" for one in medians), f"{medians[1] / medians[0]:.2f}", spread_of))
    return Table(columns, rows, f"A backlog of {frames:,} frames over {LANES} lanes:")


def _measure(trial: Trial, chosen: argparse.Namespace) -> list[Table]:
    through = {_DEFAULT: trial.default, _WARM: trial.celery}
    fresh = [trial.fresh_worker() for _ in range(_FRESH_WORKERS)]
    trial.first_segment(trial.default)  # the code server has launched a run, too
    starts: dict[str, Callable[[], Figures]] = {
        name: partial(trial.first_segment, context) for name, context in through.items()
    }
    launched = take_turns(starts, chosen.launches, shown="segment_s")
    trial.place.workers[_WORKERS[0]].kill_group()
    for name in _WORKERS:
        trial.place.start_worker(name, runs=LANES // len(_WORKERS))
    trial.backlog(trial.celery, _WARM_UP_FRAMES)
    works: dict[str, Callable[[], Figures]] = {
        name: partial(trial.backlog, context, chosen.frames) for name, context in through.items()
    }
    return [_starts(fresh, launched), _speeds(chosen.frames, take_turns(works, chosen.rounds, shown="frames_per_s"))]


def main() -> None:
    """Measures, and prints tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description="Celery and default launcher.")
    parser.add_argument("--launches", type=int, default=12, help="of each launcher, in turns")
    parser.add_argument("--frames", type=int, default=4_000, help="of the backlog")
    parser.add_argument("--rounds", type=int, default=3, help="how often each launcher works off a backlog")
    chosen = parser.parse_args()
    machine = describe_machine(Effort(is_quick=False))
    with tempfile.TemporaryDirectory(prefix="workers-") as folder, _open_trial(Path(folder)) as trial:
        say("servers and code server are there")
        tables = _measure(trial, chosen)
    print("\n\n".join(table.render() for table in (Table(("what", "value"), list(machine.items())), *tables)))


if __name__ == "__main__":
    main()
