"""One detection run: finds where each partition of a lane continues, and works in the order that makes it durable.

That order is day index, segment, report, group offset. A run may end at any point without losing or duplicating
anything: the next run continues at the ends of the chains and reports again what may not have been reported.

Two more threads fetch records and collect outcomes (`workers`), and a pool turns records into outcomes (`image_pool`).
The thread that calls `work` puts segments and reports days to Dagster.
"""

import contextlib
import logging
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_fixed,
)

from imgpipeline.contracts.records import LogRange, Partition
from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.detect.crash_search import CarefulRecordPool
from imgpipeline.detect.report import LaneReport, LaneTally, Stage, StageClock
from imgpipeline.detect.resume import Resumption, resume_chain
from imgpipeline.detect.work import FrameWork, open_image_reader
from imgpipeline.detect.workers import CollectWorker, FetchWorker, Flow, RecordPool, SegmentDraft
from imgpipeline.errors import ConfigurationError, LedgerError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.segment import Provenance, SegmentHeader
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.client import check_store
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import kafka_errors, open_admin
from imgpipeline.stream.diagnosis import UnreachableBrokerError
from imgpipeline.stream.fetch import HoleExplainer
from imgpipeline.stream.lanes import Lane, partitions_of
from imgpipeline.stream.log import ask_logs, ask_topics, commit_group, read_log
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.image_pool import ImagePool

_REPORT_EVERY_S = 3.0
_LOOK_EVERY_S = 5.0
_PUT_AT_ONCE = 8
RESTART_S = 20.0
_RESTART_PAUSE_S = 0.5

Report = Callable[[LaneReport], None]
Answer = TypeVar("Answer")


