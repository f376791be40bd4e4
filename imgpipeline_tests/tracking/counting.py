"""Counts objects in the tracks of a scene, and the confidence interval of a mean over scenes."""

import random
from collections.abc import Sequence
from statistics import mean

from imgpipeline.tracking.values import FrameBoxes, SliceTrack
from imgpipeline_tests.tracking.scenes import seconds

LEAST_S = 1.0


def count_objects(frames: Sequence[FrameBoxes], tracks: Sequence[SliceTrack], *, stitched: bool) -> int:
    """Return how many objects were seen for a second or more; not stitched, each track is one."""
    objects: dict[int, int] = {}
    spans: dict[int, tuple[float, float]] = {}
    for track in tracks:
        before = track.stitched_after if stitched else None
        objects[track.number] = objects[before] if before else track.number
        first, last = seconds(frames, track)
        began, ended = spans.get(objects[track.number], (first, last))
        spans[objects[track.number]] = (min(first, began), max(last, ended))
    return sum(ended - began >= LEAST_S for began, ended in spans.values())


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap confidence interval of the mean."""
    rng = random.Random(1)  # noqa: S311 - it hides nothing
    means = sorted(mean(rng.choices(values, k=len(values))) for _ in range(2000))
    return means[50], means[-51]
