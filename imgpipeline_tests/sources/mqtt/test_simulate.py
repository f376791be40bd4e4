"""Simulated cameras publish scenes whose truth is known to a real broker."""

import json
import uuid
from hashlib import sha256

from imgpipeline.contracts.times import parse_time
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.sources.mqtt.messages import Payload, Subscription
from imgpipeline.sources.mqtt.simulate import Simulation, simulate_mqtt
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.mqtt.broker import at, running, until_subscribed
from imgpipeline_tests.sources.published import frames_in, read_published


def test_simulated_cameras_publish_frames_whose_truth_is_known(lane, mosquitto, tmp_path):
    topic = f"sim/{uuid.uuid4().hex}"
    settings = at(mosquitto, lane.settings)
    simulation = Simulation(2, 10, 1, f"{topic}/{{camera}}", Payload.JSON)
    with running(settings, Subscription((f"{topic}/+",), payload=Payload.JSON), store=open_memory_store()) as ingest:
        until_subscribed(mosquitto, settings)
        assert simulate_mqtt(settings, simulation, tmp_path) == 20
        wait_until(lambda: ingest.announced == 20, limit_s=60, what="the frames")
    announced = {(frame.source, frame.frame_number): frame for frame in frames_in(read_published(settings))}
    for camera in ("cam1", "cam2"):
        for truth in map(json.loads, (tmp_path / camera / "truth.jsonl").read_text().splitlines()):
            frame = announced.pop((camera, truth["frame_number"]))
            assert frame.sha256 == sha256((tmp_path / camera / truth["file"]).read_bytes()).hexdigest()
            assert abs((frame.timestamp - parse_time(truth["timestamp"])).total_seconds()) < 0.001
    assert announced == {}
