"""Frames of a day for reports, and a day with something of everything."""

from dataclasses import replace
from datetime import timedelta

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Frame, FrameStatus, make_frame_id
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.samples import LABELS, chosen_frames, detection
from imgpipeline_tests.ledger.samples import dead_letter, frame, write_chain
from imgpipeline_tests.tracking.films import Car, film


def seen(
    offset: int, hour: int = 12, labels: tuple[str, ...] = ("car",), source: str = "gate", **changes: object
) -> Frame:
    """Return a frame at an hour of the day, with a detection for each label."""
    time = frame(offset).timestamp.replace(hour=hour, minute=offset % 60)
    found = tuple(detection(label, 0.5 + 0.04 * (n + 1), x=20.0 * n) for n, label in enumerate(labels))
    made = replace(
        frame(offset, source=source),
        frame_id=make_frame_id(source, time, offset),
        timestamp=time,
        processing_timestamp=time + timedelta(seconds=3),
        source_image_path=f"images/{offset}.jpg",
        detections=found,
    )
    return replace(made, **changes)


def write_busy_day(store: ObjectStore) -> list[Frame]:
    """Write a day with four sources, two chains, three gated frames, two dead letters, and a frame announced twice.

    Returns:
        The frames of the day, each once, as plain Python finds them in the segments.
    """
    several = [
        seen(n, hour=(n * 5) % 24, labels=tuple(LABELS[(n + k) % 3] for k in range(n % 4)), source=f"cam-{n % 3}")
        for n in range(60)
    ]
    dark = [replace(seen(60 + n, hour=2, labels=()), status=FrameStatus.GATED, gate_reason="dark") for n in range(3)]
    write_chain(store, several, [*dark, replace(several[3], offset=63)], [dead_letter(64), dead_letter(65)])
    other = ChainId("frames", "dGVzdA_topic-id", 1)
    write_chain(store, [replace(seen(n, hour=23, source="cam-9"), partition=1) for n in range(4)], chain=other)
    return list(chosen_frames(store).values())


ROAD_RULES = """
[[zone]]
name = "road"
source = "gate"
points = [[0, 0.3], [1, 0.3], [1, 0.4], [0, 0.4]]

[[line]]
name = "stop"
source = "gate"
size = [640, 480]
points = [[95, 100], [95, 300]]
backward = "out"

[[rule]]
name = "loiters"
kind = "dwell_time"
zone = "road"
labels = ["car"]
seconds = 900

[[rule]]
name = "crosses"
kind = "line_crossing"
line = "stop"
"""
"""The car of `write_driving_day` stays on the road and crosses the line once."""


def write_driving_day(store: ObjectStore) -> None:
    """Write a day on which a car drives slowly to the right from 12:05 to 12:25, past a person from 12:05 to 12:10."""
    first, last = (frame(0).timestamp.replace(hour=12, minute=minute) for minute in (5, 25))
    seen_there = [Car(first, last), Car(first, first + timedelta(minutes=5), "person", y=300)]
    write_chain(store, [replace(one, source_image_path="images/road.jpg") for one in film(first, last, seen_there)])
