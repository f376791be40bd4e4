"""Publishes the tracks in each frame as soon as the ledger has the frame, by the code of the builds.

These tracks are provisional: a build knows the whole slice and the frames that arrive late, leaves out false alarms
that look like objects at first, and joins tracks. `publish_tracks` publishes its result.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from statistics import median

import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.publish.detections import publish_frames
from imgpipeline.publish.slices import ShownTrack, tracks_record
from imgpipeline.publish.transactions import Publication, Run
from imgpipeline.settings import Settings
from imgpipeline.stream.send import Record
from imgpipeline.tracking.following import LEAST_INTERVALS, Follower
from imgpipeline.tracking.values import (
    FASTEST,
    SLICE,
    FrameBoxes,
    TrackingParameters,
    TrackPoint,
    parse_groups,
    slice_start,
    track_id,
)

_INTERVALS = 20
"""The frame rate is that of this many intervals before a frame."""
_FEWEST_INTERVALS = 3
"""With fewer, the frame rate of a source is not known, and nothing is followed yet."""
_MOST_TRACKS = 10_000
"""The classic number of a track is its number in the slice, plus this many for each earlier slice of the day."""


def publish_live_tracks(run: Run, wanted: Publication) -> int:
    """Publishes the provisional tracks in each frame after the last checkpoint; otherwise as `publish_detections`."""
    live = LiveTracks(run.settings)

    def records_of(frame: Frame) -> list[Record]:
        if frame.status is not FrameStatus.PROCESSED:
            return []
        number, at, named = frame.frame_number, frame.timestamp, frame.attributes
        shown = [one for one in live.take(frame) if not wanted.kind or one.label in wanted.kind.labels]
        return [tracks_record(wanted, frame.source, frame.frame_id, number, at, named, shown, provisional=True)]

    return publish_frames(run, wanted, "live-tracks", records_of, on_earlier=live.remember, on_notice=live.cut)


@dataclass(slots=True)
class _LiveSlice:
    """What one source has shown in its current slice."""

    start: datetime
    frames: int = 0
    followers: dict[str, Follower] = field(default_factory=dict)
    """By class group, since the last gap."""
    numbers: dict[tuple[str, TrackPoint], int] = field(default_factory=dict)
    """The number of each track, by its class group and first point."""


class LiveTracks:
    """Follows the frames of all sources as they arrive; a new process starts with the frames of the current slices."""

    def __init__(self, settings: Settings) -> None:
        """Starts before the first frame."""
        self._parameters = TrackingParameters.of(settings)
        self._groups = parse_groups(settings.track_groups)
        self._slices: dict[str, _LiveSlice] = {}
        self._newest: dict[str, datetime] = {}
        self._intervals: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_INTERVALS))
        self._earlier: dict[str, list[Frame]] = defaultdict(list)

    def remember(self, frame: Frame) -> None:
        """Takes a frame that an earlier process has published, in any order; only those of the latest slice count."""
        kept = self._earlier[frame.source]
        if kept and slice_start(frame.timestamp) > slice_start(kept[0].timestamp):
            kept.clear()
        if not kept or slice_start(frame.timestamp) == slice_start(kept[0].timestamp):
            kept.append(frame)

    def cut(self, notice: Notice) -> None:
        """Ends the tracks of a source that has reported that it started, ended, or went offline or online."""
        if notice.source in self._slices and notice.kind != "account":
            self._slices[notice.source].followers.clear()

    def take(self, frame: Frame) -> list[ShownTrack]:
        """Takes the next frame of a source, and returns its tracks; a frame older than its predecessor has none."""
        for earlier in sorted(self._earlier.pop(frame.source, ()), key=lambda each: each.timestamp):
            if slice_start(earlier.timestamp) == slice_start(frame.timestamp):
                self._follow(earlier)
        return self._follow(frame)

    def _follow(self, frame: Frame) -> list[ShownTrack]:
        at, newest = frame.timestamp, self._newest.get(frame.source, frame.timestamp)
        if at < newest:
            return []
        self._newest[frame.source] = at
        current = self._slices.get(frame.source)
        if current is None or slice_start(at) > current.start:
            current = self._slices[frame.source] = _LiveSlice(slice_start(at))
        intervals = self._intervals[frame.source]
        usual_s = median(intervals) if intervals else 1.0
        if (at - newest).total_seconds() > max(self._parameters.gap_s, LEAST_INTERVALS * usual_s):
            current.followers.clear()
        elif at > newest:
            intervals.append((at - newest).total_seconds())
        if len(intervals) < _FEWEST_INTERVALS or usual_s < 1 / FASTEST:
            return []
        shown = (*frame.detections, *frame.weak_detections)
        boxes: dict[str, list[int]] = {group: [] for group in current.followers}
        for number, found in enumerate(shown):
            if found.box_xywh and found.box_xywh[2] > 0 and found.box_xywh[3] > 0:
                boxes.setdefault(self._groups.get(found.label, found.label), []).append(number)
        current.frames += 1
        tracks: list[ShownTrack] = []
        for group, numbers in sorted(boxes.items()):
            if group not in current.followers:
                current.followers[group] = Follower(1 / usual_s, self._parameters)
            current.followers[group].take(current.frames, _boxes_of(frame, shown, numbers))
            tracks += _tracks(current, frame, group, [shown[number] for number in numbers])
        return tracks


def _tracks(current: _LiveSlice, frame: Frame, group: str, shown: Sequence[Detection]) -> Iterator[ShownTrack]:
    """Yields the tracks of a class group in the frame that its follower took last, which shows these boxes of it."""
    before = (current.start - datetime.combine(current.start, time(), UTC)) // SLICE * _MOST_TRACKS
    for points in current.followers[group].objects():
        if points[-1].frame == current.frames:
            number = current.numbers.setdefault((group, points[0]), len(current.numbers) + 1)
            name = track_id(frame.source, group, current.start, f"live-{number}")
            found = shown[points[-1].detection]
            box = found.box_xywh or (0.0, 0.0, 0.0, 0.0)
            yield ShownTrack(before + number, name, name, found.label, found.confidence, box)


def _boxes_of(frame: Frame, shown: Sequence[Detection], numbers: Sequence[int]) -> FrameBoxes:
    chosen = [shown[number] for number in numbers]
    xywh = np.array([found.box_xywh for found in chosen], dtype=float).reshape(-1, 4)
    return FrameBoxes(
        frame.frame_id,
        round(frame.timestamp.timestamp() * 1e6),
        np.array(numbers, dtype=np.int64),
        np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]),
        np.array([found.confidence for found in chosen], dtype=float),
        np.array([number >= len(frame.detections) for number in numbers], dtype=bool),
    )
