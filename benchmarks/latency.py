"""From the record in Kafka to the row in DuckDB: at a steady rate while a run follows, asked by a client's own session.

A frame counts as queryable when a session that was opened after it was announced has answered a query with it. So the
time that opening and asking take is part of it.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.children import REPOSITORY, run_contender
from benchmarks.effort import Effort
from benchmarks.networks import MissingDataError, Network, yolox_nano
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, say, store_pictures
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.servers.announcing import Announcer

_LINGER_S = 5.0
_START_LIMIT_S = 90.0
_END_LIMIT_S = 30.0


def measure_latency(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures at a steady rate.

    Returns:
        Rate, number of frames, and the distribution of their latencies in seconds.
    """
    network = usual_network()
    settings, urls = prepare_steady(place, network, effort)
    latencies_s, asked_s = watch_steady(place.folder, settings, urls, effort.steady_s)
    told = {"network": network.name, "per_s": SteadyProducer.PER_S, "query_s": median(asked_s), **spread(latencies_s)}
    say(f"latency: p50 {told['p50_s']:.2f} s, p95 {told['p95_s']:.2f} s, longest {told['longest_s']:.2f} s")
    return told


def prepare_steady(place: Place, network: Network, effort: Effort) -> tuple[Settings, list[str]]:
    """Makes a topic and stores pictures; returns the settings and the pictures' URLs."""
    settings = place.settings("steady", linger_s=_LINGER_S, **network.settings())
    return settings, store_pictures(settings, make_pictures(640, 360, effort.pictures))


def watch_steady(
    folder: Path, settings: Settings, urls: list[str], seconds: float, *, checkout: Path = REPOSITORY
) -> tuple[list[float], list[float]]:
    """Announces pictures steadily while a run follows and a client asks for them.

    Args:
        folder: For the client's cache.
        settings: Name a topic without records.
        urls: Of the pictures.
        seconds: How long.
        checkout: The code of the run and of the client.

    Returns:
        The latency of each frame but the first, for which the run starts; and how long each question took. Seconds.

    Raises:
        TimeoutError: The frames cannot be queried.
    """
    count = round(seconds * SteadyProducer.PER_S)
    say(f"latency: {SteadyProducer.PER_S} frames/s for {seconds:.0f} s with {settings.model}")
    watcher = _Watcher()
    task = {"cache_dir": str(folder / f"cache-{settings.kafka_topic}"), "frames": 1 + count}
    limited = {**task, "limit_s": _START_LIMIT_S + seconds + _END_LIMIT_S}
    with Announcer(settings) as announcer, ThreadPoolExecutor(2) as pool:
        steady = SteadyProducer(announcer, urls)
        run = pool.submit(run_contender, "lane", settings, checkout=checkout)
        asking = pool.submit(
            run_contender, "watch", settings, limited, on_progress=watcher.note, checkout=checkout
        )  # fmt: skip
        steady.announce()
        watcher.first.wait(_START_LIMIT_S)
        steady.produce(count)
        asking.result()
        run.result()
    seen_at_s = watcher.seen_at_s
    return [seen_at_s[number] - steady.sent_at_s[number] for number in range(1, 1 + count)], watcher.asked_s


def usual_network() -> Network:
    """Returns YOLOX-nano, or the shipped demo model where that is missing."""
    try:
        return yolox_nano()
    except MissingDataError as error:
        say(f"latency: with the demo model: {error}")
        return Network("demo", "demo", None)


def spread(values_s: list[float]) -> dict[str, Any]:
    """Returns how times are distributed: `count`, `p50_s`, `p95_s`, `longest_s`."""
    cuts = quantiles(values_s, n=20, method="inclusive") if len(values_s) > 1 else [values_s[0]] * 19
    return {"count": len(values_s), "p50_s": cuts[9], "p95_s": cuts[18], "longest_s": max(values_s)}


class SteadyProducer:
    """Announces stored pictures one by one, and notes when."""

    PER_S = 5
    """Frames a second."""

    def __init__(self, announcer: Announcer, urls: list[str], *, start: datetime | None = None) -> None:
        """Begins with nothing announced; `start` is the first frame's time, by default an hour ago."""
        self._announcer = announcer
        self._urls = urls
        self._start = start or utc_now() - timedelta(hours=1)
        self.sent_at_s: dict[int, float] = {}

    def announce(self) -> None:
        """Announces the next frame."""
        number = len(self.sent_at_s)
        url = self._urls[number % len(self._urls)]
        self.sent_at_s[number] = time.monotonic()
        self._announcer.announce(FrameMessage("street", url, self.time_of(number), frame_number=number))
        self._announcer.flush()

    def time_of(self, number: int) -> datetime:
        """Returns a frame's own time."""
        return self._start + timedelta(seconds=number / self.PER_S)

    def produce(self, count: int) -> None:
        """Announces frames at the steady rate; one that is late does not move the others."""
        began_s = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began_s + number / self.PER_S - time.monotonic()))
            self.announce()


class _Watcher:
    """Notes what the client says that asks for the frames again and again."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.seen_at_s: dict[int, float] = {}
        self.asked_s: list[float] = []

    def note(self, said: Mapping[str, Any]) -> None:
        """Notes the frames of one answer, and when it came: Linux has one monotonic clock for all processes."""
        for number in said["numbers"]:
            self.seen_at_s.setdefault(number, said["at_s"])
        self.asked_s.append(said["asked_s"])
        if self.seen_at_s:
            self.first.set()


def frame_numbers(store: ObjectStore, cache_dir: Path) -> list[int]:
    """Returns the numbers of all frames that can be queried now."""
    with open_lake(store, cache_dir=cache_dir) as lake:
        return [int(row[0]) for row in lake.query("SELECT frame_number FROM frames").rows]
