"""Measures the quality of tracks against ground truth in MOT Challenge format.

The metrics are those of TrackEval, as implemented in the library `trackers`: HOTA (Luiten et al. 2021), IDF1 (Ristani
et al. 2016) and CLEAR MOT (Bernardin and Stiefelhagen 2008).
"""

import csv
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.sources.sequence_info import USUAL_RATE, find_info
from imgpipeline.tracking.following import follow_slice
from imgpipeline.tracking.manifest import TracksManifest
from imgpipeline.tracking.unique import shown_build
from imgpipeline.tracking.values import FASTEST, FrameBoxes, TrackingParameters

_NUMBERED = """
SELECT frame_number, any_value("timestamp"), count(*) FROM frames
WHERE source = $source AND day = $day AND status = 'processed' AND frame_number IS NOT NULL GROUP BY frame_number"""
_STORED_POINTS = """
SELECT frame_number, dense_rank() OVER (ORDER BY track_id), dense_rank() OVER (ORDER BY object_id),
       [p.x, p.y, p.x + p.width, p.y + p.height]
FROM (FROM track_points WHERE source = $source AND day = $day) AS p
JOIN (SELECT track_id, object_id FROM tracks WHERE day = $day) USING (track_id)
JOIN (SELECT frame_id, frame_number FROM frames WHERE day = $day) USING (frame_id)"""
_MOST_FRAMES = 1_000_000
"""A sequence of more frames has a mistyped number."""
_Boxes = npt.NDArray[np.float64]
Named = tuple[npt.NDArray[np.int64], _Boxes]
"""Ids (n,) and xyxy boxes (n, 4) of the objects in one frame."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of the tracks of one sequence."""

    hota: float
    """Higher order tracking accuracy, 0 to 1."""
    idf1: float
    """F1 score of identities, 0 to 1."""
    mota: float
    """Multiple object tracking accuracy, up to 1."""
    id_switches: int
    objects: int
    true_objects: int

    @property
    def unique_error(self) -> float | None:
        """Error of the count, as a share of the true objects; None if none of these counts."""
        return abs(self.objects - self.true_objects) / self.true_objects if self.true_objects else None


@dataclass(frozen=True, slots=True)
class MotSequence:
    """One sequence of MOT Challenge."""

    frames: list[FrameBoxes]
    truth: list[Named]
    """The true objects of each frame."""
    frame_rate: float


def read_sequence(folder: Path) -> MotSequence:
    """Reads a folder with `gt.txt` and `det.txt`, or `gt/gt.txt` and `det/det.txt`, and optionally `seqinfo.ini`.

    Raises:
        ConfigurationError: A file is missing, a line is not in MOT Challenge format, there is no true object or no
            detection, or the frame rate is not valid.
    """
    detected, true = _read_file(_find(folder, "det")), read_truth(folder)
    if not detected:
        raise ConfigurationError(f"{_find(folder, 'det')} has no box.", next_step="name a sequence with detections")
    info = find_info(folder)
    rate = (info.rate if info else None) or USUAL_RATE
    if info and rate > FASTEST:
        raise ConfigurationError(
            f"{info.path}: frameRate is {rate:g}; objects are followed at up to {FASTEST:g} frames per second.",
            next_step="correct it",
        )
    frames = []
    for number in range(1, max([*detected, *true]) + 1):
        rows = detected.get(number, np.empty((0, 6)))
        time_us = round((number - 1) / rate * 1e6)
        frames.append(FrameBoxes(f"{number:06d}", time_us, np.arange(len(rows)), rows[:, 1:5], rows[:, 5]))
    return MotSequence(frames, [true.get(n, _named([])) for n in range(1, len(frames) + 1)], rate)


