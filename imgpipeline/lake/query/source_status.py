"""The state of each source: online, offline, ended or silent, from its notices and frames.

`frame_stats` of the last 30 days lists the sources; of older days, only those with a source's last frame are opened.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import day_of, format_time
from imgpipeline.lake.query.days import Span, days_of
from imgpipeline.lake.query.wanted_frames import rows_of_days
from imgpipeline.lake.schema.tables import FRAME_STATS
from imgpipeline.lake.sessions.local_time import DAY_OF_NOTICE
from imgpipeline.lake.sessions.session import LakeSession, SessionDays, open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.variables import SourceLimits

LISTED_DAYS = 30
"""Sources without a frame or notice for this many days are not listed."""
RATE_S = 300.0
"""The frame rate is measured over the last five minutes."""

_STORED_DAYS = "SELECT source, day FROM frame_stats WHERE observed_by IS NOT NULL"
"""The days on which a source had a frame or notice. A dead letter alone is no source: its record may be a mistake."""
SOURCE_DAYS = """
SELECT source, day FROM frames
UNION ALL SELECT source, CAST(greatest(interval_start, interval_end - INTERVAL 1 microsecond) AS DATE) FROM notices
"""
"""The same days from the tables of a session, which is cheaper than the summary."""
_LAST_DAYS = """
SELECT source, max(day) FROM ({days}) WHERE source IS NOT NULL AND day >= DATE '{first}' GROUP BY source
"""
_FRAMES = """
SELECT source, max("timestamp"), max(coalesce(processing_timestamp, "timestamp")),
       count(*) FILTER (WHERE "timestamp" > TIMESTAMPTZ '{since}' AND "timestamp" <= TIMESTAMPTZ '{now}'),
       min("timestamp"), bool_and(starts_with(source_kafka_topic, 'import.')),
       arg_max(epoch_us(processing_timestamp) - epoch_us("timestamp"), "timestamp")
           FILTER (WHERE NOT starts_with(source_kafka_topic, 'import.')) / 1e6
FROM frames WHERE day IN ({days}) GROUP BY source
"""
_TODAY = """
SELECT source, sum(frames)::BIGINT AS frames, sum(gated)::BIGINT AS gated, sum(dead_letters)::BIGINT AS dead_letters,
       sum(observed_s) AS observed_s
FROM frame_stats WHERE source IS NOT NULL GROUP BY source
"""
_ACCOUNTS = """
SELECT source, sum(received)::BIGINT AS received, sum(announced)::BIGINT AS announced, sum(gated)::BIGINT AS left_out,
       sum(failed)::BIGINT AS failed, list(dropped) AS dropped
FROM notices WHERE {of_today} AND kind = 'account' GROUP BY source
"""
LAST_NOTICES = """
WITH told AS (SELECT *, coalesce(received_to, interval_end) AS told_at FROM notices)
SELECT source, max(told_at) AS last_notice,
       max((told_at, kafka_offset, kind, coalesce(reason, ''))) FILTER (WHERE kind <> 'account') AS last_change
FROM told GROUP BY source
"""
"""The interval of an account is frame time, which may be years ago; `received_to` tells when it was sent."""
_MOST_SHOWN = 5


class SourceState(StrEnum):
    """The state of a source."""

    ONLINE = "online"
    """It sent a frame or notice recently."""
    OFFLINE = "offline"
    """It reported that it delivers no frames."""
    ENDED = "ended"
    """Its last session has ended, or it was imported."""
    SILENT = "silent"
    """Nothing came from it for longer than `IMGPIPELINE_SOURCE_SILENT_S`, without a reason."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The status of one source."""

    source: str
    state: SourceState
    reason: str | None
    last_frame: datetime | None
    """Time of its last frame, UTC; None if the listed days have none."""
    last_notice: datetime | None
    """When it sent its last notice, UTC; None for a source that sends none."""
    since: datetime
    """When it went offline, or when its last frame was processed or its last notice sent, UTC."""
    silent_s: float
    """Seconds since its last frame was processed or its last notice was sent."""
    lag_s: float | None
    """Seconds from the time of its last frame to its outcome, at least 0; None without a frame, or if imported."""
    frames_per_s: float
    """Frames of the last five minutes, per second; of a younger source, those since its first frame."""
    frames_today: int
    """Frames of the current day. This and the other fields of today use the session's time zone."""
    received_today: int | None
    """Received frames, by its accounts; None if it sent none."""
    gated_today: int
    """Frames skipped on purpose, announced or not."""
    dropped_today: Mapping[str, int]
    """Lost frames, by reason."""
    failed_today: int
    """Frames that it could not decode or store."""
    dead_letters_today: int
    observed_today_s: float | None
    """Seconds during which it delivered frames; None if unknown."""


