"""Frames are stored before they are announced, announced in order, settled once, and accounted for."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from kafka import TopicPartition

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.contracts.times import utc_now
from imgpipeline.detect.run import follow_lane
from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.query.books import read_books
from imgpipeline.objectstore import open_store
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.board import Board
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.metrics import problems_of
from imgpipeline.sources.options import Preparation, PublishOptions
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, Settled, SourceKind, StatusChange
from imgpipeline.sources.rtsp import RtspSource
from imgpipeline.sources.session import SourceSession
from imgpipeline.sources.simulator.rtsp_simulator import SimulatedCamera, write_clip
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.lanes import Lane
from imgpipeline.stream.log import read_log
from imgpipeline.stream.send import FencedError
from imgpipeline.vision.gate import Gate
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.rtsp_server import RtspServer, make_camera
from imgpipeline_tests.servers.s3_server import S3Server
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import accounts_in, closes, frames_in, read_published

pytestmark = pytest.mark.servers
NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
FAST = PublishOptions(commit_s=0.0, drain_s=2.0)


def jpeg(shade: int) -> bytes:
    return cv2.imencode(".jpg", np.full((8, 12, 3), shade % 256, np.uint8))[1].tobytes()


def frame(number: int, *, start: datetime = NOON, step_s: float = 0.2, **fields: Any) -> CapturedFrame:
    time = start + timedelta(seconds=number * step_s)
    return CapturedFrame(time, ClockSource.PRODUCER, data=jpeg(number), number=number, **fields)


class Listed:
    """A finite source that yields the given items."""

    kind = SourceKind.FINITE

    def __init__(self, items: list[Captured], name: str = "gate") -> None:
        self.items, self.name = items, name

    def capture(self, stop: threading.Event) -> Iterator[Captured]:
        for item in self.items:
            if not stop.is_set():
                yield item


class SlowStore:
    """A store whose every write waits for a permit."""

    def __init__(self) -> None:
        self.inner = open_memory_store()
        self.permits = threading.Semaphore(0)

    def create(self, key: str, data: bytes) -> bool:
        self.permits.acquire()
        return self.inner.create(key, data)


class UnreachableStore:
    """A store that does not answer."""

    def create(self, key: str, _data: bytes) -> bool:
        raise TransientError(f"The store does not answer for {key}.")


def test_frames_are_stored_before_they_are_announced_and_announced_in_order(settings):
    store = open_memory_store()
    totals = ingest_source(settings, Listed([frame(n) for n in range(100)]), store=store)
    announced = frames_in(read_published(settings))
    assert [message.frame_number for message in announced] == list(range(100))
    for message in announced:
        data = store.get(str(message.image_path))
        assert sha256(data).hexdigest() == message.sha256
        assert message.clock_source is ClockSource.PRODUCER
        assert (message.width, message.height) == (12, 8)
    assert (totals.received, totals.announced, totals.in_flight) == (100, 100, 0)
    assert closes(totals)


def test_the_accounts_of_a_session_equal_the_frames_before_them_in_the_log(settings):
    lost = [Lost("decode", 3, Settled.FAILED), Lost("frame_rate", 5, Settled.GATED), Lost("queue", 2)]
    ingest_source(settings, Listed([frame(0), *lost, *[frame(n) for n in range(1, 20)]]), store=open_memory_store())
    found = read_published(settings)
    assert isinstance(found[0], Notice)
    assert found[0].kind is NoticeKind.STARTED
    assert isinstance(found[-1], Notice)
    assert found[-1].kind is NoticeKind.ENDED
    [account] = accounts_in(found)
    assert account.account is not None
    assert account.account.received == 30
    assert account.account.announced == len(frames_in(found)) == 20
    assert (account.account.failed, account.account.gated, account.account.dropped) == (3, 5, {"queue": 2})
    assert account.account.observed_s == pytest.approx(19 * 0.2)
    assert {message.attributes["session"] for message in frames_in(found)} == {account.session}


def test_an_account_never_spans_midnight(settings):
    start = datetime(2026, 1, 9, 23, 59, 59, tzinfo=UTC)
    ingest_source(settings, Listed([frame(n, start=start) for n in range(10)]), store=open_memory_store())
    first, second = accounts_in(read_published(settings))
    assert first.account is not None
    assert second.account is not None
    assert (first.day.day, second.day.day) == (9, 10)
    assert (first.account.announced, second.account.announced) == (5, 5)
    assert first.account.observed_s == pytest.approx(1.0)
    assert second.account.observed_s == pytest.approx(0.8)


def test_a_gap_counts_as_observed_up_to_the_stall_limit(settings):
    items: list[Captured] = [frame(0), frame(1, step_s=3600.0)]
    ingest_source(settings, Listed(items), store=open_memory_store(), options=PublishOptions(stall_s=4.0))
    [account] = accounts_in(read_published(settings))
    assert account.account is not None
    assert account.account.observed_s == pytest.approx(4.0)


def test_a_live_source_drops_its_oldest_waiting_frames_and_accounts_for_them(settings):
    store, settled = SlowStore(), Counter[Settled]()
    options = PublishOptions(queue_frames=4, writers=1, commit_s=0.0)
    publisher = SourceSession(settings, "camera", SourceKind.LIVE, store=store, options=options)
    for number in range(50):
        publisher.offer(frame(number, settle=lambda how: settled.update([how])))
    store.permits.release(100)
    totals = publisher.close()
    announced = frames_in(read_published(settings))
    assert announced[-1].frame_number == 49
    assert totals.received == 50
    assert totals.dropped == {"queue": 50 - len(announced)}
    assert 4 <= len(announced) <= 7
    assert settled == {Settled.ANNOUNCED: len(announced), Settled.DROPPED: 50 - len(announced)}
    assert closes(totals)


def test_images_are_stored_while_earlier_frames_are_announced(settings):
    store, options = open_memory_store(), PublishOptions(writers=2, commit_s=3600.0, drain_s=1.0)
    publisher = SourceSession(settings, "camera", SourceKind.LIVE, store=store, options=options)
    wait_until(lambda: bool(read_published(settings)), limit_s=60, what="the session has started")
    for number in range(50):
        publisher.offer(frame(number))
    wait_until(lambda: len(list(store.list_objects("images/"))) == 50, limit_s=60, what="all images are stored")
    publisher.close()


def test_a_finite_source_waits_and_loses_nothing(settings):
    store = SlowStore()
    options = PublishOptions(queue_frames=4, writers=1)
    publisher = SourceSession(settings, "folder", SourceKind.FINITE, store=store, options=options)
    feeder = threading.Thread(target=lambda: [publisher.offer(frame(n)) for n in range(50)])
    feeder.start()
    wait_until(lambda: publisher.queue_length == 4, limit_s=60, what="the queue is full")
    store.permits.release(100)
    feeder.join()
    assert publisher.close().announced == 50


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(SourceKind))
def test_an_outage_of_the_store_is_shown_while_it_lasts_and_logged_when_it_begins_and_ends(
    settings, kind, tmp_path, caplog
):
    board, options = Board(), PublishOptions(commit_s=0.0, writers=2)
    with S3Server(tmp_path / "s3") as server:
        of_store = s3_settings(server.create_bucket("images")).model_dump(exclude_unset=True)
        publisher = SourceSession(
            settings.model_copy(update=of_store), "gate", kind, options=options, watch=board.watch("gate", kind)
        )
        publisher.offer(frame(0))
        wait_until(lambda: publisher.totals().announced == 1, limit_s=60, what="the first frame")
        caplog.clear()
        server.kill()
        for number in range(1, 20):
            publisher.offer(frame(number))
        wait_until(lambda: "gate" in problems_of(board), limit_s=60, what="the problem is shown")
        assert problems_of(board)["gate"].startswith(f"waits for the store since {datetime.now(UTC):%Y-%m-%d}T")
        server.restart()
        wait_until(lambda: publisher.totals().announced == 20, limit_s=60, what="all frames")
        assert problems_of(board) == {}
        assert publisher.close().announced == 20
    began, ended = (record.getMessage() for record in caplog.records if record.name.startswith("imgpipeline"))
    assert began.startswith("gate waits for the store since ")
    assert ended.startswith("gate waited for the store since ")


def test_frames_of_a_live_source_are_dropped_while_the_store_is_away(settings):
    impatient = settings.model_copy(update={"store_patience_s": 0})
    publisher = SourceSession(impatient, "camera", SourceKind.LIVE, store=UnreachableStore(), options=FAST)
    for number in range(5):
        publisher.offer(frame(number))
    totals = publisher.close()
    assert totals.dropped == {"store_away": 5}
    assert [a.account.dropped for a in accounts_in(read_published(settings)) if a.account] == [{"store_away": 5}]


def test_frames_that_cannot_be_encoded_count_as_failed(settings):
    broken = CapturedFrame(NOON, ClockSource.RECEIVER, pixels=np.zeros((0, 0, 3), np.uint8))
    publisher = SourceSession(settings, "camera", SourceKind.LIVE, store=open_memory_store(), options=FAST)
    publisher.offer(broken)
    publisher.offer(frame(1))
    totals = publisher.close()
    assert (totals.received, totals.failed, totals.announced) == (2, 1, 1)


def test_an_outage_is_announced_as_notices_and_is_not_observed(settings):
    publisher = SourceSession(settings, "camera", SourceKind.LIVE, store=open_memory_store(), options=FAST)
    publisher.offer(frame(0, step_s=1.0))
    publisher.offer(frame(1, step_s=1.0))
    publisher.offer(StatusChange(online=False, reason="no route to host", at=NOON))
    publisher.offer(StatusChange(online=True, reason="connected", at=NOON))
    publisher.offer(frame(6, step_s=1.0))
    publisher.offer(frame(8, step_s=1.0))
    assert publisher.close().observed_s == pytest.approx(1.0 + 2.0)
    said = [(n.kind, n.reason) for n in read_published(settings) if isinstance(n, Notice)]
    changes = [one for one in said if one[0] in {NoticeKind.OFFLINE, NoticeKind.ONLINE}]
    assert changes == [(NoticeKind.OFFLINE, "no route to host"), (NoticeKind.ONLINE, "connected")]


def test_every_frame_is_settled_if_one_of_a_finite_source_cannot_be_stored(settings):
    settled = Counter[Settled]()
    broken = CapturedFrame(NOON, ClockSource.RECEIVER)
    items = [frame(0), broken, *[frame(n) for n in range(1, 5)]]
    publisher = SourceSession(settings, "gate", SourceKind.FINITE, store=open_memory_store())
    for item in items:
        publisher.offer(replace(item, settle=lambda how: settled.update([how])))
    with pytest.raises(PermanentError, match="without bytes and without pixels"):
        publisher.close()
    assert settled[Settled.FAILED] == 1
    assert settled.total() == len(items)
    assert closes(publisher.totals())


@pytest.mark.fault(52)
def test_fault_52_the_newer_of_two_publishers_of_a_live_source_fences_the_older(settings):
    store = open_memory_store()
    older = SourceSession(settings, "camera", SourceKind.LIVE, store=store, options=FAST)
    older.offer(frame(0))
    wait_until(lambda: older.totals().announced == 1, limit_s=60, what="the first frame is announced")
    newer = SourceSession(settings, "camera", SourceKind.LIVE, store=store, options=FAST)
    older.offer(frame(1))
    with pytest.raises(FencedError, match="taken over camera"):
        older.close()
    assert older.totals().dropped == {"not_announced": 1}
    newer.offer(frame(2))
    newer.close()
    assert [message.frame_number for message in frames_in(read_published(settings))] == [0, 2]


def test_finite_sources_are_not_fenced(settings):
    store = open_memory_store()
    publishers = [SourceSession(settings, "folder", SourceKind.FINITE, store=store) for _ in range(2)]
    for number, publisher in enumerate(publishers):
        publisher.offer(frame(number))
    assert [publisher.close().announced for publisher in publishers] == [1, 1]


@pytest.mark.slow
@pytest.mark.fault(54)
@pytest.mark.timeout(120, func_only=True)
def test_fault_54_while_kafka_is_away_live_frames_are_dropped_and_counted_and_finite_ones_wait(tmp_path):
    with KafkaBroker(tmp_path / "kafka") as broker:
        broker.create_topic("frames")
        chosen = Settings(_env_file=None, kafka_bootstrap_servers=broker.bootstrap_servers, kafka_topics=("frames",))
        store, options = open_memory_store(), PublishOptions(queue_frames=10, writers=2, commit_s=0.0)
        live = SourceSession(chosen, "camera", SourceKind.LIVE, store=store, options=options)
        finite = SourceSession(chosen, "folder", SourceKind.FINITE, store=store, options=options)
        live.offer(frame(0))
        wait_until(lambda: live.totals().announced == 1, limit_s=60, what="the first frame is announced")
        broker.kill()
        live.offer(frame(1))
        wait_until(lambda: live.blocked == "kafka", limit_s=60, what="the publisher notices")
        for number in range(2, 200):
            live.offer(frame(number))
        assert live.queue_length <= 10
        feeder = threading.Thread(target=lambda: [finite.offer(frame(n)) for n in range(50)])
        feeder.start()
        broker.restart()
        feeder.join()
        totals, waited = live.close(), finite.close()
        found = read_published(chosen)
    assert waited.announced == 50
    assert totals.received == 200
    assert closes(totals)
    assert totals.dropped["kafka_away"] > 150
    of_live = [message for message in frames_in(found) if message.source == "camera"]
    assert len(of_live) == totals.announced
    said = [account.account for account in accounts_in(found) if account.source == "camera" and account.account]
    assert sum(account.received for account in said) == 200
    assert sum(account.dropped.get("kafka_away", 0) for account in said) == totals.dropped["kafka_away"]


def test_a_frame_identified_by_its_content_has_the_time_of_its_record(settings):
    item = frame(0, has_own_timestamp=False)
    ingest_source(settings, Listed([item]), store=open_memory_store())
    [message] = frames_in(read_published(settings))
    assert not message.has_own_timestamp
    assert message.timestamp == NOON


def test_a_gated_frame_is_announced_as_gated_in_the_order_of_the_source(settings):
    store = open_memory_store()
    shades = (10, 100, 100, 100, 200)
    items = [
        CapturedFrame(NOON + timedelta(seconds=n), ClockSource.RECEIVER, data=jpeg(shade), number=n)
        for n, shade in enumerate(shades)
    ]
    preparation = Preparation(gate=Gate(min_brightness=20, min_change=5), store_gated=False)
    ingest_source(settings, Listed(list(items)), store=store, options=PublishOptions(preparation=preparation))
    announced = frames_in(read_published(settings))
    reasons = [message.gated.reason if message.gated else None for message in announced]
    assert reasons == ["dark", None, "unchanged", "unchanged", None]
    for message in announced:
        assert (store.head(str(message.image_path)) is None) is (message.gated is not None)


@pytest.mark.fault(56)
@pytest.mark.parametrize("year", [1990, 2100])
def test_fault_56_frames_whose_time_is_refused_are_accounted_for_at_their_receipt(settings, year):
    before = datetime.now(UTC)
    start = datetime(year, 1, 9, 12, tzinfo=UTC)
    items: list[Captured] = [frame(0, start=start), Lost("decode", 3, Settled.FAILED, at=start), frame(1)]
    assert closes(ingest_source(settings, Listed(items), store=open_memory_store()))
    found = read_published(settings)
    assert [message.timestamp.year for message in frames_in(found)] == [year, 2026]
    notices = [record for record in found if isinstance(record, Notice)]
    assert all(settings.accepts_time(notice.interval_start, datetime.now(UTC)) for notice in notices)
    received = {notice.day: notice.account.received for notice in notices if notice.account}
    assert received == {NOON.date(): 1, before.date(): 4}


OVERLOAD_S = 20.0


class LazyStore:
    """A store that takes half a second for each image, and stores none."""

    def create(self, _key: str, _data: bytes) -> bool:
        time.sleep(0.5)  # so slow that a camera on a busy machine is still much faster
        return True


def test_a_camera_whose_queue_is_full_is_announced_sooner(settings):
    options = PublishOptions(queue_frames=4, commit_s=3600.0, drain_s=1.0)
    publisher = SourceSession(settings, "camera", SourceKind.LIVE, store=open_memory_store(), options=options)
    wait_until(lambda: bool(read_published(settings)), limit_s=60, what="the session has started")
    for number in range(5):
        publisher.offer(CapturedFrame(utc_now(), ClockSource.RECEIVER, data=b"\xff\xd8", number=number))
    wait_until(lambda: bool(frames_in(read_published(settings))), limit_s=60, what="an announcement")
    publisher.close()


@pytest.mark.slow
def test_a_camera_ten_times_faster_than_the_store_costs_counted_frames_and_no_memory(settings, tmp_path):
    server = fast_and_calm(tmp_path)
    totals: dict[str, Totals] = {}
    stop = threading.Event()

    def run(name: str, store: object) -> None:
        options = PublishOptions(writers=2, account_s=5.0)
        source = RtspSource(name, server.url(name))
        totals[name] = ingest_source(settings, source, stop=stop, options=options, store=store)

    with server:
        stores = {"fast": LazyStore(), "calm": open_memory_store()}
        threads = [threading.Thread(target=run, args=item) for item in stores.items()]
        for thread in threads:
            thread.start()
        sizes_mb = watch_memory(OVERLOAD_S)
        stop.set()
        for thread in threads:
            thread.join()
    told, calm = totals["fast"], totals["calm"]
    assert closes(told)
    assert told.in_flight == 0
    assert told.dropped["queue"] > told.announced > 0
    assert set(told.dropped) <= {"queue", "shutdown"}
    assert told.dropped["queue"] + told.announced > 0.9 * told.received
    assert max(sizes_mb[len(sizes_mb) // 2 :]) < max(sizes_mb[: len(sizes_mb) // 2]) + 20, sizes_mb
    assert (calm.dropped, calm.failed) == ({}, 0)
    assert calm.announced > 0
    records = read_published(settings)
    for name, counted in totals.items():
        said = [account.account for account in accounts_in(records) if account.source == name and account.account]
        assert sum(account.received for account in said) == counted.received
        assert sum(sum(account.dropped.values()) for account in said) == sum(counted.dropped.values())
        assert sum(frame.source == name for frame in frames_in(records)) == counted.announced


def fast_and_calm(folder: Path) -> RtspServer:
    noise = [np.random.default_rng(n).integers(0, 255, (360, 640, 3), np.uint8) for n in range(4)]
    write_clip(noise, folder / "fast.clip", codec="mjpeg", fps=100)
    fast = SimulatedCamera("fast", str(folder / "fast.clip"), "mjpeg", 100.0)
    return RtspServer([fast, make_camera(folder, "calm", fps=5.0)])


def watch_memory(seconds: float) -> list[float]:
    """Returns the resident size of this process in MB, measured twice per second after the first five seconds."""
    sizes, began = [], time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        time.sleep(0.5)
        if passed > 5:
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)
    return sizes


@pytest.mark.medium
def test_a_publisher_with_nothing_to_send_waits_and_does_not_spin(settings):
    """The test counts function calls, because a waiting thread makes none, however busy the machine is."""
    calls = Counter[str]()

    def count(*_: object) -> None:
        calls[threading.current_thread().name] += 1

    options = PublishOptions(account_s=0.2, idle_account_s=0.2, commit_s=0.0)
    threading.setprofile(count)
    try:
        publishers = [
            SourceSession(settings, kind.value, kind, store=open_memory_store(), options=options) for kind in SourceKind
        ]
        for publisher in publishers:
            publisher.offer(CapturedFrame(NOON, ClockSource.PRODUCER, data=jpeg(0)))
        wait_until(lambda: all(one.totals().announced for one in publishers), limit_s=60, what="frames are announced")
        time.sleep(2)  # ten times an account is due
    finally:
        threading.setprofile(None)
    for publisher, kind in zip(publishers, SourceKind, strict=True):
        publisher.close()
        assert 0 < calls[f"announce {kind.value}"] < 100_000, calls


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for form in MessageFormat if form is not MessageFormat.BUCKET], ids=str)
def test_a_consumer_of_the_frames_sees_frames_only_where_notices_have_a_topic_of_their_own(
    settings, kafka, form, tmp_path
):
    frames, apart = settings.kafka_topic, f"{settings.kafka_topic}-notices"
    kafka.create_topic(apart, partitions=1)
    others = [f"{frames}-people"] if form is MessageFormat.CLASSIC_VIDEO else []
    for other in others:
        kafka.create_topic(other, partitions=1)
    both = settings.model_copy(
        update={
            "kafka_topics": (frames, apart, *others),
            "timestamp_fields": ("timestamp", "upload_timestamp", "backfill_timestamp"),
            "image_key_template": "videos/{source}_frame_{number:05d}.jpg",
            "image_path_template": "videos/{video_id}_{frame_id}.jpg",
            "store_url": (tmp_path / "store").as_uri(),
            "linger_s": 1.0,
        }
    )
    torn = replace(frame(2), data=jpeg(2)[:-20])
    lost = [Lost("decode", 2, Settled.FAILED), Lost("queue", 4)]
    ingest_source(both, Listed([frame(0), *lost, frame(1), torn]), options=PublishOptions(message_format=form))
    values = read_values(settings)
    assert len(values) == 3
    assert all(b'"kind"' not in value for value in values)
    assert all(read_values(both.model_copy(update={"kafka_topics": (other,)})) == values for other in others)
    notices = read_published(both.model_copy(update={"kafka_topics": (apart,)}))
    assert [record.kind for record in notices if isinstance(record, Notice)] == ["started", "account", "ended"]
    follow_lane(both, Lane(0, 1), run_id="run-1", report=lambda _: None)
    entry, *unnamed = read_books(open_store(both), both)
    assert [(each.session, each.topic, each.difference) for each in unnamed] == [(None, other, 0) for other in others]
    assert (entry.received, entry.announced, entry.in_ledger, entry.dead_letters) == (9, 3, 3, 1)
    assert (entry.dropped, entry.failed) == ({"queue": 4}, 2)
    assert (entry.state, entry.topic, entry.waiting, entry.difference) == ("closed", frames, 0, 0)
    report = audit(open_store(both), lambda: read_log(both), now=utc_now())
    assert report.ok, report.problems


@pytest.mark.slow
def test_messages_that_name_an_object_of_a_bucket_count_for_their_source(settings, bucket):
    of_store = s3_settings(bucket).model_dump(exclude_unset=True)
    site = settings.model_copy(update={**of_store, "image_key_template": "videos/{source}_{number:05d}.jpg"})
    ingest_source(site, Listed([frame(0), frame(1)]), options=PublishOptions(message_format=MessageFormat.BUCKET))
    follow_lane(site, Lane(0, 1), run_id="run-1", report=lambda _: None)
    report = audit(open_store(site), lambda: read_log(site), now=utc_now())
    assert report.ok, report.problems
    assert {entry.source for entry in read_books(open_store(site), site)} == {"gate"}


def test_a_video_message_that_would_lead_to_another_image_is_not_sent(settings, tmp_path):
    site = settings.model_copy(update={"store_url": (tmp_path / "store").as_uri()})
    options = PublishOptions(message_format=MessageFormat.CLASSIC_VIDEO)
    with pytest.raises(ConfigurationError, match=r"frame_00000 of gate .* gate/frame_00000.jpg") as raised:
        ingest_source(site, Listed([frame(0)]), options=options)
    assert "IMGPIPELINE_IMAGE_PATH_TEMPLATE" in str(raised.value.next_step)
    assert frames_in(read_published(settings)) == []


def test_all_topics_of_a_video_must_exist(settings):
    site = settings.model_copy(update={"kafka_topics": (settings.kafka_topic, f"{settings.kafka_topic}-absent")})
    with pytest.raises(ConfigurationError, match="absent"):
        ingest_source(site, Listed([]), options=PublishOptions(message_format=MessageFormat.CLASSIC_VIDEO))


def read_values(settings: Settings) -> list[bytes]:
    """Return the values of all records of a topic, as a plain consumer reads them."""
    with open_consumer(settings) as consumer:
        at = TopicPartition(settings.kafka_topic, 0)
        consumer.assign([at])
        consumer.seek_to_beginning(at)
        end = consumer.end_offsets([at])[at]
        values: list[bytes] = []
        while consumer.position(at) < end:
            values += [record.value for several in consumer.poll(500).values() for record in several]
    return values


class AnswerLosingStore:
    """A store that does the first write of each object, but whose answer is lost."""

    def __init__(self) -> None:
        self.inner = open_memory_store()
        self.head, self.get, self.delete = self.inner.head, self.inner.get, self.inner.delete
        self.create_or_own = self.inner.create_or_own

    def create(self, key: str, data: bytes) -> bool:
        if self.inner.create(key, data):
            raise TransientError(f"The connection broke while {key} was written.")
        return False


def test_an_image_whose_first_attempt_was_lost_is_announced_and_one_stored_before_is_not(settings):
    store: Any = AnswerLosingStore()
    options = PublishOptions(skips_stored=True)
    first = ingest_source(settings, Listed([frame(n) for n in range(2)]), store=store, options=options)
    assert (first.announced, first.gated) == (2, 0)
    second = ingest_source(settings, Listed([frame(n) for n in range(3)]), store=store, options=options)
    assert (second.announced, second.gated) == (1, 2)
    assert closes(second)
    assert [message.frame_number for message in frames_in(read_published(settings))] == [0, 1, 2]
