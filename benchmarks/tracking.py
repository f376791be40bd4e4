"""What following objects costs: a slice beside the bare library, and one more minute of a day that grows.

The bare library gets the same boxes as arrays, with their times as we give them and without, and nothing is done with
its answers. Without times it predicts the same step for each frame.
"""

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import numpy as np
from supervision import Detections
from trackers import ByteTrackTracker

from benchmarks.place import bucket_settings, say
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline.tracking.day_tracks import TracksBuild, build_tracks
from imgpipeline.tracking.following import LIBRARY_FRAME_RATE, follow_slice
from imgpipeline.tracking.values import FrameBoxes, TrackingParameters
from imgpipeline_tests.ledger.samples import DAY, append, write_chain
from imgpipeline_tests.servers.s3_server import S3Server
from imgpipeline_tests.tracking.films import Car, film

_OBJECTS = (5, 20, 100)
_FRAME_RATE = 10.0
_FRAMES = 600
_ROUNDS = 5
_HOURS = (1, 6, 23)
_CARS = 5
_FILM_RATE = 0.2
_SEGMENT_FRAMES = 500
_MIDNIGHT = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)


def measure_tracking(s3: S3Server) -> dict[str, Any]:
    """Returns frames a second of ours and of the library by objects a frame, and seconds of builds by the day's length.

    Args:
        s3: A running server without buckets that begin with `tracking-`.
    """
    parameters = TrackingParameters.of(load_settings())
    return {
        "speed": [_compare(count, parameters) for count in _OBJECTS],
        "days": [_measure_day(s3, hours) for hours in _HOURS],
    }


def _compare(count: int, parameters: TrackingParameters) -> dict[str, Any]:
    """Follows the same frames in turns; the best of each counts, because nothing but other work makes it slower."""
    frames = _driving(count)
    rounds = [
        (
            _seconds(lambda: follow_slice(frames, [], parameters)),
            _seconds(lambda: _follow_bare(frames, parameters, timed=True)),
            _seconds(lambda: _follow_bare(frames, parameters, timed=False)),
        )
        for _ in range(_ROUNDS)
    ]
    ours, timed, untimed = (_FRAMES / min(times) for times in zip(*rounds, strict=True))
    say(f"tracking: {count} objects a frame: {ours:.0f} frames/s, the library {timed:.0f}, without times {untimed:.0f}")
    return {
        "objects": count,
        "frames_per_s": ours,
        "library_frames_per_s": timed,
        "untimed_frames_per_s": untimed,
        "ratio": ours / timed,
        "untimed_ratio": ours / untimed,
    }


def _driving(count: int) -> list[FrameBoxes]:
    """Returns frames of cars that drive at different speeds, each in a lane of its own; one box in twenty is missed."""
    random = np.random.default_rng(count)
    speeds, starts = random.uniform(2, 8, count), random.uniform(0, 500, count)
    tops = 80.0 * np.arange(count)
    made = []
    for number in range(_FRAMES):
        found = random.random(count) > 0.05
        left = (starts + speeds * number + random.normal(0, 1, count))[found]
        boxes = np.stack([left, tops[found], left + 100, tops[found] + 60], axis=1)
        time_us = round((_MIDNIGHT.timestamp() + number / _FRAME_RATE) * 1e6)
        size = len(boxes)
        confidences = random.uniform(0.6, 0.95, size)
        made.append(FrameBoxes(f"{number:032x}", time_us, np.arange(size), boxes, confidences, ("car",) * size))
    return made


def _follow_bare(frames: Sequence[FrameBoxes], parameters: TrackingParameters, *, timed: bool) -> None:
    tracker = ByteTrackTracker(
        lost_track_buffer=math.ceil(parameters.lost_s * LIBRARY_FRAME_RATE),
        frame_rate=_FRAME_RATE,
        track_activation_threshold=parameters.confidence,
        high_conf_det_threshold=parameters.confidence,
        minimum_iou_threshold=parameters.iou,
    )
    for frame in frames:
        at_s = (frame.time_us - frames[0].time_us) / 1e6 if timed else None
        tracker.update(Detections(xyxy=frame.boxes_xyxy, confidence=frame.confidences), timestamp=at_s)


def _seconds(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _measure_day(s3: S3Server, hours: int) -> dict[str, Any]:
    """Builds the tracks of a day's first hours, then after each of some more minutes."""
    store = open_store(bucket_settings(s3.create_bucket(f"tracking-{hours}")))
    end = _MIDNIGHT + timedelta(hours=hours)
    starts = [_MIDNIGHT + timedelta(hours=n) for n in range(hours + 1)]
    cars = [Car(start, start + timedelta(hours=1), y=80.0 * n) for start in starts for n in range(_CARS)]
    frames = film(_MIDNIGHT, end, cars, rate=_FILM_RATE)
    chain = write_chain(store, *(frames[n : n + _SEGMENT_FRAMES] for n in range(0, len(frames), _SEGMENT_FRAMES)))
    first, first_s = _build(store)
    offset, followed, next_s = len(frames), [], []
    for number in range(_ROUNDS):
        # Not the first minute of a slice, which the slice before it overlaps.
        start = end + (number + 2) * _MINUTE
        minute = film(start, start + _MINUTE, cars, offset=offset, rate=_FILM_RATE)
        append(chain, minute)
        offset += len(minute)
        done, took_s = _build(store)
        followed.append(done.slices_followed)
        next_s.append(took_s)
    say(f"tracking: {hours} hours: first build {first_s:.2f} s, one more minute {median(next_s):.2f} s")
    return {
        "hours": hours,
        "frames": len(frames),
        "slices": first.slices_followed,
        "first_s": first_s,
        "next_slices": max(followed),
        "next_s": median(next_s),
    }


def _build(store: ObjectStore) -> tuple[TracksBuild, float]:
    rebuild_day(store, DAY, now=utc_now())
    began_s = time.perf_counter()
    done = build_tracks(store, DAY, settings=load_settings(), now=utc_now())
    return done, time.perf_counter() - began_s
