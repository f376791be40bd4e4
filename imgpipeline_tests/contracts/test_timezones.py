"""Time zones go by their IANA names; local times become UTC by one rule for each change of the clock."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.timezones import as_utc, find_timezone

ZONES = ("Asia/Kolkata", "Asia/Kathmandu", "Europe/Berlin", "America/New_York", "America/St_Johns",
         "Australia/Lord_Howe", "Pacific/Chatham", "America/Sao_Paulo", "Pacific/Apia", "UTC")  # fmt: skip


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
def test_an_unknown_name_is_refused_with_a_suggestion(name: str, says: str):
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
def test_local_times_become_utc_as_pandas_has_it(zone: str, local: datetime):
    """Twice shown: the first. Skipped: later by as much as the clock is put forward."""
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
