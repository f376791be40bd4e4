"""A store that fails, is silent, refuses or loses answers: what was not committed is made up for, and nothing twice."""

import threading
import time
from collections.abc import Callable
from random import Random

import pytest

from imgpipeline.contracts.keys import RAW_RECORDS
from imgpipeline.errors import DeadLetterCode, TransientError
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import ForbiddenError, open_store
from imgpipeline_tests.detect.conftest import LaneUnderTest, message, running, segments
from imgpipeline_tests.detect.test_lane_faults import error_of, ledger_objects, through
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.ledger.samples import append, check_ledger, frames, writer
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer
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
def test_fault_14_a_store_that_answers_500_or_503_three_times_is_asked_again(
    lane: LaneUnderTest, s3: S3Server, fate: Fate
) -> None:
    lane.announce(8)
    with AnswerLosingProxy(s3.port, first_times(fate, 3, SEGMENTS, "/images/", "metadata_days")) as proxy:
        report = through(lane, proxy).with_settings(segment_max_records=4).follow()
        assert proxy.fates("GET", "/images/")[:3] == [fate] * 3
        assert proxy.fates("PUT", SEGMENTS).count(fate) == 3 * segments(lane)

    assert (report.frames, report.lag) == (8, 0)
    assert len(check(lane.settings).frames) == 8


@pytest.mark.fault(14)
def test_fault_14_a_store_that_does_not_answer_in_time_is_asked_again(lane: LaneUnderTest, s3: S3Server) -> None:
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
        *(pytest.param(Fate.ANSWER_503_BEFORE, part, marks=pytest.mark.slow) for part in ("/images/", "")),
        *(pytest.param(Fate.NO_ANSWER, part, marks=pytest.mark.slow) for part in (SEGMENTS, "/images/", "")),
    ],
)
def test_fault_15_a_store_in_trouble_for_longer_than_is_waited_fails_the_run_and_the_backlog_drains_afterwards(
    lane: LaneUnderTest, s3: S3Server, fate: Fate, part: str
) -> None:
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
def test_fault_15_a_silent_store_holds_an_append_for_a_minute_and_not_for_many(
    s3: S3Server, bucket: S3Bucket, part: str
) -> None:
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
def test_fault_16_a_refused_prefix_fails_the_run_at_once_and_advances_nothing(
    lane: LaneUnderTest, s3: S3Server, part: str
) -> None:
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
def test_fault_16_one_forbidden_image_is_a_dead_letter_and_its_neighbours_are_frames(
    lane: LaneUnderTest, s3: S3Server
) -> None:
    lane.announce(2)
    lane.send(message(image_path=lane.put_image("images/camera/secret.jpg"), frame_number=2))
    lane.announce(2, first=3)
    with AnswerLosingProxy(s3.port, first_times(Fate.ANSWER_403, 99, "secret.jpg")) as proxy:
        through(lane, proxy).follow()

    held = check(lane.settings)
    assert (len(held.frames), held.codes) == (4, {DeadLetterCode.OBJECT_FORBIDDEN: 1})
    assert held.dead_letters[0]["image_path"] == "images/camera/secret.jpg"


@pytest.mark.fault(17)
def test_fault_17_an_upload_that_is_cut_in_the_middle_leaves_nothing_that_can_be_seen(
    lane: LaneUnderTest, s3: S3Server, toxiproxy: ToxiproxyServer
) -> None:
    lane = lane.with_settings(**IMPATIENT)
    noise = Random(4)  # noqa: S311 - bytes that do not compress
    lane.send(*[noise.randbytes(50_000) for _ in range(3)])
    proxy = toxiproxy.create_proxy(s3.port)
    cut = lane.with_settings(s3_endpoint=f"http://{proxy.address}", commit_interval_s=60.0)
    with proxy.fault("limit_data", "upstream", bytes=40_000), pytest.raises(TransientError):
        cut.follow()
    proxy.delete()
    assert ledger_objects(lane) == {}
    assert {end.offset for end in fix_ends(lane.store).values()} <= {0}

    lane.follow()
    assert check(lane.settings).codes == {DeadLetterCode.INVALID_MESSAGE: 3}


@pytest.mark.fault(17)
def test_fault_17_no_store_shows_a_part_of_an_object(
    s3: S3Server, bucket: S3Bucket, toxiproxy: ToxiproxyServer
) -> None:
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
def test_fault_31_a_range_whose_dead_letters_cannot_be_written_stays_uncommitted(
    lane: LaneUnderTest, s3: S3Server, part: str, fate: Fate
) -> None:
    lane = lane.with_settings(**IMPATIENT)
    lane.send(b"no message", b"nor this")
    with AnswerLosingProxy(s3.port, first_times(fate, 99, part)) as proxy:
        assert error_of(through(lane, proxy)) is not None
    assert (ledger_objects(lane), told_group(lane)) == ({}, 0)

    lane.follow()
    assert check(lane.settings).codes == {DeadLetterCode.INVALID_MESSAGE: 2}


@pytest.mark.fault(35)
@pytest.mark.parametrize("fate", [Fate.LOSE_ANSWER, Fate.ANSWER_503_AFTER])
def test_fault_35_a_run_whose_answers_are_lost_recognises_its_own_segments(
    lane: LaneUnderTest, s3: S3Server, fate: Fate
) -> None:
    lane.announce(12)
    with AnswerLosingProxy(s3.port, first_times(fate, 1, SEGMENTS)) as proxy:
        report = through(lane, proxy).with_settings(segment_max_records=4).follow()
        assert proxy.fates("PUT", SEGMENTS).count(fate) >= 3

    assert (report.ended_by, report.frames, report.segments) == ("linger", 12, segments(lane))
    assert len(check(lane.settings).frames) == 12
