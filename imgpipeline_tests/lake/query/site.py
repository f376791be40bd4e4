"""A small store with images: two days, two sources, and current, stale and missing tables."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import cv2
import numpy as np
import pandas as pd

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import Frame, FrameStatus, make_frame_id
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.ledger.samples import NOON, append, dead_letter, frame, write_chain
from imgpipeline_tests.objectstore.stores import copy_objects

DAY, NEXT_DAY, UNKNOWN_DAY = date(2026, 1, 9), date(2026, 1, 10), date(2026, 1, 12)
ORANGE_RGB = (240, 120, 30)
"""The colour of every image."""
_FOUND = (("car", 0.91), ("person", 0.64), ("dog", 0.55))


@dataclass(frozen=True, slots=True)
class Site:
    """A filled store, and what was put into it."""

    frames: tuple[Frame, ...]
    """Every frame, each announced once."""
    environment: Mapping[str, str]
    """The environment by which `Lake.open()` and the commands find the store."""

    def frame_table(self) -> pd.DataFrame:
        """Return the frames with the labels found in each, the latest first."""
        rows = [
            {"day": one.day, "timestamp": one.timestamp, "frame_id": one.frame_id, "source": one.source,
             "status": one.status.value, "labels": [found.label for found in one.detections]}
            for one in self.frames
        ]  # fmt: skip
        return pd.DataFrame(rows).sort_values("timestamp", ascending=False)

    def detection_table(self) -> pd.DataFrame:
        """Return the detections, the latest first, in the order in which they were found in a frame."""
        rows = [
            {"day": one.day, "timestamp": one.timestamp, "frame_id": one.frame_id, "source": one.source,
             "detection_number": number, "label": found.label, "confidence": found.confidence}
            for one in self.frames
            for number, found in enumerate(one.detections)
        ]  # fmt: skip
        return pd.DataFrame(rows).sort_values(["timestamp", "detection_number"], ascending=[False, True])


def fill(store: ObjectStore, environment: Mapping[str, str]) -> Site:
    """Build the tables of the first day, then add newer frames of both days, and the images of all."""
    built, frames = _build()
    copy_objects(built, store)
    return Site(frames, dict(environment))


@functools.cache
def _build() -> tuple[ObjectStore, tuple[Frame, ...]]:
    store = open_memory_store()
    early = [_seen(n, DAY, hour=7 + n // 4) for n in range(8)]
    late = [_seen(9, DAY, hour=23), *(_seen(10 + n, NEXT_DAY, hour=6) for n in range(4))]
    chain = write_chain(store, [*early, dead_letter(8, DAY)])
    rebuild_day(store, DAY, now=NOON)
    for name in SUMMARIES:
        build_summary(store, name, DAY, settings=Settings(_env_file=None), now=NOON)
    append(chain, late)
    image = np.full((48, 64, 3), ORANGE_RGB[::-1], np.uint8)
    encoded = cv2.imencode(".png", image)[1].tobytes()
    for one in (*early, *late):
        store.put(one.source_image_path, encoded)
    return store, (*early, *late)


def _seen(offset: int, day: date, hour: int) -> Frame:
    source = ("gate", "yard")[offset % 2]
    time = datetime(day.year, day.month, day.day, hour, tzinfo=UTC) + timedelta(minutes=offset, seconds=7)
    gated = offset == 5
    return replace(
        frame(offset, day, source),
        frame_id=make_frame_id(source, time, offset),
        timestamp=time,
        image_width=64,
        image_height=48,
        size_bytes=1_000 * (offset + 1),
        source_image_path=f"images/{source}/{day}/{offset:04d}.png",
        attributes={"file": f"{offset:04d}.png"},
        status=FrameStatus.GATED if gated else FrameStatus.PROCESSED,
        gate_reason="dark" if gated else None,
        detections=() if gated else tuple(_found(label, sure) for label, sure in _FOUND[: 1 + offset % 3]),
    )


def _found(label: str, confidence: float) -> Detection:
    return Detection(label, [name for name, _ in _FOUND].index(label), confidence, (10.0, 12.0, 30.0, 20.0))
