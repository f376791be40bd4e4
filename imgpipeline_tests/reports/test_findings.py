"""A report shows what tracking and the rules found, and names the command for tables that are not built."""

import base64
from datetime import date, timedelta

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.keys import report_key
from imgpipeline.events.configuration import parse_rules
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENT_TABLES, EVENTS, PLACE_TABLES
from imgpipeline.objectstore import ObjectStore
from imgpipeline.reports.build import current_page
from imgpipeline.reports.wording import DASH
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.ledger.samples import DAY, frame, write_chain
from imgpipeline_tests.reports.conftest import AFTERWARDS, picture
from imgpipeline_tests.reports.reading import ReadPage, assert_self_contained
from imgpipeline_tests.reports.samples import ROAD_RULES, write_driving_day
from imgpipeline_tests.tracking.films import Car, film

pytestmark = pytest.mark.medium

HOUR = f"12{DASH}13"


@pytest.fixture
def day(store: ObjectStore) -> ObjectStore:
    """A store with the tables of a day on which a car and a person were seen."""
    write_driving_day(store)
    store.put("images/road.jpg", picture())
    rebuild_day(store, DAY, now=AFTERWARDS)
    return store


def track(store: ObjectStore, settings: Settings, *, force: bool = False) -> None:
    build_tracks(store, DAY, settings=settings, force=force, now=AFTERWARDS)


def evaluate(store: ObjectStore, settings: Settings, rules: str = ROAD_RULES) -> None:
    for table in (*EVENT_TABLES, *PLACE_TABLES):
        build_table(store, DAY, table, rules=parse_rules(rules, name="rules.toml"), settings=settings, now=AFTERWARDS)


def read(store: ObjectStore) -> ReadPage:
    page = ReadPage(store.get(report_key(DAY)))
    assert_self_contained(page)
    return page


def images(page: ReadPage, alt: str) -> list[np.ndarray]:
    """Return the images of a page whose text alternative begins like this."""
    found = [names["src"] or "" for tag, names in page.tags if tag == "img" and (names["alt"] or "").startswith(alt)]
    encoded = [base64.b64decode(src.partition(",")[2]) for src in found]
    return [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in encoded]


def test_the_report_names_the_command_for_each_table_that_is_not_built(day, report):
    built = report()
    assert (built.manifest.objects, built.manifest.crossings, built.manifest.events) == (None, None, None)
    page = read(day)
    assert "The objects of this day are not tracked yet" in page.text
    assert "Zones and lines are not counted for this day." in page.text
    assert "No rules were evaluated for this day." in page.text
    assert page.text.count("imgpipeline build --day 2026-01-09") == 3
    assert page.section("objects") == page.section("zones") == page.section("events") == []


def test_the_report_shows_unique_objects_and_raw_tracks(day, settings, report):
    track(day, settings.model_copy(update={"unique_min_s": 2.0}))
    assert report().manifest.objects == 2
    page = read(day)
    assert "Objects that were seen for less than 2 s do not count" in page.text
    assert [[row[0], row[1], *row[3:]] for row in page.section("objects")[1:3]] == [
        ["gate", "car", "1", "3", "19 min 55 s", "19 min 55 s"],
        ["gate", "person", "1", "1", "4 min 55 s", "4 min 55 s"],
    ]
    assert page.section("objects")[4:] == [
        [HOUR, "gate", "car", "1", "3", "19 min 55 s", "19 min 55 s"],
        [HOUR, "gate", "person", "1", "1", "4 min 55 s", "4 min 55 s"],
    ]
    assert page.section("Unique objects by hour and label")[1:] == [[HOUR, "1", "1", "2"]]


def test_tracks_are_drawn_where_the_objects_went(day, settings, report):
    track(day, settings)
    report()
    page = read(day)
    assert "gate · 2 of 2 tracked objects" in page.text
    assert "imgpipeline tracks show gate/car/20260109T1210/1 --output track.jpg" in page.text
    (drawn,) = images(page, "Tracks of 2 objects at gate")
    plain = cv2.imdecode(np.frombuffer(picture(), np.uint8), cv2.IMREAD_COLOR)
    is_drawn = np.abs(drawn.astype(int) - plain).max(axis=2) > 60
    # The foot point of the car goes from (50, 160) to (110, 160), that of the person from (50, 360) to (65, 360).
    assert is_drawn[158:163, 52:108].any(axis=0).all()
    assert is_drawn[358:363, 52:64].any(axis=0).all()
    assert not is_drawn[358:363, 120:].any()


