"""Days, hours and times of the site's time zone, or of another one that the address names."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from html import unescape
from zoneinfo import ZoneInfo

import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.events.alerts.chain import AlertChain
from imgpipeline.events.values import Event
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.web.viewer.responses import frame_time
from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.ledger.samples import NOON, dead_letter, write_chain
from imgpipeline_tests.tracking.films import film
from imgpipeline_tests.web.viewer.filmed import NEXT_DAY, FilmedSite, filmed_site
from imgpipeline_tests.web.viewer.viewing import Viewer, links, viewing

pytestmark = pytest.mark.medium


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
def test_a_time_has_its_offset_and_its_date_if_that_is_another(time, zone, shown):
    assert frame_time(time, zone, DAY) == shown


def test_an_hour_that_a_clock_shows_twice_differs_by_its_offset():
    shown = [frame_time(datetime(2026, 10, 25, hour, 30, tzinfo=UTC), "Europe/Berlin") for hour in (0, 1)]
    assert shown == ["2026-10-25 02:30:00 +02:00", "2026-10-25 02:30:00 +01:00"]


def test_pages_show_the_zone_of_the_site_and_lead_to_utc_and_back(site):
    page = site.viewer.get("/review", day=DAY).text
    assert ">17:30:00 +05:30</time>" in page
    assert "days and times are in Asia/Kolkata" in page
    assert f'href="/review?day={DAY}&amp;timezone=UTC">show UTC</a>' in page
    utc = site.viewer.get("/review", day=DAY, timezone="UTC").text
    assert ">12:00:00</time>" in utc
    assert f'href="/review?day={DAY}">show Asia/Kolkata</a>' in utc
    first = site.of()[-1].frame_id
    assert f'href="/frames/{DAY}/{first}?timezone=UTC"' in utc
    assert ">2026-01-09 17:30:00 +05:30</time>" in site.viewer.get(f"/frames/{DAY}/{first}").text
    assert ">2026-01-09 12:00:00</time>" in site.viewer.get(f"/frames/{DAY}/{first}", timezone="UTC").text


def test_the_moment_of_a_page_is_in_its_zone_and_a_search_keeps_it(site):
    moment = re.compile(r'As of <time datetime="([^"]*)">([^<]*)</time>')
    box = re.compile(r'<form class="search".*?</form>')
    field = '<input type="hidden" name="timezone" value="UTC">'
    for path in ("/", "/review", "/search", "/events", "/heatmap", "/dead-letters", "/live", "/alerts"):
        of_site, of_utc = site.viewer.get(path).text, site.viewer.get(path, timezone="UTC").text
        stored, shown = moment.findall(of_site)[0]
        local = datetime.fromisoformat(stored).astimezone(ZoneInfo("Asia/Kolkata"))
        assert shown == f"{local:%Y-%m-%d %H:%M:%S} +05:30", path
        stored, shown = moment.findall(of_utc)[0]
        assert shown == f"{datetime.fromisoformat(stored):%Y-%m-%d %H:%M:%S} UTC", path
        assert [field in box.findall(page)[0] for page in (of_site, of_utc)] == [False, True], path


def test_live_and_alerts_show_the_zone_of_the_site(folder):
    settings = folder.model_copy(update={"timezone": "Asia/Kolkata"})
    store, at = open_store(settings), datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    [seen] = film(at, at + timedelta(seconds=1), (), rate=1)
    write_chain(store, [seen])
    event = Event("crowd", "count", "gate", at, at, at, None, None, None, 4.0, "4 objects", (seen.frame_id,), ("a",))
    AlertChain(store).append(event, difference_image=None, now=at)
    local = f"{at.astimezone(ZoneInfo('Asia/Kolkata')):%Y-%m-%d %H:%M:%S} +05:30</time>"
    with viewing(settings) as viewer:
        for path in ("/live", "/alerts", "/alerts/1", "/alerts?number=1"):
            page = viewer.get(path).text
            assert local in page, path
            assert "days and times are in Asia/Kolkata" in page
            utc = viewer.get(path.split("?")[0], timezone="UTC", **({"number": 1} if "?" in path else {})).text
            assert f">{at:%Y-%m-%d %H:%M:%S}</time>" in utc, path
            assert ">show Asia/Kolkata</a>" in utc
        assert (
            f'href="/frames/{at.date()}/{seen.frame_id}?source=gate&amp;timezone=UTC"'
            in viewer.get("/live", timezone="UTC").text
        )


@dataclass(frozen=True)
class Watched:
    """A viewer over days in which clocks are changed, and what it has."""

    viewer: Viewer
    frames: Sequence[Frame]

    def by_day(self, zone: str) -> dict[str, list[Frame]]:
        """Return the frames by the day that a clock of the zone shows."""
        found: dict[str, list[Frame]] = defaultdict(list)
        for one in self.frames:
            found[str(one.timestamp.astimezone(ZoneInfo(zone)).date())].append(one)
        return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A frame every ten minutes, two days before to three days after summer time begins in Berlin. For reading only."""
    folder = tmp_path_factory.mktemp("watched")
    settings = Settings(_env_file=None, store_url=(folder / "store").as_uri(), timezone="Europe/Berlin")
    start = datetime(2026, 3, 27, 12, tzinfo=UTC)
    people = range(54, 240)  # from 21:00 UTC for 31 hours
    found = [Detection(label, 2, 0.9, (10.0, 20.0, 30.0, 40.0)) for label in ("car", "person")]
    made = [
        replace(one, detections=tuple(found if n in people else found[:1]))
        for n, one in enumerate(film(start, start + timedelta(days=4), (), rate=1 / 600))
    ]
    late = replace(dead_letter(len(made), date(2026, 3, 28)), timestamp=datetime(2026, 3, 28, 23, 30, tzinfo=UTC))
    store = open_store(settings)
    write_chain(store, [*made, late])
    for day in sorted({one.day for one in made})[:-1]:  # of the last day, the ledger tells
        rebuild_day(store, day, now=NOON)
    with viewing(settings) as viewer:
        yield Watched(viewer, made)