def read_source_status(store: ObjectStore, settings: Settings, *, now: datetime) -> tuple[SourceStatus, ...]:
    """Returns the status of the sources of the last 30 days, by name.

    Args:
        settings: As for a query session, and after how long a source is silent.

    Raises:
        LedgerError: A segment newer than the tables cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    today = day_of(now)
    first = today - timedelta(days=LISTED_DAYS)
    listed = days_of(store, Span(first, None))
    with open_lake(store, settings=settings, days=listed, summaries=[FRAME_STATS.name]) as lake:
        last_days: dict[str, date] = dict(lake.query(_LAST_DAYS.format(days=_STORED_DAYS, first=first)).rows)
    read = _days_read(today, last_days)
    with open_lake(store, settings=settings, days=sorted(read.intersection(listed))) as lake:
        return _statuses(lake, settings, now, last_days)


def source_status_of(lake: LakeSession, settings: Settings, *, now: datetime) -> tuple[SourceStatus, ...]:
    """Returns the same as `read_source_status`, from a session of all days."""
    first = day_of(now) - timedelta(days=LISTED_DAYS)
    last_days = lake.query(_LAST_DAYS.format(days=SOURCE_DAYS, first=first)).rows
    return _statuses(lake, settings, now, dict(last_days))


def _days_read(today: date, last_days: Mapping[str, date]) -> set[date]:
    return {today, today - timedelta(days=1), *last_days.values()}


def _statuses(
    lake: LakeSession, settings: Settings, now: datetime, last_days: Mapping[str, date]
) -> tuple[SourceStatus, ...]:
    rows = _Rows.of(lake, now, _days_read(day_of(now), last_days))
    limits = settings.source_silent_s
    return tuple(rows.status(source, last_days[source], limits, now) for source in sorted(last_days))


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of each source in a query session."""

    frames: Mapping[str, tuple[Any, ...]]
    today: Mapping[str, Mapping[str, Any]]
    notices: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, lake: LakeSession, now: datetime, days: Collection[date]) -> "_Rows":
        since, today = now - timedelta(seconds=RATE_S), lake.day_of(now)
        sql = _FRAMES.format(since=since, now=now, days=", ".join(f"DATE '{day}'" for day in sorted(days)))
        frames = {source: tuple(values) for source, *values in lake.query(sql).rows}
        with lake.of_days([today]) as of_today:
            counts = _by_source(of_today, _TODAY)
        accounts = _by_source(
            lake, _ACCOUNTS.format(of_today=rows_of_days(Span(today, today), lake.local, DAY_OF_NOTICE))
        )
        both = {source: {**counts.get(source, {}), **accounts.get(source, {})} for source in {*counts, *accounts}}
        return cls(frames, both, _by_source(lake, LAST_NOTICES))

    def status(self, source: str, last_day: date, limits: SourceLimits, now: datetime) -> SourceStatus:
        frames = self.frames.get(source, (None, None, 0, None, False, None))
        last_frame, last_processed, recent, first_frame, is_import, lag_s = frames
        today, notices = self.today.get(source, {}), self.notices.get(source, {})
        last_notice, change = notices.get("last_notice"), notices.get("last_change")
        midnight = datetime(last_day.year, last_day.month, last_day.day, tzinfo=now.tzinfo)
        last_sign = max(at for at in (last_processed, last_notice, midnight) if at)
        silent_s = (now - last_sign).total_seconds()
        kind, reason = (change[2], change[3] or None) if change else (None, None)
        if is_import and kind is None:
            kind, reason = SourceState.ENDED.value, "imported"
        state = _state(kind, silent_s, limits.of(source))
        dropped: Counter[str] = Counter()
        for reasons in today.get("dropped") or ():
            dropped.update(reasons or {})
        return SourceStatus(
            source=source,
            state=state,
            reason=reason if state in (SourceState.OFFLINE, SourceState.ENDED) else None,
            last_frame=last_frame,
            last_notice=last_notice,
            since=change[0] if change and state is SourceState.OFFLINE else last_sign,
            silent_s=max(0.0, silent_s),
            lag_s=None if lag_s is None else max(0.0, lag_s),
            frames_per_s=_rate(recent, first_frame, now),
            frames_today=today.get("frames") or 0,
            received_today=today.get("received"),
            gated_today=(today.get("gated") or 0) + (today.get("left_out") or 0),
            dropped_today=dict(sorted(dropped.items())),
            failed_today=today.get("failed") or 0,
            dead_letters_today=today.get("dead_letters") or 0,
            observed_today_s=today.get("observed_s"),
        )