@dataclass(slots=True)
class LaneRun:
    """One run over a lane: puts the workers' drafts as segments, in the calling thread."""

    settings: Settings
    store: ObjectStore
    admin: KafkaAdminClient
    made_by: Provenance
    report: Report
    clock: Clock
    flow: Flow
    lane: Lane
    logs: dict[Partition, LogRange]
    """The logs of the lane's partitions when the run started."""
    is_careful: bool = False
    """Whether to process record by record in a child process."""
    limit: int | None = None
    tally: LaneTally = field(default_factory=LaneTally)
    stages: StageClock = field(default_factory=StageClock)
    writers: dict[Partition, ChainWriter] = field(default_factory=dict)
    committed: dict[Partition, int] = field(default_factory=dict)
    reported_at_s: float = -math.inf
    """When the last report was made, by a monotonic clock."""
    asked_at_s: float = -math.inf
    """When the ids of the topics were last compared, by a monotonic clock."""
    looked_at_s: float = -math.inf
    """When the partitions of the topics were last read, by a monotonic clock."""

    def begin(self, resumed: dict[Partition, Resumption]) -> None:
        """Opens a writer for each chain and puts the gaps that were found."""
        index = DayIndex(self.store)
        self.writers = {number: ChainWriter(self.store, r.end, index) for number, r in resumed.items()}
        self._put([SegmentDraft(number, [r.gap]) for number, r in resumed.items() if r.gap])

    def work(self, detector: Detector, positions: dict[Partition, int]) -> LaneReport:
        """Runs the workers and puts their drafts as segments until fetching ends."""
        settings, flow, stages = self.settings, self.flow, self.stages
        flow.items = queue.Queue(settings.prefetch_images)
        work = FrameWork(settings, open_image_reader(settings, self.store), detector, self.clock, stages)
        if self.is_careful:
            positions = dict(sorted(positions.items(), key=lambda item: self._last_put(item[0])))
        collect = CollectWorker(settings, flow, detector)
        with contextlib.closing(self._open_pool(work)) as pool, HoleExplainer(settings) as holes:
            fetch = FetchWorker(
                settings, flow, positions, pool, holes, stages, self._note_record, self._at_log_end, self.limit
            )
            self._put_drafts(fetch, collect)
        if flow.failure is not None:
            raise flow.failure
        return self._tell(flow.ended_by)

    def _put_drafts(self, fetch: FetchWorker, collect: CollectWorker) -> None:
        with _threads(self.flow, fetch.run, collect.run):
            while drafts := self._next_drafts():
                self._put(drafts)
                if time.monotonic() - self.reported_at_s >= _REPORT_EVERY_S:
                    self._tell(None)

    def _last_put(self, partition: Partition) -> datetime:
        """Returns the time of a chain's last segment.

        A careful run fetches the chain with the oldest one first: runs probably died at one of its records, and a
        careful run ends before it has worked through many backlogs.
        """
        header = self.writers[partition].end.header
        return header.created_at if header else datetime.min.replace(tzinfo=UTC)

    def _open_pool(self, work: FrameWork) -> RecordPool:
        if self.is_careful:
            return CarefulRecordPool(self.settings, work, self._end_by)
        return ImagePool.of(self.settings, work)

    def _end_by(self, reason: str) -> None:
        self.flow.must_end_by = reason

    def _note_record(self) -> None:
        self.tally.begin(self.clock())

    def _next_drafts(self) -> list[SegmentDraft]:
        """Waits for due drafts and returns all of them; an empty list after the last one."""
        while not self.flow.abort.is_set():
            with contextlib.suppress(queue.Empty):
                drafts = [self.flow.drafts.get(timeout=0.1)]
                with contextlib.suppress(queue.Empty):
                    while drafts[-1] is not None:
                        drafts.append(self.flow.drafts.get_nowait())
                if drafts[-1] is None and len(drafts) > 1:
                    self.flow.drafts.put(drafts.pop())
                return [draft for draft in drafts if draft is not None]
            if time.monotonic() - self.reported_at_s >= _REPORT_EVERY_S and self.tally.news(self.clock()):
                self._tell(None)
            if time.monotonic() - self.looked_at_s >= _LOOK_EVERY_S:
                self._ask_topics()
        return []

    def _put(self, drafts: list[SegmentDraft]) -> None:
        """Puts segments: those of one partition in order, those of several partitions in parallel."""
        chains: dict[Partition, list[SegmentDraft]] = defaultdict(list)
        for draft in drafts:
            if draft.partition not in self.flow.dropped:
                chains[draft.partition].append(draft)
        self._check_topics(chains)
        with ThreadPoolExecutor(_PUT_AT_ONCE) if len(chains) > 1 else contextlib.nullcontext() as pool:
            put = pool.map(self._put_chain, chains.values()) if pool else map(self._put_chain, chains.values())
            for number, done in zip(chains, put, strict=True):
                for draft, header in done:
                    self.tally.add(header, draft.outcomes, draft.record_times, self.clock())
                if len(done) < len(chains[number]):
                    self.flow.dropped.add(number)
                    # End soon, so that the next run follows this partition: the sensor believes that this run does.
                    self.flow.must_end_by = self.flow.must_end_by or "superseded"

    def _check_topics(self, chains: dict[Partition, list[SegmentDraft]]) -> None:
        """Checks the ids of the topics after records are fetched and before they are put.

        Skips the chains of a deleted topic, because the origin of its records cannot be proven.
        """
        if all(draft.ready_at_s < self.asked_at_s for drafts in chains.values() for draft in drafts):
            return  # their records were fetched before the last check
        self.asked_at_s = time.monotonic()
        ids = self._ask_topics()
        for partition in list(chains):
            if partition in self.flow.dropped:
                del chains[partition]
            else:
                _check_same_topic(self.logs[partition], ids[partition.topic])

    def _ask_topics(self) -> Mapping[str, str]:
        """Returns the ids of the topics that can be read.

        Ends the run if the lane's partitions have changed; the next run follows the new ones.
        """
        self.looked_at_s = time.monotonic()
        topics = self._patiently(lambda: ask_topics(self.admin, self.settings))
        self.flow.dropped |= {partition for partition in self.logs if partition.topic not in topics.ids}
        if partitions_of(self.lane, topics.partitions, self.settings.kafka_topics) != sorted(self.logs):
            self.flow.must_end_by = "partitions"
        return topics.ids

    def _put_chain(self, drafts: list[SegmentDraft]) -> list[tuple[SegmentDraft, SegmentHeader]]:
        """Puts the drafts of one partition in order and returns those put before the first lost write race."""
        done: list[tuple[SegmentDraft, SegmentHeader]] = []
        writer = self.writers[drafts[0].partition]
        for draft in drafts:
            began_s = time.perf_counter()
            waited_s = max(0.0, time.monotonic() - draft.ready_at_s)
            written = writer.append(
                draft.outcomes,
                provenance=self.made_by,
                writer_id=uuid4().hex,
                fingerprint=draft.fingerprint,
                created_at=self.clock(),
            )
            if not written or writer.end.header is None:
                break
            self.stages.add(Stage.PUT, began_s, waited_s=waited_s)
            done.append((draft, writer.end.header))
        return done

    def _tell(self, ended_by: str | None) -> LaneReport:
        """Reports to Dagster, then commits the group's offsets, for other tools to see."""
        self.reported_at_s = time.monotonic()
        ends = {n: writer.end.offset for n, writer in self.writers.items()}
        try:
            logs = self._fresh_logs()
        except (KafkaError, TransientError, ConfigurationError):
            if not self.flow.stop.is_set():
                raise
            logs = {}  # the run is being stopped: report the segments even if the broker does not answer
        followed = [(n, log) for n, log in logs.items() if n not in self.flow.dropped]
        lag = sum(max(0, log.log_end - ends[n]) for n, log in followed)
        report = self.tally.report(self.clock(), lag, self.stages.report(), ended_by)
        self.report(report)
        followed_now = [n for n in ends if n not in self.flow.dropped and (n in logs or not logs)]
        changed = {n: ends[n] for n in followed_now if self.committed.get(n) != ends[n]}
        if changed and commit_group(self.admin, self.settings, changed):
            self.committed |= changed
        return report

    def _fresh_logs(self) -> dict[Partition, LogRange]:
        fresh = {log.at: log for log in self._patiently(lambda: ask_logs(self.admin, self.settings)).ranges}
        return {n: fresh[n] for n in self.logs if n in fresh and fresh[n].topic_id == self.logs[n].topic_id}

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Retries for a while, so that a rolling restart of the brokers does not end the run."""
        attempts = Retrying(
            retry=retry_if_exception_type((KafkaError, TransientError, ConfigurationError)),
            stop=stop_any(
                stop_after_delay(RESTART_S), stop_when_event_set(self.flow.stop), stop_when_event_set(self.flow.abort)
            ),
            wait=wait_fixed(_RESTART_PAUSE_S),
            reraise=True,
        )
        return attempts(ask)

    def _at_log_end(self, positions: dict[Partition, int]) -> bool:
        """Returns whether nothing is left to fetch. Called by the fetching thread, so it opens another client."""
        now = {log.at: log for log in self._patiently(lambda: read_log(self.settings))}
        followed = {n: position for n, position in positions.items() if n not in self.flow.dropped and n in now}
        for number, position in followed.items():
            _check_same_topic(self.logs[number], now[number].topic_id)
            if position < now[number].log_start:
                # After an outage, kafka-python may return no records instead of an error.
                raise TransientError(f"The log of {number} moved while it was read.")
        return all(position >= now[number].log_end for number, position in followed.items())


def _check_same_topic(log: LogRange, topic_id: str) -> None:
    """Raises if a topic was re-created after its records were fetched.

    The fetcher does not notice a re-creation. Ids are never reused, so an unchanged id proves the records' origin.
    """
    if topic_id != log.topic_id:
        raise TransientError(
            f"The topic {log.topic} was re-created while it was read; its records are not put into the old chain.",
            next_step="nothing; the next run follows the new topic in a new chain",
        )


@contextlib.contextmanager
def _threads(flow: Flow, *work: Callable[[], None]) -> Iterator[None]:
    """Runs the work in threads during the body; an error in the body ends them."""
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


_log = logging.getLogger(__name__)
_RESUMED_AT_ONCE = 8


def follow_lane(
    settings: Settings,
    lane: Lane,
    *,
    run_id: str,
    report: Report,
    stop: threading.Event | None = None,
    careful: bool = False,
    limit: int | None = None,
    clock: Clock = utc_now,
) -> LaneReport:
    """Follows a lane until it is idle for `linger_s`, for at most `max_run_s`, or until it is stopped.

    Args:
        settings: Name broker, store and model, and the limits.
        run_id: Written into every segment.
        report: Called in the calling thread, every few seconds while segments are put and at the end.
        stop: Set it to make the run commit finished outcomes and end within about 5 s.
        careful: Process record by record in a child process, to find the record that killed earlier runs; the run ends
            when it is found.
        limit: Maximum number of records; None: no limit.

    Returns:
        The last report.

    Raises:
        ConfigurationError: A setting is wrong: store, broker, topic or model.
        LedgerError: The log is not the one that its chain was built from, or every partition stops: its records expired
            unread, or its last segment is damaged. If only some stop, they are left out.
        PermanentError: The model is damaged, or the self-test failed.
        TransientError: Store or broker do not answer, or the topic was re-created.
    """
    detector = load_configured_detector(settings)
    store = open_store(settings)
    check_store(store)
    use = detector.use
    made_by = Provenance(use.model_name, use.model_sha256, settings.results_hash(), run_id, use.precision)
    with open_admin(settings) as admin:
        found = ask_logs(admin, settings)
        for topic, why in found.unreadable.items():
            _log.warning("A topic is left out: %s", why, extra={"topic": topic})
        logs = {log.at: log for log in found.ranges}
        followed = {at: logs[at] for at in partitions_of(lane, logs, settings.kafka_topics)}
        with ThreadPoolExecutor(_RESUMED_AT_ONCE) as pool:
            ends = dict(
                zip(followed, pool.map(lambda log: resume_chain(settings, store, log), followed.values()), strict=True)
            )
        resumed = {at: one for at, one in ends.items() if isinstance(one, Resumption)}
        for at, one in ends.items():
            if isinstance(one, LedgerError):
                if not resumed:
                    raise one
                _log.warning("A partition is left out: %s", one, extra={"topic": at.topic, "partition": at.number})
        flow = Flow(stop or threading.Event(), dropped=ends.keys() - resumed)
        run = LaneRun(settings, store, admin, made_by, report, clock, flow, lane, followed, careful, limit)
        reach("run begin", ",".join(settings.kafka_topics))
        with _losing_the_broker_is_transient(settings):
            run.begin(resumed)
            return run.work(detector, {at: r.position for at, r in resumed.items()})


@contextlib.contextmanager
def _losing_the_broker_is_transient(settings: Settings) -> Iterator[None]:
    """Makes the error of an unreachable broker transient, since the broker was reachable when the run started."""
    try:
        with kafka_errors(settings):
            yield
    except UnreachableBrokerError as error:
        raise TransientError(
            f"This run has lost its broker: {error.message}", next_step="nothing, once the broker is back"
        ) from error
