"""Stitching: two tracks that are one object which was hidden for a short time.

A track that was lost is continued by a later one of the same stretch if both motions, carried on to the middle of the
gap, meet, and the boxes have similar sizes. Pairs are taken by how well they meet, each track once on either side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipeline.tracking.values import EndedBy, FrameBoxes, SliceTrack, TrackPoint

_MOTION_POINTS = 15
"""Points at the end of a track that its velocity is measured by."""
_MOTION_S = 1.0
"""And no longer than this."""
_FARTHEST = 0.75
"""How far apart the two carried-on positions may be, in box sizes (square root of the area)."""
_FARTHEST_PER_S = 0.15
"""And how much more for each second of the gap."""
_MOST_GROWTH = 1.8
"""Widths and heights may differ by this factor."""
_Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Tip:
    """One end of a track."""

    number: int
    stretch: int
    at_s: float
    center: _Vector
    size: _Vector
    velocity: _Vector


def stitch(
    frames: Sequence[FrameBoxes], tracks: Sequence[SliceTrack], stretches: Sequence[int], longest_s: float
) -> Mapping[int, int]:
    """Finds tracks that continue others.

    Args:
        frames: The frames of the slice.
        tracks: Its tracks.
        stretches: For each track, which stretch it lies in.
        longest_s: Longest time between the two, in seconds; 0 stitches nothing.

    Returns:
        For the number of each track that continues another one, that one's number.
    """
    lost = [
        _tip(frames, track, stretch, track.points[-_MOTION_POINTS:], -1)
        for track, stretch in zip(tracks, stretches, strict=True)
        if track.ended_by is EndedBy.LOST
    ]
    begun = [
        _tip(frames, track, stretch, track.points[:_MOTION_POINTS], 0)
        for track, stretch in zip(tracks, stretches, strict=True)
    ]
    begun.sort(key=lambda tip: (tip.at_s, tip.number))
    times = [tip.at_s for tip in begun]
    costs = []
    for end in lost:
        first = int(np.searchsorted(times, end.at_s, side="right"))
        behind = int(np.searchsorted(times, end.at_s + longest_s, side="right"))
        pairs = ((_cost(end, start), start.number, end.number) for start in begun[first:behind])
        costs += [pair for pair in pairs if pair[0] < 1]
    before: dict[int, int] = {}
    used: set[int] = set()
    for _, later, earlier in sorted(costs):
        if later not in before and earlier not in used:
            before[later] = earlier
            used.add(earlier)
    return before


def _tip(
    frames: Sequence[FrameBoxes], track: SliceTrack, stretch: int, points: Sequence[TrackPoint], which: int
) -> _Tip:
    at_s = np.array([frames[point.frame].time_us / 1e6 for point in points])
    near = np.abs(at_s - at_s[which]) <= _MOTION_S
    boxes = np.array([frames[point.frame].boxes_xyxy[point.detection] for point in points])[near]
    at_s = at_s[near]
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    velocity: _Vector = np.zeros(2)
    passed = at_s - at_s.mean()
    if (passed**2).sum() > 0:
        velocity = (passed[:, None] * (centers - centers.mean(axis=0))).sum(axis=0) / (passed**2).sum()
    return _Tip(track.number, stretch, float(at_s[which]), centers[which], np.median(sizes, axis=0), velocity)


def _cost(end: _Tip, start: _Tip) -> float:
    """Returns how badly two tips fit; one object below 1."""
    if end.stretch != start.stretch or end.number == start.number:
        return np.inf
    growth = np.maximum(end.size, start.size) / np.maximum(np.minimum(end.size, start.size), 1e-9)
    if growth.max() > _MOST_GROWTH:
        return np.inf
    gap_s = start.at_s - end.at_s
    apart = (end.center + end.velocity * gap_s / 2) - (start.center - start.velocity * gap_s / 2)
    box = float(np.sqrt((end.size * start.size).prod() ** 0.5))
    return float(np.linalg.norm(apart)) / (max(box, 1e-9) * (_FARTHEST + _FARTHEST_PER_S * gap_s))
