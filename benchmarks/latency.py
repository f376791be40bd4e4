"""From the record in Kafka to the row in DuckDB: while a run follows, and when a frame finds nothing running.

A frame counts as queryable when a session that was opened after it was announced has answered a query with it. So the
time that opening and asking take is part of it.
"""

import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg

from benchmarks.children import run_contender, variables_of
from benchmarks.material import make_pictures, usual_network
from benchmarks.place import Effort, Place, say, store_pictures
from benchmarks.report import Table, at_most
from benchmarks.rounds import Figures, spread, take_turns
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import utc_now
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.defs.site import Site, make_site
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.waiting import wait_until

_PER_S = 5
_LINGER_S = 5.0
_START_LIMIT_S = 90.0
_END_LIMIT_S = 30.0
_SENSOR_INTERVAL_S = 5.0
_POLL_S = 0.2
_EVENTS = {
    "announced → the sensor requests a run": dg.DagsterEventType.PIPELINE_ENQUEUED,
    "requested → taken from Dagster's queue": dg.DagsterEventType.PIPELINE_STARTING,
    "taken → the run's process has started": dg.DagsterEventType.PIPELINE_START,
    "started → the step begins": dg.DagsterEventType.STEP_START,
}
"""What ends each part of the time of a frame that finds nothing running, in order."""
_LAST_PART = "step begins → detected, committed and queryable"


def measure_latency(place: Place, effort: Effort) -> list[Table]:
    """Announces pictures steadily while a run follows and a client asks for them, by each checkout in turns."""
    seconds = effort.of(60.0, 10.0)
    count = round(seconds * _PER_S)
    contenders = {name: partial(_watch, place, count, folder) for name, folder in effort.checkouts.items()}
    found = take_turns(contenders, len(contenders), shown="p95_s")
    columns = ("frames", "at", "checkout", "p50", "p95", "longest", "goal", "one query takes")
    rows = []
    for name in contenders:
        p50_s, p95_s, longest_s, asked_s = (
            found.median(name, figure) for figure in ("p50_s", "p95_s", "longest_s", "asked_s")
        )
        goal = at_most(p95_s, 2.0, "p95 < 2 s")
        rows.append((str(count), f"{_PER_S} a second", name, f"{p50_s:.2f} s", f"{p95_s:.2f} s", f"{longest_s:.2f} s",
                     goal, f"{asked_s:.2f} s"))  # fmt: skip
    return [Table(columns, rows)]


def _watch(place: Place, count: int, checkout: Path) -> Figures:
    """Returns the latency of each frame but the first, for which the run starts; and how long a query took."""
    settings = place.settings("steady", linger_s=_LINGER_S, **usual_network().settings())
    urls = store_pictures(settings, make_pictures(640, 360, 60))
    first, seen_at_s, asked_s = threading.Event(), dict[int, float](), list[float]()

    def note(said: Mapping[str, Any]) -> None:
        """Notes an answer: Linux has one monotonic clock for all processes."""
        for number in said["numbers"]:
            seen_at_s.setdefault(number, said["at_s"])
        asked_s.append(said["asked_s"])
        if seen_at_s:
            first.set()

    cache = str(place.folder / f"cache-{settings.kafka_topic}")
    task = {"frames": 1 + count, "limit_s": _START_LIMIT_S + count / _PER_S + _END_LIMIT_S, "cache": cache}
    with Announcer(settings) as announcer, ThreadPoolExecutor(2) as pool:
        run = pool.submit(run_contender, "lane", settings, checkout=checkout)
        asking = pool.submit(run_contender, "watch", settings, task, on_progress=note, checkout=checkout)
        sent_at_s = [_announce(announcer, urls, 0)]
        first.wait(_START_LIMIT_S)
        began_s = time.monotonic()
        for number in range(count):  # a late frame does not move the others
            time.sleep(max(0.0, began_s + number / _PER_S - time.monotonic()))
            sent_at_s.append(_announce(announcer, urls, 1 + number))
        asking.result()
        run.result()
    latencies_s = [seen_at_s[number] - sent_at_s[number] for number in range(1, 1 + count)]
    return {"asked_s": median(asked_s), **spread(latencies_s)}


def _announce(announcer: Announcer, urls: list[str], number: int) -> float:
    """Announces a frame, and returns when."""
    time_ = utc_now() - timedelta(hours=1) + timedelta(seconds=number / _PER_S)
    now_s = time.monotonic()
    announcer.announce(FrameMessage("street", urls[number % len(urls)], time_, frame_number=number))
    announcer.flush()
    return now_s


def measure_cold(place: Place, effort: Effort) -> list[Table]:
    """Announces frames that find nothing running: a daemon as shipped finds them, each at a random moment.

    Returns:
        The distribution of the seconds until a frame can be queried, and the medians of their parts.
    """
    settings = place.settings("cold", linger_s=0.5, **usual_network().settings())
    urls = store_pictures(settings, make_pictures(640, 360, 60))
    site, phases = make_site(place.folder / "dagster", variables_of(settings)), random.Random(4)  # noqa: S311 - no secret
    samples: list[dict[str, float]] = []
    count = effort.of(20, 1)
    try:
        site.start_daemon()
        with Announcer(settings) as announcer:
            for number in range(count):
                site.wait_for_runs_to_end(limit_s=_START_LIMIT_S)
                time.sleep(phases.uniform(0, _SENSOR_INTERVAL_S))
                began = time.time()
                _announce(announcer, urls, number)
                samples.append(_await(site, settings, number, began))
                say(f"cold: {number + 1} of {count}: {sum(samples[-1].values()):.1f} s")
    finally:
        site.stop()
    total = spread([sum(sample.values()) for sample in samples])
    times = (f"{total[name]:.1f} s" for name in ("p50_s", "p95_s", "longest_s"))
    row = (str(count), *times, at_most(total["p95_s"], 12.0, "p95 < 12 s"))
    parts = [(part, f"{median(sample[part] for sample in samples):.2f} s") for part in samples[0]]
    return [
        Table(("samples", "p50", "p95", "longest", "goal"), [row]),
        Table(("part of the time", "median"), parts),
    ]


def _await(site: Site, settings: Settings, number: int, began: float) -> dict[str, float]:
    """Waits for one frame, and returns the parts of its time.

    While nothing is there, only the ledger's end is asked for: that costs next to nothing.
    """
    store = open_store(settings)
    wait_until(
        lambda: sum(end.offset for end in fix_ends(store).values()) > number,
        limit_s=_START_LIMIT_S,
        what=f"a segment with frame {number}",
        interval_s=_POLL_S,
    )
    run_contender(
        "watch", settings, {"frames": 1 + number, "limit_s": _START_LIMIT_S, "cache": str(site.home / "cache")}
    )
    seen = time.time()
    [run, *_] = site.runs(job="detect_frames")
    with site.instance() as instance:
        entries = instance.all_logs(run.dagster_run.run_id)
    at = {entry.dagster_event.event_type: entry.timestamp for entry in entries if entry.dagster_event}
    moments = [began, *(at[event] for event in _EVENTS.values()), seen]
    return {
        part: after - before for part, before, after in zip((*_EVENTS, _LAST_PART), moments, moments[1:], strict=False)
    }
