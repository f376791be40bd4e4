"""A supervisor keeps each source running, follows its file, and takes a source back that was taken over."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

import pytest

from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board, SourceState
from imgpipeline.sources.configuration import AnyConfig, MqttConfig, OpenableConfig, load_sources
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.metrics import problems_of
from imgpipeline.sources.protocol import Captured, Source, SourceKind
from imgpipeline.sources.session import SourceSession
from imgpipeline.sources.supervisor import Supervisor, run_again, runner
from imgpipeline_tests.servers.threads import in_thread
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.mqtt.broker import at, send
from imgpipeline_tests.sources.published import frames_in, read_published
from imgpipeline_tests.sources.test_session import FAST, frame


def entry(name: str, fields: str = "") -> str:
    return f'[[source]]\nname = "{name}"\nkind = "rtsp"\nurl = "rtsp://127.0.0.1/{name}"\n{fields}\n'


def sources_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sources.toml"
    path.write_text(text)
    return path


class Sources:
    """Replaces real sources: records each run, which ends when it is stopped."""

    def __init__(self, run: Callable[[str, threading.Event], None] | None = None) -> None:
        self.started: list[str] = []
        self.stopped: list[str] = []
        self._run = run or (lambda _, stop: stop.wait())

    def run(self, config: AnyConfig, _board: Board, stop: threading.Event) -> None:
        self.started.append(config.name)
        self._run(config.name, stop)
        self.stopped.append(config.name)


@contextmanager
def running(path: Path, sources: Sources, board: Board) -> Iterator[None]:
    with in_thread(Supervisor(path, sources.run, board, rescan_s=0.05).run):
        yield


def state_of(board: Board, name: str) -> SourceState:
    return next(status.state for status in board.statuses() if status.source == name)


def test_all_sources_of_the_file_run_and_are_stopped_at_the_end(tmp_path):
    sources = Sources()
    with running(sources_file(tmp_path, entry("a") + entry("b")), sources, Board()):
        wait_until(lambda: sorted(sources.started) == ["a", "b"], limit_s=60, what="both sources")
    assert sorted(sources.stopped) == ["a", "b"]


@pytest.mark.medium
def test_a_failed_source_restarts_and_the_others_continue(tmp_path):
    failures = iter([TransientError("The camera is away."), OSError("broken pipe")])

    def run(name: str, stop: threading.Event) -> None:
        if name == "bad" and (error := next(failures, None)):
            raise error
        stop.wait()

    sources, board = Sources(run), Board()
    with running(sources_file(tmp_path, entry("bad") + entry("good")), sources, board):
        wait_until(lambda: sources.started.count("bad") == 3, limit_s=60, what="the third start")
        assert sources.started.count("good") == 1
    assert board.statuses()[0].reconnects == 2


@pytest.mark.parametrize(
    ("error", "is_traced"),
    [
        (ConfigurationError("There is no folder in.", next_step="name a folder with images"), False),
        (ZeroDivisionError("division by zero"), True),
    ],
    ids=["expected", "defect"],
)
def test_only_a_defect_is_logged_with_its_traceback(tmp_path, caplog, error, is_traced):
    def run(_name: str, _stop: threading.Event) -> None:
        raise error

    with running(sources_file(tmp_path, entry("a")), Sources(run), Board()):
        wait_until(lambda: "a failed" in caplog.text, limit_s=60, what="the failure in the log")
    assert str(error) in caplog.text
    assert ("Traceback" in caplog.text) is is_traced


def test_a_supervisor_ends_when_all_its_sources_have_ended(tmp_path):
    sources, board = Sources(lambda *_: None), Board()
    Supervisor(sources_file(tmp_path, entry("a")), sources.run, board, rescan_s=0.05).run(threading.Event())
    assert state_of(board, "a") is SourceState.ENDED


def test_a_change_of_the_file_touches_only_the_sources_it_concerns(tmp_path):
    sources, board = Sources(), Board()
    path = sources_file(tmp_path, entry("kept") + entry("changed") + entry("removed"))
    with running(path, sources, board):
        wait_until(lambda: len(sources.started) == 3, limit_s=60, what="the first sources")
        path.write_text(entry("kept") + entry("changed", "fps = 2") + entry("added"))
        wait_until(lambda: len(sources.started) == 5, limit_s=60, what="the changed and the added source")
        assert sorted(sources.stopped) == ["changed", "removed"]
        assert sources.started.count("kept") == 1


def test_an_invalid_change_of_the_file_is_refused_as_a_whole(tmp_path, caplog):
    sources = Sources()
    path = sources_file(tmp_path, entry("a"))
    with running(path, sources, Board()):
        wait_until(lambda: sources.started == ["a"], limit_s=60, what="the source")
        path.write_text(entry("b", "fps = -1"))
        wait_until(lambda: "fps" in caplog.text, limit_s=60, what="the complaint")
    assert sources.started == ["a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[source]]\nname = "a"\nkind = "rtps"', 'source "a": kind: '),
        (entry("a", "fps = 0"), 'source "a": fps: Input should be greater than 0'),
        (entry("a", "speed = 3"), 'source "a": speed: Extra inputs are not permitted'),
        (entry("a") + entry("a"), "two sources are named 'a'"),
        (entry("a", "masks = [[[0, 0], [1, 1]]]"), 'source "a": masks.0: '),
        (entry("a", 'resize = "0x36"'), 'source "a": resize: '),
        (entry("a", 'derive = ["99999x36"]'), 'source "a": derive.0: '),
        ("[[source]\n", "cannot be read"),
        (
            '[[source]]\nname = "a"\nkind = "s3"\nurl = "s3://b"\nresize = "64x36"',
            "images in a bucket are not changed",
        ),
    ],
    ids=["kind", "range", "unknown", "doubled", "mask", "size", "derived-size", "syntax", "s3-resized"],
)
def test_the_error_of_an_invalid_file_names_the_source_and_the_field(tmp_path, text, said):
    with pytest.raises(ConfigurationError) as refused:
        load_sources(sources_file(tmp_path, text))
    assert said in str(refused.value)


@pytest.mark.parametrize(("topic", "source"), [("images/raw", "a"), ("images/+/raw", "yard"), ("images/#", "yard/raw")])
def test_wildcards_of_an_mqtt_topic_name_the_source(tmp_path, topic, source):
    text = f'[[source]]\nname = "a"\nkind = "mqtt"\ntopic = "{topic}"'
    (config,) = load_sources(sources_file(tmp_path, text))
    assert isinstance(config, MqttConfig)
    assert config.subscription().source_of(topic.replace("+", "yard").replace("#", "yard/raw")) == source


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"There is no file .*sources.toml"):
        load_sources(tmp_path / "sources.toml")


def test_defaults_apply_to_every_source_that_does_not_override_them(tmp_path):
    text = '[defaults]\nfps = 2.0\ngate = { min_brightness = 20, hours = "06:00-20:00" }\n'
    first, second = load_sources(sources_file(tmp_path, text + entry("a") + entry("b", "fps = 5.0")))
    assert [first.model_dump()["fps"], second.model_dump()["fps"]] == [2.0, 5.0]
    gate = first.options(Settings(_env_file=None), SourceKind.LIVE).preparation.gate
    assert gate.min_brightness == 20
    assert gate.hours is not None


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
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"store_url": (tmp_path / "store").as_uri()})


class History(Board):
    """A board that keeps the states in which its sources were seen."""

    def __init__(self) -> None:
        super().__init__()
        self.states: set[SourceState] = set()

    def is_in(self, state: SourceState, name: str) -> bool:
        seen = {status.state for status in self.statuses() if status.source == name}
        self.states |= seen
        return state in seen


def no_http(*_: object) -> None:
    raise AssertionError("no source is served over HTTP")


@contextmanager
def supervised(
    settings: Settings, config: AnyConfig, board: Board, serve_http: Callable[..., None] = no_http
) -> Iterator[None]:
    """Run a source as the supervisor does."""
    with in_thread(partial(runner(settings, serve_http), config, board)):
        yield


def rival_of(settings: Settings) -> SourceSession:
    """Open another session of the camera, as another process does."""
    return SourceSession(settings, "camera", SourceKind.LIVE, store=open_memory_store(), options=FAST)


@pytest.mark.servers
@pytest.mark.medium
@pytest.mark.fault(63)
def test_fault_63_a_camera_comes_back_by_itself_when_the_session_that_took_it_over_has_ended(settings, caplog):
    caplog.set_level("INFO")
    board = History()
    with supervised(settings, CameraConfig(name="camera"), board):
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


@pytest.mark.servers
@pytest.mark.medium
@pytest.mark.fault(63)
def test_fault_63_a_camera_comes_back_when_the_process_that_took_it_over_was_killed(settings, caplog):
    board = History()
    watch = board.watch("camera", SourceKind.LIVE)

    def mine(stop: threading.Event) -> None:
        run = partial(ingest_source, settings, Camera(), stop=stop, options=FAST, watch=watch)
        run_again(settings, run, watch, lambda message: message.source == "camera", stop, silent_s=2.0)

    with in_thread(mine):
        wait_until(lambda: board.is_in(SourceState.ONLINE, "camera"), limit_s=60, what="the first frame")
        rival = rival_of(settings)
        wait_until(lambda: board.is_in(SourceState.TAKEN_OVER, "camera"), limit_s=60, what="the takeover")
        wait_until(lambda: board.is_in(SourceState.ONLINE, "camera"), limit_s=60, what="the source is back")
    rival.abort()
    assert "has sent nothing for 2 s, so the source is taken back" in caplog.text


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.fault(63)
def test_fault_63_two_supervisors_of_one_mqtt_source_evict_each_other_once(settings, mosquitto, caplog):
    caplog.set_level("INFO")
    topic = f"images/{uuid.uuid4().hex}/raw"
    settings = at(mosquitto, settings)
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
    assert SourceState.RESTARTING not in older.states | newer.states
