"""What is measured in a process of its own: `python -P contender.py lane|watch|bare`.

Reads its task as JSON from stdin and the settings from the environment. Writes JSON lines to stdout: progress, and
last `{"result": …}`. `lane` and `watch` also run with the code of an older checkout, which PYTHONPATH names: they
import only what such a checkout has too.
"""

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import cpu_s, peak_rss_mib, rss_mib
from imgpipeline.settings import Settings, load_settings

_WARM_UP = 10
_PAUSE_S = 0.1
Task = Mapping[str, Any]


class _Stopwatch:
    """Wall clock and CPU seconds of this process and of the servers, between two moments."""

    def __init__(self, servers: Mapping[str, int]) -> None:
        """Starts empty; `servers` are the process ids of broker and store."""
        self._servers = servers
        self._lock = threading.Lock()
        self._first: tuple[float, float] | None = None
        self._last_s = 0.0
        self._servers_before: dict[str, float] = {}

    def mark(self) -> None:
        """Notes a moment; the first and the last one count."""
        now_s = time.perf_counter()
        with self._lock:
            if self._first is None:
                self._first = (now_s, time.process_time())
                self._servers_before = {name: cpu_s(pid) for name, pid in self._servers.items()}
            self._last_s = now_s

    def result(self, frames: int) -> dict[str, Any]:
        """Returns what passed between the first and the last moment.

        CPU seconds are counted up to this call, which follows at once: the kernel sums them over all threads, which
        took a sixth of a run's CPU when each frame asked for it.
        """
        first_s, first_cpu_s = self._first or (self._last_s, 0.0)
        seconds, spent_s = self._last_s - first_s, time.process_time() - first_cpu_s
        servers = {name: cpu_s(self._servers[name]) - before for name, before in self._servers_before.items()}
        return {
            "frames": frames,
            "frames_per_s": frames / seconds if seconds else 0.0,
            "cpu_ms_a_frame": 1000 * spent_s / max(1, frames),
            "peak_rss_mib": peak_rss_mib(),
            **{f"{name}_cpu_ms_a_frame": 1000 * spent / max(1, frames) for name, spent in servers.items()},
        }


def run_lane(settings: Settings, task: Task) -> dict[str, Any]:
    """Follows a lane until it is quiet. A run asks its clock at the first record, and last after a segment's put."""
    from imgpipeline.detect.report import LaneReport  # noqa: PLC0415 - each contender pays for its own imports
    from imgpipeline.detect.run import follow_lane  # noqa: PLC0415 - each contender pays for its own imports
    from imgpipeline.stream.lanes import Lane  # noqa: PLC0415 - as above

    watch = _Stopwatch(task.get("servers", {}))

    def clock() -> datetime:
        watch.mark()
        return datetime.now(UTC)

    def progress(report: LaneReport) -> None:
        say({"frames": report.frames, "rss_mib": rss_mib()})

    report = follow_lane(settings, Lane(0, 1), run_id="benchmark", report=progress, clock=clock)
    return watch.result(report.frames)


def watch_frames(_settings: Settings, task: Task) -> dict[str, Any]:
    """Asks for all frames again and again, each time in a new session, until all of them were seen.

    Raises:
        TimeoutError: They did not come.
    """
    os.environ["XDG_CACHE_HOME"] = task["cache"]
    from imgpipeline import Lake  # noqa: PLC0415 - as above

    deadline_s, seen = time.monotonic() + task["limit_s"], 0
    while seen < task["frames"]:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{seen} of {task['frames']} frames could be queried after {task['limit_s']} s")
        began_s = time.monotonic()
        with Lake.open() as lake, lake.session() as session:
            numbers = [int(row[0]) for row in session.query("SELECT frame_number FROM frames").rows]
        now_s, seen = time.monotonic(), len(set(numbers))
        say({"numbers": numbers, "at_s": now_s, "asked_s": now_s - began_s})
        time.sleep(_PAUSE_S)
    return {"frames": seen}


def run_bare(settings: Settings, task: Task) -> dict[str, Any]:
    """Decodes and detects pictures from memory: `workers` threads, each with `threads` inference threads."""
    import cv2  # noqa: PLC0415 - as above

    workers, threads, frames = int(task["workers"]), int(task["threads"]), int(task["frames"])
    cv2.setNumThreads(threads)
    pictures = [path.read_bytes() for path in sorted(Path(task["folder"]).iterdir())]
    look = _looker(settings, threads)
    for number in range(_WARM_UP):
        look(pictures[number % len(pictures)])
    watch, numbers = _Stopwatch({}), itertools.count()

    def work() -> None:
        while (number := next(numbers)) < frames:
            look(pictures[number % len(pictures)])

    watch.mark()
    pool = [threading.Thread(target=work) for _ in range(workers)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    watch.mark()
    return {**watch.result(frames), "workers": workers, "threads": threads}


def _looker(settings: Settings, threads: int) -> Callable[[bytes], object]:
    from imgpipeline.vision.decode import ImageLimits, decode_image  # noqa: PLC0415 - as above
    from imgpipeline.vision.detector import load_detector  # noqa: PLC0415 - as above

    detector = load_detector(
        settings.model,
        backend=settings.model_backend,
        confidence_threshold=settings.confidence_threshold,
        nms_threshold=settings.nms_threshold,
        decoder=settings.model_decoder,
        threads=threads,
    )
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
    return lambda jpeg: detector.detect(decode_image(jpeg, limits, reduced_for=detector.spec.network_input))


def say(line: Mapping[str, Any]) -> None:
    """Writes one line of JSON to stdout."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


_KINDS: dict[str, Callable[[Settings, Task], dict[str, Any]]] = {
    "lane": run_lane,
    "watch": watch_frames,
    "bare": run_bare,
}


if __name__ == "__main__":
    say({"result": _KINDS[sys.argv[1]](load_settings(), json.load(sys.stdin))})