def read_truth(path: Path) -> dict[int, Named]:
    """Reads the true objects of each frame number from a `gt.txt`, or from that of a folder.

    Raises:
        ConfigurationError: The file is missing or not in MOT Challenge format, or has no objects.
    """
    path = _find(path, "gt") if path.is_dir() else path
    true = {number: rows[rows[:, 5] != 0] for number, rows in _read_file(path).items()}  # 0 marks an object to ignore
    ids = [name for rows in true.values() for name in rows[:, 0]]
    if not ids or min(ids) < 0:
        raise ConfigurationError(
            f"{path} has {'negative ids, as detections have' if ids else 'no true objects'}; expected the id and box "
            "of each true object in each frame.",
            next_step="name a gt.txt in MOT Challenge format",
        )
    return {number: (rows[:, 0].astype(np.int64), rows[:, 1:5]) for number, rows in true.items()}


def _find(folder: Path, name: str) -> Path:
    found = next((path for path in (folder / f"{name}.txt", folder / name / f"{name}.txt") if path.is_file()), None)
    if found is None:
        wrong = f"has neither {name}.txt nor {name}/{name}.txt" if folder.is_dir() else "is not a folder"
        raise ConfigurationError(
            f"{folder} {wrong}.",
            next_step="name the folder of one MOT Challenge sequence, with ground truth and detections; to compare the "
            "stored tracks of a source with a gt.txt, add --source and --day",
        )
    return found


