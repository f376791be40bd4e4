"""Publishes the frames of one source: stores each image, announces it, and accounts for it in notices.

    offer ──► waiting ──► storing (several at a time) ──► announcing (in order, in batches) ──► settled

* A frame is announced after its image is stored, and settled after Kafka has the announcement.
* While the store or Kafka is unreachable, a finite source waits; a live one drops its oldest waiting frames.
* Accounts go out about once a minute, every ten minutes without frames, and at the end of the session.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from socket import gethostname
from time import monotonic
from typing import TypeVar

from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential,
)

from imgpipeline.contracts.messages import (
    SESSION,
    FrameMessage,
    MessageFormat,
    bucket_and_key,
    classic_value,
    public_path,
)
from imgpipeline.contracts.notices import ANNOUNCED_BEFORE, Notice, NoticeKind
from imgpipeline.contracts.times import find_timezone, format_time, utc_now
from imgpipeline.errors import BadInputError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Accounts, Totals
from imgpipeline.sources.board import SourceState, SourceWatch
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, Settled, SourceKind, StatusChange
from imgpipeline.sources.storing import FrameStorer, StoreTally
from imgpipeline.stream.diagnosis import UnreachableBrokerError
from imgpipeline.stream.send import BatchSender, FencedError, Record

LOG = logging.getLogger(__name__)
_BATCH = 500
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_SLOW_SEND_S = 2.0
"""Kafka counts as away when it has not answered for this long."""
AWAY = (TransientError, UnreachableBrokerError)
"""The errors of a store or broker that may come back."""
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class QueuedFrame:
    """A frame on its way from `offer` to Kafka."""

    frame: CapturedFrame
    number: int
    """Its number in the accounts."""
    received: datetime
    size_bytes: int
    before: threading.Event | None = None
    prepared: threading.Event = field(default_factory=threading.Event)
    """Set when this frame is prepared or has failed."""
    stored: Future[FrameMessage | None] = field(default_factory=Future)
    """Its announcement, once the image is stored; None if it is left out."""


class FrameQueue:
    """Frames in order. It is not thread-safe; the session's lock protects it."""

    def __init__(self, limits: PublishOptions) -> None:
        """Starts empty. An empty queue takes one frame of any size."""
        self._limits = limits
        self._frames: deque[QueuedFrame] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> QueuedFrame:
        return self._frames[index]

    @property
    def has_stored(self) -> bool:
        """Whether the first frame is stored or has failed."""
        return bool(self._frames) and self._frames[0].stored.done()

    def has_room(self, size_bytes: int) -> bool:
        """Returns whether a frame of this size fits."""
        has_place = len(self._frames) < self._limits.queue_frames
        return not self._frames or (has_place and self._bytes + size_bytes <= self._limits.queue_bytes)

    def append(self, frame: QueuedFrame) -> None:
        """Adds a frame at the end."""
        self._frames.append(frame)
        self._bytes += frame.size_bytes

    def pop(self) -> QueuedFrame:
        """Removes the first frame and returns it."""
        frame = self._frames.popleft()
        self._bytes -= frame.size_bytes
        return frame

    def pop_stored(self, most: int) -> list[QueuedFrame]:
        """Removes and returns up to `most` frames at the front that are stored or have failed."""
        stored: list[QueuedFrame] = []
        while self.has_stored and len(stored) < most:
            stored.append(self.pop())
        return stored

    def clear(self) -> Iterable[QueuedFrame]:
        """Removes all frames and returns them."""
        frames, self._frames, self._bytes = self._frames, deque(), 0
        return frames


