"""Following a lane: one bounded run from the ledger's ends on.

Owns the order in which a run makes its work lasting: day index, segment, report (Dagster's event), group offset. It
promises that a run which ends anywhere in between loses and doubles nothing: the next one finds the ends of the chains
and goes on there, and reports again what may not have been reported.
"""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_fixed,
)

from imgpipeline.contracts.log import LogRange
from imgpipeline.detect.draft import SegmentDraft
from imgpipeline.detect.prepare import FramePreparer
from imgpipeline.detect.report import LaneReport, LaneTally
from imgpipeline.detect.resume import Resumption, resume_chain
from imgpipeline.detect.workers import DetectWorker, FetchWorker, Flow
from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger import ChainWriter, DayIndex, Provenance, list_segments, read_segments
from imgpipeline.objectstore import Fetched, ImageReader, ObjectMissingError, ObjectStore, open_store
from imgpipeline.objectstore.probe import check_store
from imgpipeline.settings import Clock, Settings, utc_now
from imgpipeline.stream.connection import open_admin
from imgpipeline.stream.group import Group, open_group
from imgpipeline.stream.holes import HoleExplainer
from imgpipeline.stream.lanes import Lane, partitions_of
from imgpipeline.stream.log import ask_log, ask_topic, read_log
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.detector import Detector

_REPORT_EVERY_S = 3.0
_RESUMED_AT_ONCE = 8
_RESTART_S = 20.0
_RESTART_PAUSE_S = 0.5
_MISSING_ATTEMPTS = 3
_MISSING_PAUSE_S = 0.3
_MOST_REVISITED = 1000
"""Segments whose days are reported again at most, where the group's offset is far behind or was reset."""

Report = Callable[[LaneReport], None]
Answer = TypeVar("Answer")


def follow_lane(
    settings: Settings,
    lane: Lane,
    *,
    run_id: str,
    report: Report,
    stop: threading.Event | None = None,
    clock: Clock = utc_now,
) -> LaneReport:
    """Follows a lane until it is quiet for `linger_s`, for `max_run_s`, or until it is stopped.

    Args:
        settings: Where everything is, and the limits.
        lane: Which partitions to follow.
        run_id: Written into every segment.
        report: Called every few seconds while segments are put, and at the end; in the calling thread.
        stop: Set it to make the run commit what is finished and end within about 5 s.
        clock: Tells the time.

    Returns:
        The last report.

    Raises:
        ConfigurationError: A setting is wrong: store, broker, topic or model.
        LedgerError: The log is not the one the ledger was made of, records were lost, or a segment is damaged.
        PermanentError: The model is damaged, or the self-test failed.
        TransientError: Store or broker are in trouble, or the topic was made anew.
    """
    detector = load_configured_detector(settings)
    store = open_store(settings)
    check_store(store)
    made_by = Provenance(detector.model_name, detector.model_sha256, settings.results_hash(), run_id)
    with open_admin(settings) as admin, open_group(settings) as group:
        logs = {log.partition: log for log in ask_log(admin, settings)}
        followed = {n: logs[n] for n in partitions_of(lane, sorted(logs))}
        with ThreadPoolExecutor(_RESUMED_AT_ONCE) as pool:
            found = pool.map(lambda log: resume_chain(settings, store, log), followed.values())
            resumed = dict(zip(followed, found, strict=True))
        run = _LaneRun(settings, store, admin, group, made_by, report, clock, Flow(stop or threading.Event()), followed)
        reach("run begin", settings.kafka_topic)
        run.revisit(resumed)
        run.begin(resumed)
        return run.work(detector, {n: r.position for n, r in resumed.items()})