def _read_file(path: Path) -> Mapping[int, _Boxes]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return read_boxes(file, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.", next_step="name a gt.txt or det.txt") from None


def read_boxes(lines: Iterable[str], where: str) -> dict[int, _Boxes]:
    """Returns the rows (id, left, top, right, bottom, confidence) of each frame number of a `det.txt` or `gt.txt`.

    Raises:
        ConfigurationError: A line is not in MOT Challenge format; the message names the line in `where`.
    """
    rows: dict[int, list[tuple[float, ...]]] = defaultdict(list)
    for line, cells in enumerate(csv.reader(lines), 1):
        if not cells:
            continue
        try:
            frame, name, x, y, width, height, confidence = (float(cell) for cell in cells[:7])
            number = int(frame)
            is_valid = 0 < number == frame <= _MOST_FRAMES and width > 0 and height > 0
            # Frames in the ledger have no number beyond 1e9.
            if not is_valid or not all(abs(value) < 1e9 for value in (name, x, y, width, height, confidence)):
                raise ValueError(cells)
        except (ValueError, OverflowError):
            raise ConfigurationError(
                f"{where}, line {line}: expected frame, id, left, top, width, height, confidence, separated by commas: "
                f"a frame from 1 to {_MOST_FRAMES}, a width and height above 0, and no number beyond 1e9.",
                next_step="provide a file in MOT Challenge format",
            ) from None
        rows[number].append((name, x, y, x + width, y + height, confidence))
    return {number: np.array(found) for number, found in rows.items()}


def evaluate(sequence: MotSequence, parameters: TrackingParameters, *, least_s: float) -> dict[str, Quality]:
    """Follows the detections of a sequence and compares the tracks with the ground truth.

    Args:
        least_s: Minimum visible time of objects that count, in seconds, both in the tracks and in the ground truth.

    Returns:
        The quality of the tracks before stitching (`tracks`) and of objects (`objects`).
    """
    tracks = follow_slice(sequence.frames, [], parameters)
    objects: dict[int, int] = {}
    for track in tracks:
        objects[track.number] = objects[track.stitched_after] if track.stitched_after else track.number
    points = [
        (point.frame, track.number, objects[track.number], sequence.frames[point.frame].boxes_xyxy[point.detection])
        for track in tracks
        for point in track.points
    ]
    return _measure_both([frame.time_us / 1e6 for frame in sequence.frames], sequence.truth, points, least_s=least_s)


def compare_stored(
    session: LakeSession, source: str, day: date, truth: Mapping[int, Named]
) -> tuple[TracksManifest, dict[str, Quality], list[str]]:
    """Compares the stored tracks of a source's UTC day with the ground truth.

    Args:
        session: A session with the day.
        source: The source; frames are matched by `frame_number`.
        day: UTC day.
        truth: The true objects by frame number; frames without any have no true object.

    Returns:
        How the tracks were built, the same as `evaluate`, and what was not compared, for people.

    Raises:
        ConfigurationError: The source has no tracks on that day, no frames with these numbers, or several frames with
            one number.
    """
    given = {"source": source, "day": day}
    build, points = shown_build(session, day), session.query(_STORED_POINTS, given).rows
    if not build or not points:
        raise ConfigurationError(
            f"{source} has no tracks on {day}.", next_step=f"build them: imgpipeline build --day {day}"
        )
    numbered = session.query(_NUMBERED, given).rows
    if twice := [number for number, _, frames in numbered if frames > 1]:
        raise ConfigurationError(
            f"{source} has several frames with one number on {day}, such as {twice[0]}; frames are matched by number.",
            next_step="import each sequence under a --source of its own",
        )
    frames = {number: at for number, at, _ in numbered}
    if truth.keys().isdisjoint(frames):
        raise ConfigurationError(
            f"{source} has no frames on {day} with the numbers {min(truth)} to {max(truth)} of the ground truth.",
            next_step="name the ground truth of this source, or import its frames with their numbers",
        )
    index = {number: n for n, number in enumerate(sorted(frames))}
    times_s = [frames[number].timestamp() for number in index]
    true = [truth.get(number, _named([])) for number in index]
    placed = [(index[number], *point) for number, *point in points if number in index]
    found = _measure_both(times_s, true, placed, least_s=float(build.settings["unique_min_s"]))
    return build, found, _unmatched(source, frames, truth)


def _unmatched(source: str, frames: Collection[int], truth: Collection[int]) -> list[str]:
    """Says which frames only one of a source and its truth has."""
    missing, behind = sorted(set(truth).difference(frames)), [number for number in frames if number > max(truth)]
    said = []
    if missing:
        said.append(
            f"Not compared: {counted(len(missing), 'frame')} of the truth that {source} lacks, from {missing[0]} on."
        )
    if behind:
        said.append(
            f"The truth ends at frame {max(truth)}: {counted(len(behind), 'later frame')} of {source} count as without "
            "objects."
        )
    return said


def _measure_both(
    times_s: Sequence[float], truth: Sequence[Named], points: Iterable[tuple[Any, ...]], *, least_s: float
) -> dict[str, Quality]:
    """Measures tracks and objects, given the frame, track, object and xyxy box of each point."""
    tracks: list[list[tuple[int, Any]]] = [[] for _ in times_s]
    objects: list[list[tuple[int, Any]]] = [[] for _ in times_s]
    for frame, track, one, box in points:
        tracks[frame].append((track, box))
        objects[frame].append((one, box))
    named = {"tracks": tracks, "objects": objects}
    return {name: _measure(times_s, truth, list(map(_named, found)), least_s) for name, found in named.items()}


def _named(found: Sequence[tuple[int, Any]]) -> Named:
    """Returns the objects of one frame, given pairs of id and xyxy box."""
    return np.array([name for name, _ in found], dtype=np.int64), np.array([box for _, box in found]).reshape(-1, 4)


def _measure(times_s: Sequence[float], truth: Sequence[Named], tracked: Sequence[Named], least_s: float) -> Quality:
    from trackers.eval import (  # noqa: PLC0415 - takes a second
        box_iou,
        compute_clear_metrics,
        compute_hota_metrics,
        compute_identity_metrics,
    )

    similar = [box_iou(true, boxes) for (_, true), (_, boxes) in zip(truth, tracked, strict=True)]
    compared: tuple[Any, ...] = ([ids for ids, _ in truth], [ids for ids, _ in tracked], similar)
    clear = compute_clear_metrics(*compared)
    return Quality(
        hota=float(compute_hota_metrics(*compared)["HOTA"]),
        idf1=float(compute_identity_metrics(*compared)["IDF1"]),
        mota=float(clear["MOTA"]),
        id_switches=int(clear["IDSW"]),
        objects=_count(compared[1], times_s, least_s),
        true_objects=_count(compared[0], times_s, least_s),
    )


def _count(ids: Sequence[npt.NDArray[np.int64]], times_s: Sequence[float], least_s: float) -> int:
    spans: dict[int, tuple[float, float]] = {}
    for at_s, names in zip(times_s, ids, strict=True):
        for name in names.tolist():
            spans[name] = (spans.get(name, (at_s, at_s))[0], at_s)
    return sum(last - first >= least_s for first, last in spans.values())
