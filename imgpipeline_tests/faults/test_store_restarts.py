"""The S3 server restarts, or resets connections: every call, run and build rides it out."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pytest

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.client import check_store
from imgpipeline.objectstore.reading import fetch_tail, fetch_to_file
from imgpipeline_tests.detect.conftest import LaneUnderTest, running, segments
from imgpipeline_tests.detect.test_lane_faults import through
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 1)
Result = TypeVar("Result")
Direction = Literal["upstream", "downstream"]
OLD, NEW = b"old" * 100, b"new" * 100


def replaced(store: ObjectStore, e_tag: str) -> bytes:
    """Replaces a version. The answer may be lost and the call repeated, so what is stored decides."""
    store.replace("a/old", NEW, e_tag)
    return store.get("a/old")


def created(store: ObjectStore) -> bytes:
    store.create("a/new", NEW)
    return store.get("a/new")


def put(store: ObjectStore) -> bytes:
    store.put("a/new", NEW)
    return store.get("a/new")


def deleted(store: ObjectStore) -> object:
    store.delete("a/old")
    return store.head("a/old")


def spooled(store: ObjectStore, folder: Path) -> bytes:
    fetch_to_file(store, "a/old", folder / "file")
    return (folder / "file").read_bytes()


Call = Callable[[ObjectStore, str, Path], object]
CALLS: dict[str, tuple[Call, object]] = {
    "get": (lambda store, _e_tag, _folder: store.get("a/old"), OLD),
    "head": (lambda store, _e_tag, _folder: getattr(store.head("a/old"), "size_bytes", None), len(OLD)),
    "tail": (lambda store, _e_tag, _folder: fetch_tail(store, "a/old", 8).data, OLD[-8:]),
    "spool": (lambda store, _e_tag, folder: spooled(store, folder), OLD),
    "put": (lambda store, _e_tag, _folder: put(store), NEW),
    "create": (lambda store, _e_tag, _folder: created(store), NEW),
    "replace": (lambda store, e_tag, _folder: replaced(store, e_tag), NEW),
    "delete": (lambda store, _e_tag, _folder: deleted(store), None),
    "list": (lambda store, _e_tag, _folder: [info.key for info in store.list_objects("a")], ["a/old"]),
    "folders": (lambda store, _e_tag, _folder: store.list_folders(""), ["a"]),
    "probe": (lambda store, _e_tag, _folder: check_store(store), None),
}
each_call = pytest.mark.parametrize(("call", "expected"), CALLS.values(), ids=CALLS)


def while_down(server: S3Server, down_s: float, act: Callable[[], Result]) -> Result:
    """Acts in a thread while the server is killed, and returns the result once it is back.

    The server is started from the test's own thread: it ends with the thread that started it.
    """
    server.kill()
    with running(act) as results:
        threading.Event().wait(down_s)
        assert not results, "the call did not wait for the server"
        server.start()
    result: Result = results[0]
    return result


@pytest.fixture
def own_s3(tmp_path: Path, s3: S3Server) -> Iterator[S3Server]:
    """A server of this test's own, to be killed."""
    with S3Server(tmp_path / "own-s3") as server:
        yield server


@pytest.fixture
def own_bucket(own_s3: S3Server) -> S3Bucket:
    """A bucket of that server with one object."""
    made = own_s3.create_bucket("restarted")
    open_store(s3_settings(made)).put("a/old", OLD)
    return made


@pytest.mark.fault(46)
@each_call
def test_fault_46_a_call_rides_out_a_restart_of_the_server(
    own_s3: S3Server, own_bucket: S3Bucket, tmp_path: Path, call: Call, expected: object
) -> None:
    store = open_store(s3_settings(own_bucket))
    e_tag = store.fetch("a/old").e_tag
    assert while_down(own_s3, 1.5, lambda: call(store, e_tag, tmp_path)) == expected


@pytest.mark.fault(46)
def test_fault_46_all_calls_ride_out_a_restart_of_ten_seconds(
    own_s3: S3Server, own_bucket: S3Bucket, tmp_path: Path
) -> None:
    names = ("get", "create", "replace", "list", "probe")
    store = open_store(s3_settings(own_bucket))
    e_tag = store.fetch("a/old").e_tag

    def make_calls() -> dict[str, object]:
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(lambda name: CALLS[name][0](store, e_tag, tmp_path), names), strict=True))

    found = while_down(own_s3, 10, make_calls)
    assert (found["create"], found["replace"]) == (NEW, NEW)


@pytest.mark.fault(46)
def test_fault_46_the_first_call_of_a_process_rides_out_a_restart_of_ten_seconds(
    own_s3: S3Server, own_bucket: S3Bucket
) -> None:
    store = open_store(s3_settings(own_bucket))
    assert while_down(own_s3, 10, lambda: store.get("a/old")) == OLD


