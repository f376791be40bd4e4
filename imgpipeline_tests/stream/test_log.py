"""The ends of the logs and the offsets of the consumer group, read from a real broker."""

import pytest
from kafka import TopicPartition

from imgpipeline.contracts.records import Partition
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin, open_producer
from imgpipeline.stream.embedded import embedded_broker
from imgpipeline.stream.log import commit_group, read_log
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.stream.group import group_offsets
from imgpipeline_tests.stream.test_embedded import settings_of


@pytest.mark.parametrize("topic", [3], indirect=True)
def test_a_log_reaches_from_the_first_record_to_the_offset_after_the_last(settings):
    with open_producer(settings) as producer:
        for _ in range(5):
            producer.send(settings.kafka_topic, b"x", partition=1)
        producer.flush()
    with open_admin(settings) as admin:
        admin.delete_records({TopicPartition(settings.kafka_topic, 1): 2})

    log = read_log(settings)

    assert [(part.partition, part.log_start, part.log_end) for part in log] == [(0, 0, 0), (1, 2, 5), (2, 0, 0)]
    assert len({part.topic_id for part in log}) == 1


def test_records_of_an_open_transaction_are_after_the_end(settings):
    with open_producer(settings, transactional_id=f"of-{settings.kafka_topic}") as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(settings.kafka_topic, b"x")
        producer.flush()
        assert read_log(settings)[0].log_end == 0
        producer.commit_transaction()

    # The coordinator answers the commit before its marker stands in the partition.
    wait_until(lambda: read_log(settings)[0].log_end == 2, limit_s=60, what="the end behind the transaction's marker")


def test_a_missing_topic_names_the_setting_and_the_command(settings):
    with pytest.raises(ConfigurationError, match=r"no topic 'absent'.*topics create.*IMGPIPELINE_KAFKA_TOPIC"):
        read_log(settings.model_copy(update={"kafka_topics": ("absent",)}))


def partitions(settings: Settings, *numbers: int) -> list[Partition]:
    return [Partition(settings.kafka_topic, number) for number in numbers]


@pytest.mark.parametrize("topic", [3], indirect=True)
def test_offsets_of_the_group_are_stored(settings):
    first, second, third = partitions(settings, 0, 1, 2)
    assert group_offsets(settings, [first]) == {}
    with open_admin(settings) as admin:
        assert commit_group(admin, settings, {first: 7, third: 0})
    assert group_offsets(settings, [first, second, third]) == {first: 7, third: 0}


def test_offsets_that_the_broker_refuses_only_cause_a_warning(settings, caplog):
    with open_admin(settings) as admin:
        assert not commit_group(admin, settings, {Partition("no-such-topic", 0): 7})
    assert f"Could not store the offsets of the group {settings.kafka_group}" in caplog.text


def test_a_broker_with_an_old_protocol_works_too():
    with embedded_broker() as environment:
        settings = settings_of(environment)
        first, second = partitions(settings, 0, 1)
        with open_admin(settings) as admin:
            assert commit_group(admin, settings, {second: 5})
        assert group_offsets(settings, [first, second]) == {second: 5}