@dataclass(slots=True)
class _LaneRun:
    """One run over a lane: takes the drafts of the workers and makes them lasting, in the calling thread."""

    settings: Settings
    store: ObjectStore
    admin: KafkaAdminClient
    group: Group
    made_by: Provenance
    report: Report
    clock: Clock
    flow: Flow
    logs: dict[int, LogRange]
    tally: LaneTally = field(default_factory=LaneTally)
    writers: dict[int, ChainWriter] = field(default_factory=dict)
    told: dict[int, int] = field(default_factory=dict)
    reported_at_s: float = -math.inf
    asked_at_s: float = -math.inf
    """When the topic's id was last asked for, by a monotonic clock."""

    def revisit(self, resumed: dict[int, Resumption]) -> None:
        """Notes the days of segments that an earlier run put but may not have reported."""
        self.told = self.group.read(resumed)
        for number, resumption in resumed.items():
            end = resumption.end
            if self.told.get(number, 0) >= end.offset:
                continue
            starts = list_segments(self.store, end.chain, self.told.get(number, 0), end.offset)
            for segment in read_segments(self.store, end.chain, starts[-_MOST_REVISITED:]):
                self.tally.revisit(segment.header)

    def begin(self, resumed: dict[int, Resumption]) -> None:
        """Opens a writer for each chain and records the gaps that were found."""
        index = DayIndex(self.store)
        for number, resumption in resumed.items():
            self.writers[number] = ChainWriter(self.store, resumption.end, index)
            if resumption.gap:
                self._put(SegmentDraft(number, [resumption.gap]))

    def work(self, detector: Detector, positions: dict[int, int]) -> LaneReport:
        """Runs the workers and puts what they hand on, until there is nothing more."""
        settings, flow = self.settings, self.flow
        flow.items = queue.Queue(settings.prefetch_images)
        preparer = FramePreparer(settings, ImageReader(self.store, settings, _retry_missing), self.clock)
        holes = HoleExplainer(settings)
        fetch = FetchWorker(settings, flow, positions, preparer, holes, self._note_record, self._at_log_end)
        detect = DetectWorker(settings, flow, preparer, detector)
        with holes, _threads(flow, fetch.run, detect.run):
            while (draft := self._next_draft()) is not None:
                self._put(draft)
                if time.monotonic() - self.reported_at_s >= _REPORT_EVERY_S:
                    self._tell(None)
        if flow.failure is not None:
            raise flow.failure
        return self._tell(flow.ended_by)

    def _note_record(self) -> None:
        self.tally.begin(self.clock())

    def _next_draft(self) -> SegmentDraft | None:
        while True:
            if self.flow.abort.is_set():
                return None
            with contextlib.suppress(queue.Empty):
                return self.flow.drafts.get(timeout=0.1)
            if self.tally.has_news and time.monotonic() - self.reported_at_s >= _REPORT_EVERY_S:
                self._tell(None)

    def _put(self, draft: SegmentDraft) -> None:
        number = draft.partition
        if number in self.flow.dropped:
            return
        writer = self.writers[number]
        if draft.ready_at_s >= self.asked_at_s:  # else its records are older than the last answer
            self.asked_at_s = time.monotonic()
            topic_id, _ = self._patiently(lambda: ask_topic(self.admin, self.settings))
            _check_same_topic(self.logs[number], topic_id)
        written = writer.append(
            draft.outcomes,
            provenance=self.made_by,
            writer_id=uuid4().hex,
            fingerprint=draft.fingerprint,
            created_at=self.clock(),
        )
        if written and writer.end.header:
            self.tally.add(writer.end.header, draft.outcomes, draft.record_times, self.clock())
        else:
            self.flow.dropped.add(number)

    def _tell(self, ended_by: str | None) -> LaneReport:
        """Reports, and only then tells the group: what the group knows was reported."""
        self.reported_at_s = time.monotonic()
        ends = {n: writer.end.offset for n, writer in self.writers.items()}
        followed = [(n, log) for n, log in self._fresh_logs().items() if n not in self.flow.dropped]
        lag = sum(max(0, log.log_end - ends[n]) for n, log in followed)
        said = self.tally.report(lag, ended_by)
        self.report(said)
        news = {n: end for n, end in ends.items() if n not in self.flow.dropped and self.told.get(n) != end}
        if news and self.group.write(news):
            self.told |= news
        return said

    def _fresh_logs(self) -> dict[int, LogRange]:
        fresh = {log.partition: log for log in self._patiently(lambda: ask_log(self.admin, self.settings))}
        return {n: fresh[n] for n in self.logs if n in fresh and fresh[n].topic_id == self.logs[n].topic_id}

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Asks the broker again for a while: one that restarts, as they do one by one, is no reason to end a run."""
        attempts = Retrying(
            retry=retry_if_exception_type((KafkaError, TransientError, ConfigurationError)),
            stop=stop_any(
                stop_after_delay(_RESTART_S), stop_when_event_set(self.flow.stop), stop_when_event_set(self.flow.abort)
            ),
            wait=wait_fixed(_RESTART_PAUSE_S),
            reraise=True,
        )
        return attempts(ask)

    def _at_log_end(self, positions: dict[int, int]) -> bool:
        """Whether nothing is left to fetch; asked from the fetching thread, so through a client of its own."""
        now = {log.partition: log for log in self._patiently(lambda: read_log(self.settings))}
        followed = {n: position for n, position in positions.items() if n not in self.flow.dropped and n in now}
        for number, position in followed.items():
            _check_same_topic(self.logs[number], now[number].topic_id)
            if position < now[number].log_start:
                # After an outage kafka-python may go on without records where it should say so.
                raise TransientError(f"The log of {self.settings.kafka_topic}/{number} moved while it was read.")
        return all(position >= now[number].log_end for number, position in followed.items())


def _check_same_topic(log: LogRange, topic_id: str) -> None:
    """Raises where a topic was made anew, after its records were fetched.

    The fetcher does not notice; ids never come back, so an unchanged one proves where the records are from.
    """
    if topic_id != log.topic_id:
        raise TransientError(
            f"The topic {log.topic} was made anew while it was read; its records are not put into the old chain.",
            next_step="nothing; the next run follows the new topic in a chain of its own",
        )


def _retry_missing(read: Callable[[], Fetched]) -> Fetched:
    """Reads again for a moment where an object is missing: some producers announce before the upload is over."""
    attempts = Retrying(
        retry=retry_if_exception_type(ObjectMissingError),
        stop=stop_after_attempt(_MISSING_ATTEMPTS),
        wait=wait_fixed(_MISSING_PAUSE_S),
        reraise=True,
    )
    return attempts(read)


@contextlib.contextmanager
def _threads(flow: Flow, *work: Callable[[], None]) -> Iterator[None]:
    """Runs work in threads for as long as the body runs; an error of the body ends them."""
    threads = [threading.Thread(target=flow.guard(w), name=f"lane-{i}", daemon=True) for i, w in enumerate(work)]
    for thread in threads:
        thread.start()
    try:
        yield
    except BaseException:
        flow.abort.set()
        raise
    finally:
        for thread in threads:
            thread.join()
