"""How a run handles a log that has holes, was truncated, or was replaced."""

import pytest
from kafka import TopicPartition

from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import ConfigurationError, LedgerError, TransientError
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.stream.connection import open_admin, open_producer
from imgpipeline.stream.lanes import Lane
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.detect.conftest import LaneUnderTest, message, running
from imgpipeline_tests.faults.child_runs import environment_of
from imgpipeline_tests.faults.invariant import check, read_ledger
from imgpipeline_tests.servers.waiting import wait_until


@pytest.mark.fault(12)
def test_records_deleted_before_the_first_run_are_a_gap(lane):
    lane.announce(10)
    _expire(lane, 4)

    lane.follow()

    assert lane.gaps() == [Gap(0, 4, GapReason.BEFORE_FIRST_LOOK)]
    assert [f.offset for f in lane.frames()] == [4, 5, 6, 7, 8, 9]
    check(lane.settings)


@pytest.mark.slow
@pytest.mark.fault(12)
@pytest.mark.parametrize("topic", [2], indirect=True)
def test_a_partition_whose_records_expired_stops_alone_until_its_loss_is_accepted(lane, tmp_path):
    lane.announce(3, source="gate", partition=0)
    lane.follow()
    lane.announce(7, source="gate", first=3, partition=0)
    lane.announce(4, source="yard", partition=1)
    _expire(lane, 6)

    with pytest.raises(LedgerError, match=r"\[3, 6\).*imgpipeline ledger accept-loss"):
        lane.follow(Lane(0, 2))
    assert lane.follow().ended_by == "linger"
    assert sorted((frame.source, frame.offset) for frame in lane.frames()) == [
        *(("gate", offset) for offset in range(3)),
        *(("yard", offset) for offset in range(4)),
    ]
    assert not lane.gaps()

    environment = environment_of(lane.settings)
    refused = run("ledger", "accept-loss", env=environment, cwd=tmp_path)
    assert (refused.status, "[3, 6)" in refused.stderr, lane.gaps()) == (1, True, [])
    other = run("ledger", "accept-loss", "--partition", "1", env=environment, cwd=tmp_path)
    assert "Nothing to do" in other.stderr
    done = run("ledger", "accept-loss", "--yes", "--json", env=environment, cwd=tmp_path)
    gap = {"topic": lane.settings.kafka_topic, "partition": 0, "from": 3, "to": 6}
    assert done.json()["gaps"] == [gap]

    lane.follow()
    assert lane.gaps() == [Gap(3, 6, GapReason.EXPIRED)]
    assert len(lane.frames()) == 3 + 4 + 4
    check(lane.settings.model_copy(update={"allow_gaps": True}))


@pytest.mark.slow
@pytest.mark.fault(12)
def test_where_gaps_are_allowed_records_lost_to_retention_are_one(lane):
    tolerant = lane.with_settings(allow_gaps=True)
    lane.announce(3)
    lane.follow()
    lane.announce(7, first=3)
    _expire(lane, 6)

    tolerant.follow()

    assert lane.gaps() == [Gap(3, 6, GapReason.EXPIRED)]
    assert [f.offset for f in lane.frames()] == [0, 1, 2, 6, 7, 8, 9]
    check(tolerant.settings)


@pytest.mark.slow
@pytest.mark.fault(11)
@pytest.mark.fault(37)
def test_a_topic_recreated_under_a_running_consumer_has_a_new_chain_and_does_not_reach_the_old_one(lane):
    lane.announce(5)
    follower = lane.with_settings(linger_s=120.0, max_run_s=120.0)
    errors: list[BaseException] = []

    def follow() -> None:
        try:
            follower.follow()
        except (TransientError, LedgerError, ConfigurationError) as error:
            errors.append(error)

    with running(follow):
        wait_until(lambda: len(lane.frames()) == 5, limit_s=60, what="the first frames")
        before = read_ledger(lane.store)
        make_anew(lane)
        lane.announce(20, source="other")

    old = [f for f in lane.frames() if f.source == "camera"]
    assert errors
    assert len(old) == 5
    lane.follow()
    assert len([f for f in lane.frames() if f.source == "other"]) == 20
    assert sorted(end.offset for end in fix_ends(lane.store).values()) == [5, 20]
    check(lane.settings, before=before)


@pytest.mark.slow
@pytest.mark.parametrize("busy", [True, False])
def test_a_partition_that_is_added_ends_the_run_early_so_that_the_next_one_follows_it(lane, busy):
    def send(partition: int, first: int, count: int) -> None:
        with open_producer(lane.settings) as producer:
            for number in range(first, first + count):
                value = message(image_path="images/camera/one.jpg", frame_number=number)
                producer.send(lane.settings.kafka_topic, value, partition=partition)
            producer.flush()

    lane.announce(5)
    follower = lane.with_settings(linger_s=60.0, max_run_s=60.0)
    with running(follower.follow) as results:
        wait_until(lambda: len(lane.frames()) == 5, limit_s=60, what="the first frames")
        with open_admin(lane.settings) as admin:
            admin.create_partitions({lane.settings.kafka_topic: 2})
        send(1, 100, 3)
        send(0, 5, 5 if busy else 0)
        wait_until(lambda: bool(results), limit_s=60, what="the end of the run")

    assert [report.ended_by for report in results] == ["partitions"]
    lane.follow()
    held = check(lane.settings)
    assert sorted(frame["source_kafka_partition"] for frame in held.frames) == [0] * (10 if busy else 5) + [1] * 3


def _expire(lane: LaneUnderTest, before: int) -> None:
    with open_admin(lane.settings) as admin:
        admin.delete_records({TopicPartition(lane.settings.kafka_topic, 0): before})


def make_anew(lane: LaneUnderTest) -> None:
    """Deletes the lane's topic and makes it again, empty."""
    topic = lane.settings.kafka_topic
    with open_admin(lane.settings) as admin:
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics(), limit_s=60, what="the topic's end")
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