ZONES = ["Europe/Berlin", "Australia/Lord_Howe"]
"""One that loses an hour, and one whose hours begin at half past."""
OPENED = "2026-03-29"
"""The day whose links are opened: Berlin loses an hour."""


@pytest.mark.parametrize("zone", ZONES)
def test_days_and_hours_are_those_of_the_zone(watched, zone):
    days = watched.by_day(zone)
    shown = {one["day"]: one["frames"] for one in watched.viewer.json("/api/v1/days", timezone=zone)["days"]}
    assert shown == {day: len(frames) for day, frames in days.items()}
    for day, frames in days.items():
        expected = Counter(
            (one.timestamp.astimezone(ZoneInfo(zone)).hour, found.label) for one in frames for found in one.detections
        )
        rows = watched.viewer.json("/api/v1/label-counts", day=day, timezone=zone, by="label,hour")["counts"]
        hours = Counter({
            (datetime.fromisoformat(row["hour"]).astimezone(ZoneInfo(zone)).hour, row["label"]): row["count"]
            for row in rows
        })  # fmt: skip
        assert hours == expected
        listed = watched.viewer.json("/api/v1/frames", day=day, timezone=zone, limit=1000)
        assert {one["frame_id"] for one in listed["frames"]} == {one.frame_id for one in frames}
        assert {one["day"] for one in listed["frames"]} == {str(one.day) for one in frames}, "rows keep their UTC day"


