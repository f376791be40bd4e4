"""From the launch of a run to its first segment: a warm Celery worker against Dagster's default launcher.

`python -m imgpipeline_tests.scale.launches --rounds 12`. Both sites run side by side and take turns, so that what else
the machine does meets both.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from rich.console import Console

from imgpipeline.defs.detection_job import JOB_NAME
from imgpipeline.ledger.reading import fix_ends
from imgpipeline_tests.defs.site import LIVE, REPOSITORY
from imgpipeline_tests.scale.place import LOCATION, ScalePlace, open_place
from imgpipeline_tests.scale.work import announce_frames
from imgpipeline_tests.servers.waiting import wait_until

_WARM_UP_ROUNDS = 1
_LIMIT_S = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print median and 95th percentile."""
    parser = argparse.ArgumentParser(prog="launches", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    chosen = parser.parse_args(arguments)
    console, took_s = Console(width=120, highlight=False), dict[str, list[float]]()
    with contextlib.ExitStack() as around:
        folder = Path(around.enter_context(tempfile.TemporaryDirectory(prefix="launches-")))
        celery = around.enter_context(open_place(folder / "celery", linger_s=1))
        celery.start_control()
        celery.start_worker("w1@scale", queues="detection", runs=1)
        yaml = REPOSITORY / "deploy" / "dagster.yaml"
        default = around.enter_context(open_place(folder / "default", dagster_yaml=yaml, linger_s=1))
        default.start_control()
        places = {"default launcher": default, "warm Celery worker": celery}
        for place in places.values():
            stop = ("sensor", "stop", "keep_tables_current", "-w", "workspace.yaml", "-l", LOCATION)
            place.site.run("dagster", *stop)
        for number in range(_WARM_UP_ROUNDS + chosen.rounds):
            for name, place in places.items():
                seconds = launch_to_segment_s(place, number)
                console.print(f"{name}: {seconds:.2f} s")
                if number >= _WARM_UP_ROUNDS:
                    took_s.setdefault(name, []).append(seconds)
    for name, times in took_s.items():
        p95 = statistics.quantiles(times, n=20, method="inclusive")[-1]
        console.print(f"{name}: median {statistics.median(times):.2f} s, p95 {p95:.2f} s of {len(times)} launches")
    return 0


def launch_to_segment_s(place: ScalePlace, number: int) -> float:
    """Announce one frame, and return the seconds from the launch of its run until the ledger has it."""
    announce_frames(place, range(number, number + 1))
    has_it = lambda: sum(end.offset for end in fix_ends(place.store).values()) > number  # noqa: E731 - one line
    wait_until(has_it, limit_s=_LIMIT_S, what="a segment", interval_s=0.02)
    committed_s = time.time()
    newest = place.instance.get_runs(dg.RunsFilter(job_name=JOB_NAME), limit=1)[0]
    launched_s = place.instance.get_run_stats(newest.run_id).launch_time
    is_idle = lambda: not place.instance.get_runs(dg.RunsFilter(statuses=LIVE))  # noqa: E731 - one line
    wait_until(is_idle, limit_s=_LIMIT_S, what="the run to end", interval_s=0.2)
    return committed_s - launched_s


if __name__ == "__main__":
    sys.exit(main())
