"""The two threads of a detection run: one fetches records and hands them to a pool, one collects outcomes in drafts.

Queues are bounded, the outcomes of a partition keep the order of its offsets, and an error in a thread reaches the run,
which puts the drafts as segments (`run`).
"""

import json
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Gap, Outcome, RecordOutcome
from imgpipeline.contracts.records import KafkaRecord, Partition
from imgpipeline.detect.report import Stage, StageClock
from imgpipeline.ledger.segment import Fingerprint
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole, HoleExplainer, LaneFetcher
from imgpipeline.vision.detector import Detector, self_test

_MAX_BYTES = 4 * 2**20
_POLL_S = 0.1
_DRAFTS_AHEAD = 8
_FINISH_S = 2.0
"""How long a stopped run still works on fetched records; the next run takes the rest."""

Found = RecordOutcome | list[Gap]
Item = tuple[Partition, KafkaRecord | None, Future[Any]]
"""Partition, record (None for a hole), and a future of what is `Found` in it."""


@dataclass(slots=True)
class SegmentDraft:
    """The outcomes of a partition since its last segment; decides when the next segment is due."""

    partition: Partition
    outcomes: list[Outcome] = field(default_factory=list)
    """In the order of offsets."""
    record_times: list[datetime] = field(default_factory=list)
    """Kafka times of the records, for the latency."""
    fingerprint: Fingerprint | None = None
    """Fingerprint of the last record; None without records. The record itself may be large and is not kept."""
    opened_at_s: float = 0.0
    """When the first outcome was ready, by a monotonic clock."""
    ready_at_s: float = math.inf
    """When the last outcome was ready, by a monotonic clock."""
    size_bytes: int = 0
    """Estimated size of the segment before compression, and of the raw records put with it."""

    def add(self, outcome: Outcome, record: KafkaRecord | None, now_s: float) -> None:
        """Adds the outcome of the next offset, or a gap."""
        if not self.outcomes:
            self.opened_at_s = now_s
        self.ready_at_s = now_s
        self.outcomes.append(outcome)
        self.size_bytes += _weight(outcome)
        if record is not None:
            self.fingerprint = Fingerprint.of(record)
            if record.time is not None and record.replay_of is None:  # the time of a replay says nothing of the latency
                self.record_times.append(record.time)

    def is_due(self, now_s: float, *, max_records: int, max_age_s: float) -> bool:
        """Whether the segment should be put now."""
        if not self.outcomes:
            return False
        full = len(self.outcomes) >= max_records or self.size_bytes >= _MAX_BYTES
        return full or now_s - self.opened_at_s >= max_age_s

    @property
    def is_suspicious(self) -> bool:
        """Whether the draft has dead letters and no frame. If so, run a self-test before blaming the records."""
        return any(isinstance(o, DeadLetter) for o in self.outcomes) and not any(
            isinstance(o, Frame) for o in self.outcomes
        )


def _weight(outcome: Outcome) -> int:
    if isinstance(outcome, Gap):
        return 80
    if isinstance(outcome, Notice):
        return 500 + len(json.dumps(dict(outcome.attributes)))
    if isinstance(outcome, DeadLetter):
        return 500 + (outcome.raw.size_bytes if outcome.raw else 0)
    # A producer may put megabytes into attributes.
    boxes = len(outcome.detections) + len(outcome.weak_detections)
    return 900 + 100 * boxes + len(json.dumps(dict(outcome.attributes)))


class RecordPool(Protocol):
    """Processes several records at a time."""

    def submit(self, record: KafkaRecord, /) -> "Future[RecordOutcome]":
        """Starts processing a record; returns at once."""

    def close(self) -> None:
        """Closes the pool without waiting, since a read may hang for a minute. Drops work that has not started."""


