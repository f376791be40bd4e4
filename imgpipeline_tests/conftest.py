"""The fixtures that every test may ask for: real servers, once a session, and the test data.

A machine that lacks a server program or the data skips the tests that ask for it, with the command that helps as
the reason. With `IMGPIPELINE_REQUIRE_SERVERS=1` (as in CI) such a skip is a failure. Fixtures of one folder's tests
belong into that folder's own conftest.
"""

import contextlib
import gc
import os
import signal
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.cli import command
from imgpipeline_tests.examples import ALL_EXAMPLES
from imgpipeline_tests.parameter_ids import short_id
from imgpipeline_tests.servers.clickhouse_server import ClickHouseServer
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.opensearch import OpenSearchServer
from imgpipeline_tests.servers.postgres_server import PostgresServer
from imgpipeline_tests.servers.programs import CACHE_HOME, MissingProgramError
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer

REPOSITORY = Path(__file__).resolve().parents[1]
SERVER_FIXTURES = {"kafka", "s3", "postgres", "toxiproxy", "hadoop", "mosquitto", "clickhouse", "opensearch"}
DATA_FIXTURES = {"shared_data"}

STEERS_TESTS = {"IMGPIPELINE_REQUIRE_SERVERS", "IMGPIPELINE_TEST_DATA"}
SESSION_MARK = "TEST_SESSION_OF_IMGPIPELINE"
SETTING_PREFIXES = ("IMGPIPELINE_", "KAFKA_", "AWS_", "HETZNER_", "MQTT_", "S3_", "RTSP_", "ES_")

# Partitions are made when the definitions are imported, which is before any fixture; a test itself does not see this.
os.environ["IMGPIPELINE_REDETECT_MODELS"] = "demo,yolox-nano,yolov4-tiny"

# No deadline: a busy machine is slow for a moment. `make quick` takes the profile of the same name. CI tries the same
# examples each time, so that it judges the change; new ones are tried wherever a developer runs the tests.
SAME_EXAMPLES = "IMGPIPELINE_REQUIRE_SERVERS" in os.environ
for profile, number in (("all", ALL_EXAMPLES), ("quick", ALL_EXAMPLES // 10)):
    hypothesis.settings.register_profile(profile, max_examples=number, deadline=None, derandomize=SAME_EXAMPLES)
hypothesis.settings.load_profile("all")

# GStreamer's list of plug-ins, which takes seconds to make, is the one thing that tests take from the user's cache.
os.environ.setdefault("GST_REGISTRY", str(CACHE_HOME / "gstreamer-1.0" / "registry-of-tests.bin"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for a server or for the data, so that `-m "not servers"` leaves them out."""
    for item in items:
        asked_for = set(getattr(item, "fixturenames", ()))
        if asked_for & SERVER_FIXTURES:
            item.add_marker("servers")
        if asked_for & DATA_FIXTURES:
            item.add_marker("data")


def pytest_collection_finish() -> None:
    """Keep the garbage collector off modules and tests, which stay: that was a twentieth of the time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let Python collect at its end what was kept from the garbage collector."""
    gc.unfreeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Give text and bytes short ids that are the same in every process, also where no id is given."""
    return short_id(val, argname)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip a test whose server cannot be run here; or fail it, like one without data, where the environment asks."""
    report = yield
    lacks_program = call.excinfo and isinstance(call.excinfo.value, MissingProgramError)
    if lacks_program:
        report.outcome, report.longrepr = "skipped", (*item.location[:2], f"Skipped: {call.excinfo.value}")
    needs_machine = lacks_program or item.get_closest_marker("servers") or item.get_closest_marker("data")
    required = os.environ.get("IMGPIPELINE_REQUIRE_SERVERS") == "1"
    if required and needs_machine and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"IMGPIPELINE_REQUIRE_SERVERS=1, but this test would be skipped: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees only the settings that it makes itself, whatever the shell that started it has exported."""
    for name in list(os.environ):
        if name.startswith(SETTING_PREFIXES) and name not in STEERS_TESTS:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_cache_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A test begins with an empty cache; a full one of thousands of files would be looked through at each query."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "caches" / uuid.uuid4().hex))


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fail where a test leaves a process behind, and end it: one that computes slows every test after it."""
    os.environ[SESSION_MARK] = uuid.uuid4().hex
    yield
    until = time.monotonic() + 30  # Dagster's code servers end a while after the daemon that started them
    while (left := dict(_processes_of(os.environ[SESSION_MARK]))) and time.monotonic() < until:
        time.sleep(0.2)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"Processes that tests have left running: {left}"


@pytest.fixture(scope="session", autouse=True)
def no_command_is_left(no_process_is_left: None) -> Iterator[None]:
    """End the process that runs the tests' commands."""
    yield
    command.warm.stop()


def _processes_of(mark: str) -> Iterator[tuple[int, str]]:
    """Yield process id and test of every other process that was started in this session (Linux only)."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        pid = int(environ.parent.name)
        with contextlib.suppress(OSError):
            names = dict(entry.partition("=")[::2] for entry in environ.read_text(errors="replace").split("\0"))
            if names.get(SESSION_MARK) == mark and pid != os.getpid() and not _is_of_python(environ.parent):
                yield pid, names.get("PYTEST_CURRENT_TEST", "before the first test")


def _is_of_python(process: Path) -> bool:
    """Tell whether multiprocessing started a process, which ends with the tests."""
    return b"multiprocessing.resource_tracker" in (process / "cmdline").read_bytes()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """The session's broker. Do not stop it: a test of faults starts a `KafkaBroker` of its own."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def make_topic(kafka: KafkaBroker) -> Callable[..., str]:
    """Make a fresh topic, `make_topic(partitions=3, config={...})`, and answer its name."""

    def make(*, partitions: int = 1, config: dict[str, str] | None = None) -> str:
        name = f"frames-{uuid.uuid4().hex[:12]}"
        kafka.create_topic(name, partitions=partitions, config=config)
        return name

    return make


@pytest.fixture
def topic(request: pytest.FixtureRequest, make_topic: Callable[..., str]) -> str:
    """The name of a fresh topic with one partition, or with N: `parametrize("topic", [N], indirect=True)`."""
    return make_topic(partitions=getattr(request, "param", 1))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The session's S3 server. Do not stop it: a test of faults starts an `S3Server` of its own."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> S3Bucket:
    """A fresh, empty bucket on the session's S3 server."""
    return s3.create_bucket(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def memory() -> ObjectStore:
    """A fresh store in memory."""
    return open_memory_store()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's PostgreSQL; `postgres.create_database(name)` gives a test a database of its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """The session's ClickHouse; `clickhouse.ask("CREATE DATABASE …")` gives a test a database of its own."""
    with ClickHouseServer(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """The session's MQTT broker; a test of faults starts a `Mosquitto` of its own."""
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as server:
        yield server


@pytest.fixture(scope="session")
def opensearch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearchServer]:
    """The session's OpenSearch; `opensearch.clear()` removes all indices."""
    with OpenSearchServer(tmp_path_factory.mktemp("opensearch")) as server:
        yield server


@pytest.fixture(scope="session")
def toxiproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToxiproxyServer]:
    """The session's toxiproxy; `toxiproxy.create_proxy(port)` gives a test a proxy of its own."""
    with ToxiproxyServer(tmp_path_factory.mktemp("toxiproxy")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test data: `IMGPIPELINE_TEST_DATA`, or `shared/data` beside the checkout."""
    named = os.environ.get("IMGPIPELINE_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data in {folder}. Put them there, or name their folder: IMGPIPELINE_TEST_DATA=…")
    return folder
