"""From a frame that finds nothing running to the row in DuckDB: daemon, sensor, run, detection, all as shipped.

One frame is announced while no run is live, at a random moment of the sensor's interval; it is waited for until it can
be queried; then the run is left to end. What the time consists of is read from Dagster's own events.
"""

import random
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg

from benchmarks.children import variables_of
from benchmarks.effort import Effort
from benchmarks.latency import frame_numbers, spread, usual_network
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, say, store_pictures
from benchmarks.processes import session_cpu_s
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger import fix_ends
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.defs.site import Site, make_site
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.waiting import wait_until

_LINGER_S = 0.5
_SENSOR_INTERVAL_S = 5.0
_LIMIT_S = 120.0
_POLL_S = 0.2
_EVENTS = (
    (dg.DagsterEventType.PIPELINE_ENQUEUED, "sensor_s"),
    (dg.DagsterEventType.PIPELINE_STARTING, "queue_s"),
    (dg.DagsterEventType.PIPELINE_START, "process_s"),
    (dg.DagsterEventType.STEP_START, "step_s"),
)
"""What ends each part of the time, in order, and the part's name."""
PARTS = (*(name for _, name in _EVENTS), "detect_s", "visible_s")


def measure_cold(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures frames that find nothing running.

    Returns:
        The distribution of the seconds until they can be queried, the medians of their parts, and what daemon and code
        server cost while nothing happens, in CPU seconds a second.
    """
    network = usual_network()
    settings = place.settings("cold", linger_s=_LINGER_S, **network.settings())
    urls = store_pictures(settings, make_pictures(640, 360, effort.pictures))
    site = make_site(place.folder / "dagster", variables_of(settings))
    store, cache_dir, phases = open_store(settings), place.folder / "cache-cold", random.Random(4)  # noqa: S311 - no secret
    samples = []
    try:
        daemon = site.start_daemon()
        say("cold: the daemon runs")
        time.sleep(effort.idle_s / 2)  # its first ticks are dearer than the others
        idle = _idle_share(daemon.pid, effort.idle_s)
        with Announcer(settings) as announcer:
            for number in range(effort.cold_samples):
                site.wait_for_runs_to_end(limit_s=_LIMIT_S)
                time.sleep(phases.uniform(0, _SENSOR_INTERVAL_S))
                began = time.time()
                time_ = utc_now() - timedelta(seconds=1)
                announcer.announce(FrameMessage("street", urls[number % len(urls)], time_, frame_number=number))
                announcer.flush()
                samples.append(_await(site, store, cache_dir, number, began))
                say(f"cold: {number + 1} of {effort.cold_samples}: {samples[-1]['total_s']:.1f} s")
    finally:
        site.stop()
    parts = {name: median(sample[name] for sample in samples) for name in PARTS}
    told = spread([sample["total_s"] for sample in samples])
    return {"network": network.name, "idle_cpu_share": idle, **told, "parts": parts, "samples": samples}


def _idle_share(daemon: int, seconds: float) -> float:
    before_s = session_cpu_s(daemon)
    time.sleep(seconds)
    return (session_cpu_s(daemon) - before_s) / seconds


def _await(site: Site, store: ObjectStore, cache_dir: Path, number: int, began: float) -> dict[str, float]:
    """Waits for one frame. While nothing is there, only the ledger's end is asked for: that costs next to nothing."""
    wait_until(
        lambda: sum(end.offset for end in fix_ends(store).values()) > number,
        limit_s=_LIMIT_S,
        what=f"a segment with frame {number}",
        interval_s=_POLL_S,
    )
    wait_until(
        lambda: number in frame_numbers(store, cache_dir),
        limit_s=_LIMIT_S,
        what=f"frame {number} to be queryable",
        interval_s=_POLL_S,
    )
    seen = time.time()
    return {"total_s": seen - began, **_parts(site, store, cache_dir, number, began, seen)}


def _parts(site: Site, store: ObjectStore, cache_dir: Path, number: int, began: float, seen: float) -> dict[str, float]:
    [run, *_] = site.runs(job="detect_frames")
    with site.instance() as instance:
        at = _event_times(instance.all_logs(run.dagster_run.run_id))
    with open_lake(store, cache_dir=cache_dir) as lake:
        query = f"SELECT epoch(processing_timestamp) FROM frames WHERE frame_number = {number}"  # noqa: S608 - a number
        [(detected,)] = lake.query(query).rows
    moments = [began, *(at[event] for event, _ in _EVENTS), float(detected), seen]
    return {name: after - before for name, before, after in zip(PARTS, moments, moments[1:], strict=False)}


def _event_times(entries: Iterable[dg.EventLogEntry]) -> dict[dg.DagsterEventType, float]:
    return {entry.dagster_event.event_type: entry.timestamp for entry in entries if entry.dagster_event is not None}
