"""The hours in which each source was observed on a day, and its outages, when it was offline or silent.

Outages follow the rules of `source_status`: the last notice that is not an account decides whether a source is offline
or has ended. Only sources that send notices, or that the setting names, can be silent.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any, Self

from imgpipeline.lake.query.source_status import LISTED_DAYS, SOURCE_DAYS, SourceState
from imgpipeline.lake.query.wanted_frames import DAY_S
from imgpipeline.lake.sessions.session import Answer, LakeSession
from imgpipeline.settings import Settings
from imgpipeline.settings.variables import SourceLimits

_KNOWN = f"""
SELECT source, bool_or(day < $day) FROM ({SOURCE_DAYS} UNION ALL SELECT source, day FROM notices)
WHERE source IS NOT NULL AND day BETWEEN $first AND $day GROUP BY source ORDER BY source
"""  # noqa: S608 - own names
_HOURS = """
SELECT source, hour(hour AT TIME ZONE 'UTC'), coalesce(observed_s, 0), observed_by, frames FROM frame_stats
WHERE source IS NOT NULL AND hour IS NOT NULL ORDER BY source, hour
"""
_CHANGES = """
SELECT source, interval_end, kind, reason FROM notices
WHERE kind <> 'account' AND day BETWEEN $first AND $day ORDER BY source, interval_end, kafka_offset
"""
_NOTIFYING = "SELECT DISTINCT source FROM notices WHERE day BETWEEN $first AND $day"
_GAPS = """
WITH signs AS (
    SELECT source, "timestamp" AS start, "timestamp" AS stop FROM frames WHERE day = $day
    UNION ALL
    SELECT source, interval_start, interval_end FROM notices WHERE day = $day
),
placed AS (
    SELECT source, start, max(stop) OVER (
        PARTITION BY source ORDER BY start, stop ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before FROM signs
)
SELECT source, before, start FROM placed WHERE before IS NULL OR epoch_us(start) - epoch_us(before) > $limit_us
UNION ALL
SELECT source, max(stop), NULL FROM signs GROUP BY source
ORDER BY 1, 2 NULLS FIRST, 3
"""


class OutageKind(StrEnum):
    """Why a source delivered nothing."""

    OFFLINE = "offline"
    """It reported that it delivers no frames."""
    SILENT = "silent"
    """Nothing came from it for longer than `IMGPIPELINE_SOURCE_SILENT_S`, without a reason."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A part of a day during which a source delivered nothing."""

    kind: OutageKind
    start: datetime
    """UTC; the start of the day if the outage started before."""
    end: datetime
    """UTC; the end of the day, or now, if the outage continued."""
    reason: str | None

    @property
    def duration_s(self) -> float:
        """Duration on this day in seconds."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class ObservedHour:
    """One hour of a source."""

    hour: int
    """Hour of the day, UTC, 0 to 23."""
    observed_s: float
    """Seconds during which frames arrived, 0 to 3600."""
    observed_by: str | None
    """Basis of `observed_s`, `accounts` or `gaps`; None if unknown."""
    frames: int


@dataclass(frozen=True, slots=True)
class SourceCoverage:
    """One source on one day."""

    source: str
    hours: tuple[ObservedHour, ...]
    """Hours with a frame, dead letter or notice, in order."""
    outages: tuple[Outage, ...]
    """Outages by time. An outage over midnight is cut there, and each part of a silence is measured separately."""

    @property
    def observed_s(self) -> float:
        """Seconds of the day during which frames arrived."""
        return sum(hour.observed_s for hour in self.hours)

    @property
    def by_hour(self) -> Mapping[int, ObservedHour]:
        """The hours by their number."""
        return {hour.hour: hour for hour in self.hours}


_Period = tuple[datetime, datetime, str, str | None]
"""Start, end, kind and reason of the notice that started the period."""


def read_coverage(lake: LakeSession, settings: Settings, day: date, *, now: datetime) -> tuple[SourceCoverage, ...]:
    """Returns when the sources were observed on a day, by name.

    A source that sent nothing on the day is listed if it sent something in the 30 days before and has not ended.

    Args:
        settings: After how long a source is silent.
        day: UTC day.
        now: The current time, at which outages of today end.

    Raises:
        PermanentError: Memory or disk of this machine do not suffice.
    """
    rows = _Rows.of(lake, settings, day)
    start = datetime.combine(day, time(), UTC)
    end = min(start + timedelta(days=1), max(now.astimezone(UTC), start))
    found = (rows.coverage(source, (start, end), settings.source_silent_s) for source in rows.was_before)
    return tuple(one for one in found if one.hours or one.outages)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of each source in a query session."""

    was_before: Mapping[str, bool]
    """Whether each source sent anything in the days before, by name."""
    hours: Mapping[str, Sequence[tuple[Any, ...]]]
    """Fields of `ObservedHour`."""
    changes: Mapping[str, Sequence[tuple[Any, ...]]]
    """Time, kind and reason of notices other than accounts."""
    notifying: Collection[str]
    gaps: Mapping[str, Sequence[tuple[Any, ...]]]
    """Intervals without frame or notice; None before the first one of the day and after the last."""

    @classmethod
    def of(cls, lake: LakeSession, settings: Settings, day: date) -> Self:
        span = {"first": day - timedelta(days=LISTED_DAYS), "day": day}
        limits = settings.source_silent_s
        shortest_s = min((one for one in (limits.default, *limits.by_source.values()) if one), default=DAY_S)
        with lake.of_days([day]) as of_day:
            hours = _by_source(of_day.query(_HOURS))
        return cls(
            was_before=dict(lake.query(_KNOWN, span).rows),
            hours=hours,
            changes=_by_source(lake.query(_CHANGES, span)),
            notifying={source for (source,) in lake.query(_NOTIFYING, span).rows},
            gaps=_by_source(lake.query(_GAPS, {"day": day, "limit_us": round(shortest_s * 1e6)})),
        )

    def coverage(self, source: str, bounds: tuple[datetime, datetime], limits: SourceLimits) -> SourceCoverage:
        start, end = bounds
        gaps = self.gaps.get(source, [(None, None)])
        since = start if self.was_before[source] else gaps[0][1] or start
        periods = _periods(self.changes.get(source, ()), since, end)
        is_judged = source in self.notifying or source in limits.by_source
        silences = _silences(gaps, periods, (since, end), limits.of(source) if is_judged else None)
        outages = sorted([*_offline(periods, start), *silences], key=lambda one: one.start)
        hours = tuple(ObservedHour(*values) for values in self.hours.get(source, ()))
        return SourceCoverage(source, hours, tuple(outages))


def _by_source(answer: Answer) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for source, *values in answer.rows:
        in_utc = (value.astimezone(UTC) if isinstance(value, datetime) else value for value in values)
        found.setdefault(source, []).append(tuple(in_utc))
    return found


def _periods(changes: Sequence[tuple[Any, ...]], since: datetime, end: datetime) -> Sequence[_Period]:
    """Returns the periods between notices. Before the first notice, the source counts as online."""
    first = (since, SourceState.ONLINE.value, None)
    last = (end, "", None)
    both = pairwise([first, *changes, last])
    return [(at, min(until, end), kind, reason) for (at, kind, reason), (until, *_) in both]


def _offline(periods: Sequence[_Period], start: datetime) -> Iterator[Outage]:
    for at, until, kind, reason in periods:
        if kind == SourceState.OFFLINE.value and until > max(at, start):
            yield Outage(OutageKind.OFFLINE, max(at, start), until, reason)


def _silences(
    gaps: Sequence[tuple[Any, ...]],
    periods: Sequence[_Period],
    bounds: tuple[datetime, datetime],
    limit_s: float | None,
) -> Iterator[Outage]:
    """Yields the parts of gaps in which the source was neither offline nor had ended."""
    for before, after in gaps if limit_s is not None else ():
        for at, until, kind, _ in periods:
            if kind in (SourceState.OFFLINE.value, SourceState.ENDED.value):
                continue
            start, end = max(before or at, at, bounds[0]), min(after or until, until)
            outage = Outage(OutageKind.SILENT, start, end, None)
            if limit_s is not None and outage.duration_s > limit_s:
                yield outage
