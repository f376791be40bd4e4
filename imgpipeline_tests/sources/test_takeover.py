"""A source that another process has taken over comes back by itself when that process has ended or was killed."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Literal

import pytest

from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.contracts.times import utc_now
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board, RunningSource, SourceState
from imgpipeline.sources.configuration import AnyConfig, MqttConfig, OpenableConfig
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.metrics import problems_of
from imgpipeline.sources.protocol import Captured, Source, SourceKind
from imgpipeline.sources.session import SourceSession
from imgpipeline.sources.supervisor import builder, run_again
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.mqtt.broker import send
from imgpipeline_tests.sources.published import frames_in, read_published
from imgpipeline_tests.sources.test_session import FAST, frame

pytestmark = [pytest.mark.servers, pytest.mark.medium]


class Camera:
    """A camera that delivers frames without end."""

    name, kind = "camera", SourceKind.LIVE

    def capture(self, stop: threading.Event) -> Iterator[Captured]:
        for number in count():
            if stop.wait(0.02):
                return
            yield frame(number)


class CameraConfig(OpenableConfig):
    """Opens it."""

    kind: Literal["test"] = "test"

    def open(self, settings: Settings) -> Source:  # noqa: ARG002 - only some kinds need the settings
        return Camera()


@pytest.fixture
def settings(kafka: KafkaBroker, topic: str, tmp_path) -> Settings:
    store_url = (tmp_path / "store").as_uri()
    return Settings(
        _env_file=None, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic=topic, store_url=store_url
    )


class History(Board):
    """A board that keeps the problems of its sources, each once in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[SourceState] = []

    def look(self, name: str) -> RunningSource | None:
        found = next((status for status in self.statuses() if status.source == name), None)
        if found and (not self.states or self.states[-1] is not found.state):
            self.states.append(found.state)
        return found

    def is_in(self, state: SourceState, name: str) -> bool:
        found = self.look(name)
        return found is not None and found.state is state


def no_http(*_: object) -> None:
    raise AssertionError("no source is served over HTTP")


@contextmanager
def supervised(settings: Settings, config: AnyConfig, board: Board) -> Iterator[None]:
    """Run a source as the supervisor does."""
    stop = threading.Event()
    thread = threading.Thread(target=builder(settings, no_http)(config, board), args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def rival_of(settings: Settings) -> SourceSession:
    """Open another session of the camera, as another process does."""
    return SourceSession(settings, "camera", SourceKind.LIVE, store=open_memory_store(), options=FAST)


@pytest.mark.fault(63)
def test_fault_63_a_camera_comes_back_by_itself_when_the_session_that_took_it_over_has_ended(
    settings: Settings, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    board = History()
    with supervised(settings, CameraConfig(name="camera"), board):  # type: ignore[arg-type]  # of this test only
        wait_until(lambda: board.is_in(SourceState.ONLINE, "camera"), limit_s=60, what="the first frame")
        rival = rival_of(settings)
        by = f"taken over by session {rival.session} (process "
        wait_until(lambda: by in problems_of(board).get("camera", ""), limit_s=60, what="the other session is shown")
        assert f" since {utc_now():%Y-%m-%d}T" in problems_of(board)["camera"]
        for number in range(40):
            rival.offer(frame(number))
        assert rival.close("stopped").announced == 40
        wait_until(lambda: board.is_in(SourceState.ONLINE, "camera"), limit_s=60, what="the source is back")
        assert problems_of(board) == {}
    found = read_published(settings)
    sessions = [notice.session for notice in found if isinstance(notice, Notice) and notice.kind is NoticeKind.STARTED]
    assert len(sessions) == 3
    assert sessions[1] == rival.session
    [last] = {message.attributes["session"] for message in frames_in(found)} - {sessions[0], rival.session}
    assert last == sessions[2]
    assert f"camera: {by}" in caplog.text
    assert f"camera: session {rival.session} has ended, so the source is taken back" in caplog.text


@pytest.mark.fault(63)
def test_fault_63_a_camera_comes_back_when_the_process_that_took_it_over_was_killed(
    settings: Settings, caplog: pytest.LogCaptureFixture
):
    board, stop = History(), threading.Event()
    watch = board.watch("camera", SourceKind.LIVE)
    run = partial(ingest_source, settings, Camera(), stop=stop, options=FAST, store=open_memory_store(), watch=watch)
    mine = partial(run_again, settings, run, watch, lambda message: message.source == "camera", stop, silent_s=2.0)
    thread = threading.Thread(target=mine)
    thread.start()
    try:
        wait_until(lambda: board.is_in(SourceState.ONLINE, "camera"), limit_s=60, what="the first frame")
        rival = rival_of(settings)
        wait_until(lambda: board.is_in(SourceState.TAKEN_OVER, "camera"), limit_s=60, what="the takeover")
        wait_until(lambda: board.is_in(SourceState.ONLINE, "camera"), limit_s=60, what="the source is back")
    finally:
        stop.set()
        thread.join(60)
    rival.abort()
    assert "has sent nothing for 2 s, so the source is taken back" in caplog.text


@pytest.mark.slow
@pytest.mark.fault(63)
def test_fault_63_two_supervisors_of_one_mqtt_source_evict_each_other_once(
    settings: Settings, mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    topic = f"images/{uuid.uuid4().hex}/raw"
    own = {"mqtt_host": mosquitto.host, "mqtt_port": mosquitto.port, "mqtt_client_id": uuid.uuid4().hex}
    settings = settings.model_copy(update=own)
    config = MqttConfig(name="drones", kind="mqtt", topic=topic.replace("raw", "+"))
    older, newer, sent = History(), History(), count()

    def is_announced_by(board: Board) -> bool:
        before = sum(status.received for status in board.statuses())
        send(mosquitto, [(topic, frame(next(sent)).data or b"")])
        wait_until(lambda: sum(one.received for one in board.statuses()) > before, limit_s=60, what="the message")
        return True

    with supervised(settings, config, older):
        wait_until(lambda: older.is_in(SourceState.ONLINE, "drones"), limit_s=60, what="the older one is connected")
        assert is_announced_by(older)
        with supervised(settings, config, newer):
            wait_until(lambda: older.is_in(SourceState.TAKEN_OVER, "drones"), limit_s=60, what="the takeover")
            for _ in range(20):
                assert is_announced_by(newer)
            wait_until(lambda: "by session" in problems_of(older)["drones"], limit_s=60, what="the other is known")
            assert older.is_in(SourceState.TAKEN_OVER, "drones")
            assert newer.is_in(SourceState.ONLINE, "drones")
        wait_until(lambda: older.is_in(SourceState.ONLINE, "drones"), limit_s=60, what="the older one is back")
        assert is_announced_by(older)
    assert caplog.text.count("drones: taken over by another process") == 1
    assert SourceState.RESTARTING not in {*older.states, *newer.states}
