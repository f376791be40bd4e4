"""An oracle that computes every summary in plain Python from the lines of the ledger."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any, TypeVar

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.outcomes import DeadLetter, Frame, FrameStatus
from imgpipeline.ledger.reading import list_chains
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.samples import chosen_frames
from imgpipeline_tests.ledger.samples import stored_segments

Row = tuple[Any, ...]
HOUR = timedelta(hours=1)
OBSERVED_GAP = timedelta(seconds=60)
"""The default of the setting."""
Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def expected_rows(store: ObjectStore, name: str, day: date, threshold: float = 0.0) -> list[Row]:
    """Return the rows that a summary should have, without the column `day`, in their order."""
    frames = list(chosen_frames(store, day).values())
    found = [(frame, each) for frame in frames for each in frame.detections if each.confidence >= threshold]
    letters = [letter for letter in _all(store, DeadLetter) if letter.day == day]
    match name:
        case "label_counts":
            return _label_counts(found)
        case "label_timestamps":
            return _label_timestamps(found)
        case "label_totals":
            totals = Counter((frame.source, each.label) for frame, each in found)
            return sorted((*key, count) for key, count in totals.items())
        case "frame_stats":
            notices = [notice for notice in _all(store, Notice) if notice.day == day]
            return _frame_stats(frames, letters, notices, day)
        case "source_activity":
            return _source_activity(frames, letters)
    raise AssertionError(name)


def _all(store: ObjectStore, kind: type[Item]) -> Iterable[Item]:
    for chain in list_chains(store):
        for segment in stored_segments(store, chain):
            yield from (outcome for outcome in segment.outcomes() if isinstance(outcome, kind))


def _label_counts(found: list[tuple[Frame, Detection]]) -> list[Row]:
    rows = []
    for key, pairs in _grouped(found, _hour_source_label).items():
        times = [frame.timestamp for frame, _ in pairs]
        sure = [each.confidence for _, each in pairs]
        frames = len({frame.frame_id for frame, _ in pairs})
        mean = sum(round(value * 10**6) for value in sure) / len(sure) / 10**6
        models = _models(frame for frame, _ in pairs)
        rows.append((*key, len(pairs), frames, min(times), max(times), mean, min(sure), max(sure), models))
    return sorted(rows)


def _label_timestamps(found: list[tuple[Frame, Detection]]) -> list[Row]:
    groups = _grouped(found, _hour_source_label)
    return sorted((*key, len(pairs), sorted(frame.timestamp for frame, _ in pairs)) for key, pairs in groups.items())


def _hour_source_label(pair: tuple[Frame, Detection]) -> tuple[datetime, str, str]:
    return _hour(pair[0].timestamp), pair[0].source, pair[1].label


def _frame_stats(frames: list[Frame], letters: list[DeadLetter], notices: list[Notice], day: date) -> list[Row]:
    def hour_of(letter: DeadLetter) -> datetime | None:
        return _hour(letter.timestamp) if letter.timestamp and letter.timestamp.date() == day else None

    seen = _grouped(frames, lambda frame: (_hour(frame.timestamp), frame.source))
    dead = _grouped(letters, lambda letter: (hour_of(letter), letter.source))
    observed = _observed(frames, notices)
    noticed = {(hour, notice.source) for notice in notices for hour in _hours_of(notice)}
    rows = []
    for key in {*seen, *dead, *noticed}:
        own = seen.get(key, [])
        seconds = observed.get(key, (0.0, "accounts") if key in noticed else (None, None))
        counts = _outcomes(own, dead.get(key, []))
        rows.append((*key, *counts, _bytes(own), *_distributions(own), _models(own), *seconds))
    return sorted(rows, key=lambda row: (row[0] is None, row[0] or day, row[1] is None, row[1] or ""))


def _observed(frames: list[Frame], notices: list[Notice]) -> dict[tuple[datetime, str], tuple[float, str]]:
    """Return the observed seconds of each hour and source, and their basis."""
    gaps: Counter[tuple[datetime, str]] = Counter()
    for source, own in _grouped(frames, lambda frame: frame.source).items():
        times = sorted(frame.timestamp for frame in own)
        for time, later in pairwise([*times, times[-1]]):
            until = min(later, time + OBSERVED_GAP)
            for hour in _hours(time, until):
                gaps[hour, source] += _microseconds(min(until, hour + HOUR) - max(time, hour))
    found = {key: (us / 1e6, "gaps") for key, us in gaps.items()}
    accounts = [n for n in notices if n.account and n.interval_end > n.interval_start]
    for key in {(hour, notice.source) for notice in accounts for hour in _hours_of(notice)}:
        found[key] = (_observed_by_accounts(key[0], [n for n in accounts if n.source == key[1]]) / 1e6, "accounts")
    return found


def _observed_by_accounts(hour: datetime, accounts: list[Notice]) -> int:
    """Return the microseconds of an hour that a source's accounts cover, each by the part that it was observed for."""
    inside = [n for n in accounts if n.interval_start < hour + HOUR and n.interval_end > hour]
    edges = {max(n.interval_start, hour) for n in inside} | {min(n.interval_end, hour + HOUR) for n in inside}
    total = 0
    for start, end in pairwise(sorted(edges)):
        parts = [
            min(1, n.account.observed_s * 1e6 / _microseconds(n.interval_end - n.interval_start))
            for n in inside
            if n.account and n.interval_start <= start and n.interval_end >= end
        ]
        total += floor(max(parts, default=0) * _microseconds(end - start) + 0.5)
    return total


