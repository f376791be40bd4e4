"""A broker that goes away while records are fetched: nothing is lost, and it does not end the log."""

import pytest

from imgpipeline.errors import TransientError
from imgpipeline.stream.connection import open_producer
from imgpipeline_tests.detect.conftest import message, running
from imgpipeline_tests.detect.test_lane_faults import error_of
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.waiting import wait_until

RECORDS = 600


@pytest.mark.fault(10)
@pytest.mark.slow
def test_fault_10_a_broker_that_restarts_is_read_to_the_end_and_one_that_stays_away_ends_the_run(
    lane, tmp_path, monkeypatch
):
    monkeypatch.setattr("imgpipeline.detect.run.RESTART_S", 60.0)  # a busy machine takes long to start a broker
    with KafkaBroker(tmp_path / "kafka") as broker:
        broker.create_topic("frames")
        own = lane.with_settings(kafka_bootstrap_servers=broker.bootstrap_servers, kafka_topics=("frames",))
        path = own.put_image("images/camera/one.jpg")
        padding = [("padding", bytes(20_000))]  # so that what is there takes some hundred fetches
        with open_producer(own.settings) as producer:
            for number in range(RECORDS):
                value = message(image_path=path, frame_number=number)
                producer.send(own.settings.kafka_topic, value, key=b"camera", headers=padding)
            producer.flush()

        with running(own.follow) as results:
            wait_until(lambda: len(own.frames()) >= 20, limit_s=60, what="the first frames")
            broker.kill()
            assert len(own.frames()) < RECORDS, "all was fetched before the broker went away"
            broker.start()

        assert [(report.ended_by, report.frames, report.lag) for report in results] == [("linger", RECORDS, 0)]
        held = check(own.settings)
        assert [frame["frame_number"] for frame in held.frames] == list(range(RECORDS))

        monkeypatch.setattr("imgpipeline.detect.run.RESTART_S", 1.0)
        own.announce(200, first=RECORDS)
        with running(lambda: error_of(own.with_settings(segment_max_records=5))) as errors:
            wait_until(lambda: len(own.frames()) >= RECORDS + 15, limit_s=60, what="more frames")
            broker.kill()
        assert isinstance(errors[0], TransientError)
        assert broker.bootstrap_servers in str(errors[0])
        broker.start()
        own.follow()
        assert len(check(own.settings).frames) == RECORDS + 200