class SourceSession:
    """Publishes one source in one session. Only one thread may call `offer`; any thread may call the other methods."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        kind: SourceKind,
        *,
        options: PublishOptions | None = None,
        store: ObjectStore | None = None,
        watch: SourceWatch | None = None,
        tally: StoreTally | None = None,
    ) -> None:
        """Opens a session: connects to Kafka, and takes a live source over from an older session.

        Args:
            store: Where the images go; None: the store of the settings.

        Raises:
            ConfigurationError: A setting is wrong.
            TransientError: The broker does not answer.
        """
        self.name, self.kind, self._settings = name, kind, settings
        self._options = options or PublishOptions()
        self._watch, self._accounts = watch, Accounts(name, stall_s=self._options.stall_s)
        store = store or open_store(settings, patience_s=0)  # `_retried` waits for it, and says so once
        self._storer = FrameStorer(settings, name, self.session, store, self._options, tally)
        self._last_prepared: threading.Event | None = None
        is_fenced = kind is SourceKind.LIVE and settings.kafka_transactions  # then only one session may send
        topics = settings.kafka_topics if self._options.message_format is MessageFormat.CLASSIC_VIDEO else ()
        self._sender = BatchSender(settings, fence=name if is_fenced else None, topics=topics)
        self._sender.open()
        self._lock = threading.Lock()
        self._has_room, self._has_work, self._crowded = (threading.Condition(self._lock) for _ in range(3))
        self._waiting, self._storing, self._in_store = FrameQueue(self._options), FrameQueue(self._options), 0
        self._notices: deque[Notice] = deque()
        self._stop = threading.Event()
        self._error: ImgpipelineError | None = None
        self._away: dict[str, str] = {}  # the store, or Kafka after an error
        self._answered: dict[str, float] = {}  # when the last outage of each ended
        self._sending_since: float | None = None
        self._end_reason: str | None = None
        self._started = False
        self._last_time: datetime | None = None
        if kind is SourceKind.LIVE:
            self._start(utc_now())
        self._pool = ThreadPoolExecutor(self._options.writers, thread_name_prefix=f"store {name}")
        if watch:
            self._report_to(watch)
        self._thread = threading.Thread(target=self._run, name=f"announce {name}", daemon=True)
        self._thread.start()

    def _report_to(self, watch: SourceWatch) -> None:
        if self.kind is SourceKind.FINITE:  # it may have nothing to deliver for long
            watch.change(SourceState.ONLINE)
        watch.follow_queue(lambda: self.queue_length, lambda: self.waits_for)

    @property
    def session(self) -> str:
        """Id of the session."""
        return self._accounts.session

    @property
    def queue_length(self) -> int:
        """Frames that wait to be stored."""
        return len(self._waiting)

    @property
    def blocked(self) -> str | None:
        """What the session waits for: `store`, `kafka`, or None."""
        since = self._sending_since
        return "kafka" if since is not None and monotonic() - since > _SLOW_SEND_S else next(iter(self._away), None)

    @property
    def waits_for(self) -> str | None:
        """What the session waits for, such as `the store since 2026-01-09T12:00:00Z`; None: nothing."""
        return (what := self.blocked) and self._away.get(what, "Kafka")

    @property
    def error(self) -> ImgpipelineError | None:
        """Why the session has failed; None while it has not."""
        return self._error

    def totals(self) -> Totals:
        """Returns the accounting so far."""
        return self._accounts.totals()

    def offer(self, captured: Captured) -> None:
        """Takes what a source yielded. Blocks while the queue of a finite source is full.

        Raises:
            ImgpipelineError: The session has failed; the error says why.
        """
        if self._error:
            raise self._error
        if self._watch:
            self._watch.captured(captured)
        if isinstance(captured, Lost):
            at = captured.at or self._last_time or utc_now()
            self._accounts.lose(self._booked(at), captured.count, captured.kind, captured.reason)
        elif isinstance(captured, StatusChange):
            kind = NoticeKind.ONLINE if captured.online else NoticeKind.OFFLINE
            if not captured.online:
                self._accounts.interrupt()
            self._note(kind, self._booked(captured.at), captured.reason)
        else:
            self._offer_frame(captured)

    def close(self, reason: str = "end of the source", *, drain_s: float | None = None) -> Totals:
        """Publishes the waiting frames, sends the last accounts, ends the session and returns its accounting.

        Args:
            drain_s: How long to wait for store and Kafka; None: as the options say for a live source, without limit
                for a finite one.

        Raises:
            ImgpipelineError: The session has failed; frames that were not announced count as dropped.
        """
        if drain_s is None and self.kind is SourceKind.LIVE:
            drain_s = self._options.drain_s
        with self._lock:
            self._end_reason = reason
            self._has_work.notify()
        self._thread.join(drain_s)
        self.abort()
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._sender.close()
        if self._error:
            raise self._error
        totals = self.totals()
        if not totals.dropped:
            with suppress(TransientError):  # then the next session announces some images again
                self._storer.finish()
        return totals

    def abort(self) -> None:
        """Stops waiting for store and Kafka, and drops the frames that are not announced yet."""
        self._stop.set()
        with self._lock:
            self._has_room.notify_all()
            self._crowded.notify()

    def _offer_frame(self, frame: CapturedFrame) -> None:
        reach("frame captured", self.name)
        received = frame.received or utc_now()
        at = self._last_time = self._booked(frame.timestamp, received)
        if not self._started:
            self._start(at)
        size = len(frame.data) if frame.data is not None else 0 if frame.pixels is None else frame.pixels.nbytes
        entry = QueuedFrame(frame, self._accounts.receive(at, received), received, size)
        dropped: list[QueuedFrame] = []
        with self._lock:
            if self.kind is SourceKind.FINITE:
                self._has_room.wait_for(lambda: self._waiting.has_room(size) or self._error or self._stop.is_set())
            while self._waiting and not self._waiting.has_room(size):
                dropped.append(self._waiting.pop())
            self._waiting.append(entry)
            self._submit_waiting()
            self._wake_announcer()
        for old in dropped:
            self._settle(old, Settled.DROPPED, f"{self.blocked}_away" if self.blocked else "queue")

    def _booked(self, at: datetime, received: datetime | None = None) -> datetime:
        """Returns the time that a frame has in the accounts: the time of receipt if runs would refuse its own."""
        now = received or utc_now()
        return at if self._settings.accepts_time(at, now) else now

    def _start(self, at: datetime) -> None:
        self._started = True
        self._note(NoticeKind.STARTED, at, f"process {os.getpid()} on {gethostname()}")

    def _submit_waiting(self) -> None:
        """Hands waiting frames to the pool, up to the limits of the queue."""
        while self._waiting and self._can_submit(self._waiting[0]):
            entry = self._waiting.pop()
            entry.before, self._last_prepared = self._last_prepared, entry.prepared
            self._storing.append(entry)
            if entry.frame.stored and not self._options.preparation.derive:
                entry.prepared.set()
                entry.stored.set_result(self._storer.announcement(entry.frame, entry.frame.stored))
            else:
                self._in_store += 1
                self._pool.submit(self._store_frame, entry)
            self._has_room.notify()

    def _can_submit(self, entry: QueuedFrame) -> bool:
        is_ready = entry.frame.stored is not None and not self._options.preparation.derive
        has_writer = is_ready or self._in_store < 2 * self._options.writers
        return has_writer and self._storing.has_room(entry.size_bytes)

    def _note(self, kind: NoticeKind, at: datetime, reason: str | None) -> None:
        with self._lock:
            self._notices.append(self._accounts.notice(kind, at, reason))
            self._has_work.notify()

    def _settle(self, entry: QueuedFrame, how: Settled, reason: str = "") -> None:
        self._accounts.settle(entry.number, how, reason)
        if self._watch:
            self._watch.settled(how, reason, (utc_now() - entry.received).total_seconds())
        if entry.frame.settle:
            entry.frame.settle(how)

    # The thread that announces.

    def _run(self) -> None:
        try:
            self._publish()
        except ImgpipelineError as error:
            self._error = error
        except Exception as error:  # the outer boundary of one session: a defect must end it, not only its thread
            LOG.exception("publishing %s", self.name, extra={"source": self.name})
            self._error = PermanentError(f"Publishing {self.name} failed: {type(error).__name__}: {error}.")
        finally:
            self._drop_rest("fenced" if isinstance(self._error, FencedError) else "shutdown")

    def _publish(self) -> None:
        accounted = monotonic()
        while True:
            ready = self._next_ready(accounted + self._account_after_s())
            self._announce(ready)
            since_s = monotonic() - accounted
            if self._end_reason is not None and not (self._waiting or self._storing or self._notices):
                break
            if since_s >= self._account_after_s():
                self._send_accounts(since_s)
                accounted = monotonic()
        self._send_end()

    def _account_after_s(self) -> float:
        return self._options.account_s if self._accounts.has_open_days() else self._options.idle_account_s

    def _next_ready(self, wake_at: float) -> list[QueuedFrame]:
        """Returns the frames at the front that are stored or have failed."""
        with self._lock:
            self._has_work.wait_for(self._can_announce, timeout=max(0.0, wake_at - monotonic()))
            ready = self._storing.pop_stored(_BATCH)
            self._submit_waiting()
            return ready

    def _wake_announcer(self) -> None:
        """Wakes the announcing thread only if it has something to do, because waking costs as much as a frame."""
        if self._can_announce():
            self._has_work.notify()
        if self._is_crowded():
            self._crowded.notify()

    def _is_crowded(self) -> bool:  # a frame cannot be stored until stored ones are announced
        has_room = not self._waiting or self._storing.has_room(self._waiting[0].size_bytes)
        return self._storing.has_stored and not has_room

    def _can_announce(self) -> bool:
        has_ended = self._end_reason is not None and not self._storing
        return self._storing.has_stored or bool(self._notices) or has_ended

    def _store_frame(self, entry: QueuedFrame) -> None:
        try:
            message: FrameMessage | None = None
            if image := entry.frame.stored:
                message = self._retried("store", lambda: self._storer.derive_from_stored(entry.frame, image))
            else:
                prepared = self._storer.prepare(entry.frame, entry.before, entry.prepared)
                if not self._retried("store", lambda: self._storer.is_left_out(entry.frame, prepared)):
                    message = self._retried("store", lambda: self._storer.store(entry.frame, prepared))
            entry.stored.set_result(message)
        except BaseException as error:  # noqa: BLE001 - handed to the announcing thread, which decides
            entry.stored.set_exception(error)
        with self._lock:
            self._in_store -= 1
            self._submit_waiting()
            self._wake_announcer()

    def _announce(self, entries: list[QueuedFrame]) -> None:
        with self._lock:
            notices = [self._notices.popleft() for _ in range(len(self._notices))]
        sent: list[QueuedFrame] = []
        messages: list[FrameMessage | Notice] = [*notices]
        failure: BaseException | None = None
        for entry in entries:
            error = entry.stored.exception()
            if error is None:
                message = entry.stored.result()
                if message is None:
                    self._settle(entry, Settled.GATED)
                else:
                    sent.append(entry)
                    messages.append(message)
            elif isinstance(error, TransientError):
                self._settle(entry, Settled.DROPPED, "store_away" if not self._stop.is_set() else "shutdown")
            elif isinstance(error, BadInputError) or self.kind is SourceKind.LIVE:
                LOG.warning("%s: a frame could not be stored: %s", self.name, error, extra={"source": self.name})
                self._settle(entry, Settled.FAILED)
            else:
                self._settle(entry, Settled.FAILED)
                failure = failure or error
        if messages:
            self._send_frames(sent, messages)
        if failure:
            raise failure

    def _send_frames(self, sent: list[QueuedFrame], messages: Sequence[FrameMessage | Notice]) -> None:
        try:
            self._send(messages)
        except ImgpipelineError:
            for entry in sent:
                self._settle(entry, Settled.DROPPED, "not_announced")
            raise
        reach("frames announced", self.name)
        for entry in sent:
            self._settle(entry, Settled.ANNOUNCED)

    def _send(self, messages: Sequence[FrameMessage | Notice]) -> None:
        form = self._options.message_format
        records = [record for message in messages for record in _records_of(self._settings, message, form)]
        self._sending_since = monotonic()
        try:
            self._retried("kafka", lambda: self._sender.send(records), always=True)
        finally:
            self._sending_since = None
        if self.kind is SourceKind.LIVE:
            with self._lock:
                self._crowded.wait_for(lambda: self._stop.is_set() or self._is_crowded(), self._options.commit_s)

    def _retried(self, what: str, action: Callable[[], Result], *, always: bool = False) -> Result:
        """Retries an action while store or Kafka is away. Live sources give up on an image, never on announcing."""
        begun = monotonic()
        try:
            result = action()  # the retries below would cost each frame time even if nothing is away
        except AWAY as error:
            if begun >= self._answered.get(what, 0.0):  # otherwise it failed in an outage that is over
                self._note_away(what, error)
            if self._stop.wait(_FIRST_PAUSE_S):
                raise
            result = self._retrying(what, has_limit=self.kind is SourceKind.LIVE and not always)(action)
        if what in self._away:
            with self._lock:
                if waited_for := self._away.pop(what, None):
                    self._answered[what] = monotonic()
                    LOG.warning("%s waited for %s; it answers again", self.name, waited_for)
        return result

    def _retrying(self, what: str, *, has_limit: bool) -> Retrying:
        stopped, is_late = stop_when_event_set(self._stop), stop_after_delay(self._settings.store_patience_s)
        return Retrying(
            retry=retry_if_exception_type(AWAY),
            wait=wait_exponential(2 * _FIRST_PAUSE_S, _LONGEST_PAUSE_S),
            stop=stopped | is_late if has_limit else stopped,
            sleep=sleep_using_event(self._stop),
            before_sleep=lambda state: self._note_away(what, state.outcome.exception() if state.outcome else None),
            reraise=True,
        )

    def _note_away(self, what: str, error: BaseException | None) -> None:
        with self._lock:
            if what not in self._away:
                named = "the store" if what == "store" else "Kafka"
                self._away[what] = f"{named} since {format_time(utc_now())[:19]}Z"
                LOG.warning("%s waits for %s: %s", self.name, self._away[what], error)

    def _send_accounts(self, since_s: float) -> None:
        notices = self._accounts.take_notices()
        if not notices and self.kind is SourceKind.LIVE:
            now = utc_now()
            notices = [self._accounts.idle_notice(now - timedelta(seconds=since_s), now)]
        if notices:
            self._send(self._placed(notices))

    def _send_end(self) -> None:
        if not self._started and self.kind is SourceKind.FINITE:
            return
        at = self._last_time if self.kind is SourceKind.FINITE and self._last_time else utc_now()
        end = self._accounts.notice(NoticeKind.ENDED, at, self._end_reason)
        self._send([*self._placed(self._accounts.take_notices()), end])

    def _placed(self, accounts: list[Notice]) -> list[Notice]:
        """Adds the end offsets of the frames' topic to accounts that are sent to a topic of notices."""
        topic = self._settings.kafka_topic
        if self._settings.notices_topic == topic:
            return accounts
        ends = {f"{of}/{partition}": end for (of, partition), end in self._sender.ends.items() if of == topic}
        return [replace(account, attributes={ANNOUNCED_BEFORE: ends}) for account in accounts]

    def _drop_rest(self, reason: str) -> None:
        with self._lock:
            rest = [*self._storing.clear(), *self._waiting.clear()]
            self._has_room.notify_all()
        for entry in rest:
            self._settle(entry, Settled.DROPPED, reason)