@pytest.mark.fault(46)
def test_fault_46_a_store_that_has_answered_is_waited_for_longer(own_s3: S3Server, own_bucket: S3Bucket) -> None:
    store = open_store(s3_settings(own_bucket))
    assert store.get("a/old") == OLD
    assert while_down(own_s3, 16, lambda: store.get("a/old")) == OLD


@pytest.mark.fault(46)
@each_call
def test_fault_46_a_call_rides_out_a_reset_connection_whether_or_not_it_took_effect(
    s3: S3Server, bucket: S3Bucket, toxiproxy: ToxiproxyServer, tmp_path: Path, call: Call, expected: object
) -> None:
    direct = open_store(s3_settings(bucket))
    direct.put("a/old", OLD)
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(s3_settings(bucket, s3_endpoint=f"http://{proxy.address}"))
    healthy = threading.Event()

    def reset_for_a_moment() -> None:
        with proxy.fault("reset_peer", timeout=0):
            began.set()
            healthy.wait(0.5)

    began, e_tag = threading.Event(), direct.fetch("a/old").e_tag
    with running(reset_for_a_moment):
        assert began.wait(60)
        assert call(store, e_tag, tmp_path) == expected
    proxy.delete()
    assert [info.key for info in direct.list_objects("probes")] == []


@pytest.mark.fault(46)
def test_fault_46_a_listing_continues_where_the_server_restarted(own_s3: S3Server, own_bucket: S3Bucket) -> None:
    folder = own_s3.data_dir / own_bucket.name / "lake" / "many"
    folder.mkdir(parents=True)
    expected = [f"many/{number:05d}" for number in range(2500)]
    for key in expected:
        (folder.parent / key).touch()
    listing = open_store(s3_settings(own_bucket)).list_objects("many")
    keys = [next(listing).key]
    rest = while_down(own_s3, 1.5, lambda: [info.key for info in listing])
    assert keys + rest == expected


@pytest.mark.fault(46)
def test_fault_46_a_run_rides_out_a_restart_of_the_server(lane: LaneUnderTest, own_s3: S3Server) -> None:
    bucket = own_s3.create_bucket("frames")
    own = lane.with_settings(store_url=bucket.url, s3_endpoint=bucket.endpoint, segment_max_records=5)
    own.announce(200)
    with running(own.follow) as reports:
        wait_until(lambda: segments(own) >= 3, limit_s=60, what="the first segments")
        own_s3.kill()
        threading.Event().wait(3)
        own_s3.start()
    assert [(report.ended_by, report.frames, report.lag) for report in reports] == [("linger", 200, 0)]
    assert len(check(own.settings).frames) == 200


@pytest.mark.fault(46)
@pytest.mark.parametrize("fate", [Fate.LOSE_REQUEST, Fate.LOSE_ANSWER], ids=["before", "after"])
def test_fault_46_a_run_and_a_build_ride_out_one_reset_of_every_request(
    lane: LaneUnderTest, s3: S3Server, fate: Fate
) -> None:
    """Each request is reset the first time, among them the deletion of the probe and the puts of the tables."""
    lane.announce(8)
    with AnswerLosingProxy(s3.port, lambda _m, _p, before: Fate.FORWARD if before else fate) as proxy:
        own = through(lane, proxy)
        assert own.follow().frames == 8
        rebuild_day(own.store, DAY, now=datetime(2026, 3, 2, tzinfo=UTC))
        assert fate in proxy.fates("POST", "")  # deletions
        assert proxy.fates("PUT", "frames.parquet")[0] is fate
    assert len(check(lane.settings).frames) == 8


LARGE = np.arange(2**20, dtype=">u4").tobytes()  # 4 MiB


@pytest.mark.fault(46)
@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_fault_46_a_restart_in_the_middle_of_a_body_is_ridden_out(
    own_s3: S3Server,
    own_bucket: S3Bucket,
    toxiproxy: ToxiproxyServer,
    tmp_path: Path,
    stream: Literal["upstream", "downstream"],
) -> None:
    direct = open_store(s3_settings(own_bucket))
    direct.put("a/large", LARGE * 8)
    proxy = toxiproxy.create_proxy(own_s3.port)
    store = open_store(s3_settings(own_bucket, s3_endpoint=f"http://{proxy.address}"))

    def move() -> bytes:
        if stream == "upstream":
            store.put("a/new", LARGE * 8)
            return direct.get("a/new")
        fetch_to_file(store, "a/large", tmp_path / "file")
        return (tmp_path / "file").read_bytes()

    with proxy.fault("bandwidth", stream, rate=10_000), running(move) as results:
        threading.Event().wait(1.5)  # about half of it
        own_s3.kill()
        threading.Event().wait(1)
        own_s3.start()
    proxy.delete()
    assert results == [LARGE * 8]
