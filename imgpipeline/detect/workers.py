"""The two threads of a detection run: one fetches records and has them prepared, one detects and fills segments.

Owns the way from Kafka to a draft that is due. It promises bounded queues, outcomes of a partition in the order of its
offsets, and that what goes wrong in a thread reaches the run. Putting segments belongs to `lane`.
"""

import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from imgpipeline.contracts.messages import KafkaRecord
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Gap, Outcome
from imgpipeline.detect.draft import SegmentDraft
from imgpipeline.detect.prepare import FramePreparer, LargeFrame, PreparedFrame
from imgpipeline.faultpoints import reach
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole, LaneFetcher
from imgpipeline.stream.holes import HoleExplainer
from imgpipeline.vision.detector import Detector, self_test

_POLL_S = 0.1
_DRAFTS_AHEAD = 4
_FINISH_S = 2.0
"""How long a stopped run still works on what was fetched; the rest is left to the next one."""

Prepared = PreparedFrame | LargeFrame | DeadLetter | list[Gap]
Item = tuple[int, KafkaRecord | None, Future[Any]]
"""Partition, its record (None for a hole), and the `Prepared` that is under way."""


@dataclass(slots=True)
class Flow:
    """What the threads of one run share."""

    stop: threading.Event
    """Set from outside: commit what is finished and end."""
    abort: threading.Event = field(default_factory=threading.Event)
    """Set inside: end at once, nothing more is put."""
    items: "queue.Queue[Item]" = field(default_factory=queue.Queue)
    """Fetched steps with their preparation under way, in order."""
    drafts: "queue.Queue[SegmentDraft | None]" = field(default_factory=lambda: queue.Queue(_DRAFTS_AHEAD))
    """Segments that are due; None after the last one."""
    fetched_all: threading.Event = field(default_factory=threading.Event)
    """Set when nothing more will be fetched."""
    detected_all: threading.Event = field(default_factory=threading.Event)
    """Set when nothing more will be taken from `items`."""
    dropped: set[int] = field(default_factory=set)
    """Partitions that another writer has taken on."""
    ended_by: str = "stopped"
    """Why fetching ended."""
    failure: BaseException | None = None
    """The first error of a thread."""

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns work whose error ends the run instead of a thread alone."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - carried to the run's thread, which raises it
                self.failure = self.failure or error
                self.abort.set()

        return guarded


def put_bounded(flow: Flow, into: "queue.Queue[Any]", item: object) -> bool:
    """Puts an item, waiting for room; returns False where nobody will take it any more."""
    while not (flow.abort.is_set() or flow.detected_all.is_set()):
        try:
            into.put(item, timeout=_POLL_S)
        except queue.Full:
            continue
        return True
    return False


