"""MQTT messages become frames: acknowledged when they are safe, otherwise redelivered, and never counted twice."""

import signal
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.contracts.templates import ImageKeyTemplate
from imgpipeline.errors import ConfigurationError, DeadLetterCode, TransientError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import ObjectInfo, open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.mqtt.messages import Subscription
from imgpipeline.sources.options import Preparation, PublishOptions
from imgpipeline.sources.storing import first_received
from imgpipeline.stream.send import FencedError
from imgpipeline_tests.detect.conftest import jpeg
from imgpipeline_tests.faults.child_runs import environment_of, variables_of
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.mqtt.broker import at, running, send, start_ingest, until_subscribed
from imgpipeline_tests.sources.published import accounts_in, closes, frames_in, read_published

TOPIC = "images/gate/raw"


def pictures(count: int, *, first: int = 0) -> list[bytes]:
    """Returns images of different content that decode to the same picture."""
    picture = jpeg(5, 3)
    return [picture + f"number {number}".encode() for number in range(first, first + count)]


class GatedStore:
    """A store that accepts the first `allow`ed pictures and those that it has; others wait, then fail."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.waiting: set[int] = set()
        """Pictures that are being stored."""
        self.stored: set[int] = set()
        self._allowed = 0
        self._changed = threading.Condition()

    def allow(self, count: int) -> None:
        with self._changed:
            self._allowed = count
            self._changed.notify_all()
        wait_until(lambda: self.waiting.isdisjoint(range(count)), limit_s=60, what="pictures that the store takes")

    def create(self, key: str, data: bytes) -> bool:
        number = int(data.rpartition(b" ")[2])
        self.waiting.add(number)
        try:
            with self._changed:
                if not self._changed.wait_for(lambda: number < self._allowed or number in self.stored, timeout=5):
                    raise TransientError("The store does not answer.")
            created = self.inner.create(key, data)
            self.stored.add(number)
            return created
        finally:
            self.waiting.discard(number)

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def head(self, key: str) -> ObjectInfo | None:
        return self.inner.head(key)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_an_image_that_mosquitto_pub_sends_to_images_raw_is_a_frame(lane, mosquitto, tmp_path, monkeypatch, protocol):
    monkeypatch.setenv("MQTT_HOST", mosquitto.host)
    monkeypatch.setenv("MQTT_PORT", str(mosquitto.port))
    read = Settings(_env_file=None)
    settings = at(mosquitto, lane.settings, mqtt_host=read.mqtt_host, mqtt_port=read.mqtt_port, mqtt_protocol=protocol)
    (tmp_path / "x.jpg").write_bytes(jpeg())
    command = ["mosquitto_pub", "-h", mosquitto.host, "-p", str(mosquitto.port), "-t", "images/raw", "-f", "x.jpg"]
    with running(settings, Subscription()) as ingest:
        until_subscribed(mosquitto, settings)
        subprocess.run(command, cwd=tmp_path, check=True)
        wait_until(lambda: ingest.announced == 1, limit_s=60, what="the frame")
    lane.follow()
    [frame] = lane.frames()
    assert frame.source == "images/raw"
    assert lane.store.get(frame.source_image_path) == jpeg()


def test_each_topic_that_a_wildcard_matches_is_a_source_with_its_own_accounts(lane, mosquitto):
    settings = at(mosquitto, lane.settings)
    with running(settings, store=open_memory_store()) as ingest:
        until_subscribed(mosquitto, settings)
        send(mosquitto, [(f"images/{name}/raw", data) for data in pictures(20) for name in ("gate", "yard")])
        wait_until(lambda: ingest.announced == 40, limit_s=60, what="the frames")
    found = read_published(settings)
    assert {name: of.announced for name, of in ingest.sessions} == {"gate": 20, "yard": 20}
    assert all(closes(of) for _, of in ingest.sessions)
    assert sorted(n.source for n in found if isinstance(n, Notice) and n.kind is NoticeKind.ENDED) == ["gate", "yard"]
    of_gate = [frame.sha256 for frame in frames_in(found) if frame.source == "gate"]
    assert len(set(of_gate)) == 20


def test_messages_that_arrive_while_no_client_is_connected_become_frames_later(lane, mosquitto):
    settings = at(mosquitto, lane.settings)
    with running(settings, store=open_memory_store()):
        until_subscribed(mosquitto, settings)
    send(mosquitto, [(TOPIC, data) for data in pictures(5)])
    with running(settings, store=open_memory_store()) as ingest:
        wait_until(lambda: ingest.announced == 5, limit_s=60, what="the frames")


def test_a_payload_that_is_not_an_image_becomes_a_dead_letter_and_is_acknowledged(lane, mosquitto):
    settings = at(mosquitto, lane.settings)
    with running(settings, options=PublishOptions(preparation=Preparation(resize=(6, 4)))) as ingest:
        until_subscribed(mosquitto, settings)
        send(mosquitto, [(TOPIC, b"no image"), (TOPIC, b""), (TOPIC, jpeg())])
        wait_until(lambda: ingest.announced == 3, limit_s=60, what="all three")
    lane.follow()
    assert [letter.code for letter in lane.dead_letters()] == [
        DeadLetterCode.DECODE_FAILED,
        DeadLetterCode.EMPTY_OBJECT,
    ]
    assert len(lane.frames()) == 1
    with running(settings) as again:
        send(mosquitto, [(TOPIC, data) for data in pictures(1)])
        wait_until(lambda: again.announced == 1, limit_s=60, what="the next frame")
        assert again.received == 1


def test_a_retained_message_is_not_a_new_frame(lane, mosquitto):
    topic = f"images/{uuid.uuid4().hex}/raw"
    send(mosquitto, [(topic, jpeg())], retain=True)
    for protocol in ("5", "3.1.1"):
        settings = at(mosquitto, lane.settings, mqtt_protocol=protocol)
        with running(settings, store=open_memory_store()) as ingest:
            until_subscribed(mosquitto, settings)
            send(mosquitto, [(TOPIC, data) for data in pictures(1)])
            wait_until(lambda: ingest.announced == 1, limit_s=60, what="the frame")
            assert [name for name, _ in ingest.sessions] == ["gate"]
    send(mosquitto, [(topic, b"")], retain=True)


def test_while_the_store_is_away_nothing_is_acknowledged_and_at_most_a_window_is_received(lane, mosquitto):
    settings, store = at(mosquitto, lane.settings, mqtt_max_in_flight=10), GatedStore(open_memory_store())
    with running(settings, store=store) as ingest:
        until_subscribed(mosquitto, settings)
        send(mosquitto, [(TOPIC, data) for data in pictures(50)])
        wait_until(lambda: ingest.received == 10, limit_s=60, what="a window of messages")
        store.allow(50)
        wait_until(lambda: ingest.announced == 50, limit_s=60, what="the rest")
        assert ingest.received == 50


def test_messages_of_qos_0_beyond_the_queue_are_dropped_and_counted(lane, mosquitto):
    settings, store = at(mosquitto, lane.settings, mqtt_max_in_flight=5), GatedStore(open_memory_store())
    options = PublishOptions(queue_frames=5, writers=2)
    with running(settings, store=store, options=options) as ingest:
        until_subscribed(mosquitto, settings)
        send(mosquitto, [(TOPIC, data) for data in pictures(200)], qos=0)
        wait_until(lambda: len(store.waiting) >= 2, limit_s=60, what="two images are being stored at once")
        store.allow(200)
        wait_until(lambda: ingest.received == 200, limit_s=60, what="all messages are counted")
    [(source, totals)] = ingest.sessions
    assert source == "gate"
    assert closes(totals)
    assert (totals.in_flight, totals.failed, set(totals.dropped)) == (0, 0, {"queue"})
    assert totals.announced == len(frames_in(read_published(settings))) == 200 - totals.dropped["queue"]
    assert totals.announced >= 10
    accounts = [notice.account for notice in accounts_in(read_published(settings)) if notice.account]
    assert sum(account.dropped.get("queue", 0) for account in accounts) == totals.dropped["queue"] > 0


@pytest.mark.slow
def test_the_next_ingest_gets_what_a_stopped_one_did_not_announce(lane, mosquitto):
    settings, store = at(mosquitto, lane.settings), GatedStore(open_memory_store())
    with running(settings, store=store, options=PublishOptions(drain_s=0.5)) as ingest:
        until_subscribed(mosquitto, settings)
        send(mosquitto, [(TOPIC, data) for data in pictures(20)])
        wait_until(lambda: ingest.received == 20, limit_s=60, what="the messages")
    assert ingest.announced == 0
    with running(settings, store=open_memory_store()) as again:
        wait_until(lambda: again.announced == 20, limit_s=60, what="the frames")


def until_announced(settings: Settings, count: int) -> None:
    def announced() -> bool:
        return len({frame.sha256 for frame in frames_in(read_published(settings))}) == count

    wait_until(announced, limit_s=60, what=f"{count} different frames", interval_s=0.3)


@pytest.mark.slow
@pytest.mark.fault(55)
@pytest.mark.timeout(180, func_only=True)
def test_fault_55_a_killed_broker_loses_and_duplicates_no_received_frame(lane, tmp_path):
    with Mosquitto(tmp_path / "mosquitto") as broker:
        settings, store = at(broker, lane.settings, mqtt_max_in_flight=10), GatedStore(lane.store)
        with running(settings, store=store) as ingest:
            until_subscribed(broker, settings)
            send(broker, [(TOPIC, data) for data in pictures(60)])
            broker.stop()  # all messages are on its disk then
            broker.start()
            for safe in (10, 20, 30, 40):  # a broker that resumes a session may send all that is left at once
                wait_until(lambda: bool(store.waiting - store.stored), limit_s=60, what="a frame that is not safe")
                broker.kill()
                store.allow(safe)  # some of what was received becomes safe while no acknowledgement can be sent
                store.waiting.clear()
                broker.start()
            store.allow(60)
            until_announced(settings, 60)
        offline = [n for n in read_published(settings) if isinstance(n, Notice) and n.kind is NoticeKind.OFFLINE]
    assert offline
    lane.follow()
    assert len({(frame.frame_id, frame.day) for frame in lane.frames()}) == 60
    assert all(closes(of) for _, of in ingest.sessions)


@pytest.mark.slow
@pytest.mark.fault(55)
@pytest.mark.timeout(120, func_only=True)
def test_fault_55_a_broker_that_forgets_its_sessions_gets_no_acknowledgement_of_another_message(lane, tmp_path):
    with Mosquitto(tmp_path / "mosquitto", persistent=False) as broker:
        settings, store = at(broker, lane.settings), GatedStore(open_memory_store())
        with running(settings, store=store) as ingest:
            until_subscribed(broker, settings)
            send(broker, [(TOPIC, data) for data in pictures(5)])
            wait_until(lambda: ingest.received == 5, limit_s=60, what="the first messages")
            broker.kill()
            broker.process.log_path.unlink()
            broker.start()
            until_subscribed(broker, settings)
            send(broker, [(TOPIC, data) for data in pictures(5, first=5)])
            wait_until(lambda: ingest.received == 10, limit_s=60, what="messages with the same numbers")
            store.allow(5)
            wait_until(lambda: ingest.announced == 5, limit_s=60, what="the frames of the old connection")
            assert "Received PUBACK" not in broker.process.log_path.read_text()
            store.allow(10)
            wait_until(lambda: ingest.announced == 10, limit_s=60, what="the others")


@pytest.mark.parametrize("template", ["images/{source}/{day}/{name}", "images/{name}"])
def test_a_frame_redelivered_after_midnight_is_the_frame_of_the_previous_day(template):
    store, keys, now = open_memory_store(), ImageKeyTemplate(template), datetime.now(UTC)
    first = Subscription().frame_of("gate", jpeg(), now)
    assert first_received(store, keys, "gate", first) == now
    store.create(keys.key("gate", now, sha256(jpeg()).hexdigest(), name=first.name), jpeg())
    again = Subscription().frame_of("gate", jpeg(), now + timedelta(days=1))
    assert first_received(store, keys, "gate", again).date() == now.date()


def test_wrong_user_password_or_certificate_is_refused(lane, tmp_path):
    with Mosquitto(tmp_path / "mosquitto", users={"alice": "right"}, tls=True) as broker:
        assert broker.certificates
        (tmp_path / "password").write_text("right\n")
        settings = at(
            broker,
            lane.settings,
            mqtt_tls=True,
            mqtt_ca_file=broker.certificates.ca_file,
            mqtt_username="alice",
            mqtt_password_file=tmp_path / "password",
        )
        with running(settings, store=open_memory_store()):
            until_subscribed(broker, settings)
        (tmp_path / "password").write_text("wrong\n")
        with (
            pytest.raises(ConfigurationError, match="IMGPIPELINE_MQTT_PASSWORD") as refused,
            running(settings) as failing,
        ):
            failing.thread.join(60)
        assert "wrong" not in str(refused.value)
        distrusting = settings.model_copy(update={"mqtt_ca_file": broker.certificates.wrong_ca_file})
        with pytest.raises(ConfigurationError, match="IMGPIPELINE_MQTT_CA_FILE"), running(distrusting) as failing:
            failing.thread.join(60)


@pytest.mark.slow
@pytest.mark.fault(52)
def test_fault_52_two_processes_with_one_name_lose_and_duplicate_no_frame(lane, mosquitto):
    settings, store = at(mosquitto, lane.settings), lane.store
    first = start_ingest(settings, Subscription(("images/+/raw",)), store=store)
    until_subscribed(mosquitto, settings)
    rival = start_ingest(settings, Subscription(("images/+/raw",)), store=store)
    send(mosquitto, [(TOPIC, data) for data in pictures(20)])
    until_announced(settings, 20)
    for ingest in (first, rival):
        ingest.end()
        assert ingest.error is None or isinstance(ingest.error, FencedError)
    assert all(closes(of) for _, of in [*first.sessions, *rival.sessions])
    lane.follow()
    assert len({(frame.frame_id, frame.day) for frame in lane.frames()}) == 20


@pytest.mark.slow
@pytest.mark.fault(51)
@pytest.mark.parametrize("step", ["frame captured:3", "frame stored:3", "frames announced:2"])
def test_fault_51_a_killed_ingest_of_mqtt_loses_nothing_and_announces_only_what_is_stored(
    lane, mosquitto, tmp_path, step
):
    settings = at(mosquitto, lane.settings)
    command = [sys.executable, "-m", "imgpipeline.cli", "ingest", "mqtt", "--mqtt-topic", "images/+/raw"]
    environment = {**environment_of(settings), **variables_of(f"{step}=kill")}
    with subprocess.Popen(command, env=environment, cwd=tmp_path) as process:
        until_subscribed(mosquitto, settings)
        send(mosquitto, [(TOPIC, jpeg() + bytes([number])) for number in range(10)])
        assert process.wait(90) == -signal.SIGKILL
    for message in frames_in(read_published(settings)):
        assert lane.store.get(str(message.image_path)).startswith(jpeg())
    with running(settings):
        until_announced(settings, 10)
    lane.follow()
    assert len({(frame.frame_id, frame.day) for frame in lane.frames()}) == 10
