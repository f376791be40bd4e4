"""Following the objects of one class group through one slice, with ByteTrack.

The same frames always give the same tracks: the tracker starts fresh for each stretch of frames, and numbers follow the
order of the first points.
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipeline.tracking.stitching import stitch
from imgpipeline.tracking.stretches import Stretch, find_stretches
from imgpipeline.tracking.values import EndedBy, FrameBoxes, SliceTrack, TrackingParameters, TrackPoint

LIBRARY_FRAME_RATE = 30.0
"""Frames a second in which the library counts how long a track may be lost."""
_LEAST_LOST_FRAMES = 2.0
"""A track survives one missed frame at any frame rate."""
_WEAK_CONFIDENCE = -1.0
"""Given to the tracker for weak detections: below any threshold, so they only take part in the second association."""
_Points = list[TrackPoint]


def follow_slice(
    frames: Sequence[FrameBoxes], cuts_us: Sequence[int], parameters: TrackingParameters
) -> list[SliceTrack]:
    """Follows the objects of one source and class group through one slice.

    Args:
        frames: All processed frames of the slice and its overlap in order, also those without boxes.
        cuts_us: When the source reported a start, an end or an outage, in microseconds since 1970.
        parameters: How to follow.

    Returns:
        The tracks by number. A box that is found in a single frame is in none.
    """
    found: list[tuple[_Points, Stretch]] = []
    with warnings.catch_warnings():  # frames of the same time are followed without motion between them
        warnings.filterwarnings("ignore", message=".*duplicate timestamp")
        for stretch in find_stretches([frame.time_us for frame in frames], cuts_us, parameters.gap_s):
            found += [(points, stretch) for points in _follow(frames, stretch, parameters)]
    found.sort(key=lambda pair: (pair[0][0].frame, pair[0][0].detection))
    tracks = [
        SliceTrack(number, tuple(points), stretch.frame_rate, _end(frames, points, stretch, parameters))
        for number, (points, stretch) in enumerate(found, 1)
    ]
    before = stitch(frames, tracks, [stretch.first for _, stretch in found], parameters.stitch_s)
    return [replace(track, stitched_after=before.get(track.number)) for track in tracks]


def _lost_s(stretch: Stretch, parameters: TrackingParameters) -> float:
    return max(parameters.lost_s, _LEAST_LOST_FRAMES / stretch.frame_rate)


def _end(frames: Sequence[FrameBoxes], points: _Points, stretch: Stretch, parameters: TrackingParameters) -> EndedBy:
    missed_us = frames[stretch.behind - 1].time_us - frames[points[-1].frame].time_us
    return EndedBy.LOST if missed_us > _lost_s(stretch, parameters) * 1e6 else stretch.ended_by


def _follow(frames: Sequence[FrameBoxes], stretch: Stretch, parameters: TrackingParameters) -> list[_Points]:
    """Returns the points of each track of a stretch."""
    from trackers import ByteTrackTracker  # noqa: PLC0415 - takes a second; only builds need it

    tracker = ByteTrackTracker(
        lost_track_buffer=math.ceil(_lost_s(stretch, parameters) * LIBRARY_FRAME_RATE),
        frame_rate=stretch.frame_rate,
        track_activation_threshold=parameters.confidence,
        high_conf_det_threshold=parameters.confidence,
        minimum_iou_threshold=parameters.iou,
    )
    tracks: dict[int, _Points] = defaultdict(list)
    born: list[tuple[Any, TrackPoint]] = []
    start_us = frames[stretch.first].time_us
    for index in range(stretch.first, stretch.behind):
        frame = frames[index]
        # Kept while the tracker works, so that no new tracklet gets the id() of an old one.
        known = list(tracker.tracks)
        ids, order = _update(tracker, frame, (frame.time_us - start_us) / 1e6)
        for tracklet, point in born:
            if tracklet.tracker_id != -1:  # found a second time: the box that it began with is its first point
                tracks[int(tracklet.tracker_id)].append(point)
        for track, detection in zip(ids, order, strict=True):
            if track != -1:
                tracks[track].append(TrackPoint(index, detection))
        old = set(map(id, known))
        fresh = [tracklet for tracklet in tracker.tracks if id(tracklet) not in old]
        # The library returns the boxes that began a tracklet last, in the order of its new tracklets.
        starts = order[len(order) - len(fresh) :] if fresh else []
        born = [(each, TrackPoint(index, detection)) for each, detection in zip(fresh, starts, strict=True)]
    return list(tracks.values())


def _update(tracker: Any, frame: FrameBoxes, at_s: float) -> tuple[list[int], list[int]]:
    """Gives a frame to the tracker; returns the track of each box, and which box each is."""
    from supervision import Detections  # noqa: PLC0415 - takes a second; only builds need it

    count = len(frame.numbers)
    boxes: npt.NDArray[np.float64] = frame.boxes_xyxy.reshape(count, 4)
    sure = frame.confidences if frame.is_weak is None else np.where(frame.is_weak, _WEAK_CONFIDENCE, frame.confidences)
    given = Detections(xyxy=boxes, confidence=sure, data={"box": np.arange(count)} if count else {})
    answer = tracker.update(given, timestamp=at_s)
    if not len(answer):
        return [], []
    return answer.tracker_id.tolist(), answer.data["box"].tolist()
