"""A log that has holes, moved, is another one than the ledger knows, or whose broker goes away: nothing is lost."""

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.times import utc_now
from imgpipeline.detect.resume import begin_new_chain, find_contradictions
from imgpipeline.errors import ConfigurationError, LedgerError, TransientError
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.segment import Provenance
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.fetch import read_record
from imgpipeline.stream.log import read_log, read_logs
from imgpipeline_tests.cli.command import Ended, run
from imgpipeline_tests.detect.conftest import START, LaneUnderTest, message, running
from imgpipeline_tests.detect.test_lane_and_log import make_anew
from imgpipeline_tests.detect.test_lane_faults import error_of
from imgpipeline_tests.faults.child_runs import child_run, environment_of
from imgpipeline_tests.faults.invariant import check, read_ledger
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.waiting import wait_until

RECORDS = 600


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker that a test may kill and whose files it may remove."""
    with KafkaBroker(tmp_path / "kafka") as broker:
        broker.create_topic("frames")
        yield broker


@pytest.fixture
def own_lane(lane: LaneUnderTest, own_broker: KafkaBroker) -> LaneUnderTest:
    """A lane on that broker."""
    return lane.with_settings(kafka_bootstrap_servers=own_broker.bootstrap_servers, kafka_topics=("frames",))


def cut_log(broker: KafkaBroker, topic: str = "frames") -> None:
    """Lets a broker lose all records of a topic under the same topic id, as a disk that was replaced would."""
    broker.kill()
    shutil.rmtree(broker.work_dir / "data" / f"{topic}-0")
    broker.start()


def new_chain(settings: Settings, *options: str, folder: Path) -> Ended:
    """Runs `imgpipeline ledger new-chain` as a user does."""
    return run("ledger", "new-chain", *options, env=environment_of(settings), cwd=folder)


def check_shown(settings: Settings, topic_id: str, folder: Path) -> None:
    """Asserts that users see both chains: the old one without a log, the new one without lag, and all their frames."""
    environment = environment_of(settings)
    status = run("status", "--json", env=environment, cwd=folder).json()["partitions"]
    assert [(row["topic_id"], row["current"], row["lag"]) for row in status] == [
        (f"{topic_id}~2", True, 0),
        (topic_id, False, None),
    ]
    audited = run("audit", "--full", "--json", env=environment, cwd=folder)
    assert (audited.status, audited.json()["ok"]) == (0, True)
    counted = run("query", "SELECT count(*) AS n FROM frames", "--json", env=environment, cwd=folder)
    assert "13" in counted.stdout
    ends = run("ledger", "list", "--json", env=environment, cwd=folder).json()
    assert {row["topic_id"]: (row["end"], row["closed"]) for row in ends} == {
        topic_id: (6, True),
        f"{topic_id}~2": (8, False),
    }


# 10: a broker that goes away while records are fetched


@pytest.mark.fault(10)
@pytest.mark.slow
def test_fault_10_a_broker_that_restarts_is_read_to_the_end_and_one_that_stays_away_ends_the_run(
    own_lane, own_broker, monkeypatch
):
    monkeypatch.setattr("imgpipeline.detect.run.RESTART_S", 60.0)  # a busy machine takes long to start a broker
    path = own_lane.put_image("images/camera/one.jpg")
    padding = [("padding", bytes(20_000))]  # so that what is there takes some hundred fetches
    with open_producer(own_lane.settings) as producer:
        for number in range(RECORDS):
            value = message(image_path=path, frame_number=number)
            producer.send(own_lane.settings.kafka_topic, value, key=b"camera", headers=padding)
        producer.flush()

    with running(own_lane.follow) as results:
        wait_until(lambda: len(own_lane.frames()) >= 20, limit_s=60, what="the first frames")
        own_broker.kill()
        assert len(own_lane.frames()) < RECORDS, "all was fetched before the broker went away"
        own_broker.start()

    assert [(report.ended_by, report.frames, report.lag) for report in results] == [("linger", RECORDS, 0)]
    held = check(own_lane.settings)
    assert [frame["frame_number"] for frame in held.frames] == list(range(RECORDS))

    monkeypatch.setattr("imgpipeline.detect.run.RESTART_S", 1.0)
    own_lane.announce(200, first=RECORDS)
    with running(lambda: error_of(own_lane.with_settings(segment_max_records=5))) as errors:
        wait_until(lambda: len(own_lane.frames()) >= RECORDS + 15, limit_s=60, what="more frames")
        own_broker.kill()
    assert isinstance(errors[0], TransientError)
    assert own_broker.bootstrap_servers in str(errors[0])
    own_broker.start()
    own_lane.follow()
    assert len(check(own_lane.settings).frames) == RECORDS + 200


# 36: another log under the same id


@pytest.mark.fault(36)
@pytest.mark.slow
def test_fault_36_a_log_that_was_cut_and_refilled_stops_the_run_until_it_is_given_a_new_chain(
    own_lane, own_broker, tmp_path
):
    lane = own_lane
    [log] = read_log(lane.settings)
    lane.announce(5)
    lane.follow()
    before = check(lane.settings)
    cut_log(own_broker)

    lane.announce(3, source="other")
    assert read_log(lane.settings) == [replace(log, log_start=0, log_end=3)]
    with pytest.raises(LedgerError, match=r"ends at 5, but the log ends at 3.*imgpipeline ledger new-chain"):
        lane.follow()
    lane.announce(5, source="other", first=3)
    with pytest.raises(LedgerError, match=r"offset 4 is not the one.*imgpipeline ledger new-chain"):
        lane.follow()
    refused = new_chain(lane.settings, folder=tmp_path)
    assert (refused.status, "--yes" in refused.stderr) == (1, True)
    assert read_ledger(lane.store) == before

    done = new_chain(lane.settings, "--yes", "--json", folder=tmp_path)
    why = "the record at offset 4 is not the one that was read there before"
    assert done.json()["new_chains"] == [
        {"topic": "frames", "partition": 0, "why": why, "closed_topic_id": log.topic_id, "closed_at": 5,
         "new_topic_id": f"{log.topic_id}~2", "log_start": 0, "log_end": 8}
    ]  # fmt: skip
    assert "Nothing to do" in new_chain(lane.settings, "--yes", folder=tmp_path).stderr
    assert lane.follow().lag == 0

    held = check(lane.settings, before=before)
    assert (len(held.frames_of(log.topic_id)), len(held.frames_of(f"{log.topic_id}~2"))) == (5, 8)
    assert held.gap_reasons == {"closed": 1}
    check_shown(lane.settings, log.topic_id, tmp_path)


@pytest.mark.fault(36)
@pytest.mark.slow
def test_fault_36_a_run_that_has_not_seen_the_new_chain_drops_its_work(own_lane, own_broker, tmp_path):
    lane = own_lane
    lane.announce(5)
    lane.follow()
    before = check(lane.settings)
    lane.announce(5, first=5)
    with child_run(lane, "segment put=stop") as child:
        child.wait_until_stopped()
        cut_log(own_broker)
        lane.announce(3, source="other")
        assert new_chain(lane.settings, "--yes", folder=tmp_path).status == 0
        child.process.send_signal(signal.SIGCONT)
        child.wait()

    assert len(read_ledger(lane.store).frames) == 5
    assert lane.follow().lag == 0
    held = check(lane.settings, before=before)
    assert [frame["source"] for frame in held.frames] == ["camera"] * 5 + ["other"] * 3


@pytest.mark.fault(36)
def test_fault_36_closing_a_chain_that_went_on_meanwhile_is_refused(lane, monkeypatch):
    monkeypatch.setattr("imgpipeline.stream.log.topic_id_of", lambda *_: "same-id")
    lane.announce(5)
    lane.follow()
    make_anew(lane)
    lane.announce(6, source="other")
    [found] = find_contradictions(lane.settings, lane.store)
    late = ChainWriter(lane.store, found.end, DayIndex(lane.store))
    gap = Gap(found.end.offset, found.end.offset + 1, GapReason.MARKER)
    made_by = Provenance("", "", "", "late")
    assert late.append([gap], provenance=made_by, writer_id="late", fingerprint=None, created_at=utc_now())

    with pytest.raises(TransientError, match="has added to"):
        begin_new_chain(lane.settings, lane.store, found, now=utc_now())
    [again] = find_contradictions(lane.settings, lane.store)
    assert begin_new_chain(lane.settings, lane.store, again, now=utc_now()).topic_id == "same-id~2"
    assert begin_new_chain(lane.settings, lane.store, again, now=utc_now()).topic_id == "same-id~2"
    lane.follow()
    check(lane.settings)


# 13: offsets without records


@pytest.mark.fault(13)
@pytest.mark.slow
def test_fault_13_what_compaction_removed_is_a_gap_and_the_range_ends_by_position(lane, tmp_path):
    wanted = {"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01"}
    with KafkaBroker(tmp_path / "kafka", properties={"log.cleaner.backoff.ms": "200"}) as broker:
        broker.create_topic("frames", config=wanted)
        own = lane.with_settings(kafka_bootstrap_servers=broker.bootstrap_servers, kafka_topics=("frames",))
        own.announce(10)

        def is_compacted() -> bool:
            own.announce(1, first=10)  # the cleaner leaves the last segment alone, and a new one begins with a record
            return read_record(own.settings, own.partition(), 0) is None

        wait_until(is_compacted, limit_s=60, what="the cleaner", interval_s=0.5)
        report = own.follow()

        assert (report.ended_by, report.lag) == ("linger", 0)
        held = check(own.settings)
        assert set(held.gap_reasons) == {"compacted"}
        assert held.gaps[0]["from"] == 0
        assert held.frames


CARS, PEOPLE = "car-frames", "person-frames"


@pytest.fixture
def site(lane: LaneUnderTest, kafka: KafkaBroker, make_topic: Callable[..., str]) -> LaneUnderTest:
    """A lane over two topics of the session's broker."""
    return lane.with_settings(kafka_topics=(make_topic(), make_topic()), linger_s=3.0)


