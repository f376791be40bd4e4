"""Days and hours of a time zone in DuckDB, exact for every zone that `zoneinfo` knows.

The offsets come from `zoneinfo` and not from DuckDB's database, so days are the same in SQL and in Python. A local hour
is identified by the instant at which it starts. An hour that is repeated at the end of daylight saving time has two
starts, and an hour in which the clock changes starts at the change.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

from imgpipeline.lake.storage.engine import Engine

DAY_OF_ROW = 'local_day("timestamp")'
"""SQL for the local day of a frame or detection. Like the next two, it needs the macros of `create_time_macros`."""
DAY_OF_NOTICE = "local_day(interval_start)"
"""SQL for the local day of a notice."""
DAY_OF_LETTER = 'CASE WHEN CAST("timestamp" AS DATE) = day THEN local_day("timestamp") ELSE day END'
"""SQL for the local day of a dead letter, which is listed under the UTC day of its frame. If the record was written on
another UTC day, the local day of the frame is unknown, so the UTC day stays."""
_STEP = timedelta(hours=6)
"""No zone has ever changed its offset and changed it back within six hours."""
_HOUR = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """A period with one offset from UTC."""

    start: datetime
    """Its first instant, UTC."""
    offset: timedelta
    """Local time minus UTC."""


@dataclass(frozen=True, slots=True)
class LocalHour:
    """One hour that a clock shows on a day."""

    start: datetime
    """Its first instant, UTC; later than the full hour if the clock changes within it."""
    hour: int
    """What the clock shows, 0 to 23."""
    offset: timedelta
    """Local time minus UTC."""
    is_repeated: bool
    """Whether the clock shows this hour twice on the day."""


@dataclass(frozen=True, slots=True)
class LocalDays:
    """A time zone and its offsets over some days."""

    zone: tzinfo
    periods: tuple[Period, ...]
    """All periods that touch the days, in order; the first one starts before them."""

    def utc_days(self, first: date, last: date) -> tuple[date, date]:
        """Returns the first and the last UTC day that overlap some local days.

        Args:
            first: The first local day.
            last: The last local day; it is included.
        """
        offsets = [period.offset for period in self.periods]
        begin, end = _midnight(first) - max(offsets), _midnight(last) + timedelta(days=1) - min(offsets)
        return begin.date(), (end - _MICROSECOND).date()

    def instant(self, day: date, second: int) -> datetime:
        """Returns the UTC instant at which a clock of the zone shows a time, the first one if there are two.

        Args:
            day: Local day.
            second: Second of the day, 0 to 86,400.
        """
        shown = datetime.combine(day, time()) + timedelta(seconds=second)
        return shown.replace(tzinfo=self.zone).astimezone(UTC)

    @property
    def has_whole_hours(self) -> bool:
        """Whether local hours start at full hours of UTC."""
        changes = [period.start - _EPOCH for period in self.periods[1:]]
        return not any(span % _HOUR for span in (*changes, *(period.offset for period in self.periods)))


def local_days(zone: tzinfo, first: date, last: date) -> LocalDays:
    """Returns the offsets of a time zone over some days.

    Args:
        first: The first local day.
        last: The last local day; it is included.
    """
    at, end = _midnight(first) - timedelta(days=2), _midnight(last) + timedelta(days=3)
    periods = [Period(at, _offset(zone, at))]
    while at < end:
        following = at + _STEP
        if _offset(zone, following) != periods[-1].offset:
            change = _change(zone, at, following)
            periods.append(Period(change, _offset(zone, change)))
        at = following
    return LocalDays(zone, tuple(periods))


def utc_days(days: Sequence[date]) -> set[date]:
    """Returns the UTC days that may overlap some local days: the same dates and their neighbours."""
    return {day + timedelta(days=n) for day in days for n in (-1, 0, 1)}


def hours_of(local: LocalDays, day: date) -> tuple[LocalHour, ...]:
    """Returns the hours that a clock shows on a day, in order: 24, or more or fewer if the clock changes."""
    hours = [hour for at, period in enumerate(local.periods) for hour in _hours_in(local, at, period, day)]
    shown = [hour.hour for hour in hours]
    return tuple(LocalHour(h.start, h.hour, h.offset, shown.count(h.hour) > 1) for h in hours)


def _hours_in(local: LocalDays, at: int, period: Period, day: date) -> Iterator[LocalHour]:
    end = local.periods[at + 1].start if at + 1 < len(local.periods) else datetime.max.replace(tzinfo=UTC)
    for hour in range(24):
        begins = _midnight(day) + hour * _HOUR - period.offset
        start = max(begins, period.start)
        if start < min(begins + _HOUR, end):
            yield LocalHour(start, hour, period.offset, is_repeated=False)


def create_time_macros(engine: Engine, local: LocalDays, *, schema: str = "main") -> None:
    """Replaces the macros `local_time`, `local_day` and `local_hour` of `open_engine` by those of a time zone.

    Args:
        local: The time zone over all days of the queries.
        schema: Where to create them. Queries find those of another schema if it is the first of the search path; views
            of `main` always use those of `main`.
    """
    offset = _case([period.offset // _MICROSECOND for period in local.periods], local.periods)
    start = _case([(period.start - _EPOCH) // _MICROSECOND for period in local.periods], local.periods)
    hour = "epoch_us(date_trunc('hour', local_time(t)))"
    for macro in (
        f"working_offset_us(t) AS {offset}",
        "local_time(t) AS make_timestamp(epoch_us(t) + working_offset_us(t))",
        "local_day(t) AS CAST(local_time(t) AS DATE)",
        f"local_hour(t) AS make_timestamptz(greatest({hour} - working_offset_us(t), {start}))",
    ):
        engine.run(f"CREATE OR REPLACE MACRO {schema}.{macro}")


def show_local_days(engine: Engine, letters: str, days: Sequence[date]) -> None:
    """Replaces UTC days with local days in the tables of a snapshot.

    Args:
        engine: DuckDB with the macros of `create_time_macros` and the views of a snapshot.
        letters: Name of the view of dead letters.
        days: Only rows of these local days.
    """
    of_frames = dict.fromkeys(("frames", "detections", "weak_detections"), DAY_OF_ROW)
    for view, day in {**of_frames, letters: DAY_OF_LETTER, "notices": DAY_OF_NOTICE}.items():
        chosen = ", ".join(f"DATE '{one}'" for one in days)
        schema, _, name = view.rpartition(".")
        engine.run(f"ALTER VIEW {view} RENAME TO utc_{name}")
        moved = f"SELECT * REPLACE ({day} AS day) FROM {schema or 'main'}.utc_{name}"  # noqa: S608 - own names
        engine.run(f"CREATE VIEW {view} AS SELECT * FROM ({moved}) WHERE day IN ({chosen})")  # noqa: S608 - own names


def in_zone(instant: datetime, zone: tzinfo) -> datetime:
    """Returns an instant in local time, with the zone's offset at that instant."""
    return instant.astimezone(timezone(_offset(zone, instant)))


def _case(values: Sequence[int], periods: Sequence[Period]) -> str:
    """Returns SQL for the value of the period that contains the instant `t`."""
    if len(values) == 1:
        return f"CAST({values[0]} AS BIGINT)"
    branches = (
        f"WHEN epoch_us(t) < {(following.start - _EPOCH) // _MICROSECOND} THEN {value}"
        for value, following in zip(values[:-1], periods[1:], strict=True)
    )
    return f"CAST(CASE {' '.join(branches)} ELSE {values[-1]} END AS BIGINT)"


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _offset(zone: tzinfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """Returns the first instant with the offset of `after`, to the second."""
    offset = _offset(zone, after)
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // timedelta(seconds=2) * timedelta(seconds=1)
        before, after = (before, middle) if _offset(zone, middle) == offset else (middle, after)
    return after