@pytest.mark.parametrize("zone", ZONES)
def test_every_number_of_the_overview_leads_to_its_frames(watched, zone):
    """Summed over hours it is the number of the day, also where an hour is missing."""
    for day, frames in watched.by_day(zone).items():
        page = watched.viewer.get("/", day=day, timezone=zone).text
        cells = re.findall(r'<a href="(/review[?][^"]*label=person[^"]*)"[^>]*>(\d+)</a>', page)
        sums = Counter()
        for address, number in cells:
            sums["hour=" in address] += int(number)
            if day == OPENED:
                shown = watched.viewer.http.get(unescape(address)).text
                assert f"<b>{number}</b>" in shown
                assert f"equal to the stored count, {number}<" in shown
        people = sum(found.label == "person" for one in frames for found in one.detections)
        assert (sums[False], sums[True]) == (people, people)


def test_the_site_s_zone_holds_for_pages_and_utc_for_the_api(watched):
    page = watched.viewer.get("/", day="2026-03-29").text
    assert "<b>138</b> frames" in page, "a day of 23 hours"
    assert "days and times are in Europe/Berlin" in page
    assert watched.viewer.json("/api/v1/frames", day="2026-03-29")["matching"] == 144
    export = re.search(
        r'href="(/api/v1/export[?][^"]*coco[^"]*)"', watched.viewer.get("/review", day="2026-03-29").text
    )
    assert export is not None
    assert len(watched.viewer.http.get(unescape(export[1])).json()["images"]) == 138


def test_times_of_the_zone_are_jumped_to_filtered_and_drawn(watched):
    viewer, day = watched.viewer, "2026-03-29"
    shown = viewer.get("/review", day=day, at="03:00").text  # the first moment of summer time
    assert re.findall(r"<time[^>]*>([^<]*)</time> <bdi>gate", shown)[:2] == ["03:00:00 +02:00", "01:50:00 +01:00"]
    night = viewer.get("/review", day=day, time_from="01:30", time_to="03:30").text
    assert "<b>6</b> frames" in night
    bars = re.findall(r'aria-label="(\d\d:\d\d) to \d\d:\d\d: \d+ frame', viewer.get("/review", day=day).text)
    assert (bars[0], bars[-1], "02:00" in bars, "03:00" in bars) == ("00:00", "23:50", False, True)
    heat = viewer.get("/heatmap", day=day, time_to="03:00").text
    people = sum(len(one.detections) for one in watched.by_day("Europe/Berlin")[day][:12])
    assert f"<b>{people}</b> detections" in heat


def test_search_asks_for_days_of_the_zone(watched):
    days = watched.by_day("Europe/Berlin")
    assert f"<b>{len(days['2026-03-31'])}</b> frames" in watched.viewer.get("/search", q="after:2026-03-31").text
    asked = {"q": "day:2026-03-29 hour:3", "limit": 1}
    found = [
        watched.viewer.json("/api/v1/search", **asked, timezone=zone)["frames"] for zone in ("UTC", "Europe/Berlin")
    ]
    assert [one["frames"][0]["timestamp"][11:16] for one in found] == ["03:50", "01:50"]


def test_a_dead_letter_is_listed_on_the_day_of_the_zone_and_its_page_keeps_the_zone_of_the_list(watched):
    local = ">2026-03-29 00:30:00 +01:00</time>"
    lists = {day: watched.viewer.get("/dead-letters", day=day).text for day in ("2026-03-28", "2026-03-29")}
    assert [local in page for page in lists.values()] == [False, True]
    of_api = [watched.viewer.json("/api/v1/dead-letters", day=day)["matching"] for day in lists]
    assert of_api == [1, 0], "the API has UTC days"
    overview = watched.viewer.get("/", day="2026-03-29").text
    assert 'warn" href="/dead-letters?day=2026-03-29"><b>1</b> dead letter' in overview
    utc = watched.viewer.get("/dead-letters", day="2026-03-28", timezone="UTC").text
    listed = {"Europe/Berlin": (lists["2026-03-29"], local), "UTC": (utc, ">2026-03-28 23:30:00</time>")}
    for zone, (page, shown) in listed.items():
        letter = watched.viewer.http.get(links(page, "/dead-letters/")[0]).text
        assert (shown in letter, f"days and times are in {zone}" in letter) == (True, True)


