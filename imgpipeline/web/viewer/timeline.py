"""How many detections and frames of which label match at what time: one row of bars for each day, drawn as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from imgpipeline.lake.query.wanted_frames import DAY_S, WantedFrames, detection_condition, frame_condition
from imgpipeline.lake.sessions.local_time import DAY_OF_ROW
from imgpipeline.lake.sessions.session import LakeSession

HEIGHT = 40
"""Height of the highest bar."""
MOST_DAYS = 31
"""Of more days, only the latest are drawn."""
_ONE_DAY_BIN_S, _SEVERAL_DAYS_BIN_S = 600, 3_600
_MOST_LABELS = 8
_PLACED = "{day} AS shown, ((((epoch_us({time}) // 1000000) % 86400) + 86400) % 86400) // {bin_s} AS bin"
_COUNT = """
SELECT {placed}, NULL AS label, count(*) AS count FROM frames WHERE {frames} AND shown >= DATE '{first}' GROUP BY ALL
UNION ALL
SELECT {placed}, label, count(*) FROM detections WHERE {detections} AND shown >= DATE '{first}' GROUP BY ALL
ORDER BY shown, bin, count DESC, label
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """What matches in one part of a day."""

    start_s: int
    """Its first second of the day."""
    end_s: int
    """The first second after it."""
    frames: int
    """Matching frames."""
    labels: Mapping[str, int]
    """Matching detections by label, the most frequent first; empty if the frames have none."""

    @property
    def detections(self) -> int:
        """Matching detections."""
        return sum(self.labels.values())

    @property
    def parts(self) -> Sequence[tuple[str | None, int]]:
        """The most frequent labels with their detections, and those of all others together as None."""
        parts = list(self.labels.items())[:_MOST_LABELS]
        rest = self.detections - sum(count for _, count in parts)
        return [*parts, (None, rest)] if rest else parts

    @property
    def time_from(self) -> str:
        """When it starts, as the address of the review page has it."""
        return _clock(self.start_s)

    @property
    def time_to(self) -> str:
        """When it ends."""
        return _clock(self.end_s)


@dataclass(frozen=True, slots=True)
class DayBars:
    """The bars of one day."""

    day: date
    """The day."""
    bars: tuple[Bar, ...]
    """By time; parts of the day without a matching frame are left out."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The bars of some days."""

    days: tuple[DayBars, ...]
    """The latest first."""
    left_out: int
    """Earlier days that are not drawn."""
    most: int
    """Detections of the highest bar, at least 1."""
    bin_s: int
    """Length of the part of a day that a bar stands for."""

    def height(self, count: int) -> float:
        """Returns the height of a number of detections in the drawing."""
        return round(HEIGHT * count / self.most, 2)


def read_timeline(lake: LakeSession, wanted: WantedFrames, days: Sequence[date]) -> Timeline:
    """Counts matching frames and detections by day, part of the day, and label.

    Args:
        lake: The session.
        wanted: The filter, without a time of day: the timeline offers the other times too.
        days: Its days, sorted.

    Raises:
        PermanentError: Memory or disk of this machine do not suffice.
    """
    shown = days[-MOST_DAYS:]
    bin_s = _ONE_DAY_BIN_S if len(days) == 1 else _SEVERAL_DAYS_BIN_S
    day, time = (DAY_OF_ROW, 'local_time("timestamp")') if lake.local else ("day", '"timestamp"')
    rows = lake.query(_COUNT.format(
        placed=_PLACED.format(day=day, time=time, bin_s=bin_s), first=shown[0],
        frames=frame_condition(wanted), detections=detection_condition(wanted),
    )).rows  # fmt: skip
    frames = {(day, at): count for day, at, label, count in rows if label is None}
    labels: dict[tuple[date, int], dict[str, int]] = {}
    for day, at, label, count in rows:
        if label is not None:
            labels.setdefault((day, at), {})[label] = count
    bars: dict[date, list[Bar]] = {day: [] for day in reversed(shown)}
    for (day, at), count in sorted(frames.items()):
        bars[day].append(Bar(at * bin_s, min(DAY_S, (at + 1) * bin_s), count, labels.get((day, at), {})))
    found = tuple(DayBars(day, tuple(of_day)) for day, of_day in bars.items())
    most = max((bar.detections for of_day in found for bar in of_day.bars), default=1)
    return Timeline(found, len(days) - len(shown), max(1, most), bin_s)


def _clock(second: int) -> str:
    return f"{second // 3600:02d}:{second % 3600 // 60:02d}"
