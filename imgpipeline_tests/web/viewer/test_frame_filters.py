"""The filters of the review page and of the API: by zone, track, object, event, model, days and time of day."""

import re
from collections.abc import Iterator
from html import unescape

import pytest

from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.web.viewer.filmed import NEXT_DAY, FilmedSite, filmed_site

CAR, PERSON = "gate/car/20260109T1200/1", "gate/person/20260109T1200/1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilmedSite]:
    """For reading only."""
    with filmed_site(tmp_path_factory.mktemp("filters")) as made:
        yield made


@pytest.mark.medium
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
def test_frames_match_and_keep_all_of_their_boxes(site: FilmedSite, filters, frames: int, detections: int):
    found = site.viewer.json("/api/v1/frames", limit=1000, **filters)
    assert (found["matching"], found["detections"], len(found["frames"])) == (frames, detections, frames)
    made = {one.frame_id: one for one in site.frames}
    for one in found["frames"]:
        assert [box["label"] for box in one["boxes"]] == [each.label for each in made[one["frame_id"]].detections]
    page = site.viewer.get("/review", **filters).text
    assert re.search(f"<b>{frames}</b> frames? with <b>{detections}</b>", page)


@pytest.mark.medium
def test_an_event_has_the_frames_that_show_it(site: FilmedSite):
    (event,) = site.viewer.json("/api/v1/events", day=DAY)["events"]
    found = site.viewer.json("/api/v1/frames", day=DAY, event=event["event_id"])
    assert sorted(one["frame_id"] for one in found["frames"]) == sorted(event["frame_ids"])
    assert found["matching"] == len(event["frame_ids"]) > 0
    assert f"/review?day={DAY}&amp;event={event['event_id']}" in site.viewer.get("/events", day=DAY).text


@pytest.mark.medium
def test_a_number_over_several_days_is_that_of_the_summaries(site: FilmedSite):
    page = site.viewer.get("/review", **{"from": DAY, "to": NEXT_DAY, "label": "car"}).text
    assert "equal to the stored count, 48</span>" in page
    assert site.viewer.json("/api/v1/frames", **{"from": DAY, "label": "dog", "hour": 22})["number"] == 12
    assert site.viewer.json("/api/v1/frames", day=DAY, label="car", zone="lower half")["number"] is None


def test_frames_of_several_days_follow_each_other_in_list_and_frame_pages(site: FilmedSite):
    of_both = {"from": DAY, "to": NEXT_DAY}
    found = site.viewer.json("/api/v1/frames", limit=1000, **of_both)["frames"]
    assert [one["frame_id"] for one in found] == [one.frame_id for one in site.frames]
    last, first = site.of(NEXT_DAY)[-1], site.of(DAY)[0]
    page = unescape(site.viewer.get(f"/frames/{NEXT_DAY}/{last.frame_id}", **of_both).text)
    query = f"?from={DAY}&to={NEXT_DAY}"
    assert f'rel="next" href="/frames/{DAY}/{first.frame_id}{query}"' in page
    assert f'href="/review{query}"' in page


def test_the_filters_offer_existing_values(site: FilmedSite):
    page = site.viewer.get("/review", **{"from": DAY}).text
    for offered in ("gate · 48", "yard · 12", "dog · 12", "lower half", "demo · 48", "small · 12"):
        assert f">{offered}</option>" in page


def test_several_days_win_over_one_day(site: FilmedSite):
    both = {"day": DAY, "from": NEXT_DAY}
    assert site.viewer.json("/api/v1/frames", **both)["matching"] == 12
    assert "<b>12</b> frames" in site.viewer.get("/review", **both).text
