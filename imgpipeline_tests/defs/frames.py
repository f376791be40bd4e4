"""Frames for a site: small simulated images, announced on its topic."""

from datetime import UTC, datetime, timedelta

import cv2

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline_tests.servers.announcing import Announcer

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def announce_frames(settings: Settings, count: int, *, start: datetime = START, source: str = "camera") -> None:
    """Store one picture and announce it as `count` frames, one a second."""
    image, _ = Scene(3, frames=60).frame(20)
    done, data = cv2.imencode(".jpg", image)
    assert done
    key = f"images/{source}/one.jpg"
    open_store(settings).put(key, data.tobytes())
    with Announcer(settings) as announcer:
        for number in range(count):
            announcer.announce(FrameMessage(source, key, start + timedelta(seconds=number), frame_number=number))
