"""The review page, its filters and timeline, and a frame's page with its lineage and tracks; also in the API."""

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest
from playwright.sync_api import expect

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.tracks import MOST_POINTS, tracks_of_frame
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import open_store
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, PROVENANCE, write_chain
from imgpipeline_tests.tracking.films import Car, film
from imgpipeline_tests.web.viewer.filmed import AT, MINUTE, NEXT_DAY, FilmedSite
from imgpipeline_tests.web.viewer.viewing import links, viewing

pytestmark = pytest.mark.medium
CAR, PERSON = "gate/car/20260109T1200/1", "gate/person/20260109T1200/1"
_BAR = re.compile(r'<a href="(/review[^"]*)" tabindex="-1" aria-label="([^"]*)"')


def test_the_filters_of_the_grid_go_with_every_link(viewed):
    page = viewed.viewer.get("/review", day=DAY, label="car", source="gate", hour="").text
    cards = links(page, f"/frames/{DAY}/")
    expected = [
        one.frame_id for one in viewed.frames if one.source == "gate" and "car" in {f.label for f in one.detections}
    ]
    assert [card.split("/")[3].split("?")[0] for card in cards] == expected
    frame = viewed.viewer.get(cards[1]).text
    assert [link.split("/")[3].split("?")[0] for link in links(frame, f"/frames/{DAY}/")] == [expected[0], expected[2]]
    assert all("source=gate" in link and "label=car" in link for link in links(frame, f"/frames/{DAY}/"))
    assert f"/review?day={DAY}&source=gate&label=car" in links(frame, "/review")


def test_a_frame_shows_its_boxes_and_lineage(viewed):
    one = viewed.site.frames[2]
    page = viewed.viewer.get(f"/frames/{DAY}/{one.frame_id}").text
    assert page.count("<rect x=") == len(one.detections)
    assert f'viewBox="0 0 {one.image_width} {one.image_height}"' in page
    assert f"<code>frames/0/{one.offset}</code>" in page
    assert "verified just now to contain this frame" in page
    for link in links(page, "/review?day=2026-01-09&label="):
        assert "equal to the stored count" in viewed.viewer.get(link).text


def test_the_run_of_a_frame_is_linked_in_dagster(folder):
    dagster, run = "https://dagster.example/sub", "0b5d4a1e-6f0e-4f5d-9c0e-3a5b8f1c2d3e"
    write_chain(open_store(folder), [seen(0)], provenance=replace(PROVENANCE, run_id=run))
    address = f"/frames/{DAY}/{seen(0).frame_id}"
    with viewing(folder.model_copy(update={"dagster_url": f"{dagster}/"})) as viewer:
        assert links(viewer.get(address).text, dagster) == [f"{dagster}/runs/{run}"]
    with viewing(folder) as viewer:
        assert f"<code>{run}</code>" in viewer.get(address).text


def test_a_number_is_traced_to_the_ledger(viewed):
    page = viewed.viewer.get("/explain", day=DAY, label="car").text
    assert "8 detections in 8 frames, each verified in its segment" in page
    assert len(links(page, f"/frames/{DAY}/")) == 8


def test_a_filter_without_frames_offers_a_way_back(viewed):
    page = viewed.viewer.get("/review", day=DAY, source="nobody").text
    assert "No frame matches." in page
    assert f"/review?day={DAY}" in links(page, "/review")


def bars(filmed: FilmedSite, **filters: object) -> list[tuple[str, str]]:
    page = filmed.viewer.get("/review", **filters)
    assert page.status_code == 200
    return [(unescape(address), unescape(label)) for address, label in _BAR.findall(page.text)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param({"day": DAY}, ["12:00 to 12:10: 48 frames, 48 car, 12 person"], id="day"),
        pytest.param({"day": DAY, "label": "person"}, ["12:00 to 12:10: 12 frames, 12 person"], id="label"),
        pytest.param({"day": DAY, "hour": 3}, ["12:00 to 12:10: 48 frames, 48 car, 12 person"], id="all-times"),
        pytest.param(
            {"from": DAY},
            ["22:00 to 23:00: 12 frames, 12 dog", "12:00 to 13:00: 48 frames, 48 car, 12 person"],
            id="days",
        ),
        pytest.param({"day": DAY, "source": "yard"}, [], id="none"),
    ],
)
def test_a_bar_says_what_it_counts(filmed, filters, expected):
    assert [label for _, label in bars(filmed, **filters)] == expected


