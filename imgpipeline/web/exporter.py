"""Prometheus metrics of a whole site, computed from the Kafka log, the ledger, the store and Dagster's storage.

They need none of the other processes, so they show when detection, builds, sources or exports have stopped. Each part
is computed on its own: if it cannot be read, its `imgpipeline_part_up` is 0, and its other metrics are missing.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.daily.states import day_states, due_days
from imgpipeline.detect.state import DetectionCollector, read_progress
from imgpipeline.errors import ImgpipelineError
from imgpipeline.events.alerts.delivery import find_undelivered
from imgpipeline.lake.quality.audit_state import read_verdict
from imgpipeline.lake.query.days import Span, days_of
from imgpipeline.lake.query.source_status import SourceState, read_source_status
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.sinks.exporting import read_statuses
from imgpipeline.sources.metrics import StatusPage, serve_pages
from imgpipeline.stream.fetch import find_oldest
from imgpipeline.stream.log import read_logs

LOG = logging.getLogger(__name__)
_PREFIX = "imgpipeline"
_AUDITED_DAYS = 31
"""Days whose last audit is shown, the newest ones."""
_LONGEST_REST_S = 120.0
Sample = tuple[str, Mapping[str, str], float]
"""Name without prefix, labels, value."""
METRICS: Mapping[str, str] = {
    "part_up": "Whether this part of the metrics could be computed: log, sources, days, audit, alerts, sinks, runs.",
    "part_failures_total": "Computations of a part that failed since the exporter started, by kind of error.",
    "refreshed_timestamp_seconds": "When the metrics were computed.",
    "lag_offsets": "Offsets without an outcome, with transaction markers, by topic partition.",
    "lag_seconds": "Age of the oldest unread record of a partition.",
    "partition_stopped": "1 if a partition stops until a command is run.",
    "source_up": "1 if a source is online or sends frames, 0 if it is offline or silent.",
    "source_last_frame_timestamp_seconds": "Time of a source's last frame.",
    "source_frames_today": "Frames of the current UTC day.",
    "source_gated_today": "Frames that were skipped on purpose today.",
    "source_dropped_today": "Frames that were lost today, by reason.",
    "source_failed_today": "Frames that a source could not decode or store today.",
    "source_observed_today_seconds": "Seconds of the day during which a source delivered frames.",
    "dead_letters_today": "Dead letters of the current UTC day, by code.",
    "days_behind": "Days with objects that are due to be built.",
    "audit_wrong_days": "Days that the last audit found wrong.",
    "audit_timestamp_seconds": "When the newest audited day was audited.",
    "alerts_undelivered": "Alerts that some target does not have.",
    "alerts_late": "Those that have waited for too long.",
    "sink_days_behind": "Days that a sink lacks or has in another version.",
    "sink_failing": "1 if the last export to a sink failed, or there was none.",
    "sink_last_export_timestamp_seconds": "When the last export to a sink ended.",
    "runs_failed": "Runs of Dagster that failed within the last hour, by kind of work.",
    "run_seconds": "How long the newest run took that succeeded within the last hour, by kind of work.",
}
"""Meaning of each metric; all but `_total` are gauges. Their names begin with `imgpipeline_`."""


@dataclass(slots=True, eq=False)
class SiteMetrics(Collector):
    """The metrics as of the last `refresh`."""

    store: ObjectStore
    settings: Settings
    clock: Clock = utc_now
    read_runs: Callable[[datetime], tuple[Mapping[str, int], Mapping[str, float]]] | None = None
    """`read_recent_runs` of Dagster, which this package does not know; None without a Dagster."""
    _samples: tuple[Sample, ...] = ()
    _problems: dict[str, str] = field(default_factory=dict)
    _failures: Counter[tuple[str, str]] = field(default_factory=Counter)

    def refresh(self) -> None:
        """Computes all parts again. What cannot be read is logged once."""
        now = self.clock()
        parts: dict[str, Callable[[datetime], Iterable[Sample]]] = {
            "log": self._log, "sources": self._sources, "days": self._days,
            "audit": self._audit, "alerts": self._alerts, "sinks": self._sinks,
        }  # fmt: skip
        if self.read_runs:
            parts["runs"] = self._runs
        samples: list[Sample] = [("refreshed_timestamp_seconds", {}, now.timestamp())]
        for name, compute in parts.items():
            try:
                found, problem = list(compute(now)), ""
            except ImgpipelineError as error:
                found, problem = [], str(error)
                self._failures[name, type(error).__name__] += 1
            samples += [*found, ("part_up", {"part": name}, float(not problem))]
            if problem and self._problems.get(name) != problem:
                LOG.warning("The metrics of %s cannot be computed: %s", name, problem)
            self._problems[name] = problem
        for (name, kind), count in self._failures.items():
            samples.append(("part_failures_total", {"part": name, "error": kind}, count))
        self._samples = tuple(samples)

    def collect(self) -> Iterable[Metric]:
        """Returns the current metrics."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, labels, value in self._samples:
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = families.setdefault(name, kind(f"{_PREFIX}_{name}", METRICS[name], labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        return families.values()

    def _log(self, now: datetime) -> Iterator[Sample]:
        logs = read_logs(self.settings)
        progress = read_progress(self.store, self.settings.kafka_topics, logs.ranges)
        oldest = find_oldest(self.settings, {each.log: each.offset for each in progress if each.log})
        for each in progress:
            if each.log is None:
                continue
            labels = {"topic": each.chain.topic, "partition": str(each.chain.partition)}
            yield "lag_offsets", labels, max(0, each.log.log_end - each.offset)
            since = oldest.get(each.log.at)
            yield "lag_seconds", labels, max(0.0, (now - since).total_seconds()) if since else 0.0
            yield "partition_stopped", labels, float(each.stopped is not None)

    def _sources(self, now: datetime) -> Iterator[Sample]:
        for each in read_source_status(self.store, self.settings, now=now):
            source = {"source": each.source}
            yield "source_up", source, float(each.state not in (SourceState.OFFLINE, SourceState.SILENT))
            if each.last_frame:
                yield "source_last_frame_timestamp_seconds", source, each.last_frame.timestamp()
            yield "source_frames_today", source, each.frames_today
            yield "source_gated_today", source, each.gated_today
            yield "source_failed_today", source, each.failed_today
            if each.observed_today_s is not None:
                yield "source_observed_today_seconds", source, each.observed_today_s
            for reason, count in each.dropped_today.items():
                yield "source_dropped_today", {**source, "reason": reason}, count
        with open_lake(self.store, settings=self.settings, days=[now.date()]) as lake:
            counts = lake.query("SELECT code, count(*) FROM dead_letters WHERE day = ? GROUP BY code", [now.date()])
            for code, count in counts.rows:
                yield "dead_letters_today", {"code": code}, count

    def _days(self, now: datetime) -> Iterator[Sample]:
        yield "days_behind", {}, len(due_days(day_states(self.store, self.settings, now=now)))

    def _audit(self, _now: datetime) -> Iterator[Sample]:
        days = sorted(days_of(self.store, Span()))[-_AUDITED_DAYS:]
        verdicts = [verdict for day in days if (verdict := read_verdict(self.store, day))]
        yield "audit_wrong_days", {}, sum(not verdict.ok for verdict in verdicts)
        if verdicts:
            yield "audit_timestamp_seconds", {}, max(verdict.audited_at for verdict in verdicts).timestamp()

    def _alerts(self, now: datetime) -> Iterator[Sample]:
        found = find_undelivered(self.store, self.settings, now=now)
        yield "alerts_undelivered", {}, len(found.numbers)
        yield "alerts_late", {}, len(found.late)

    def _sinks(self, now: datetime) -> Iterator[Sample]:
        for status in read_statuses(self.store, self.settings):
            sink = {"sink": status.name}
            yield "sink_failing", sink, float(status.error is not None or status.problem(now) is not None)
            if status.days_behind is not None:
                yield "sink_days_behind", sink, status.days_behind
            if status.checked_at:
                yield "sink_last_export_timestamp_seconds", sink, status.checked_at.timestamp()

    def _runs(self, now: datetime) -> Iterator[Sample]:
        failed, seconds = self.read_runs(now) if self.read_runs else ({}, {})
        yield from (("runs_failed", {"work": work}, count) for work, count in failed.items())
        yield from (("run_seconds", {"work": work}, each) for work, each in seconds.items())


def serve_site_metrics(metrics: SiteMetrics, port: int, address: str) -> AbstractContextManager[int]:
    """Serves `/metrics` while the context lasts.

    Raises:
        ConfigurationError: The port cannot be opened.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    registry.register(DetectionCollector(metrics.store))

    def page_of(path: str) -> StatusPage:
        return (
            StatusPage(generate_latest(registry), CONTENT_TYPE_LATEST)
            if path == "/metrics"
            else StatusPage(b"/metrics\n")
        )

    return serve_pages(page_of, port, address)


def refresh_until(
    metrics: SiteMetrics, stop: Event, every_s: float, *, clock_s: Callable[[], float] = time.monotonic
) -> None:
    """Computes the metrics at this interval until `stop` is set.

    The comparison of all days takes long in a store of years: after a computation that took longer than a third of
    the interval, the rest is three times as long, at most two minutes, so that metrics stay younger than their alert.
    """
    rest_s = every_s
    while not stop.wait(rest_s):
        started_s = clock_s()
        metrics.refresh()
        rest_s = max(every_s, min(3 * (clock_s() - started_s), _LONGEST_REST_S))
