"""Sample frames, and the settings of a site, for the tests of commands."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.ledger.samples import DAY, frame

CAR = Detection("car", 2, 0.9, (1.0, 2.0, 30.0, 40.0))
DOG = Detection("dög", 16, 0.7, (5.0, 5.0, 10.0, 10.0))
NEXT_DAY = date(2026, 1, 10)
OpenStore = Callable[[dict[str, str]], ObjectStore]
"""Opens the store that the environment of a site names."""


def seen(offset: int, *found: Detection, day: date = DAY, **changes: Any) -> Frame:
    """Return a frame with these detections."""
    return replace(frame(offset, day), detections=found, **changes)


def settings_of(site: dict[str, str]) -> Settings:
    """Return the settings of the environment of a site."""
    names = {name.removeprefix("IMGPIPELINE_").lower(): value for name, value in site.items() if "IMGPIPELINE_" in name}
    keys = {f"s3_{name.removeprefix('AWS_').lower()}": value for name, value in site.items() if "AWS_" in name}
    return Settings(_env_file=None, kafka_topics=names.pop("kafka_topic", ("frames",)), **names, **keys)