def test_the_report_shows_zones_lines_and_events(day, settings, report):
    track(day, settings)
    evaluate(day, settings)
    headline = report().manifest
    assert (headline.crossings, headline.events) == (1, 2)
    page = read(day)
    assert ["road", "gate", "car", "", "19 min 55 s", "1", "1"] in page.section("Zones")
    assert [row for row in page.section("Lines") if row[0] == "stop"] == [["stop", "gate", "out", "car", "", "1"]]
    assert [[row[0], *row[2:5]] for row in page.section("events")[1:]] == [
        ["crosses", "gate", "1", "12:21:40"], ["loiters", "gate", "1", "12:20:00"],
    ]  # fmt: skip
    assert [row[:5] for row in page.section("All events")[1:]] == [
        ["12:20:00", "gate", "loiters", "road", "car"],
        ["12:21:40", "gate", "crosses", "stop, out", "car"],
    ]
    assert len(images(page, "crosses at 12:21:40")) == len(images(page, "loiters at 12:20:00")) == 1


def test_the_report_of_a_day_without_findings_says_so(day, settings, report):
    evaluate(day, settings, '[[rule]]\nname = "crowd"\nkind = "count"\nabove = 50\n')
    assert report().manifest.events == 0
    text = read(day).text
    assert "The rules found no events on this day." in text
    assert "No zone was occupied on this day" in text
    assert "No line was crossed on this day" in text


def test_only_a_new_version_of_these_tables_rebuilds_the_report(day, settings, report):
    assert not report().skipped
    track(day, settings)
    assert not report().skipped
    track(day, settings)
    assert report().skipped, "nothing new was put"
    evaluate(day, settings)
    assert not report().skipped
    evaluate(day, settings)
    assert report().skipped
    page = day.get(report_key(DAY))
    assert current_page(day, settings, DAY, now=AFTERWARDS) == page
    changed = parse_rules(ROAD_RULES.replace("seconds = 900", "seconds = 600"), name="rules.toml")
    build_table(day, DAY, EVENTS, rules=changed, settings=settings, now=AFTERWARDS)
    assert current_page(day, settings, DAY, now=AFTERWARDS) != page
    assert not report().skipped


def test_a_local_day_shows_its_own_hours(day, settings, tmp_path):
    """12:00 UTC is 23:00 in Sydney."""
    track(day, settings)
    evaluate(day, settings)
    local = settings.model_copy(update={"timezone": "Australia/Sydney"})
    morning = date(2026, 1, 9)
    page = ReadPage(current_page(day, local, morning, now=AFTERWARDS, cache_dir=tmp_path / "cache"))
    assert [row[0] for row in page.section("Unique objects by hour and label")[1:]] == [f"23{DASH}24"]
    assert [row[0] for row in page.section("All events")[1:]] == ["23:20:00", "23:21:40"]


def test_names_from_outside_stay_text(store, settings, report):
    source, label = '"><img src=https://example.test/a.png>', "<script>alert(1)</script>"
    first = frame(0).timestamp
    cars = [Car(first, first + timedelta(minutes=2), label)]
    write_chain(store, film(first, first + timedelta(minutes=2), cars, source=source))
    rebuild_day(store, DAY, now=AFTERWARDS)
    track(store, settings)
    place = f"name = '<b>place</b>'\nsource = '{source}'\npoints = "
    zone = f"[[zone]]\n{place}[[0, 0], [1, 0], [1, 1], [0, 1]]\n"
    evaluate(store, settings, zone + "[[rule]]\nname = '<i>rule</i>'\nkind = 'count'\nabove = 0\n")
    assert report().manifest.events == 1
    page = read(store)
    assert not {"script", "i"} & {tag for tag, _ in page.tags}
    assert [row[:3] for row in page.section("Zones")[1:2]] == [["<b>place</b>", source, label]]
    assert "<i>rule</i>" in page.text
