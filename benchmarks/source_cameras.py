"""Live cameras by RTSP: beside a plain loop, many of them on one machine, and one that is too fast for the store."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.children import environment_of
from benchmarks.effort import Effort
from benchmarks.place import Place
from benchmarks.processes import cpu_s, rss_mib
from benchmarks.source_plain import plain_record
from imgpipeline.contracts.capture import ClockSource
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import CapturedFrame
from imgpipeline.sources.rtsp import RtspSource
from imgpipeline.sources.simulator.rtsp_simulator import SimulatedCamera, write_clip, write_scene_clip
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.stream.send import BatchSender, Record
from imgpipeline_tests.servers.rtsp_server import RtspServer
from imgpipeline_tests.sources.published import frames_in, read_published

_CAMERAS, _FPS = 16, 5.0
_FAST_FPS = 400.0
_BATCH_S = 0.2
_SLOW_PUT_S = 0.2


def measure_camera_ratio(place: Place, effort: Effort) -> dict[str, Any]:
    """Compares announced frames per second with those of a plain loop over the same camera, too fast for either."""
    clip = place.folder / "fast.clip"
    write_clip([Scene(1, frames=20, hour=12.0).frame(n)[0] for n in range(20)], clip, codec="mjpeg", fps=_FAST_FPS)
    ours, theirs = [], []
    with RtspServer([SimulatedCamera("fast", str(clip), "mjpeg", _FAST_FPS)]) as server:
        for _ in range(effort.rounds + 1):
            theirs.append(_plain_loop(place.settings("plain"), server.url("fast"), effort.contest_s))
            ours.append(_published(place.settings("ours"), server.url("fast"), effort.contest_s))
    ratio = statistics.median(ours) / statistics.median(theirs)
    figures = {"our_frames_per_s": statistics.median(ours), "their_frames_per_s": statistics.median(theirs)}
    return {"kind": "ratio", **figures, "ratio": ratio, "ours": ours, "theirs": theirs}


def _published(settings: Settings, url: str, seconds: float) -> float:
    stop, began = threading.Event(), [0.0]

    def start_clock(totals: Totals) -> None:
        if totals.received and not began[0]:
            began[0] = time.monotonic()
            threading.Timer(seconds, stop.set).start()

    totals = ingest_source(settings, RtspSource("fast", url), stop=stop, progress=start_clock)
    return totals.announced / (time.monotonic() - began[0])


def _plain_loop(settings: Settings, url: str, seconds: float) -> float:
    """Reads, puts and announces in one thread; a transaction every 0.2 s, as the publisher has it."""
    store, stop = open_store(settings), threading.Event()
    sender = BatchSender(settings, fence="plain")
    sender.open()
    records: list[Record] = []
    began = sent_at = announced = 0.0
    for item in RtspSource("fast", url).capture(stop):
        if not isinstance(item, CapturedFrame):
            continue
        now = time.monotonic()
        began = began or now
        records.append(plain_record(settings, store, "fast", item))
        if now - sent_at > _BATCH_S:
            sender.send(records)
            announced, sent_at, records = announced + len(records), now, []
        if now - began > seconds:
            stop.set()
    sender.close()
    return announced / (time.monotonic() - began)


def measure_cameras(place: Place, effort: Effort) -> dict[str, Any]:
    """Runs `imgpipeline ingest rtsp` with many cameras that play one encoded clip."""
    clip = write_scene_clip(Scene(1, frames=50, hour=12.0), place.folder, name="clip", codec="h264", fps=_FPS)
    paths = [f"cam{number:02d}" for number in range(_CAMERAS)]
    settings, load_before = place.settings("cameras"), os.getloadavg()[0]
    with RtspServer([SimulatedCamera(path, str(clip), "h264", _FPS) for path in paths]) as server:
        urls = [server.url(path) for path in paths]
        told, cost = _run_command(settings, urls, effort.cameras_s)
    lost = sum(sum(one["dropped"].values()) + one["failed"] for one in told)
    received, announced = sum(one["received"] for one in told), sum(one["announced"] for one in told)
    frames = frames_in(read_published(settings))
    timed = [(str(frame.source), frame.timestamp) for frame in frames if frame.clock_source is ClockSource.RTCP]
    return {
        "kind": "cameras",
        "cameras": _CAMERAS,
        "fps": _FPS,
        "seconds": effort.cameras_s,
        "sent": _sent(timed),
        "arrived": len(timed),
        "received": received,
        "announced": announced,
        "lost_share": lost / max(received, 1),
        "unaccounted": abs(received - announced - lost - sum(one["gated"] for one in told))
        + abs(announced - len(frames)),
        **cost,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }


def _sent(times: Sequence[tuple[str, datetime]]) -> int:
    """Returns how many frames the cameras took between the first and the last of these times of each."""
    by_camera: dict[str, list[datetime]] = {}
    for camera, moment in times:
        by_camera.setdefault(camera, []).append(moment)
    return sum(round((max(of) - min(of)).total_seconds() * _FPS) + 1 for of in by_camera.values())


def _run_command(settings: Settings, urls: list[str], seconds: float) -> tuple[list[dict[str, Any]], dict[str, float]]:
    command = [sys.executable, "-m", "imgpipeline.cli", "ingest", "rtsp", *urls, "--duration", str(seconds), "--json"]
    parents, children, cores = [0.0], [0.0], 0.0
    with subprocess.Popen(  # noqa: S603 - our own command
        command, env=environment_of(settings), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        began, spent = time.monotonic(), 0.0
        while child.poll() is None and time.monotonic() - began < seconds:
            time.sleep(1)
            readers = _children_of(child.pid)
            parents.append(rss_mib(child.pid))
            children += [rss_mib(pid) for pid in readers]
            spent = cpu_s(child.pid) + sum(map(cpu_s, readers))
            cores = spent / (time.monotonic() - began)
        stdout, _ = child.communicate()
    return json.loads(stdout), {
        "parent_rss_mb": max(parents) * 1.048576,
        "child_rss_mb": max(children) * 1.048576,
        "cores": cores,
    }


def _children_of(pid: int) -> list[int]:
    """Returns the children of a process that run (proc(5), `task/TID/children`)."""
    found = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    return [child for child in found if Path(f"/proc/{child}/statm").read_text().split()[1] != "0"]


class _SlowStore:
    """A store that takes a fifth of a second for each image."""

    def __init__(self, settings: Settings) -> None:
        self._store = open_store(settings)

    def create(self, key: str, data: bytes) -> bool:
        time.sleep(_SLOW_PUT_S)
        return self._store.create(key, data)

    def get(self, key: str) -> bytes:
        return self._store.get(key)


def measure_camera_overload(place: Place, effort: Effort) -> dict[str, Any]:
    """Publishes a camera of 100 frames a second into a store that takes ten, beside a calm one."""
    cameras = _fast_and_calm(place.folder)
    settings, totals = place.settings("overload"), dict[str, Totals]()
    stores = {"fast": _SlowStore(settings), "calm": open_store(settings)}
    with RtspServer(cameras) as server, _memory() as sizes:
        stop = threading.Event()

        def run(name: str) -> None:
            options, source = PublishOptions(writers=2), RtspSource(name, server.url(name))
            totals[name] = ingest_source(settings, source, stop=stop, options=options, store=stores[name])

        threads = [threading.Thread(target=run, args=(name,)) for name in stores]
        for thread in threads:
            thread.start()
        stop.wait(effort.overload_s)
        stop.set()
        for thread in threads:
            thread.join()
    fast, announced = totals["fast"], Counter(str(frame.source) for frame in frames_in(read_published(settings)))
    quarter = max(1, len(sizes) // 4)
    return {
        "kind": "overload",
        "seconds": effort.overload_s,
        "in_per_s": fast.received / effort.overload_s,
        "out_per_s": fast.announced / effort.overload_s,
        "dropped": fast.dropped,
        "unaccounted": sum(
            abs(of.received - of.announced - of.gated - sum(of.dropped.values()) - of.failed)
            + abs(of.announced - announced[name])
            for name, of in totals.items()
        ),
        "rss_early_mb": max(sizes[:quarter]),
        "rss_late_mb": max(sizes[-quarter:]),
        "calm_received": totals["calm"].received,
        "calm_dropped": sum(totals["calm"].dropped.values()),
    }


def _fast_and_calm(folder: Path) -> list[SimulatedCamera]:
    noise = [np.random.default_rng(n).integers(0, 255, (360, 640, 3), np.uint8) for n in range(4)]
    write_clip(noise, folder / "noise.clip", codec="mjpeg", fps=100.0)
    calm = write_scene_clip(Scene(1, frames=50, hour=12.0), folder, name="calm", codec="h264", fps=_FPS)
    fast = SimulatedCamera("fast", str(folder / "noise.clip"), "mjpeg", 100.0)
    return [fast, SimulatedCamera("calm", str(calm), "h264", _FPS)]


@contextmanager
def _memory() -> Iterator[list[float]]:
    """Samples the resident memory of this process in MB once a second."""
    sizes, done = [rss_mib() * 1.048576], threading.Event()

    def sample() -> None:
        while not done.wait(1):
            sizes.append(rss_mib() * 1.048576)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield sizes
    finally:
        done.set()
        thread.join()
