"""Times are read as producers write them, become aware UTC, and are refused where they could be misread."""

import contextlib
import math
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.times import day_of, format_time, from_milliseconds, parse_time
from imgpipeline_tests.contracts.strategies import times

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


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
def test_every_accepted_way_of_writing_noon(written):
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
def test_what_is_no_time_is_refused(written):
    with pytest.raises(ValueError, match=r".+"):
        parse_time(written)


@given(times)
def test_a_written_time_is_read_back_to_the_microsecond(time: datetime):
    assert parse_time(format_time(time)) == time


@given(times, st.integers(-14 * 60, 14 * 60))
def test_a_day_is_that_of_utc_in_every_zone(time: datetime, minutes: int):
    elsewhere = time.astimezone(timezone(timedelta(minutes=minutes)))
    assert day_of(elsewhere) == time.date()
    assert format_time(elsewhere) == format_time(time)


@given(st.text() | st.floats() | st.integers())
def test_anything_else_is_a_time_or_a_value_error(value):
    with contextlib.suppress(ValueError):
        assert parse_time(value).tzinfo is UTC


def test_a_kafka_record_without_a_time_has_none():
    assert from_milliseconds(1767960000000) == NOON
    assert from_milliseconds(-1) is None
    assert from_milliseconds(2**62) is None
    assert day_of(NOON) == date(2026, 1, 9)
