"""From the record in Kafka to the row in DuckDB: at a steady rate while a run follows, asked by a client's own session.

A frame counts as queryable when a session that was opened after it was announced has answered a query with it. So the
time that opening and asking take is part of it.
"""

import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.children import run_contender
from benchmarks.effort import Effort
from benchmarks.networks import MissingDataError, Network, yolox_nano
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, say, store_pictures
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import utc_now
from imgpipeline.stream.announce import Announcer

_STEADY_PER_S = 5
_PAUSE_S = 0.1
_LINGER_S = 5.0
_START_LIMIT_S = 90.0
_END_LIMIT_S = 30.0


def measure_latency(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures at a steady rate.

    Returns:
        Rate, number of frames, and the distribution of their latencies in seconds.
    """
    network = usual_network()
    settings = place.settings("steady", linger_s=_LINGER_S, **network.settings())
    say(f"latency: {_STEADY_PER_S} frames/s for {effort.steady_s:.0f} s with {network.name}")
    with Announcer(settings) as announcer:
        steady = _SteadyProducer(announcer, store_pictures(settings, make_pictures(640, 360, effort.pictures)))
        run = threading.Thread(target=run_contender, args=("lane", settings), daemon=True)
        run.start()
        watcher = _Watcher(open_store(settings), place.folder / "cache-steady", steady.sent_at_s)
        steady.announce()
        watcher.watch_until(1, _START_LIMIT_S)
        count = round(effort.steady_s * _STEADY_PER_S)
        producer = threading.Thread(target=steady.produce, args=(count,), daemon=True)
        producer.start()
        watcher.watch_until(1 + count, effort.steady_s + _END_LIMIT_S)
        producer.join()
        run.join()
    latencies_s = [watcher.latencies_s[number] for number in range(1, 1 + count)]
    told = {"network": network.name, "per_s": _STEADY_PER_S, "query_s": median(watcher.asked_s), **spread(latencies_s)}
    say(f"latency: p50 {told['p50_s']:.2f} s, p95 {told['p95_s']:.2f} s, longest {told['longest_s']:.2f} s")
    return told


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


class _SteadyProducer:
    """Announces stored pictures one by one, and notes when."""

    def __init__(self, announcer: Announcer, urls: list[str]) -> None:
        self._announcer = announcer
        self._urls = urls
        self._start = utc_now() - timedelta(hours=1)
        self.sent_at_s: dict[int, float] = {}

    def announce(self) -> None:
        """Announces the next frame."""
        number = len(self.sent_at_s)
        url = self._urls[number % len(self._urls)]
        self.sent_at_s[number] = time.monotonic()
        time_ = self._start + timedelta(seconds=number / _STEADY_PER_S)
        self._announcer.announce(FrameMessage("street", url, time_, frame_number=number))
        self._announcer.flush()

    def produce(self, count: int) -> None:
        """Announces frames at the steady rate; one that is late does not move the others."""
        began_s = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began_s + number / _STEADY_PER_S - time.monotonic()))
            self.announce()


class _Watcher:
    """Asks for the frames again and again, each time in a new session."""

    def __init__(self, store: ObjectStore, cache_dir: Path, sent_at_s: Mapping[int, float]) -> None:
        self._store = store
        self._cache_dir = cache_dir
        self._sent_at_s = sent_at_s
        self.latencies_s: dict[int, float] = {}
        self.asked_s: list[float] = []

    def watch_until(self, count: int, limit_s: float) -> None:
        """Asks until so many frames were seen in all.

        Raises:
            TimeoutError: They did not come.
        """
        deadline_s = time.monotonic() + limit_s
        while len(self.latencies_s) < count:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{len(self.latencies_s)} of {count} frames could be queried after {limit_s} s")
            began_s = time.monotonic()
            numbers = frame_numbers(self._store, self._cache_dir)
            now_s = time.monotonic()
            self.asked_s.append(now_s - began_s)
            for number in numbers:
                self.latencies_s.setdefault(number, now_s - self._sent_at_s[number])
            time.sleep(_PAUSE_S)


def frame_numbers(store: ObjectStore, cache_dir: Path) -> list[int]:
    """Returns the numbers of all frames that can be queried now."""
    with open_lake(store, cache_dir=cache_dir) as lake:
        return [int(row[0]) for row in lake.query("SELECT frame_number FROM frames").rows]
