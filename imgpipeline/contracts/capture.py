"""How a frame was captured: the clock of its time, its region of interest, and whether it was gated."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Region = tuple[tuple[tuple[float, float], ...], ...]
"""Polygons of three or more points (x, y) in pixels of the upright original image; only objects in one count."""


class ClockSource(StrEnum):
    """Origin of a frame's time."""

    EXIF = "exif"
    """The camera's clock, in the image's EXIF data."""
    CONTAINER = "container"
    """Timestamps of a video file."""
    RTCP = "rtcp"
    """The sender's clock, from RTCP sender reports (RFC 3550, 6.4.1)."""
    RECEIVER = "receiver"
    """The clock of the machine that received the frame."""
    PRODUCER = "producer"
    """The producer's message, which does not name the clock."""


@dataclass(frozen=True, slots=True)
class Gated:
    """Why a frame was skipped before detection."""

    reason: str
    """One word, such as `dark`."""
    measurements: Mapping[str, float] = field(default_factory=dict)
    """The measurements that led to it, such as `brightness`."""

    def to_json(self) -> dict[str, Any]:
        """Returns the reason and measurements as one JSON object."""
        return {"reason": self.reason, "measurements": dict(self.measurements)}


def read_gated(data: Mapping[str, Any]) -> Gated | None:
    """Returns why the producer gated the frame; None if it did not, or if the field is invalid."""
    value = data.get("gated")
    if not isinstance(value, dict) or not isinstance(value.get("reason"), str) or not 0 < len(value["reason"]) <= 100:
        return None
    measured = value.get("measurements", {})
    if (
        not isinstance(measured, dict)
        or len(measured) > 100
        or not all(_is_number(number) for number in measured.values())
    ):
        return None
    return Gated(value["reason"], {name: float(number) for name, number in measured.items()})


def read_clock_source(data: Mapping[str, Any]) -> ClockSource | None:
    """Returns the announced clock; None if the field is missing or unknown."""
    value = data.get("clock_source")
    return ClockSource(value) if isinstance(value, str) and value in set(ClockSource) else None


def read_region(data: Mapping[str, Any]) -> Region:
    """Returns the announced region of interest; empty if the field is missing or not a list of polygons."""
    value = data.get("region_of_interest")
    if not isinstance(value, list) or not all(isinstance(polygon, list) and len(polygon) > 2 for polygon in value):
        return ()
    if not all(_is_point(point) for polygon in value for point in polygon):
        return ()
    return region_from_json(value)


def region_from_json(value: Any) -> Region:
    """Reads the output of `region_to_json`."""
    return tuple(tuple((float(x), float(y)) for x, y in polygon) for polygon in value)


def region_to_json(region: Region) -> list[list[list[float]]]:
    """Returns a region as lists of numbers."""
    return [[[round(x, 2), round(y, 2)] for x, y in polygon] for polygon in region]


def _is_point(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_number(number) for number in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e9
