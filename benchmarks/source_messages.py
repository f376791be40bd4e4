"""Sources that are sent images, MQTT and HTTP, beside a plain loop with the same client or server library."""

import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from benchmarks.effort import Effort
from benchmarks.place import Place
from benchmarks.source_files import Contest, compare_in_turns, write_pictures
from benchmarks.source_plain import PlainPublisher, plain_publisher
from imgpipeline.contracts.capture import ClockSource
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board, SourceWatch
from imgpipeline.sources.ingest import IngestSessions
from imgpipeline.sources.mqtt.ingest import ingest_mqtt
from imgpipeline.sources.mqtt.messages import Subscription
from imgpipeline.sources.mqtt.session import MqttSession, Received
from imgpipeline.sources.protocol import Captured, CapturedFrame, Settled, SourceKind
from imgpipeline.web.ingest.app import create_app, open_server
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.mqtt.broker import send

_SUBSCRIPTION = Subscription(("images/+/raw",))
_LIMIT_S = 600.0


def measure_mqtt(is_local: bool, place: Place, effort: Effort) -> dict[str, object]:
    """Compares taking messages that wait in a real broker with a loop that stores, sends and acknowledges each."""
    files = sorted(write_pictures(place.folder / "pictures", effort.source_frames).iterdir())
    with Mosquitto(place.folder / f"mosquitto-{uuid.uuid4().hex[:8]}", persistent=False) as broker:
        contest = Contest(partial(_ours_mqtt, broker, files), partial(_plain_mqtt, broker, files))
        return compare_in_turns(place, contest, effort.source_rounds, is_local=is_local)


def _with_backlog(broker: Mosquitto, settings: Settings, files: list[Path]) -> Settings:
    """Subscribes with a client of its own and sends the images, which the broker keeps for it."""
    client_id = uuid.uuid4().hex
    ready = settings.model_copy(
        update={"mqtt_host": broker.host, "mqtt_port": broker.port, "mqtt_client_id": client_id}
    )
    session, stop = MqttSession(ready, _SUBSCRIPTION.topics), threading.Event()
    for _ in session.receive(stop):
        if broker.has_subscriber(client_id):
            stop.set()
    session.close()
    send(broker, (("images/camera/raw", file.read_bytes()) for file in files))
    return ready


class _Finish(SourceWatch):
    """Notes when the first frame arrived, and when the last was announced."""

    def __init__(self, source: str, kind: SourceKind, frames: int, stop: threading.Event) -> None:
        super().__init__(source, kind)
        self._left, self._stop = frames, stop
        self.began_s = self.ended_s = 0.0

    def captured(self, captured: Captured) -> None:
        self.began_s = self.began_s or time.monotonic()
        super().captured(captured)

    def settled(self, how: Settled, reason: str, latency_s: float) -> None:
        super().settled(how, reason, latency_s)
        self._left -= how is Settled.ANNOUNCED
        if not self._left and not self._stop.is_set():
            self.ended_s = time.monotonic()
            self._stop.set()


class _OneSource(Board):
    """A board whose only watch is the given one."""

    def __init__(self, watch: SourceWatch) -> None:
        super().__init__()
        self._only = watch

    def watch(self, _source: str, _kind: SourceKind) -> SourceWatch:
        return self._only


def _ours_mqtt(broker: Mosquitto, files: list[Path], settings: Settings) -> float:
    settings, stop = _with_backlog(broker, settings, files), threading.Event()
    finish = _Finish("camera", SourceKind.FINITE, len(files), stop)
    ingest_mqtt(settings, _SUBSCRIPTION, stop=stop, board=_OneSource(finish))
    return len(files) / (finish.ended_s - finish.began_s)


def _plain_mqtt(broker: Mosquitto, files: list[Path], settings: Settings) -> float:
    settings, stop = _with_backlog(broker, settings, files), threading.Event()
    session = MqttSession(settings, _SUBSCRIPTION.topics)
    finish = _Finish("camera", SourceKind.FINITE, len(files), stop)

    def settle(item: Received) -> None:
        if item.delivery:
            session.settle(item.delivery)
        finish.settled(Settled.ANNOUNCED, "", 0.0)

    with plain_publisher(settings) as publisher:
        for item in session.receive(stop):
            if isinstance(item, Received):
                frame = _SUBSCRIPTION.frame_of(item.topic, item.payload, item.at)
                finish.captured(frame)
                sent = publisher.publish(_SUBSCRIPTION.source_of(item.topic), frame)
                sent.add_callback(lambda _, item=item: settle(item))
        session.close()
    return len(files) / (finish.ended_s - finish.began_s)


def measure_http(is_local: bool, place: Place, effort: Effort) -> dict[str, object]:
    """Compares `serve-ingest` with the same application whose threads store and send; eight clients post at a time."""
    folder = write_pictures(place.folder / "pictures", effort.source_frames)
    contest = Contest(partial(_ours_http, folder), partial(_plain_http, folder))
    return compare_in_turns(place, contest, effort.source_rounds, is_local=is_local)


def measure_bare_http(place: Place, effort: Effort) -> dict[str, object]:
    """Compares `serve-ingest` with the least FastAPI route, which checks neither keys nor sizes nor images."""
    folder = write_pictures(place.folder / "pictures", effort.source_frames)
    contest = Contest(partial(_ours_http, folder), partial(_bare_http, folder))
    return {**compare_in_turns(place, contest, effort.source_rounds, is_local=True), "has_goal": False}


def _ours_http(folder: Path, settings: Settings) -> float:
    return _posted_per_s(create_app(open_server(settings)), folder)


class _PlainSessions(IngestSessions):
    """Stores and announces each frame in the thread that offers it."""

    def __init__(self, settings: Settings, publisher: PlainPublisher) -> None:
        super().__init__(settings)
        self._publisher = publisher

    def offer(self, source: str, captured: Captured) -> None:
        if isinstance(captured, CapturedFrame):
            self._publisher.publish(source, captured).get(_LIMIT_S)
            if captured.settle:
                captured.settle(Settled.ANNOUNCED)


def _plain_http(folder: Path, settings: Settings) -> float:
    with plain_publisher(settings) as publisher:
        server = replace(open_server(settings), publishers=_PlainSessions(settings, publisher))
        return _posted_per_s(create_app(server), folder)


def _bare_http(folder: Path, settings: Settings) -> float:
    with plain_publisher(settings) as publisher:
        return _posted_per_s(_bare_app(publisher), folder)


def _bare_app(publisher: PlainPublisher) -> FastAPI:
    app = FastAPI()

    def store_and_send(source: str, data: bytes, timestamp: str, number: int) -> str:
        moment = datetime.fromisoformat(timestamp)
        publisher.publish(source, CapturedFrame(moment, ClockSource.PRODUCER, data=data, number=number)).get(_LIMIT_S)
        return source

    @app.post("/frames/{source}", status_code=201)
    async def post_frame(source: str, request: Request, timestamp: str, number: int) -> dict[str, str]:
        data = await request.body()
        return {"source": await run_in_threadpool(store_and_send, source, data, timestamp, number)}

    return app


def _posted_per_s(app: FastAPI, folder: Path) -> float:
    """Serves the application, and posts the images from another process."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, limit_s=_LIMIT_S, what="the HTTP server")
        command = [sys.executable, "-m", "benchmarks.http_clients", str(port), str(folder)]
        told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_LIMIT_S)  # noqa: S603 - ours
        return float(told.stdout)
    finally:
        server.should_exit = True
        thread.join()
