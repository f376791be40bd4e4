"""What is measured, in a process of its own: `python -m benchmarks.contender lane|bare|classic|alerts`.

Reads its task as JSON from stdin and the settings from the environment. Writes JSON lines to stdout: progress, and
last `{"result": …}`. A process of its own has CPU seconds and memory of its own; so nothing of what prepares and
watches the measurement is counted.
"""

import dataclasses
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2

from benchmarks.classic_consumer import consume_classically
from benchmarks.place import ServerCost, server_cost
from benchmarks.processes import peak_rss_mib, rss_mib
from imgpipeline.contracts.times import format_time, utc_now
from imgpipeline.detect import LaneReport, follow_lane
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.stream.lanes import Lane
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.detector import Detector, load_detector

_WARM_UP = 10


class Stopwatch:
    """Wall clock and CPU seconds of this process, and of the servers beside it, between two moments."""

    def __init__(self, servers: Mapping[str, int]) -> None:
        """Begins with nothing; `servers` are the process ids of broker and store."""
        self._servers = servers
        self._lock = threading.Lock()
        self._first: tuple[float, float] | None = None
        self._last_s = 0.0
        self._servers_before: ServerCost | None = None

    def mark(self) -> None:
        """Notes a moment; the first and the last one count."""
        now_s = time.perf_counter()
        with self._lock:
            if self._first is None:
                self._first = (now_s, time.process_time())
                self._servers_before = server_cost(self._servers) if self._servers else None
            self._last_s = now_s

    def result(self, frames: int) -> dict[str, Any]:
        """Returns what passed between the first and the last moment.

        CPU seconds are counted up to this call, which follows at once: the kernel sums them over all threads, which
        took a sixth of a run's CPU when each frame asked for it.
        """
        first_s, first_cpu_s = self._first or (self._last_s, 0.0)
        seconds, cpu_s = self._last_s - first_s, time.process_time() - first_cpu_s
        told = {
            "frames": frames,
            "seconds": seconds,
            "frames_per_s": frames / seconds if seconds else 0.0,
            "cpu_ms_a_frame": 1000 * cpu_s / max(1, frames),
            "peak_rss_mib": peak_rss_mib(),
        }
        before = self._servers_before
        if before is not None:
            after = server_cost(self._servers)
            told["kafka_cpu_ms_a_frame"] = 1000 * (after.kafka_cpu_s - before.kafka_cpu_s) / max(1, frames)
            told["s3_cpu_ms_a_frame"] = 1000 * (after.s3_cpu_s - before.s3_cpu_s) / max(1, frames)
        return told


def run_lane(settings: Settings, task: Mapping[str, Any]) -> dict[str, Any]:
    """Follows a lane until it is quiet. A run asks its clock at the first record, and last behind a segment's put."""
    watch = Stopwatch(task.get("servers", {}))

    def clock() -> datetime:
        watch.mark()
        return utc_now()

    def progress(report: LaneReport) -> None:
        say({"frames": report.frames, "rss_mib": rss_mib(), "at_s": time.monotonic()})

    report = follow_lane(settings, Lane(0, 1), run_id="benchmark", report=progress, clock=clock)
    return {
        **watch.result(report.frames),
        "dead_letters": report.dead_letters,
        "segments": report.segments,
        "reported_frames_per_s": report.frames_per_s,
        "latency_p50_s": report.latency_p50_s,
        "latency_p95_s": report.latency_p95_s,
        "stages": _plain(getattr(report, "stages", None)),
    }


def run_bare(settings: Settings, task: Mapping[str, Any]) -> dict[str, Any]:
    """Decodes and detects pictures from memory: `workers` threads, each with `threads` inference threads."""
    workers, threads, frames = int(task["workers"]), int(task["threads"]), int(task["frames"])
    cv2.setNumThreads(threads)
    detector = load_detector(
        settings.model,
        backend=settings.model_backend,
        confidence_threshold=settings.confidence_threshold,
        nms_threshold=settings.nms_threshold,
        decoder=settings.model_decoder,
        threads=threads,
    )
    pictures = [path.read_bytes() for path in sorted(Path(task["folder"]).iterdir())]
    look = _looker(detector, settings)
    for number in range(_WARM_UP):
        look(pictures[number % len(pictures)])
    watch, numbers, found = Stopwatch({}), itertools.count(), [0] * workers

    def work(worker: int) -> None:
        while (number := next(numbers)) < frames:
            found[worker] += look(pictures[number % len(pictures)])

    watch.mark()
    pool = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    watch.mark()
    return {**watch.result(frames), "detections_a_frame": sum(found) / frames, "workers": workers, "threads": threads}


def _looker(detector: Detector, settings: Settings) -> Callable[[bytes], int]:
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)

    def look(jpeg: bytes) -> int:
        return len(detector.detect(decode_image(jpeg, limits, reduced_for=detector.spec.network_input)))

    return look


def run_classic(settings: Settings, task: Mapping[str, Any]) -> dict[str, Any]:
    """Consumes the topic one message at a time."""
    watch = Stopwatch(task.get("servers", {}))
    detections = consume_classically(settings, int(task["frames"]), watch.mark)
    return {**watch.result(int(task["frames"])), "detections_a_frame": detections / int(task["frames"])}


def run_alerts(settings: Settings, task: Mapping[str, Any]) -> dict[str, Any]:
    """Watches for events until so many alerts are stored, and says of each look which frames it has alerted of.

    Raises:
        TimeoutError: They did not come.
    """
    from imgpipeline.events.alerts.watching import Watch  # noqa: PLC0415 - older checkouts do not have it
    from imgpipeline.events.configuration import read_rules  # noqa: PLC0415 - as above

    store, seen = open_store(settings), 0
    watch = Watch(store, settings, read_rules(settings, store), utc_now)
    for alerts in watch.run(threading.Event(), seconds=float(task["limit_s"])):
        if alerts:
            say({"times": [format_time(alert.event.timestamp) for alert in alerts], "at_s": time.monotonic()})
        seen += len(alerts)
        if seen >= int(task["alerts"]):
            return {"alerts": seen}
    raise TimeoutError(f"{seen} of {task['alerts']} alerts were raised within {task['limit_s']} s")


def _plain(value: Any) -> Any:
    """Makes JSON of dataclasses, mappings and sequences."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def say(line: Mapping[str, Any]) -> None:
    """Writes one line of JSON to stdout."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


_KINDS: dict[str, Callable[[Settings, Mapping[str, Any]], dict[str, Any]]] = {
    "lane": run_lane,
    "bare": run_bare,
    "classic": run_classic,
    "alerts": run_alerts,
}


if __name__ == "__main__":
    say({"result": _KINDS[sys.argv[1]](load_settings(), json.load(sys.stdin))})