def announce(site: LaneUnderTest, topic: str, count: int, source: str) -> None:
    path = site.put_image(f"images/{source}/one.jpg")
    with Announcer(site.settings.model_copy(update={"kafka_topics": (topic,)})) as announcer:
        for number in range(count):
            announcer.announce(FrameMessage(source, path, START, frame_number=number))


def frames_of(site: LaneUnderTest, source: str) -> int:
    return sum(frame.source == source for frame in site.frames())


def delete(site: LaneUnderTest, kafka: KafkaBroker, topic: str) -> None:
    admin = kafka.admin()
    admin.delete_topics([topic])
    admin.close()
    wait_until(lambda: topic in read_logs(site.settings).unreadable, limit_s=60, what="the end of the topic")


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1], ids=["first", "second"])
def test_a_topic_that_is_deleted_under_a_run_does_not_stop_the_other(site, kafka, lost):
    topics = site.settings.kafka_topics
    kept = topics[1 - lost]
    announce(site, topics[lost], 3, "gone")
    announce(site, kept, 3, "kept")
    with running(site.with_settings(linger_s=60.0).follow) as reports:
        wait_until(lambda: len(site.frames()) == 6, limit_s=60, what="the frames of both")
        delete(site, kafka, topics[lost])
        wait_until(lambda: bool(reports), limit_s=60, what="the end of the run")
    assert [report.ended_by for report in reports] == ["partitions"]
    announce(site, kept, 5, "kept")
    assert (site.follow().lag, frames_of(site, "kept"), frames_of(site, "gone")) == (0, 8, 3)


