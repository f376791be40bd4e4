"""Times of frames in the time zone of the site; days, hours and filters stay UTC."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from imgpipeline.web.viewer.rendering import frame_time
from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.web.viewer.filmed import NEXT_DAY, FilmedSite, filmed_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilmedSite]:
    """Of a site in Kolkata. For reading only."""
    with filmed_site(tmp_path_factory.mktemp("zone"), timezone="Asia/Kolkata") as made:
        yield made


@pytest.mark.parametrize(
    ("time", "zone", "shown"),
    [
        pytest.param(datetime(2026, 1, 9, 12, 0, 5, tzinfo=UTC), "UTC", "12:00:05", id="utc"),
        pytest.param(datetime(2026, 1, 9, 12, 0, 5, tzinfo=UTC), "Europe/Berlin", "13:00:05 +01:00", id="winter"),
        pytest.param(
            datetime(2026, 1, 9, 23, 30, tzinfo=UTC), "Europe/Berlin", "2026-01-10 00:30:00 +01:00", id="date"
        ),
        pytest.param(datetime(2026, 1, 9, 1, tzinfo=UTC), "America/New_York", "2026-01-08 20:00:00 -05:00", id="west"),
    ],
)
def test_a_time_has_its_offset_and_its_date_if_that_is_another(time: datetime, zone: str, shown: str):
    assert frame_time(time, zone, DAY) == shown


def test_an_hour_that_a_clock_shows_twice_differs_by_its_offset():
    shown = [frame_time(datetime(2026, 10, 25, hour, 30, tzinfo=UTC), "Europe/Berlin") for hour in (0, 1)]
    assert shown == ["2026-10-25 02:30:00 +02:00", "2026-10-25 02:30:00 +01:00"]


@pytest.mark.medium
def test_pages_show_the_zone_of_the_site_and_lead_to_utc_and_back(site: FilmedSite):
    page = site.viewer.get("/review", day=DAY).text
    assert ">17:30:00 +05:30</time>" in page
    assert "times of frames are those of Asia/Kolkata; days, hours and filters are UTC" in page
    assert f'href="/review?day={DAY}&amp;timezone=UTC">show UTC</a>' in page
    utc = site.viewer.get("/review", day=DAY, timezone="UTC").text
    assert ">12:00:00</time>" in utc
    assert f'href="/review?day={DAY}">show Asia/Kolkata</a>' in utc
    first = site.of()[-1].frame_id
    assert f'href="/frames/{DAY}/{first}?timezone=UTC"' in utc
    assert ">2026-01-09 17:30:00 +05:30</time>" in site.viewer.get(f"/frames/{DAY}/{first}").text
    assert ">2026-01-09 12:00:00</time>" in site.viewer.get(f"/frames/{DAY}/{first}", timezone="UTC").text


@pytest.mark.medium
def test_a_day_stays_the_day_of_the_tables(site: FilmedSite):
    page = site.viewer.get("/review", day=NEXT_DAY, timezone="Asia/Tokyo").text
    assert ">2026-01-11 07:30:00 +09:00</time>" in page
    assert "<b>12</b> frames" in page
    same = [site.viewer.json("/api/v1/frames", day=NEXT_DAY, timezone=zone) for zone in ("UTC", "Asia/Tokyo")]
    assert same[0] == same[1]


@pytest.mark.medium
def test_a_zone_that_does_not_exist_is_refused(site: FilmedSite):
    answer = site.viewer.get("/review", timezone="Europe/Berln")
    assert (answer.status_code, "Europe/Berlin" in answer.text) == (400, True)