@dataclass(slots=True)
class FetchWorker:
    """Fetches the records of a lane and hands each to the pool that prepares it."""

    settings: Settings
    """Topic, limits and times."""
    flow: Flow
    """Shared with the other threads."""
    positions: dict[int, int]
    """Offset to begin with, by partition."""
    preparer: FramePreparer
    """Reads and decodes images."""
    holes: HoleExplainer
    """Tells why offsets hold no record."""
    on_first_record: Callable[[], None]
    """Called when the first record has come."""
    at_log_end: Callable[[dict[int, int]], bool]
    """Asks the broker whether these positions are the ends of the log."""

    def run(self) -> None:
        """Fetches until the lane is quiet, the time is over, or the run is stopped."""
        settings, began_s = self.settings, time.monotonic()
        workers = min(16, max(2, settings.prefetch_images // 2))
        pool = ThreadPoolExecutor(workers, "prepare")
        all_wanted = False
        try:
            with open_consumer(settings, **FETCH_OPTIONS) as consumer:
                self._follow(LaneFetcher(consumer, settings, self.positions), pool, began_s)
            all_wanted = not (self.flow.stop.is_set() or self.flow.abort.is_set())
        finally:
            self.flow.fetched_all.set()
            # Never waited for here: reads of a store in trouble take a minute, and who wants them waits for each.
            pool.shutdown(wait=False, cancel_futures=not all_wanted)

    def _follow(self, fetcher: LaneFetcher, pool: ThreadPoolExecutor, began_s: float) -> None:
        quiet_since_s = began_s
        while not (self.flow.stop.is_set() or self.flow.abort.is_set()):
            if self._hand_on(fetcher, pool):
                quiet_since_s = time.monotonic()
            reason = self._reason_to_end(began_s, quiet_since_s)
            if reason:
                self.flow.ended_by = reason
                return
            if time.monotonic() - quiet_since_s > self.settings.linger_s:
                quiet_since_s = time.monotonic()  # quiet, but not at the end of the log: a broker in trouble

    def _reason_to_end(self, began_s: float, quiet_since_s: float) -> str | None:
        if self.flow.dropped >= self.positions.keys():
            return "superseded"
        now_s = time.monotonic()
        if now_s - began_s >= self.settings.max_run_s:
            return "max_run"
        quiet = now_s - quiet_since_s >= self.settings.linger_s and self.flow.items.empty()
        return "linger" if quiet and self.at_log_end(self.positions) else None

    def _hand_on(self, fetcher: LaneFetcher, pool: ThreadPoolExecutor) -> bool:
        for partition in self.flow.dropped & self.positions.keys():
            fetcher.drop(partition)
        steps = fetcher.poll(_POLL_S)
        for step in steps:
            item, behind = self._submit(step, pool)
            if not put_bounded(self.flow, self.flow.items, item) or self.flow.stop.is_set():
                break
            self.positions[step.partition] = behind
        return bool(steps)

    def _submit(self, step: KafkaRecord | Hole, pool: ThreadPoolExecutor) -> tuple[Item, int]:
        if isinstance(step, Hole):
            return (step.partition, None, pool.submit(self.holes.explain, step)), step.end
        self.on_first_record()
        future = pool.submit(self.preparer.prepare, step, ahead=True)
        return (step.partition, step, future), step.offset + 1


@dataclass(slots=True)
class DetectWorker:
    """Takes prepared records in order, detects, and hands on the segments that are due."""

    settings: Settings
    """When a segment is due."""
    flow: Flow
    """Shared with the other threads."""
    preparer: FramePreparer
    """Prepares what was too large to be prepared ahead."""
    detector: Detector
    """Looks at pictures."""
    drafts: dict[int, SegmentDraft] = field(default_factory=dict)
    """Segments in the making, by partition."""
    stopped_at_s: float | None = None
    """When the run was seen to be stopped, by a monotonic clock."""

    def run(self) -> None:
        """Works until everything fetched has its outcome, or the run is stopped or aborted."""
        while not self._is_over():
            try:
                item = self.flow.items.get(timeout=_POLL_S / 2)
            except queue.Empty:
                if self.flow.fetched_all.is_set() and self.flow.items.empty():
                    break
            else:
                if not self._work(*item):
                    break
            self._hand_on(every=False)
        self._hand_on(every=True)
        put_bounded(self.flow, self.flow.drafts, None)
        self.flow.detected_all.set()

    def _is_over(self) -> bool:
        """Whether the run is aborted, or was stopped a while ago."""
        if self.flow.stop.is_set():
            self.stopped_at_s = self.stopped_at_s or time.monotonic()
        return self.flow.abort.is_set() or time.monotonic() - (self.stopped_at_s or math.inf) > _FINISH_S

    def _work(self, partition: int, record: KafkaRecord | None, future: Future[Prepared]) -> bool:
        """Adds the outcome of one item; returns False where it will not come, so that nothing behind it may be put."""
        if partition in self.flow.dropped:
            future.cancel()
            return True
        while not future.done():
            wait([future], timeout=_POLL_S)
            if self._is_over():
                return False
            self._hand_on(every=False)  # what is finished does not wait for a read that hangs
        if future.cancelled():
            return False
        prepared = future.result()
        if isinstance(prepared, LargeFrame):
            prepared = self.preparer.prepare(prepared.record, ahead=False)
        outcomes: list[Outcome] = []
        if isinstance(prepared, PreparedFrame):
            outcomes.append(self._look(prepared))
        elif isinstance(prepared, DeadLetter):
            outcomes.append(prepared)
        elif isinstance(prepared, list):
            outcomes += prepared
        draft = self.drafts.setdefault(partition, SegmentDraft(partition))
        for outcome in outcomes:
            draft.add(outcome, record, time.monotonic())
        return True

    def _look(self, prepared: PreparedFrame) -> Frame:
        detector, record, message, image = self.detector, prepared.record, prepared.message, prepared.image
        reach("look", f"{record.partition}/{record.offset} {prepared.path}")
        detections = detector.detect(image.pixels)
        reach("look done", f"{record.partition}/{record.offset} {prepared.path}")
        return Frame(
            frame_id=prepared.frame_id,
            source=message.source,
            source_image_path=prepared.path,
            frame_number=message.frame_number,
            timestamp=message.timestamp,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            processing_timestamp=self.preparer.clock(),
            image_width=image.width,
            image_height=image.height,
            size_bytes=prepared.size_bytes,
            brightness=prepared.quality.brightness,
            sharpness=prepared.quality.sharpness,
            model_used=detector.model_name,
            model_sha256=detector.model_sha256,
            confidence_threshold=detector.confidence_threshold,
            nms_threshold=detector.nms_threshold,
            orientation=image.orientation,
            replay_of=message.replay_of,
            attributes=message.attributes,
            detections=tuple(detections),
        )

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
                is_tested = True  # for the others of this round too: all their outcomes are older
            put_bounded(self.flow, self.flow.drafts, draft)
