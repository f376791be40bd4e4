"""The board, the metrics and the health page show the same state of the sources."""

import json
from datetime import UTC, datetime, timedelta
from threading import Event
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board, SourceState
from imgpipeline.sources.configuration import FolderConfig, HttpConfig, MqttConfig
from imgpipeline.sources.metrics import problems_of, serve_metrics
from imgpipeline.sources.protocol import CapturedFrame, Lost, Settled, SourceKind, StatusChange
from imgpipeline_tests.objectstore.stores import folder_settings
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.mqtt.broker import at
from imgpipeline_tests.sources.test_supervisor import supervised

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def watched() -> tuple[Board, Clock]:
    clock = Clock()
    board = Board(clock)
    watch = board.watch("gate", SourceKind.LIVE)
    for _ in range(20):
        clock.now += timedelta(seconds=0.5)
        watch.captured(CapturedFrame(clock.now, ClockSource.RTCP, data=b"x", attributes={"clock_offset_s": 1.5}))
        watch.settled(Settled.ANNOUNCED, "", 0.2)
    watch.captured(Lost("frame_rate", 7, Settled.GATED))
    watch.captured(CapturedFrame(clock.now, ClockSource.RTCP, data=b"x", attributes={"clock_offset_s": 1.5}))
    watch.settled(Settled.DROPPED, "queue", 3.0)
    return board, clock


def scrape(port: int) -> dict[tuple[str, ...], float]:
    text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_the_status_counts_frames_and_rates():
    board, _ = watched()
    [status] = board.statuses()
    assert (status.state, status.received, status.dropped) == (SourceState.ONLINE, 28, {"queue": 1})
    assert status.settled == {Settled.ANNOUNCED: 20, Settled.GATED: 7, Settled.DROPPED: 1}
    assert status.fps_out == pytest.approx(2.0, abs=0.1)
    assert status.clock_offset_s == 1.5


def test_a_rate_falls_to_zero_without_frames():
    board, clock = watched()
    clock.now += timedelta(seconds=11)
    assert board.statuses()[0].fps_in == 0


def test_an_outage_is_a_problem_until_the_source_is_back():
    board, clock = watched()
    watch = board.watch("gate", SourceKind.LIVE)
    watch.captured(StatusChange(online=False, reason="connection refused", at=clock.now))
    assert problems_of(board) == {"gate": "connection refused"}
    watch.captured(StatusChange(online=True, reason="connected", at=clock.now))
    assert problems_of(board) == {}
    assert board.statuses()[0].reconnects == 1


def test_counts_continue_after_a_restart():
    board, _ = watched()
    board.watch("gate", SourceKind.LIVE).change(SourceState.RESTARTING, "crashed")
    assert board.statuses()[0].received == 28


@pytest.mark.medium
def test_metrics_follow_the_naming_conventions_and_equal_the_board():
    board, _ = watched()
    with serve_metrics(board, 0) as port:
        found = scrape(port)
    assert found["imgpipeline_source_received_frames_total", "gate"] == 28
    assert found["imgpipeline_source_frames_total", "", "announced", "gate"] == 20
    assert found["imgpipeline_source_frames_total", "dropped", "gate", "queue"] == 1
    assert found["imgpipeline_source_publish_seconds_bucket", "0.25", "gate"] == 20
    assert found["imgpipeline_source_publish_seconds_bucket", "0.1", "gate"] == 0
    assert found["imgpipeline_source_publish_seconds_sum", "gate"] == pytest.approx(4.0)
    assert found["imgpipeline_source_up", "gate"] == 1


@pytest.mark.servers
@pytest.mark.medium
def test_the_metrics_of_an_idle_folder_say_that_it_is_up(settings, tmp_path):
    config, board = FolderConfig(name="drop-box", kind="folder", path=tmp_path), Board()
    settings = settings.model_copy(update={"store_url": (tmp_path / ".store").as_uri()})
    board.watch("drop-box", SourceKind.FINITE).change(SourceState.RESTARTING, "Kafka was away")
    with supervised(settings, config, board):
        wait_until(lambda: problems_of(board) == {}, limit_s=60, what="the folder is watched")
        with serve_metrics(board, 0) as port:
            assert scrape(port)["imgpipeline_source_up", "drop-box"] == 1


@pytest.mark.servers
@pytest.mark.medium
def test_inputs_that_name_their_sources_later_have_metrics_from_the_start(mosquitto, tmp_path):
    settings = at(mosquitto, folder_settings(tmp_path))
    mqtt, http = MqttConfig(name="drones", kind="mqtt", topic="a/+"), HttpConfig(name="uploads", kind="http")
    board = Board()

    def serve_http(_settings: Settings, _config: HttpConfig, _options: object, stop: Event, _board: Board) -> None:
        stop.wait()

    with supervised(settings, mqtt, board), supervised(settings, http, board, serve_http):
        wait_until(lambda: [one.state for one in board.statuses()] == [SourceState.ONLINE] * 2, limit_s=60, what="both")
        with serve_metrics(board, 0) as port:
            found = scrape(port)
    for name in ("drones", "uploads"):
        assert found["imgpipeline_source_up", name] == 1
        assert found["imgpipeline_source_received_frames_total", name] == 0


def test_a_port_in_use_is_refused():
    with serve_metrics(Board(), 0) as port:
        refused = pytest.raises(ConfigurationError, match=f"127.0.0.1:{port} cannot be opened")
        with refused, serve_metrics(Board(), port):
            pytest.fail("two servers listen on one port")


@pytest.mark.medium
def test_the_health_page_shows_the_problem_of_each_source_and_ignored_files_which_are_none():
    board, clock = watched()
    board.watch("gate", SourceKind.LIVE).ignored = lambda: 3
    assert board.statuses()[0].ignored == 3
    with serve_metrics(board, 0) as port:
        with urlopen(f"http://127.0.0.1:{port}/health") as page:
            assert json.load(page) == {"healthy": True, "problems": {}, "ignored_files": {"gate": 3}}
        board.watch("gate", SourceKind.LIVE).captured(StatusChange(online=False, reason="timed out", at=clock.now))
        with pytest.raises(HTTPError) as refused:
            urlopen(f"http://127.0.0.1:{port}/health")
        assert refused.value.code == 503
        assert json.loads(refused.value.read())["problems"] == {"gate": "timed out"}
