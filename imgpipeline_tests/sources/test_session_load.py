"""A publisher with too many frames keeps memory flat and counts its drops; one without frames does not spin."""

import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.times import utc_now
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import CapturedFrame, SourceKind
from imgpipeline.sources.rtsp import RtspSource
from imgpipeline.sources.session import SourceSession
from imgpipeline.sources.simulator.clip import write_clip
from imgpipeline.sources.simulator.rtsp_simulator import SimulatedCamera
from imgpipeline_tests.detect.conftest import jpeg
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.programs import MissingProgramError
from imgpipeline_tests.servers.rtsp_server import RtspServer, make_camera
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published

pytestmark = pytest.mark.servers
NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
OVERLOAD_S = 20.0


class SlowStore:
    """A store that takes half a second for each image, and stores none."""

    def create(self, _key: str, _data: bytes) -> bool:
        time.sleep(0.5)  # so slow that a camera on a busy machine is still much faster
        return True

    def get(self, key: str) -> bytes:
        raise KeyError(key)


def test_a_camera_whose_queue_is_full_is_announced_sooner(kafka: KafkaBroker, topic: str):
    settings = Settings(_env_file=None, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic=topic)
    options = PublishOptions(queue_frames=4, commit_s=3600.0, drain_s=1.0)
    publisher = SourceSession(settings, "camera", SourceKind.LIVE, store=open_memory_store(), options=options)
    wait_until(lambda: bool(read_published(settings)), limit_s=60, what="the session has started")
    for number in range(5):
        publisher.offer(CapturedFrame(utc_now(), ClockSource.RECEIVER, data=b"\xff\xd8", number=number))
    wait_until(lambda: bool(frames_in(read_published(settings))), limit_s=60, what="an announcement")
    publisher.close()


@pytest.mark.slow
def test_a_camera_ten_times_faster_than_the_store_costs_counted_frames_and_no_memory(
    kafka: KafkaBroker, topic: str, tmp_path: Path
):
    settings = Settings(_env_file=None, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic=topic)
    server = fast_and_calm(tmp_path)
    totals: dict[str, Totals] = {}
    stop = threading.Event()

    def run(name: str, store: object) -> None:
        options = PublishOptions(writers=2, account_s=5.0)
        source = RtspSource(name, server.url(name))
        totals[name] = ingest_source(settings, source, stop=stop, options=options, store=store)

    with server:
        stores = {"fast": SlowStore(), "calm": open_memory_store()}
        threads = [threading.Thread(target=run, args=item) for item in stores.items()]
        for thread in threads:
            thread.start()
        sizes_mb = watch_memory(OVERLOAD_S)
        stop.set()
        for thread in threads:
            thread.join()
    told, calm = totals["fast"], totals["calm"]
    assert told.closes
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
    try:
        return RtspServer([fast, make_camera(folder, "calm", fps=5.0)])
    except MissingProgramError as missing:
        pytest.skip(str(missing))


def watch_memory(seconds: float) -> list[float]:
    """Returns the resident size of this process in MB, measured twice per second after the first five seconds."""
    sizes, began = [], time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        time.sleep(0.5)
        if passed > 5:
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)
    return sizes


@pytest.mark.medium
@pytest.mark.parametrize("kind", list(SourceKind))
def test_a_publisher_with_nothing_to_send_waits_and_does_not_spin(kafka: KafkaBroker, topic: str, kind: SourceKind):
    """The test counts function calls, because a waiting thread makes none, however busy the machine is."""
    settings = Settings(_env_file=None, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic=topic)
    calls = Counter[str]()

    def count(*_: object) -> None:
        calls[threading.current_thread().name] += 1

    options = PublishOptions(account_s=0.2, idle_account_s=0.2, commit_s=0.0)
    threading.setprofile(count)
    try:
        publisher = SourceSession(settings, "gate", kind, store=open_memory_store(), options=options)
        publisher.offer(CapturedFrame(NOON, ClockSource.PRODUCER, data=jpeg()))
        wait_until(lambda: publisher.totals().announced == 1, limit_s=60, what="the frame is announced")
        time.sleep(2)  # ten times an account is due
    finally:
        threading.setprofile(None)
    publisher.close()
    assert 0 < calls["announce gate"] < 100_000, calls
