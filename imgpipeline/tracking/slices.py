"""Slices: ten minutes of frame time that are tracked on their own, and the ids of their tracks."""

from datetime import UTC, datetime, timedelta

SLICE = timedelta(minutes=10)
"""A track belongs to the slice in which its points are."""
OVERLAP = timedelta(minutes=1)
"""Each slice is followed this far into the next one; shared detections join the two."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def slice_start(at: datetime) -> datetime:
    """Returns the start of the slice that a time lies in."""
    return at - (at - _EPOCH) % SLICE


def track_id(source: str, class_group: str, start: datetime, number: int) -> str:
    """Returns a track's id: `gate/car/20260109T1210/3`.

    Args:
        source: The camera, video or folder.
        class_group: First label of the group.
        start: Start of the slice, UTC.
        number: Number within the slice.
    """
    return f"{source}/{class_group}/{start:%Y%m%dT%H%M}/{number}"