@pytest.mark.parametrize("filters", [{"from": DAY}, {"day": DAY, "zone": "lower half"}], ids=["days", "zone"])
def test_a_bar_leads_to_frames_with_the_same_sum(filmed, filters):
    found = bars(filmed, **filters)
    assert found
    for address, label in found:
        frames, *counts = (int(number) for number in re.findall(r"(\d+) (?:frames|[a-z]+)", label.split(": ")[1]))
        assert f"<b>{frames}</b> frames with <b>{sum(counts)}</b>" in filmed.viewer.http.get(address).text


def test_a_page_begins_at_an_exact_moment(filmed):
    page = filmed.viewer.json("/api/v1/frames", **{"from": DAY, "to": NEXT_DAY, "at": "22:30:20", "limit": 3})
    times = [one["timestamp"][11:19] for one in page["frames"]]
    assert times == ["22:30:20", "22:30:15", "22:30:10"]
    assert page["matching"] == 60
    newer = filmed.viewer.json("/api/v1/frames", **{"from": DAY, "to": NEXT_DAY, "before": page["newer"], "limit": 100})
    assert len(newer["frames"]) == 7
    assert filmed.viewer.json("/api/v1/frames", day=DAY, at="24:00")["frames"][0]["frame_id"] == filmed.of()[0].frame_id
    both = filmed.viewer.get("/api/v1/frames", day=DAY, at="12:00", after=page["older"])
    assert (both.status_code, "Only one of after, before and at" in both.text) == (400, True)


@pytest.mark.parametrize(
    ("filters", "frames", "detections"),
    [
        pytest.param({"day": DAY}, 48, 60, id="day"),
        pytest.param({"from": DAY, "to": NEXT_DAY}, 60, 72, id="days"),
        pytest.param({"from": DAY}, 60, 72, id="from"),
        pytest.param({"to": DAY}, 48, 60, id="to"),
        pytest.param({"from": DAY, "time_from": "22:00", "time_to": "12:01"}, 24, 36, id="over-midnight"),
        pytest.param({"day": DAY, "time_from": "12:03:30"}, 6, 6, id="time-from"),
        pytest.param({"day": DAY, "time_to": "12:00:05"}, 1, 2, id="time-to"),
        pytest.param({"day": DAY, "zone": "lower half"}, 12, 12, id="zone"),
        pytest.param({"day": DAY, "zone": "lower half", "label": "car"}, 0, 0, id="zone-and-label"),
        pytest.param({"day": DAY, "track": PERSON}, 12, 12, id="track"),
        pytest.param({"day": DAY, "object": CAR}, 48, 48, id="object"),
        pytest.param({"day": DAY, "object": CAR, "label": "person"}, 0, 0, id="object-and-label"),
        pytest.param({"from": DAY, "model": "small"}, 12, 12, id="model"),
        pytest.param({"day": NEXT_DAY, "model": "demo"}, 0, 0, id="model-of-another-day"),
    ],
)
def test_frames_match_and_keep_all_of_their_boxes(filmed, filters, frames, detections):
    found = filmed.viewer.json("/api/v1/frames", limit=1000, **filters)
    assert (found["matching"], found["detections"], len(found["frames"])) == (frames, detections, frames)
    made = {one.frame_id: one for one in filmed.frames}
    for one in found["frames"]:
        assert [box["label"] for box in one["boxes"]] == [each.label for each in made[one["frame_id"]].detections]
    page = filmed.viewer.get("/review", **filters).text
    assert re.search(f"<b>{frames}</b> frames? with <b>{detections}</b>", page)


def test_an_event_has_the_frames_that_show_it(filmed):
    (event,) = filmed.viewer.json("/api/v1/events", day=DAY)["events"]
    found = filmed.viewer.json("/api/v1/frames", day=DAY, event=event["event_id"])
    assert sorted(one["frame_id"] for one in found["frames"]) == sorted(event["frame_ids"])
    assert found["matching"] == len(event["frame_ids"]) > 0
    assert f"/review?day={DAY}&amp;event={event['event_id']}" in filmed.viewer.get("/events", day=DAY).text


