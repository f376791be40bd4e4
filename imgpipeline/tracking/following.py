"""Follows the objects of one class group through one slice.

The frames of the slice are cut into stretches at gaps, outages and changes of the frame rate, and a new tracker follows
each stretch, so no track leaves its stretch. Tracks of false alarms are left out: those have detections here and there.
Then tracks of the same stretch are stitched where an object was hidden for a short time. The same frames always give
the same tracks.
"""

import itertools
import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipeline.tracking.values import FASTEST, EndedBy, FrameBoxes, SliceTrack, TrackingParameters, TrackPoint

LIBRARY_FRAME_RATE = 30.0
"""The library counts the time that a track may be lost in frames at this rate, per second."""
_LEAST_LOST_FRAMES = 2.0
"""Allows for one missed frame at any frame rate."""
_WEAK_CONFIDENCE = -1.0
"""Confidence of weak detections: below any threshold, so the tracker uses them only in its second association."""
_Points = list[TrackPoint]
_MARGIN = 0.2
"""ByteTrack's boxes grow by this part of their size on each side, as those of fast objects do not overlap."""
_NEIGHBOURS = 10
"""The frame rate at a frame is the median of this many intervals before or after it."""
_CHANGE = 2.0
"""The frame rate changes where the two medians differ by this factor."""
LEAST_INTERVALS = 3.0
"""A gap is at least this many median intervals long, so slow cameras have tracks too."""
_Times = npt.NDArray[np.int64]
_MOTION_POINTS = 15
"""The velocity at the end of a track is measured by at most this many points ..."""
_MOTION_S = 1.0
"""... within at most this time, in seconds."""
_FARTHEST = 0.375
"""Maximum distance of the two extrapolated positions, in box sizes (square root of the area)."""
_FARTHEST_PER_S = 0.075
"""Increase of that maximum per second of the gap."""
_MOST_GROWTH = 1.25
"""Maximum factor between the two widths, and between the two heights."""
_MOST_TURN = 1.0
"""Maximum difference of the two velocities, in box sizes per second."""
_CLEARLY = 2.0
"""A pair is stitched only if all other pairs of its tracks cost this many times as much."""
_LEAST_FOUND = 0.75
"""An object is detected in at least this share of the frames from its first to its last detection ..."""
_LEAST_FOUND_LONG = 0.5
"""... or in this share of them, if these detections are ..."""
_LONG_S = 8.0
"""... worth this many seconds of frames."""
_LEAST_POINTS_S = 0.5
"""An object has the detections of this many seconds of frames, but ..."""
_LEAST_POINTS = (2, 5)
"""... not less than the first number, and at high frame rates not more than the second."""
_Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of frames that a track may span."""

    first: int
    """Index of its first frame."""
    end: int
    """Index after its last frame."""
    frame_rate: float
    """Frames per second, by the median interval; 1 for a single frame."""
    ended_by: EndedBy
    """Why no track continues after it."""


def follow_slice(
    frames: Sequence[FrameBoxes], cuts_us: Sequence[int], parameters: TrackingParameters
) -> list[SliceTrack]:
    """Follows the objects of one source and class group through one slice.

    Args:
        frames: All processed frames of the slice and its overlap in order, including those without boxes.
        cuts_us: Times at which the source reported a start, an end or an outage, in microseconds since 1970.

    Returns:
        The tracks of objects, by number; none where the frame rate is above `FASTEST`.
    """
    found: list[SliceTrack] = []
    with warnings.catch_warnings():  # two frames may have the same time
        warnings.filterwarnings("ignore", message=".*duplicate timestamp")
        for stretch in find_stretches([frame.time_us for frame in frames], cuts_us, parameters.gap_s):
            if stretch.frame_rate <= FASTEST:
                found += _follow_stretch(frames, stretch, parameters, first_number=len(found) + 1)
    return found


def _follow_stretch(
    frames: Sequence[FrameBoxes], stretch: Stretch, parameters: TrackingParameters, *, first_number: int
) -> list[SliceTrack]:
    follower = Follower(stretch.frame_rate, parameters)
    for index in range(stretch.first, stretch.end):
        follower.take(index, frames[index])
    found = sorted(follower.objects(), key=lambda points: (points[0].frame, points[0].detection))
    objects = [
        SliceTrack(number, tuple(points), stretch.frame_rate, _end(frames, points, stretch, parameters))
        for number, points in enumerate(found, first_number)
    ]
    before = stitch(frames, objects, parameters.stitch_s)
    return [replace(track, stitched_after=before.get(track.number)) for track in objects]


def _lost_s(frame_rate: float, parameters: TrackingParameters) -> float:
    return max(parameters.lost_s, _LEAST_LOST_FRAMES / frame_rate)


def _is_object(points: _Points, frame_rate: float) -> bool:
    """Tells whether an object was detected, and not a false alarm now and then at the same place.

    A detector's confidence does not tell these apart on all scenes; how regularly it detects something does.
    """
    fewest, enough = _LEAST_POINTS
    if len(points) < min(max(fewest, math.ceil(_LEAST_POINTS_S * frame_rate)), enough):
        return False
    found = len(points) / (points[-1].frame - points[0].frame + 1)
    return found >= _LEAST_FOUND or (found >= _LEAST_FOUND_LONG and len(points) / frame_rate >= _LONG_S)


def _end(frames: Sequence[FrameBoxes], points: _Points, stretch: Stretch, parameters: TrackingParameters) -> EndedBy:
    missed_us = frames[stretch.end - 1].time_us - frames[points[-1].frame].time_us
    return EndedBy.LOST if missed_us > _lost_s(stretch.frame_rate, parameters) * 1e6 else stretch.ended_by


class Follower:
    """Follows the objects of one class group through one stretch, frame by frame."""

    def __init__(self, frame_rate: float, parameters: TrackingParameters) -> None:
        """Starts before the first frame."""
        self._frame_rate = frame_rate
        self._tracker = _make_tracker(frame_rate, parameters)
        self._tracks: dict[int, _Points] = defaultdict(list)
        self._born: list[tuple[Any, TrackPoint]] = []
        self._start_us: int | None = None

    def take(self, index: int, frame: FrameBoxes) -> None:
        """Takes the next frame; `index` becomes that of its points."""
        self._start_us = frame.time_us if self._start_us is None else self._start_us
        # Keeps the old tracklets alive, so no new one gets the id() of an old one.
        known = list(self._tracker.tracks)
        ids, order = _update(self._tracker, frame, (frame.time_us - self._start_us) / 1e6)
        for tracklet, point in self._born:
            if tracklet.tracker_id != -1:  # detected a second time: the box that started it is its first point
                self._tracks[int(tracklet.tracker_id)].append(point)
        for track, detection in zip(ids, order, strict=True):
            if track != -1:
                self._tracks[track].append(TrackPoint(index, detection))
        old = set(map(id, known))
        free = [detection for track, detection in zip(ids, order, strict=True) if track == -1]
        self._born = []
        for tracklet in self._tracker.tracks:
            if id(tracklet) not in old:  # the library does not say which box started it
                apart = np.abs(frame.boxes_xyxy[free] - tracklet.get_state_bbox()).max(axis=1)
                self._born.append((tracklet, TrackPoint(index, free.pop(int(apart.argmin())))))

    def objects(self) -> list[_Points]:
        """Returns the points so far of each track of an object, in the order in which the tracks began."""
        return [points for points in self._tracks.values() if _is_object(points, self._frame_rate)]


def _make_tracker(frame_rate: float, parameters: TrackingParameters) -> Any:
    from trackers import BIoU, ByteTrackTracker, CBIoUTracker, OCSORTTracker  # noqa: PLC0415 - takes a second

    shared: dict[str, Any] = {
        "lost_track_buffer": math.ceil(_lost_s(frame_rate, parameters) * LIBRARY_FRAME_RATE),
        "frame_rate": frame_rate,
        "minimum_consecutive_frames": 2,
        "high_conf_det_threshold": parameters.confidence,
    }
    if parameters.tracker == "ocsort":
        return OCSORTTracker(**shared, minimum_iou_threshold=parameters.iou)
    shared["track_activation_threshold"] = parameters.confidence
    if parameters.tracker == "cbiou":
        shared["minimum_iou_threshold_first_assoc"] = parameters.iou
        return CBIoUTracker(**shared, instant_first_frame_activation=False)
    return ByteTrackTracker(**shared, minimum_iou_threshold=parameters.iou, iou=BIoU(_MARGIN))


def _update(tracker: Any, frame: FrameBoxes, at_s: float) -> tuple[list[int], list[int]]:
    """Passes a frame to the tracker; returns the track ids of boxes, and the indexes of these boxes."""
    from supervision import Detections  # noqa: PLC0415 - takes a second; only builds need it

    count = len(frame.numbers)
    boxes: npt.NDArray[np.float64] = frame.boxes_xyxy.reshape(count, 4)
    sure = frame.confidences if frame.is_weak is None else np.where(frame.is_weak, _WEAK_CONFIDENCE, frame.confidences)
    given = Detections(xyxy=boxes, confidence=sure, data={"box": np.arange(count)} if count else {})
    answer = tracker.update(given, timestamp=at_s)
    if not len(answer):
        return [], []
    return answer.tracker_id.tolist(), answer.data["box"].tolist()


def find_stretches(times_us: Sequence[int] | _Times, cuts_us: Sequence[int], gap_s: float) -> list[Stretch]:
    """Cuts the frames of a slice into stretches.

    Args:
        times_us: Times of the frames in microseconds, sorted.
        cuts_us: Times at which the source reported a start, an end or an outage.
        gap_s: A longer time without a frame is a gap, in seconds; at low frame rates, three median intervals.
    """
    times = np.asarray(times_us, dtype=np.int64)
    if not len(times):
        return []
    intervals = np.diff(times)
    usual_us = float(np.median(intervals)) if len(intervals) else 0.0
    longest_us = max(gap_s * 1e6, LEAST_INTERVALS * usual_us)
    ends = {int(i) + 1: EndedBy.GAP for i in np.flatnonzero(intervals > longest_us)}
    # A notice with the time of a frame cuts before that frame, because a source starts with its first frame.
    for index in np.searchsorted(times, np.asarray(cuts_us, dtype=np.int64)):
        if 0 < index < len(times):
            ends[int(index)] = EndedBy.OUTAGE
    edges = [0, *sorted(ends), len(times)]
    for first, end in itertools.pairwise(edges):
        ends.update((first + i, EndedBy.FRAME_RATE) for i in _rate_changes(intervals[first : end - 1]))
    ends[len(times)] = EndedBy.SLICE
    starts = [0, *sorted(ends)[:-1]]
    return [
        Stretch(first, end, _rate(times[first:end]), ends[end]) for first, end in zip(starts, sorted(ends), strict=True)
    ]


def _rate_changes(intervals: _Times) -> list[int]:
    """Returns the frames at which the intervals change by a factor of two or more."""
    count = len(intervals) - 2 * _NEIGHBOURS + 1
    if count < 1:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(np.maximum(intervals, 1).astype(float), _NEIGHBOURS)
    before, after = windows[:count], windows[_NEIGHBOURS:]
    ratio = np.median(after, axis=1) / np.median(before, axis=1)
    strength = np.abs(np.log(after.mean(axis=1) / before.mean(axis=1)))
    candidates = np.flatnonzero((ratio >= _CHANGE) | (ratio <= 1 / _CHANGE))
    groups = np.split(candidates, np.flatnonzero(np.diff(candidates) > 1) + 1)
    # Of consecutive candidates, choose the frame where the intervals differ most.
    return [int(group[np.argmax(strength[group])]) + _NEIGHBOURS for group in groups if len(group)]


def _rate(times: _Times) -> float:
    intervals = np.diff(times)
    usual_us = float(np.median(intervals)) if len(intervals) else 1e6
    return 1e6 / max(usual_us, 1.0)


@dataclass(frozen=True, slots=True)
class _Tip:
    """One end of a track."""

    number: int
    at_s: float
    center: _Vector
    size: _Vector
    velocity: _Vector


def stitch(frames: Sequence[FrameBoxes], tracks: Sequence[SliceTrack], longest_s: float) -> Mapping[int, int]:
    """Finds the tracks of a stretch that continue a lost track of it.

    Both motions are extrapolated to the middle of the gap. The positions there must meet, and velocities and sizes must
    be similar. A pair is left out if another one of its tracks is about as good, so in a crowd, and where the camera
    shakes or moves, little is stitched.

    Args:
        longest_s: Longest time between two tracks, in seconds; 0 stitches nothing.

    Returns:
        The number of the lost track, by the number of the track that continues it.
    """
    lost = [_tip(frames, track, -1) for track in tracks if track.ended_by is EndedBy.LOST]
    begun = [_tip(frames, track, 0) for track in tracks]
    begun.sort(key=lambda tip: (tip.at_s, tip.number))
    times = [tip.at_s for tip in begun]
    costs = []
    for end in lost:
        first = int(np.searchsorted(times, end.at_s, side="right"))
        last = int(np.searchsorted(times, end.at_s + longest_s, side="right"))
        pairs = ((_cost(end, start), start.number, end.number) for start in begun[first:last])
        costs += [pair for pair in pairs if pair[0] < _CLEARLY]
    rivals: dict[tuple[str, int], list[float]] = defaultdict(list)
    for cost, later, earlier in costs:
        rivals["later", later].append(cost)
        rivals["earlier", earlier].append(cost)
    return {
        later: earlier
        for cost, later, earlier in costs
        if cost < 1 and _is_clear(cost, rivals["later", later]) and _is_clear(cost, rivals["earlier", earlier])
    }


def _is_clear(cost: float, rivals: Sequence[float]) -> bool:
    """Tells whether a pair is clearly the best of all pairs of one of its tracks, whose costs are `rivals`."""
    best, *others = sorted(rivals)
    return cost == best and all(cost * _CLEARLY < other for other in others)


def _tip(frames: Sequence[FrameBoxes], track: SliceTrack, which: int) -> _Tip:
    """Returns the first end of a track (0) or its last one (-1)."""
    points = track.points[-_MOTION_POINTS:] if which else track.points[:_MOTION_POINTS]
    at_s = np.array([frames[point.frame].time_us / 1e6 for point in points])
    near = np.abs(at_s - at_s[which]) <= _MOTION_S
    boxes = np.array([frames[point.frame].boxes_xyxy[point.detection] for point in points])[near]
    at_s = at_s[near]
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    velocity: _Vector = np.zeros(2)
    passed = at_s - at_s.mean()
    if (passed**2).sum() > 0:
        velocity = (passed[:, None] * (centers - centers.mean(axis=0))).sum(axis=0) / (passed**2).sum()
    return _Tip(track.number, float(at_s[which]), centers[which], np.median(sizes, axis=0), velocity)


def _cost(end: _Tip, start: _Tip) -> float:
    """Returns how badly two tips fit; tips of one object are below 1."""
    growth = np.maximum(end.size, start.size) / np.maximum(np.minimum(end.size, start.size), 1e-9)
    if growth.max() > _MOST_GROWTH:
        return np.inf
    box = max(float(np.sqrt((end.size * start.size).prod() ** 0.5)), 1e-9)
    if np.linalg.norm(end.velocity - start.velocity) > _MOST_TURN * box:
        return np.inf
    gap_s = start.at_s - end.at_s
    apart = (end.center + end.velocity * gap_s / 2) - (start.center - start.velocity * gap_s / 2)
    return float(np.linalg.norm(apart)) / (box * (_FARTHEST + _FARTHEST_PER_S * gap_s))
