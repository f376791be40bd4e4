"""A frame's page shows the tracks through it and the zones of its source, and lists the tracks."""

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape

import pytest
from playwright.sync_api import Browser, expect

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.tracks import MOST_POINTS, tracks_of_frame
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.tracking.films import Car, film
from imgpipeline_tests.web.viewer.filmed import AT, MINUTE, FilmedSite, filmed_site

CAR, PERSON = "gate/car/20260109T1200/1", "gate/person/20260109T1200/1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilmedSite]:
    with filmed_site(tmp_path_factory.mktemp("tracks")) as made:
        yield made


def first(site: FilmedSite) -> str:
    """Return the address of the first frame: a car and a person."""
    return f"/frames/{DAY}/{site.of(DAY)[-1].frame_id}"


@pytest.mark.medium
def test_the_tracks_of_a_frame_are_those_of_its_detections(site: FilmedSite):
    frame = site.of(DAY)[-1]
    with open_lake(site.store) as lake:
        tracks = tracks_of_frame(lake, DAY, frame.frame_id)
    assert [(one.track_id, one.label, one.detection_number) for one in tracks] == [
        (CAR, "car", 0),
        (PERSON, "person", 1),
    ]
    car, person = tracks
    assert (car.points, person.points) == (48, 12)
    assert car.last_seen - car.first_seen == 4 * MINUTE - timedelta(seconds=5)
    boxes = [one.detections[0].box_xywh for one in reversed(site.of(DAY))]
    assert car.way == tuple((x + width / 2, y + height) for x, y, width, height in boxes)


@pytest.mark.medium
def test_a_long_track_is_drawn_with_fewer_points(folder: Settings):
    frames = film(AT, AT + 9 * MINUTE, [Car(AT, AT + 9 * MINUTE)], rate=1.0)
    store = open_store(folder)
    write_chain(store, frames)
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=folder, now=NOON)
    with open_lake(store) as lake:
        (track,) = tracks_of_frame(lake, DAY, frames[0].frame_id)
    assert track.points == len(frames) > MOST_POINTS
    assert MOST_POINTS / 2 <= len(track.way) <= MOST_POINTS


@pytest.mark.medium
def test_a_track_leads_to_its_frames(site: FilmedSite):
    page = site.viewer.get(first(site)).text
    listed = page.split('id="tracks"')[1].split("</section>")[0]
    addresses = [unescape(one) for one in re.findall(r'href="(/review[^"]*)"', listed)]
    assert len(addresses) == 4
    for address, frames in zip(addresses, (48, 48, 12, 12), strict=True):
        assert f"{frames} frames" in re.sub(r"\s+", " ", site.viewer.get(address).text)


@pytest.mark.medium
def test_tracks_and_zones_can_be_hidden_by_boxes_and_keys(browser: Browser, site: FilmedSite):
    with browser.new_context(base_url=str(site.viewer.http.base_url)) as context:
        page = context.new_page()
        page.goto(first(site))
        ways = page.locator('[data-toggle="tracks"]')
        expect(ways.locator(".way")).to_have_count(2)
        expect(page.locator(".place")).to_have_count(1)
        page.get_by_role("checkbox", name="tracks").uncheck()
        expect(ways).to_have_class("off")
        page.keyboard.press("Escape")
        page.locator("h1").click()
        page.keyboard.press("t")
        expect(ways).not_to_have_class("off")
        page.keyboard.press("z")
        expect(page.locator(".place")).to_be_hidden()
        expect(page.get_by_role("checkbox", name="zones and lines")).not_to_be_checked()
        page.keyboard.press("b")
        expect(page.locator(".large .boxes")).to_be_hidden()
        expect(ways).not_to_have_class("off")


@pytest.mark.medium
def test_a_frame_of_a_day_without_tracks_shows_the_rest(site: FilmedSite):
    frame = next(one for one in site.frames if one.day != DAY)
    page = site.viewer.get(f"/frames/{frame.day}/{frame.frame_id}")
    assert page.status_code == 200
    assert 'class="way"' not in page.text