def test_a_number_over_several_days_is_that_of_the_summaries(filmed):
    page = filmed.viewer.get("/review", **{"from": DAY, "to": NEXT_DAY, "label": "car"}).text
    assert "equal to the stored count, 48</span>" in page
    assert filmed.viewer.json("/api/v1/frames", **{"from": DAY, "label": "dog", "hour": 22})["number"] == 12
    assert filmed.viewer.json("/api/v1/frames", day=DAY, label="car", zone="lower half")["number"] is None


def test_frames_of_several_days_follow_each_other_in_list_and_frame_pages(filmed):
    of_both = {"from": DAY, "to": NEXT_DAY}
    found = filmed.viewer.json("/api/v1/frames", limit=1000, **of_both)["frames"]
    assert [one["frame_id"] for one in found] == [one.frame_id for one in filmed.frames]
    last, first = filmed.of(NEXT_DAY)[-1], filmed.of(DAY)[0]
    page = unescape(filmed.viewer.get(f"/frames/{NEXT_DAY}/{last.frame_id}", **of_both).text)
    query = f"?from={DAY}&to={NEXT_DAY}"
    assert f'rel="next" href="/frames/{DAY}/{first.frame_id}{query}"' in page
    assert f'href="/review{query}"' in page


def test_the_filters_offer_existing_values(filmed):
    page = filmed.viewer.get("/review", **{"from": DAY}).text
    for offered in ("gate · 48", "yard · 12", "dog · 12", "lower half", "demo · 48", "small · 12"):
        assert f">{offered}</option>" in page


def test_several_days_win_over_one_day(filmed):
    both = {"day": DAY, "from": NEXT_DAY}
    assert filmed.viewer.json("/api/v1/frames", **both)["matching"] == 12
    assert "<b>12</b> frames" in filmed.viewer.get("/review", **both).text


def first(filmed: FilmedSite) -> str:
    """Return the address of the first frame: a car and a person."""
    return f"/frames/{DAY}/{filmed.of(DAY)[-1].frame_id}"


def test_the_tracks_of_a_frame_are_those_of_its_detections(filmed):
    frame = filmed.of(DAY)[-1]
    with open_lake(filmed.store) as lake:
        tracks = tracks_of_frame(lake, DAY, frame.frame_id)
    assert [(one.track_id, one.label, one.detection_number) for one in tracks] == [
        (CAR, "car", 0),
        (PERSON, "person", 1),
    ]
    car, person = tracks
    assert (car.points, person.points) == (48, 12)
    assert car.last_seen - car.first_seen == 4 * MINUTE - timedelta(seconds=5)
    boxes = [one.detections[0].box_xywh for one in reversed(filmed.of(DAY))]
    assert car.way == tuple((x + width / 2, y + height) for x, y, width, height in boxes)


def test_a_long_track_is_drawn_with_fewer_points(folder):
    frames = film(AT, AT + 9 * MINUTE, [Car(AT, AT + 9 * MINUTE)], rate=1.0)
    store = open_store(folder)
    write_chain(store, frames)
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=folder, now=NOON)
    with open_lake(store) as lake:
        (track,) = tracks_of_frame(lake, DAY, frames[0].frame_id)
    assert track.points == len(frames) > MOST_POINTS
    assert MOST_POINTS / 2 <= len(track.way) <= MOST_POINTS


def test_a_track_leads_to_its_frames(filmed):
    page = filmed.viewer.get(first(filmed)).text
    listed = page.split('id="tracks"')[1].split("</section>")[0]
    addresses = [unescape(one) for one in re.findall(r'href="(/review[^"]*)"', listed)]
    assert len(addresses) == 4
    for address, frames in zip(addresses, (48, 48, 12, 12), strict=True):
        assert f"{frames} frames" in re.sub(r"\s+", " ", filmed.viewer.get(address).text)


def test_tracks_and_zones_can_be_hidden_by_boxes_and_keys(browser, filmed):
    with browser.new_context(base_url=str(filmed.viewer.http.base_url)) as context:
        page = context.new_page()
        page.goto(first(filmed))
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


def test_a_frame_of_a_day_without_tracks_shows_the_rest(filmed):
    frame = next(one for one in filmed.frames if one.day != DAY)
    page = filmed.viewer.get(f"/frames/{frame.day}/{frame.frame_id}")
    assert page.status_code == 200
    assert 'class="way"' not in page.text
