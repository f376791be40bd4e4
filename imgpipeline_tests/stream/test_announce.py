"""What was announced is in Kafka, in order and by the contract; what was not is an error."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from imgpipeline.contracts.messages import FrameMessage, parse_message
from imgpipeline.contracts.records import Partition
from imgpipeline.errors import ConfigurationError, ImgpipelineError
from imgpipeline.settings import Settings
from imgpipeline.stream.announce import Announcer, create_topic
from imgpipeline.stream.fetch import read_record
from imgpipeline.stream.log import read_log
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.programs import MissingProgramError

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


def settings(kafka: KafkaBroker, topic: str) -> Settings:
    return Settings(_env_file=None, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic=topic)


def message(number: int, source: str = "gate") -> FrameMessage:
    return FrameMessage(source, f"images/{source}/{number}.jpg", NOON + timedelta(seconds=number), frame_number=number)


def test_announcements_arrive_by_the_contract_with_key_and_headers(kafka: KafkaBroker, topic: str):
    chosen = settings(kafka, topic)
    replay = FrameMessage("gate", "images/x.jpg", NOON, replay_of="frames/0/7")
    with Announcer(chosen) as announcer:
        announcer.announce(message(0), headers=[("trace", b"1")])
        announcer.announce(replay)
    first, second = read_record(chosen, Partition(topic, 0), 0), read_record(chosen, Partition(topic, 0), 1)
    assert first is not None
    assert second is not None
    assert parse_message(first) == message(0)
    assert first.key == b"gate"
    assert first.headers == (("trace", b"1"),)
    assert parse_message(second).replay_of == "frames/0/7"


@pytest.mark.parametrize("topic", [3], indirect=True)
def test_after_the_context_everything_is_acknowledged(kafka: KafkaBroker, topic: str):
    chosen = settings(kafka, topic)
    with Announcer(chosen) as announcer:
        for number in range(3000):
            announcer.announce(message(number, source=f"camera-{number % 7}"))
    assert announcer.acknowledged == 3000
    assert sum(log.log_end for log in read_log(chosen)) == 3000


def test_flush_waits_within_the_context(kafka: KafkaBroker, topic: str):
    chosen = settings(kafka, topic)
    with Announcer(chosen) as announcer:
        announcer.announce(message(0))
        announcer.flush()
        assert read_log(chosen)[0].log_end == 1


@pytest.mark.timeout(60, func_only=True)
def test_a_missing_topic_is_refused_and_not_made(kafka: KafkaBroker):
    with pytest.raises(ConfigurationError, match=r"imgpipeline topics create"), Announcer(settings(kafka, "absent")):
        pass
    with pytest.raises(ConfigurationError):
        read_log(settings(kafka, "absent"))


def test_a_topic_is_made_with_its_partitions_and_once(kafka: KafkaBroker):
    chosen = settings(kafka, f"made-{uuid4().hex[:8]}")
    assert create_topic(chosen, partitions=3)
    assert len(read_log(chosen)) == 3
    assert not create_topic(chosen, partitions=5)
    assert len(read_log(chosen)) == 3


@pytest.mark.slow
@pytest.mark.servers
def test_a_broker_that_dies_is_an_error_of_the_announcer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("imgpipeline.stream.announce.DELIVERY_TIMEOUT_MS", 3000)
    try:
        broker = KafkaBroker(tmp_path)
    except MissingProgramError as missing:
        pytest.skip(str(missing))
    with broker:
        broker.create_topic("frames")
        announcer = Announcer(settings(broker, "frames"))
        with announcer:
            announcer.announce(message(0))
            announcer.flush()
            broker.kill()
            announcer.announce(message(1))
            with pytest.raises(ImgpipelineError, match="IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS"):
                announcer.flush()
    assert announcer.acknowledged == 1
