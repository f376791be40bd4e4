"""Of several topics, one that is deleted or that no broker leads does not stop the others."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.errors import ConfigurationError
from imgpipeline.stream.log import read_log, read_logs
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.detect.conftest import START, LaneUnderTest, running
from imgpipeline_tests.faults.child_runs import environment_of
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.waiting import wait_until

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
def test_a_topic_that_is_deleted_under_a_run_does_not_stop_the_other(
    site: LaneUnderTest, kafka: KafkaBroker, lost: int
):
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
def test_a_topic_that_is_made_again_is_followed_again(site: LaneUnderTest, kafka: KafkaBroker):
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


def test_status_names_the_topic_that_is_gone_and_shows_the_other(
    site: LaneUnderTest, kafka: KafkaBroker, tmp_path: Path
):
    first, second = site.settings.kafka_topics
    delete(site, kafka, second)
    ended = run("status", env=environment_of(site.settings), cwd=tmp_path)
    assert ended.status == 0
    assert first in ended.stdout
    assert f"There is no topic '{second}'" in ended.stderr
    doctor = run("doctor", env=environment_of(site.settings), cwd=tmp_path)
    assert doctor.status == 1
    assert f"There is no topic '{second}'" in doctor.stdout


def test_where_none_of_the_topics_is_there_nothing_passes_for_an_empty_backlog(site: LaneUnderTest):
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
def test_a_topic_whose_partition_no_broker_leads_does_not_stop_the_other(
    lane: LaneUnderTest, two_disks: KafkaBroker, tmp_path: Path
):
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
