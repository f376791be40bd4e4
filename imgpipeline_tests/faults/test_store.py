"""A store that fails, is silent, refuses or loses answers: what was not committed is made up for, and nothing twice."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pytest

from imgpipeline.contracts.keys import RAW_RECORDS
from imgpipeline.errors import DeadLetterCode, TransientError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import ForbiddenError, ObjectStore, open_store
from imgpipeline.objectstore.client import check_store
from imgpipeline.objectstore.reading import fetch_tail, fetch_to_file
from imgpipeline_tests.detect.conftest import LaneUnderTest, message, running, segments
from imgpipeline_tests.detect.test_lane_faults import error_of, ledger_objects, through
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.ledger.samples import append, check_ledger, frames, writer
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.stream.group import group_offsets

pytestmark = pytest.mark.slow

SEGMENTS = ".jsonl.zst"
IMPATIENT = {"store_timeout_s": 1.5, "store_patience_s": 4.5}
"""A tenth of the patience that users have."""


def first_times(fate: Fate, times: int, *parts: str) -> Callable[[str, str, int], Fate]:
    """Returns what lets the first requests of each path that holds one of the parts go wrong."""

    def decide(_method: str, path: str, before: int) -> Fate:
        return fate if before < times and any(part in path for part in parts) else Fate.FORWARD

    return decide


def told_group(lane: LaneUnderTest) -> int:
    return group_offsets(lane.settings, [lane.partition()]).get(lane.partition(), 0)


@pytest.mark.fault(14)
@pytest.mark.parametrize("fate", [Fate.ANSWER_500, Fate.ANSWER_503_BEFORE, Fate.ANSWER_503_AFTER])
def test_fault_14_a_store_that_answers_500_or_503_three_times_is_asked_again(lane, s3, fate):
    lane.announce(8)
    with AnswerLosingProxy(s3.port, first_times(fate, 3, SEGMENTS, "/images/", "metadata_days")) as proxy:
        report = through(lane, proxy).with_settings(segment_max_records=4).follow()
        assert proxy.fates("GET", "/images/")[:3] == [fate] * 3
        assert proxy.fates("PUT", SEGMENTS).count(fate) == 3 * segments(lane)

    assert (report.frames, report.lag) == (8, 0)
    assert len(check(lane.settings).frames) == 8


@pytest.mark.fault(14)
def test_fault_14_a_store_that_does_not_answer_in_time_is_asked_again(lane, s3):
    lane = lane.with_settings(**IMPATIENT)
    lane.announce(3)

    def decide(method: str, path: str, before: int) -> Fate:
        hangs = (method == "PUT" and SEGMENTS in path) or (method == "GET" and "/images/" in path)
        return Fate.NO_ANSWER if hangs and before < 3 else Fate.FORWARD

    with AnswerLosingProxy(s3.port, decide) as proxy:
        report = through(lane, proxy).follow()
        assert proxy.fates("PUT", SEGMENTS) == [Fate.NO_ANSWER] * 3 + [Fate.FORWARD]
        assert proxy.fates("GET", "/images/")[:3] == [Fate.NO_ANSWER] * 3

    assert (report.frames, report.lag) == (3, 0)
    assert len(check(lane.settings).frames) == 3


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("fate", "part"),
    [
        (Fate.ANSWER_503_BEFORE, SEGMENTS),
        (Fate.ANSWER_503_BEFORE, "/images/"),
        (Fate.NO_ANSWER, SEGMENTS),
        (Fate.NO_ANSWER, ""),
        (Fate.LOSE_REQUEST, ""),
    ],
)
def test_fault_15_a_store_in_trouble_for_longer_than_is_waited_fails_the_run_and_the_backlog_drains_afterwards(
    lane, s3, fate, part
):
    lane = lane.with_settings(**IMPATIENT)
    in_trouble = threading.Event()
    lane.announce(3)

    def decide(_method: str, path: str, _before: int) -> Fate:
        return fate if in_trouble.is_set() and part in path else Fate.FORWARD

    with (
        AnswerLosingProxy(s3.port, decide) as proxy,
        running(lambda: error_of(through(lane, proxy).with_settings(linger_s=60.0))) as errors,
    ):
        wait_until(lambda: len(lane.frames()) == 3, limit_s=60, what="the first frames")
        in_trouble.set()
        lane.announce(5, first=3)
        wait_until(lambda: bool(errors), limit_s=40, what="the end of the run, before the default patience of 45 s")
    assert isinstance(errors[0], TransientError)
    assert "IMGPIPELINE_S3_ENDPOINT" in str(errors[0])
    assert len(check(lane.settings, drained=False).frames) == 3
    assert told_group(lane) <= 3

    assert lane.follow().lag == 0
    assert len(check(lane.settings).frames) == 8


@pytest.mark.fault(15)
@pytest.mark.parametrize("part", [SEGMENTS, "metadata"])
def test_fault_15_a_silent_store_holds_an_append_for_a_minute_and_not_for_many(s3, bucket, part):
    """With the limits that users have."""

    def decide(method: str, path: str, _before: int) -> Fate:
        return Fate.NO_ANSWER if method == "PUT" and part in path else Fate.FORWARD

    with AnswerLosingProxy(s3.port, decide) as proxy:
        made = writer(open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint)))
        began_s = time.monotonic()
        with pytest.raises(TransientError):
            append(made, frames(0, 3))
        assert time.monotonic() - began_s < 100
    direct = open_store(s3_settings(bucket))
    assert append(writer(direct), frames(0, 3))
    assert check_ledger(direct) == 3


@pytest.mark.fault(16)
@pytest.mark.parametrize("part", [SEGMENTS, "metadata_days"])
def test_fault_16_a_refused_prefix_fails_the_run_at_once_and_advances_nothing(lane, s3, part):
    lane.announce(3)

    def refuse(method: str, path: str, _before: int) -> Fate:
        return Fate.ANSWER_403 if method == "PUT" and part in path else Fate.FORWARD

    with AnswerLosingProxy(s3.port, refuse) as proxy:
        with pytest.raises(ForbiddenError) as refused:
            through(lane, proxy).follow()
        assert len(proxy.fates("PUT", part)) == 1
    assert part in str(refused.value)
    assert "rights in the bucket" in str(refused.value)
    assert (ledger_objects(lane), told_group(lane)) == ({}, 0)

    lane.follow()
    assert len(check(lane.settings).frames) == 3


@pytest.mark.fault(16)
def test_fault_16_one_forbidden_image_is_a_dead_letter_and_its_neighbours_are_frames(lane, s3):
    lane.announce(2)
    lane.send(message(image_path=lane.put_image("images/camera/secret.jpg"), frame_number=2))
    lane.announce(2, first=3)
    with AnswerLosingProxy(s3.port, first_times(Fate.ANSWER_403, 99, "secret.jpg")) as proxy:
        through(lane, proxy).follow()

    held = check(lane.settings)
    assert (len(held.frames), held.codes) == (4, {DeadLetterCode.OBJECT_FORBIDDEN: 1})
    assert held.dead_letters[0]["image_path"] == "images/camera/secret.jpg"


@pytest.mark.fault(17)
def test_fault_17_no_store_shows_a_part_of_an_object(s3, bucket, toxiproxy):
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", **IMPATIENT))
    direct = open_store(s3_settings(bucket))
    direct.put("table", b"old")
    with proxy.fault("limit_data", "upstream", bytes=500_000):
        for act in (store.put, store.create):
            with pytest.raises(TransientError):
                act("metadata/segment", b"x" * 1_000_000)
        with pytest.raises(TransientError):
            store.put("table", b"x" * 1_000_000)
    proxy.delete()
    assert [info.key for info in direct.list_objects()] == ["table"]
    assert direct.get("table") == b"old"


@pytest.mark.fault(31)
@pytest.mark.parametrize("fate", [Fate.ANSWER_403, Fate.ANSWER_503_BEFORE])
@pytest.mark.parametrize("part", [SEGMENTS, RAW_RECORDS])
def test_fault_31_a_range_whose_dead_letters_cannot_be_written_stays_uncommitted(lane, s3, part, fate):
    lane = lane.with_settings(**IMPATIENT)
    lane.send(b"no message", b"nor this")
    with AnswerLosingProxy(s3.port, first_times(fate, 99, part)) as proxy:
        assert error_of(through(lane, proxy)) is not None
    assert (ledger_objects(lane), told_group(lane)) == ({}, 0)

    lane.follow()
    assert check(lane.settings).codes == {DeadLetterCode.INVALID_MESSAGE: 2}


@pytest.mark.fault(35)
@pytest.mark.parametrize("fate", [Fate.LOSE_ANSWER, Fate.ANSWER_503_AFTER])
def test_fault_35_a_run_whose_answers_are_lost_recognises_its_own_segments(lane, s3, fate):
    lane.announce(12)
    with AnswerLosingProxy(s3.port, first_times(fate, 1, SEGMENTS)) as proxy:
        report = through(lane, proxy).with_settings(segment_max_records=4).follow()
        assert proxy.fates("PUT", SEGMENTS).count(fate) >= 3

    assert (report.ended_by, report.frames, report.segments) == ("linger", 12, segments(lane))
    assert len(check(lane.settings).frames) == 12


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
def test_fault_46_a_call_rides_out_a_restart_of_the_server(own_s3, own_bucket, tmp_path, call, expected):
    store = open_store(s3_settings(own_bucket))
    e_tag = store.fetch("a/old").e_tag
    assert while_down(own_s3, 1.5, lambda: call(store, e_tag, tmp_path)) == expected


@pytest.mark.fault(46)
def test_fault_46_all_calls_ride_out_a_restart_of_ten_seconds(own_s3, own_bucket, tmp_path):
    names = ("get", "create", "replace", "list", "probe")
    store = open_store(s3_settings(own_bucket))
    e_tag = store.fetch("a/old").e_tag

    def make_calls() -> dict[str, object]:
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(lambda name: CALLS[name][0](store, e_tag, tmp_path), names), strict=True))

    found = while_down(own_s3, 10, make_calls)
    assert (found["create"], found["replace"]) == (NEW, NEW)


@pytest.mark.fault(46)
def test_fault_46_the_first_call_of_a_process_rides_out_a_restart_of_ten_seconds(own_s3, own_bucket):
    store = open_store(s3_settings(own_bucket))
    assert while_down(own_s3, 10, lambda: store.get("a/old")) == OLD


@pytest.mark.fault(46)
def test_fault_46_a_store_that_has_answered_is_waited_for_longer(own_s3, own_bucket):
    store = open_store(s3_settings(own_bucket))
    assert store.get("a/old") == OLD
    assert while_down(own_s3, 16, lambda: store.get("a/old")) == OLD


@pytest.mark.fault(46)
@each_call
def test_fault_46_a_call_rides_out_a_reset_connection_whether_or_not_it_took_effect(
    s3, bucket, toxiproxy, tmp_path, call, expected
):
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
def test_fault_46_a_listing_continues_where_the_server_restarted(own_s3, own_bucket):
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
def test_fault_46_a_run_rides_out_a_restart_of_the_server(lane, own_s3):
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
def test_fault_46_a_run_and_a_build_ride_out_one_reset_of_every_request(lane, s3, fate):
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
def test_fault_46_a_restart_in_the_middle_of_a_body_is_ridden_out(own_s3, own_bucket, toxiproxy, tmp_path, stream):
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
