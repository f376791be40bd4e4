"""From the record in Kafka to the stored alert, beside the segment of the same frames: a watch follows a detection run.

Each frame is another picture than the one before, and the rule finds every change: two images are compared, and the
image of their difference and an alert are stored, for each frame. That is the most that one camera can ask of a watch.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from benchmarks.children import run_contender
from benchmarks.effort import Effort
from benchmarks.latency import SteadyProducer, prepare_steady, spread, usual_network
from benchmarks.place import Place, say
from imgpipeline.contracts.times import format_time
from imgpipeline_tests.servers.announcing import Announcer

_RULE = '[[rule]]\nname = "changed"\nkind = "image_change"\n'
_START = datetime(2026, 1, 9, 12, tzinfo=UTC)
_OLD_ENOUGH_S = 1e9
_START_LIMIT_S = 90.0
_END_LIMIT_S = 60.0


def measure_alerts(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures at a steady rate.

    Returns:
        Rate, the distribution of the alerts' latencies, and that of the segments of the same run, in seconds.

    Raises:
        RuntimeError: The run or the watch failed.
        TimeoutError: No first alert was raised.
    """
    network = usual_network()
    settings, urls = prepare_steady(place, network, effort)
    rules = place.folder / "rules.toml"
    rules.write_text(_RULE)
    watched = settings.model_copy(update={"rules_file": str(rules), "alert_max_age_s": _OLD_ENOUGH_S})
    count = round(effort.steady_s * SteadyProducer.PER_S)
    say(f"alerts: {SteadyProducer.PER_S} frames/s for {effort.steady_s:.0f} s with {network.name}")
    noted = _Alerts()
    task = {"alerts": 1 + count, "limit_s": _START_LIMIT_S + effort.steady_s + _END_LIMIT_S}
    with Announcer(settings) as announcer, ThreadPoolExecutor(2) as pool:
        producer = SteadyProducer(announcer, urls, start=_START)
        run = pool.submit(run_contender, "lane", settings)
        watch = pool.submit(run_contender, "alerts", watched, task, on_progress=noted.note)
        producer.announce()
        producer.announce()  # the first change
        if not noted.first.wait(_START_LIMIT_S):
            raise TimeoutError(f"no alert was raised within {_START_LIMIT_S:.0f} s")
        producer.produce(count)
        watch.result()
        segments = run.result()
    latencies_s = [noted.at_s[format_time(producer.time_of(n))] - producer.sent_at_s[n] for n in range(2, 2 + count)]
    told = {"network": network.name, "per_s": SteadyProducer.PER_S, **spread(latencies_s)}
    told |= {f"segment_{name}": segments[f"latency_{name}"] for name in ("p50_s", "p95_s")}
    say(f"alerts: p95 {told['p95_s']:.2f} s, of the segments {told['segment_p95_s']:.2f} s")
    return told


class _Alerts:
    """Notes what the watch says: the times of the frames that raised alerts, and when these were stored."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.at_s: dict[str, float] = {}

    def note(self, said: Mapping[str, Any]) -> None:
        """Notes the alerts of one look."""
        for time in said["times"]:
            self.at_s.setdefault(time, said["at_s"])
        if self.at_s:
            self.first.set()