def test_a_frame_s_neighbours_stay_in_the_day_of_the_zone(watched):
    first = watched.by_day("Europe/Berlin")["2026-03-29"][0]
    page = watched.viewer.get(f"/frames/{first.day}/{first.frame_id}").text
    assert '<span class="off">older' in page
    assert 'rel="prev"' in page


def test_links_to_data_by_utc_day_lead_to_pages_in_utc(site):
    for path in ("/accounts", "/objects", "/coverage"):
        page = site.viewer.get(path, day=DAY).text
        assert "days and times are in UTC" in page
        assert all("timezone=UTC" in address for address in re.findall(r'href="(/review[?][^"]*)"', page))
    first = site.of()[-1]
    numbers = re.findall(r'href="(/review[?][^"]*hour=[^"]*)"', site.viewer.get(f"/frames/{DAY}/{first.frame_id}").text)
    assert numbers
    for address in numbers:
        assert "equal to the stored count" in site.viewer.http.get(unescape(address)).text


@pytest.mark.slow
def test_a_day_of_the_zone_is_marked_as_reviewed_and_unmarked(tmp_path):
    """It ends in the middle of a UTC day: the frames of its neighbours keep their marks."""
    with filmed_site(tmp_path, timezone="America/New_York") as made:
        viewer, ids = made.viewer, [one.frame_id for one in made.of(NEXT_DAY)]
        # 22:30 UTC in Tokyo is 07:30 of the day after.
        tokyo = {"day": str(NEXT_DAY + timedelta(days=1)), "timezone": "Asia/Tokyo"}
        both = {"from": str(DAY), "to": str(NEXT_DAY + timedelta(days=1))}

        def reviewed(zone: str) -> dict[str, int]:
            rows = viewer.json("/api/v1/reviewed", **both, timezone=zone)["days"]
            return {row["day"]: row["reviewed"] for row in rows if row["reviewed"]}

        assert viewer.http.post("/api/v1/reviewed", json=tokyo).json()["reviewed"] == 12
        assert (reviewed("UTC"), reviewed("Asia/Tokyo")) == ({str(NEXT_DAY): 12}, {tokyo["day"]: 12})
        assert viewer.get("/review", day=NEXT_DAY).text.count('class="card reviewed"') == 12
        assert '<td class="reviewed">' in viewer.get("/calendar", month="2026-01", timezone="Asia/Tokyo").text
        one = {"day": str(NEXT_DAY), "frames": ids[:1], "reviewed": False, "timezone": "Asia/Tokyo"}
        assert viewer.http.post("/api/v1/reviewed", json=one).status_code == 400
        of_utc = {"day": str(NEXT_DAY), "timezone": "UTC"}
        assert viewer.http.post("/api/v1/reviewed", json=of_utc).json()["reviewed"] == 12
        assert viewer.http.post("/api/v1/reviewed", json={**tokyo, "reviewed": False}).json()["reviewed"] == 0
        morning = {"day": str(NEXT_DAY), "timezone": "Asia/Tokyo"}  # what is left of the UTC day
        assert viewer.http.post("/api/v1/reviewed", json=morning).status_code == 404
        assert reviewed("UTC") == {}
        marked = viewer.http.post("/api/v1/reviewed", json={**one, "reviewed": True}).json()
        assert (marked["day"], marked["frames"], marked["reviewed"]) == (tokyo["day"], 12, 1), (
            "counts are of the day shown"
        )
        form = re.search(r'name="day" value="([^"]*)"><input type="hidden" name="timezone" value="([^"]*)"',
                         viewer.get("/review", day=NEXT_DAY).text)  # fmt: skip
        assert form is not None
        assert form.groups() == (str(NEXT_DAY), "America/New_York")
