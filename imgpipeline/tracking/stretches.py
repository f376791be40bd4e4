"""Stretches: runs of frames without a gap, an outage or a change of the frame rate. No track leaves its stretch."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipeline.tracking.values import EndedBy

_NEIGHBOURS = 10
"""Intervals before and after a frame whose medians tell the frame rate there."""
_CHANGE = 2.0
"""The frame rate has changed where these medians differ by this factor."""
_LEAST_INTERVALS = 3.0
"""A gap is at least this many usual intervals long, so that slow cameras have tracks too."""
_Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames that a track may span."""

    first: int
    """Index of its first frame."""
    behind: int
    """Index behind its last frame."""
    frame_rate: float
    """Frames a second, by the median interval; 1 for a single frame."""
    ended_by: EndedBy
    """Why no track continues after it."""


def find_stretches(times_us: Sequence[int] | _Times, cuts_us: Sequence[int], gap_s: float) -> list[Stretch]:
    """Cuts the frames of a slice into stretches.

    Args:
        times_us: Times of the frames in microseconds, sorted.
        cuts_us: When the source reported a start, an end or an outage.
        gap_s: A longer time without a frame is a gap, in seconds; at low frame rates, three usual intervals are.
    """
    times = np.asarray(times_us, dtype=np.int64)
    if not len(times):
        return []
    intervals = np.diff(times)
    usual_us = float(np.median(intervals)) if len(intervals) else 0.0
    longest_us = max(gap_s * 1e6, _LEAST_INTERVALS * usual_us)
    ends = {int(i) + 1: EndedBy.GAP for i in np.flatnonzero(intervals > longest_us)}
    # A notice at the time of a frame belongs before it: a source starts with its first frame.
    for index in np.searchsorted(times, np.asarray(cuts_us, dtype=np.int64)):
        if 0 < index < len(times):
            ends[int(index)] = EndedBy.OUTAGE
    edges = [0, *sorted(ends), len(times)]
    for first, behind in itertools.pairwise(edges):
        ends.update((first + i, EndedBy.FRAME_RATE) for i in _rate_changes(intervals[first : behind - 1]))
    ends[len(times)] = EndedBy.SLICE
    starts = [0, *sorted(ends)[:-1]]
    return [
        Stretch(first, behind, _rate(times[first:behind]), ends[behind])
        for first, behind in zip(starts, sorted(ends), strict=True)
    ]


def _rate_changes(intervals: _Times) -> list[int]:
    """Returns the frames from which on the intervals are longer or shorter by half."""
    count = len(intervals) - 2 * _NEIGHBOURS + 1
    if count < 1:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(np.maximum(intervals, 1).astype(float), _NEIGHBOURS)
    before, after = windows[:count], windows[_NEIGHBOURS:]
    ratio = np.median(after, axis=1) / np.median(before, axis=1)
    strength = np.abs(np.log(after.mean(axis=1) / before.mean(axis=1)))
    candidates = np.flatnonzero((ratio >= _CHANGE) | (ratio <= 1 / _CHANGE))
    groups = np.split(candidates, np.flatnonzero(np.diff(candidates) > 1) + 1)
    # Of neighbouring candidates, the frame where the intervals differ most.
    return [int(group[np.argmax(strength[group])]) + _NEIGHBOURS for group in groups if len(group)]


def _rate(times: _Times) -> float:
    intervals = np.diff(times)
    usual_us = float(np.median(intervals)) if len(intervals) else 1e6
    return 1e6 / max(usual_us, 1.0)