def _records_of(settings: Settings, message: FrameMessage | Notice, form: MessageFormat) -> list[Record]:
    """Returns the records that announce a frame or a notice; none if consumers would not understand a notice."""
    topic, key = settings.kafka_topic, message.source.encode()
    if isinstance(message, Notice):
        is_understood = form is MessageFormat.NATIVE or settings.notices_topic != topic
        return [Record(settings.notices_topic, key, message.to_value())] if is_understood else []
    session = ((SESSION, str(message.attributes[SESSION]).encode()),) if SESSION in message.attributes else ()
    if form is MessageFormat.CLASSIC_VIDEO:
        value = settings.message_form(()).video_value(message, settings.store_url)
        topics = [to for to in settings.kafka_topics if to == topic or to != settings.notices_topic]
        # Accounts count each frame once, so only its record on the first topic names the session.
        return [Record(to, None, value, session if to == topic else ()) for to in topics]
    if form is not MessageFormat.NATIVE:
        if form is MessageFormat.BUCKET:
            key = bucket_and_key(public_path(message.image_path or "", settings.store_url))[1].encode()
            session = (*session, ("source", message.source.encode()))  # neither key nor value has it
        zone = find_timezone(settings.message_timezone)
        return [Record(topic, key, classic_value(message, form, store_url=settings.store_url, zone=zone), session)]
    stamp = None if message.has_own_timestamp else round(message.timestamp.timestamp() * 1000)
    return [Record(topic, key, message.to_value(with_time=message.has_own_timestamp), timestamp_ms=stamp)]
