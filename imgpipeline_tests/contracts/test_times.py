"""Times become aware UTC and are rejected if they are ambiguous; local times follow one rule per clock change."""

import contextlib
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.times import as_utc, day_of, find_timezone, format_time, from_milliseconds, parse_time
from imgpipeline_tests.contracts.strategies import times

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
ZONES = ("Asia/Kolkata", "Asia/Kathmandu", "Europe/Berlin", "America/New_York", "America/St_Johns",
         "Australia/Lord_Howe", "Pacific/Chatham", "America/Sao_Paulo", "Pacific/Apia", "UTC")  # fmt: skip


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-09T12:00:00Z",
        "2026-01-09t12:00:00z",
        "2026-01-09 12:00:00+00:00",
        "2026-01-09T13:00:00+01:00",
        "2026-01-09T12:00:00",
        " 2026-01-09T12:00:00.000000Z ",
        "2026-01-09T12:00:00.0000000000Z",
        1767960000,
        1767960000.0,
        1767960000000,
    ],
)
def test_accepted_forms_of_noon(written):
    assert parse_time(written) == NOON
    assert parse_time(written).tzinfo is UTC


@pytest.mark.parametrize(
    "written",
    [
        "", "noon", "2026-01-09T25:00:00Z", "2026-13-01", "20260109T120000Z", "2026-W02-5",
        "1736042400000", "1767960000", "\u0662\u0660\u0662\u0666-01-09", "2026-01-09T12:00:00Zulu", "\ud800",
        "0001-01-01T00:00:00+14:00", math.nan, math.inf, -math.inf, 1e300, pytest.param(10**400, id="400 digits"), True,
    ],
)  # fmt: skip
def test_an_invalid_time_is_rejected(written):
    with pytest.raises(ValueError, match=r".+"):
        parse_time(written)


@given(times)
def test_a_formatted_time_is_parsed_back_to_the_microsecond(moment):
    assert parse_time(format_time(moment)) == moment


@given(times, st.integers(-14 * 60, 14 * 60))
def test_the_day_is_the_utc_day_in_every_zone(moment, minutes):
    elsewhere = moment.astimezone(timezone(timedelta(minutes=minutes)))
    assert day_of(elsewhere) == moment.date()
    assert format_time(elsewhere) == format_time(moment)


@given(st.text() | st.floats() | st.integers())
def test_anything_else_is_a_time_or_a_value_error(value):
    with contextlib.suppress(ValueError):
        assert parse_time(value).tzinfo is UTC


def test_a_kafka_record_without_a_time_has_none():
    assert from_milliseconds(1767960000000) == NOON
    assert from_milliseconds(-1) is None
    assert from_milliseconds(2**62) is None
    assert day_of(NOON) == date(2026, 1, 9)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("asia/kolkata", "similar names: Asia/Kolkata"),
        ("Kolkata", "similar names: Asia/Kolkata"),
        ("Asia/Kolkatta", "similar names: Asia/Kolkata"),
        ("New York", "similar names: America/New_York"),
        ("../../etc/passwd", "expected a name such as Europe/Berlin"),
        ("Asia", "is not an IANA time zone"),
        ("", "is not an IANA time zone"),
        ("right/Asia/Kolkata", "is not an IANA time zone"),
        ("localtime", "is not an IANA time zone"),
    ],
    ids=["case", "city", "typo", "city with space", "path", "folder", "empty", "leap seconds", "machine"],
)
def test_an_unknown_time_zone_is_rejected_with_a_suggestion(name, says):
    with pytest.raises(ValueError, match="is not an IANA time zone") as refused:
        find_timezone(name)
    assert says in str(refused.value)


near_changes = st.builds(
    lambda day, minutes: datetime.combine(day, time()) + timedelta(minutes=minutes),
    st.dates(date(2000, 1, 1), date(2030, 1, 1)) | st.sampled_from([
        date(2026, 3, 29), date(2026, 10, 25), date(2026, 3, 8), date(2026, 11, 1), date(2010, 11, 7), date(2026, 4, 5),
        date(2026, 10, 4), date(2018, 2, 18), date(2018, 11, 4), date(2011, 12, 30),
    ]),
    st.integers(-120, 300),
)  # fmt: skip


@given(st.sampled_from(ZONES), near_changes)
def test_local_times_become_utc_as_in_pandas(zone, local):
    """An ambiguous time is the first of the two. A skipped time shifts forward with the clock."""
    naive = pd.Timestamp(local)
    try:
        expected = naive.tz_localize(zone, ambiguous=True, nonexistent="raise")
    except ValueError:
        before = (naive - timedelta(days=1)).tz_localize(zone, nonexistent="shift_forward").utcoffset()
        expected = naive.tz_localize("UTC") - before
    assert as_utc(local, find_timezone(zone)) == expected.tz_convert("UTC").to_pydatetime()


def test_utc_is_utc():
    assert find_timezone("UTC") is UTC
    assert isinstance(find_timezone("Etc/UTC"), ZoneInfo)