def _hours_of(notice: Notice) -> list[datetime]:
    return _hours(notice.interval_start, notice.interval_end)


def _hours(start: datetime, end: datetime) -> list[datetime]:
    """Return the hours that a stretch touches, at least the one in which it starts."""
    hours = [_hour(start)]
    while hours[-1] + HOUR < end:
        hours.append(hours[-1] + HOUR)
    return hours


def _microseconds(time: timedelta) -> int:
    return time // timedelta(microseconds=1)


def _distributions(frames: list[Frame]) -> list[dict[Any, int]]:
    return [
        _counted(_power_of_two(frame.size_bytes) for frame in frames),
        _counted(f"{frame.image_width}x{frame.image_height}" if frame.image_width else None for frame in frames),
        _counted(None if frame.brightness is None else int(frame.brightness // 16) * 16 for frame in frames),
        _counted(None if frame.sharpness is None else _power_of_two(int(frame.sharpness)) for frame in frames),
        _counted(_latency(frame) for frame in frames),
    ]


def _source_activity(frames: list[Frame], letters: list[DeadLetter]) -> list[Row]:
    seen = _grouped(frames, lambda frame: frame.source)
    dead = _grouped(letters, lambda letter: letter.source)
    rows = []
    for source in {*seen, *dead}:
        own = seen.get(source, []) if source is not None else []
        times = sorted(frame.timestamp for frame in own)
        pauses = [later - earlier for earlier, later in pairwise(times)]
        longest_s = max(pauses) / timedelta(microseconds=1) / 10**6 if pauses else None
        span = (times[0], times[-1]) if times else (None, None)
        hours = len({_hour(time) for time in times})
        outcomes = _outcomes(own, dead.get(source, []))
        rows.append((source, *outcomes, *span, hours, longest_s, _bytes(own), _models(own)))
    return sorted(rows, key=lambda row: (row[0] is None, row[0] or ""))


def _outcomes(frames: list[Frame], letters: list[DeadLetter]) -> tuple[int, int, int, int]:
    processed = sum(frame.status is FrameStatus.PROCESSED for frame in frames)
    return len(frames), processed, len(frames) - processed, len(letters)


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _hour(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _bytes(frames: list[Frame]) -> int:
    return sum(frame.size_bytes or 0 for frame in frames)


def _models(frames: Iterable[Frame]) -> list[str]:
    named = (
        [frame.model_used, frame.model_sha256[:8]]
        + ([] if frame.confidence_threshold is None else [f">{frame.confidence_threshold}"])
        for frame in frames
        if frame.status is FrameStatus.PROCESSED
    )
    return sorted({text for parts in named if (text := " ".join(filter(None, parts)))})


def _counted(bins: Iterable[Any]) -> dict[Any, int]:
    return dict(Counter(each for each in bins if each is not None))


def _power_of_two(number: int | None) -> int | None:
    if number is None:
        return None
    return 1 << (number.bit_length() - 1) if number > 0 else 0


def _latency(frame: Frame) -> float | None:
    """Return the largest power of two up to the seconds, by exact comparisons."""
    if frame.processing_timestamp is None:
        return None
    seconds = Fraction((frame.processing_timestamp - frame.timestamp) // timedelta(microseconds=1), 10**6)
    if seconds <= 0:
        return 0.0
    power = Fraction(1)
    while power > seconds:
        power /= 2
    while power * 2 <= seconds:
        power *= 2
    return float(power)