@dataclass(slots=True)
class Flow:
    """What the threads of one run share."""

    stop: threading.Event
    """Set by the caller of the run: commit finished outcomes and end."""
    abort: threading.Event = field(default_factory=threading.Event)
    """Set by the run: end at once and put nothing more."""
    items: "queue.Queue[Item]" = field(default_factory=queue.Queue)
    """Fetched records and holes in progress, in order."""
    drafts: "queue.Queue[SegmentDraft | None]" = field(default_factory=lambda: queue.Queue(_DRAFTS_AHEAD))
    """Segments to put; None after the last one."""
    fetched_all: threading.Event = field(default_factory=threading.Event)
    """Set when nothing more will be fetched."""
    collected_all: threading.Event = field(default_factory=threading.Event)
    """Set when nothing more will be taken from `items`."""
    room: threading.Event = field(default_factory=threading.Event)
    """Set when `items` has been full and is half empty again."""
    dropped: set[Partition] = field(default_factory=set)
    """Partitions that are not followed: another writer has taken over, or records expired unread."""
    must_end_by: str | None = None
    """Set by the run: why fetching must end; fetched records are still finished. None while fetching continues."""
    ended_by: str = "stopped"
    failure: BaseException | None = None

    def is_half_empty(self) -> bool:
        """Whether `items` has room for half of what it can hold."""
        return self.items.qsize() <= self.items.maxsize // 2

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        """Wraps work so that its error ends the run and not only its thread."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - carried to the run's thread, which raises it
                self.failure = self.failure or error
                self.abort.set()

        return guarded


def put_bounded(flow: Flow, into: "queue.Queue[Any]", item: object) -> bool:
    """Puts an item and waits for room; returns False if nobody will take the item any more."""
    while not (flow.abort.is_set() or flow.collected_all.is_set()):
        try:
            into.put(item, timeout=_POLL_S)
        except queue.Full:
            continue
        return True
    return False


@dataclass(slots=True)
class FetchWorker:
    """Fetches the records of a lane and hands each to the pool that works on it."""

    settings: Settings
    flow: Flow
    positions: dict[Partition, int]
    pool: RecordPool
    holes: HoleExplainer
    stages: StageClock
    on_first_record: Callable[[], None]
    at_log_end: Callable[[dict[Partition, int]], bool]
    """Returns whether the broker confirms that these positions are the ends of the logs."""
    limit: int | None = None
    fetched: int = 0

    def run(self) -> None:
        """Fetches until the lane is idle, the time is over, or the run is stopped."""
        asking = ThreadPoolExecutor(1, "holes")
        try:
            with open_consumer(self.settings, **FETCH_OPTIONS) as consumer:
                self._follow(LaneFetcher(consumer, self.settings, self.positions), asking)
        finally:
            self.flow.fetched_all.set()
            asking.shutdown(wait=False, cancel_futures=self.flow.stop.is_set() or self.flow.abort.is_set())

    def _follow(self, fetcher: LaneFetcher, asking: ThreadPoolExecutor) -> None:
        began_s = quiet_since_s = time.monotonic()
        while not (self.flow.stop.is_set() or self.flow.abort.is_set()):
            if self._hand_on(fetcher, asking, until_s=began_s + self.settings.max_run_s):
                quiet_since_s = time.monotonic()
            reason = self._reason_to_end(began_s, quiet_since_s)
            if reason:
                self.flow.ended_by = reason
                return
            if time.monotonic() - quiet_since_s > self.settings.linger_s:
                quiet_since_s = time.monotonic()  # not at the end of the log, so the broker is in trouble: keep waiting

    def _reason_to_end(self, began_s: float, quiet_since_s: float) -> str | None:
        if self.flow.dropped >= self.positions.keys():
            return "superseded"
        if self.flow.must_end_by:
            return self.flow.must_end_by
        now_s = time.monotonic()
        if now_s - began_s >= self.settings.max_run_s:
            return "max_run"
        quiet = now_s - quiet_since_s >= self.settings.linger_s and self.flow.items.empty()
        return "linger" if quiet and self.at_log_end(self.positions) else None

    def _hand_on(self, fetcher: LaneFetcher, asking: ThreadPoolExecutor, *, until_s: float) -> bool:
        for partition in self.flow.dropped & self.positions.keys():
            fetcher.drop(partition)
        began_s = time.perf_counter()
        steps = fetcher.poll(_POLL_S)
        if steps:
            self.stages.add(Stage.FETCH, began_s, items=len(steps))
        for step in steps:
            self._await_room()
            item, behind = self._submit(step, asking)
            self.fetched += isinstance(step, KafkaRecord)
            if self.limit is not None and self.fetched >= self.limit:
                self.flow.must_end_by = self.flow.must_end_by or "limit"
            if not put_bounded(self.flow, self.flow.items, item) or self.flow.stop.is_set() or self.flow.must_end_by:
                break
            if time.monotonic() >= until_s:  # with a slow model, the records of one poll may take minutes
                break
            self.positions[step.at] = behind
        return bool(steps)

    def _await_room(self) -> None:
        """Waits until a full queue is half empty: refilling it one by one would wake every thread for each frame."""
        flow = self.flow
        if not flow.items.full():
            return
        flow.room.clear()
        while not (flow.abort.is_set() or flow.collected_all.is_set() or flow.is_half_empty()):
            flow.room.wait(_POLL_S)

    def _submit(self, step: KafkaRecord | Hole, asking: ThreadPoolExecutor) -> tuple[Item, int]:
        if isinstance(step, Hole):
            return (step.at, None, asking.submit(self.holes.explain, step)), step.end
        self.on_first_record()
        return (step.at, step, self.pool.submit(step)), step.offset + 1


@dataclass(slots=True)
class CollectWorker:
    """Takes outcomes in the order of their records, and hands on the segments that are due."""

    settings: Settings
    flow: Flow
    detector: Detector
    """The detector, tested before frames are blamed for its errors."""
    drafts: dict[Partition, SegmentDraft] = field(default_factory=dict)
    stopped_at_s: float | None = None
    """When the stop was noticed, by a monotonic clock."""

    def run(self) -> None:
        """Works until everything fetched has its outcome, or the run is stopped or aborted."""
        while not self._is_over():
            try:
                item = self.flow.items.get(timeout=_POLL_S / 2)
            except queue.Empty:
                if self.flow.fetched_all.is_set() and self.flow.items.empty():
                    break
            else:
                if self.flow.is_half_empty():
                    self.flow.room.set()
                if not self._take(*item):
                    break
            self._hand_on(every=False)
        self._hand_on(every=True)
        put_bounded(self.flow, self.flow.drafts, None)
        self.flow.collected_all.set()

    def _is_over(self) -> bool:
        """Whether the run is aborted, or was stopped some time ago."""
        if self.flow.stop.is_set():
            self.stopped_at_s = self.stopped_at_s or time.monotonic()
        return self.flow.abort.is_set() or time.monotonic() - (self.stopped_at_s or math.inf) > _FINISH_S

    def _take(self, partition: Partition, record: KafkaRecord | None, future: Future[Found]) -> bool:
        """Adds the outcome of an item; returns False if there will be none, so nothing after the item may be put."""
        if partition in self.flow.dropped:
            future.cancel()
            return True
        while not future.done():
            wait([future], timeout=_POLL_S)
            if self._is_over():
                return False
            self._hand_on(every=False)  # finished outcomes do not wait for a hanging read
        if future.cancelled():
            return False
        found = future.result()
        outcomes: list[Outcome] = list(found) if isinstance(found, list) else [found]
        draft = self.drafts.setdefault(partition, SegmentDraft(partition))
        for outcome in outcomes:
            draft.add(outcome, record, time.monotonic())
        return True

    def _hand_on(self, *, every: bool) -> None:
        settings, now_s = self.settings, time.monotonic()
        is_tested = False
        for partition, draft in list(self.drafts.items()):
            due = draft.is_due(now_s, max_records=settings.segment_max_records, max_age_s=settings.commit_interval_s)
            if not (due or (every and draft.outcomes)):
                continue
            del self.drafts[partition]
            if draft.is_suspicious and not is_tested and not self.flow.abort.is_set():
                self_test(self.detector)
                is_tested = True  # also valid for the other drafts of this round, whose outcomes are all older
            put_bounded(self.flow, self.flow.drafts, draft)