def _rate(recent: int, first_frame: datetime | None, now: datetime) -> float:
    """Returns the frames per second; those of a source younger than `RATE_S` are counted after its first frame."""
    age_s = (now - first_frame).total_seconds() if first_frame else RATE_S
    return recent / RATE_S if age_s >= RATE_S else max(0, recent - 1) / max(age_s, 1.0)


def _by_source(lake: LakeSession | SessionDays, sql: str) -> dict[str, dict[str, Any]]:
    answer = lake.query(sql)
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    return {row["source"]: row for row in rows}


def _state(kind: str | None, silent_s: float, limit_s: float | None) -> SourceState:
    if kind in (SourceState.ENDED.value, SourceState.OFFLINE.value):
        return SourceState(kind)
    return SourceState.SILENT if limit_s is not None and silent_s > limit_s else SourceState.ONLINE


@dataclass(frozen=True, slots=True)
class Silence:
    """The sources that are silent or offline for too long."""

    sources: int
    found: Mapping[str, str]
    """A sentence for each source that is silent or offline for too long."""

    @property
    def said(self) -> str:
        """The verdict as text."""
        if not self.found:
            return f"None of {counted(self.sources, 'source')} has been silent for too long."
        shown = "; ".join(list(self.found.values())[:_MOST_SHOWN])
        more = f"; and {len(self.found) - _MOST_SHOWN} more" if len(self.found) > _MOST_SHOWN else ""
        count = f"{len(self.found)} of {counted(self.sources, 'source')}"
        return f"{count}: {shown}{more}. `imgpipeline sources list` shows all."


def judge_silence(statuses: Collection[SourceStatus], limits: SourceLimits, *, now: datetime) -> Silence:
    """Finds the sources that are silent or offline for longer than `IMGPIPELINE_SOURCE_SILENT_S`.

    A source that sends notices is not judged once its last session has ended. One without notices is judged only if the
    setting names it, because it is unknown whether it has ended.

    Args:
        statuses: All sources (`read_source_status`).
        now: The time of the statuses.
    """
    found = {}
    for one in statuses:
        limit_s = limits.of(one.source)
        is_judged = one.last_notice is not None or one.source in limits.by_source
        if limit_s is None or not is_judged or one.state is SourceState.ENDED:
            continue
        if (now - one.since).total_seconds() > limit_s:
            is_offline = one.state is SourceState.OFFLINE
            how = f"offline ({one.reason})" if is_offline and one.reason else "offline" if is_offline else "silent"
            since = f"{format_time(one.since)[:19]}Z"
            found[one.source] = f"{one.source} has been {how} since {since}, longer than {limit_s:,.0f} s"
    return Silence(len(statuses), found)
