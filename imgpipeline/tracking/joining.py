"""Joining the tracks of neighbouring slices: the ids of objects, with and without stitching."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class TrackRef:
    """One track, ordered by time."""

    slice_s: float
    """Start of its slice, seconds since 1970."""
    number: int
    """Number within source, class group and slice."""
    track_id: str
    """Its id."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A track and one of the next slice that share detections in the overlap."""

    detections: int
    """How many."""
    earlier: TrackRef
    """The track of the earlier slice."""
    later: TrackRef
    """The one of the next slice."""


def best_pairs(shared: Iterable[Shared]) -> list[Shared]:
    """Returns which tracks are joined: most shared detections first, each track once on either side."""
    chosen: list[Shared] = []
    earlier: set[str] = set()
    later: set[str] = set()
    for pair in sorted(shared, key=lambda each: (-each.detections, each.earlier, each.later)):
        if pair.earlier.track_id not in earlier and pair.later.track_id not in later:
            earlier.add(pair.earlier.track_id)
            later.add(pair.later.track_id)
            chosen.append(pair)
    return chosen


def name_objects(tracks: Sequence[TrackRef], links: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Returns for each track the id of the first track of its object.

    Args:
        tracks: The tracks of a day. Links may name others, which then only connect.
        links: Pairs of tracks that are one object.
    """
    above: dict[str, str] = {}

    def root(name: str) -> str:
        while (found := above.get(name, name)) != name:
            above[name] = above.get(found, found)
            name = found
        return name

    for one, other in links:
        above[root(one)] = root(other)
    first: dict[str, str] = {}
    return {track.track_id: first.setdefault(root(track.track_id), track.track_id) for track in sorted(tracks)}