@pytest.mark.slow
def test_a_topic_that_is_made_again_is_followed_again(site, kafka):
    first, second = site.settings.kafka_topics
    announce(site, second, 2, "earlier")
    site.follow()
    delete(site, kafka, second)
    announce(site, first, 2, "kept")
    site.follow()
    kafka.create_topic(second)
    announce(site, second, 2, "later")
    site.follow()
    assert [frames_of(site, source) for source in ("earlier", "kept", "later")] == [2, 2, 2]


@pytest.mark.slow
def test_status_names_the_topic_that_is_gone_and_shows_the_other(site, kafka, tmp_path):
    first, second = site.settings.kafka_topics
    delete(site, kafka, second)
    ended = run("status", env=environment_of(site.settings), cwd=tmp_path)
    assert ended.status == 0
    assert first in ended.stdout
    assert f"There is no topic '{second}'" in ended.stderr
    doctor = run("doctor", env=environment_of(site.settings), cwd=tmp_path)
    assert doctor.status == 1
    assert f"There is no topic '{second}'" in doctor.stdout


def test_where_none_of_the_topics_is_there_nothing_passes_for_an_empty_backlog(site):
    with pytest.raises(ConfigurationError, match="There is no topic 'absent'"):
        read_log(site.settings.model_copy(update={"kafka_topics": ("absent", "neither")}))


@pytest.fixture
def two_disks(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker with two disks."""
    folders = f"{tmp_path / 'kafka' / 'data'},{tmp_path / 'second disk'}"
    broker = KafkaBroker(tmp_path / "kafka", properties={"log.dirs": folders})
    with broker:
        yield broker


@pytest.mark.slow
def test_a_topic_whose_partition_no_broker_leads_does_not_stop_the_other(lane, two_disks, tmp_path):
    """A disk that is lost takes its partitions with it; the broker goes on without them."""
    disk = tmp_path / "second disk"
    for topic in (CARS, PEOPLE):  # one by one, since the broker puts a partition on the disk that has fewer
        two_disks.create_topic(topic)
        wait_until(lambda: list(tmp_path.glob(f"**/{topic}-0")), limit_s=60, what=f"the folder of {topic}")  # noqa: B023 - called at once
    site = lane.with_settings(kafka_bootstrap_servers=two_disks.bootstrap_servers, kafka_topics=(CARS, PEOPLE))
    [lost] = [topic for topic in (CARS, PEOPLE) if (disk / f"{topic}-0").exists()]
    kept = PEOPLE if lost == CARS else CARS
    announce(site, lost, 2, "lost")
    announce(site, kept, 2, "kept")
    site.follow()
    two_disks.kill()
    shutil.rmtree(disk)
    disk.write_text("no folder any more")
    two_disks.start()
    wait_until(lambda: kept not in read_logs(site.settings).unreadable, limit_s=60, what="the kept topic")

    assert f"No broker leads partition 0 of the topic '{lost}'" in str(read_logs(site.settings).unreadable[lost])
    announce(site, kept, 5, "kept")
    report = site.follow()
    assert (report.lag, frames_of(site, "kept"), frames_of(site, "lost")) == (0, 7, 2)
