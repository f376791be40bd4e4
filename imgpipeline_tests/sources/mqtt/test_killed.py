"""An ingest that is killed at any step announces nothing that is not stored, and the next one loses no message."""

import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.faults.child_runs import environment_of, variables_of
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.mqtt.broker import running, send
from imgpipeline_tests.sources.published import frames_in, read_published


@pytest.mark.slow
@pytest.mark.fault(51)
@pytest.mark.parametrize("step", ["frame captured:3", "frame stored:3", "frames announced:2"])
def test_fault_51_a_killed_ingest_of_mqtt_loses_nothing_and_announces_only_what_is_stored(
    lane: LaneUnderTest, mosquitto: Mosquitto, tmp_path: Path, step: str
):
    changes = {"mqtt_host": mosquitto.host, "mqtt_port": mosquitto.port, "mqtt_client_id": uuid.uuid4().hex}
    ingesting = lane.with_settings(**changes)
    command = [sys.executable, "-m", "imgpipeline.cli", "ingest", "mqtt", "--mqtt-topic", "images/+/raw"]
    environment = {**environment_of(ingesting.settings), **variables_of(f"{step}=kill")}
    with subprocess.Popen(command, env=environment, cwd=tmp_path) as process:
        client_id = ingesting.settings.mqtt_client_id
        wait_until(lambda: mosquitto.has_subscriber(client_id), limit_s=90, what="the subscription")
        send(mosquitto, [("images/gate/raw", jpeg() + bytes([number])) for number in range(10)])
        assert process.wait(90) == -signal.SIGKILL
    for message in frames_in(read_published(ingesting.settings)):
        assert lane.store.get(str(message.image_path)).startswith(jpeg())
    with running(ingesting.settings):

        def announced() -> set[str | None]:
            return {message.sha256 for message in frames_in(read_published(ingesting.settings))}

        wait_until(lambda: len(announced()) == 10, limit_s=60, what="all frames", interval_s=0.3)
    lane.follow()
    assert len({(frame.frame_id, frame.day) for frame in lane.frames()}) == 10
