"""Every count at a zone, a line or a cell leads to the frames that add up to it."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from imgpipeline.events.configuration import load_rules
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.tracking.films import Car, film
from imgpipeline_tests.web.viewer.axe import serious_problems
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

pytestmark = pytest.mark.medium

START = datetime(2026, 1, 9, 11, 50, tzinfo=UTC)
END = START + timedelta(minutes=20)
NIGHT = START + timedelta(hours=14)
HOSTILE_LINE = "<i>stop</i>"
RULES = f"""
[[zone]]
name = "road"
source = "gate"
points = [[0, 0.3], [1, 0.3], [1, 0.4], [0, 0.4]]

[[line]]
name = "{HOSTILE_LINE}"
source = "gate"
size = [640, 480]
points = [[95, 100], [95, 300]]
backward = "out"
"""


def build(settings: Settings) -> None:
    """Count at the zones and lines of the rules."""
    assert settings.rules_file is not None
    store, rules = open_store(settings), load_rules(Path(settings.rules_file))
    for table in (ZONE_OCCUPANCY, LINE_CROSSINGS):
        build_table(store, DAY, table, rules=rules, settings=settings, now=NIGHT)


def two_cars(folder: Path) -> Settings:
    """Two cars drive to the right for 20 minutes over the full hour; both cross the line, and stand in the zone."""
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    made = Settings(_env_file=None, store_url=(folder / "store").as_uri(), rules_file=str(rules))
    store = open_store(made)
    write_chain(store, film(START, END, [Car(START, END), Car(START + timedelta(minutes=2), END)]))
    rebuild_day(store, DAY, now=NIGHT)
    build_tracks(store, DAY, settings=made, now=NIGHT)
    build(made)
    return made


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Shows two cars. For reading only."""
    with viewing(two_cars(tmp_path_factory.mktemp("places"))) as running:
        yield running


def numbers_of(viewer: Viewer) -> list[tuple[dict[str, Any], int, int]]:
    """Return each number of the day: how it is asked for, its frames or crossings, and its objects."""
    counted = viewer.json("/api/v1/places", day=DAY)
    zones = [
        ({"zone": one["zone"], "label": one["label"], "hour": one["hour"]}, one["occupied_frames"], one["detections"])
        for one in counted["zones"]
    ]
    lines = [
        ({name: one[name] for name in ("line", "label", "direction", "hour")}, one["crossings"], one["crossings"])
        for one in counted["lines"]
    ]
    return zones + lines


def test_every_number_leads_to_frames_that_add_up_to_it(viewer):
    numbers = numbers_of(viewer)
    assert [(asked["hour"], shown) for asked, shown, _ in numbers] == [(11, 120), (12, 120), (12, 2)]
    for asked, shown, objects in numbers:
        answer = viewer.json("/api/v1/places/frames", day=DAY, limit=1000, **asked)
        assert answer["stored"] == answer["found"] == {"frames": shown, "objects": objects}
        assert len(answer["frames"]) == shown
        assert sum(one["count"] for one in answer["frames"]) == objects
        for one in answer["frames"]:
            assert datetime.fromisoformat(one["timestamp"]).hour == asked["hour"]


def test_each_link_leads_to_the_count_that_it_shows(viewer):
    page = viewer.get("/places", day=DAY).text
    links = re.findall(r'href="(/places/frames[^"]*)"[^>]*>([\d,]+)</a>', page)
    assert [number for _, number in links] == ["2", "2", "240", "120", "120"]
    for link, number in links:
        shown = viewer.get(unescape(link)).text
        assert f"<b>{number}</b> {'frames' if 'zone=' in link else 'crossings'}" in shown
        assert "equal to the stored count" in shown
    assert HOSTILE_LINE not in page
    assert "&lt;i&gt;stop" in page


def test_a_crossing_is_shown_before_and_after_with_its_object(viewer):
    asked = {"line": HOSTILE_LINE, "label": "car", "direction": "out"}
    first, second = viewer.json("/api/v1/places/frames", day=DAY, **asked)["frames"]
    assert first["objects"] != second["objects"]
    page = viewer.get("/places/frames", day=DAY, **asked).text
    for one in (first, second):
        pair = [one["before_frame_id"], one["frame_id"]]
        assert re.findall(r'href="/frames/[0-9-]+/([0-9a-f]{32})"', page[page.index(pair[0]) - 30 :])[:2] == pair
        frames = viewer.json("/api/v1/frames", day=DAY, object=one["objects"][0], limit=1000)["frames"]
        assert set(pair) <= {frame["frame_id"] for frame in frames}


def test_pages_follow_each_other_without_a_gap(viewer):
    asked = {"day": DAY, "zone": "road", "label": "car", "limit": 100}
    seen, after = list[str](), 0
    while after is not None:
        answer = viewer.json("/api/v1/places/frames", after=after, **asked)
        seen += [one["frame_id"] for one in answer["frames"]]
        after = answer["next"]
    assert len(seen) == len(set(seen)) == 240
    assert 'rel="next"' in viewer.get("/places/frames", **asked).text


def test_changed_rules_are_reported_until_the_day_is_counted_again(tmp_path):
    settings = two_cars(tmp_path)
    assert settings.rules_file is not None
    asked = {"day": DAY, "zone": "road", "label": "car"}
    Path(settings.rules_file).write_text(RULES.replace("0.3]", "0.1]").replace("0.4]", "0.2]"))
    with viewing(settings) as viewer:
        shown = viewer.get("/places/frames", **asked).text
        assert "The stored count is 240 frames with" in shown
        assert viewer.json("/api/v1/places/frames", **asked)["found"]["frames"] == 0
    build(settings)
    with viewing(settings) as viewer:
        assert viewer.json("/api/v1/places", day=DAY)["zones"] == []


def test_a_day_without_counts_names_the_command(tmp_path):
    made = Settings(_env_file=None, store_url=(tmp_path / "store").as_uri())
    write_chain(open_store(made), film(START, START + timedelta(minutes=1), []))
    with viewing(made) as viewer:
        assert "Nothing was counted on this day" in viewer.get("/places").text


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_can_be_used_with_a_keyboard_and_a_screen_reader(browser, viewer, theme):
    line = f"/places/frames?day={DAY}&line={quote(HOSTILE_LINE)}&label=car&direction=out"
    with browser.new_context(base_url=str(viewer.http.base_url), color_scheme=theme) as context:
        page = context.new_page()
        assert [*serious_problems(page, f"/places?day={DAY}"), *serious_problems(page, line)] == []


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        pytest.param({}, lambda _frame, _box: True, id="all"),
        pytest.param({"label": "car"}, lambda _frame, box: box.label == "car", id="label"),
        pytest.param(
            {"label": "car", "hour": 7}, lambda f, box: box.label == "car" and f.timestamp.hour == 7, id="hour"
        ),
        pytest.param({"time_from": "08:00"}, lambda frame, _box: frame.timestamp.hour >= 8, id="time"),
        pytest.param({"label": "zebra"}, lambda _frame, _box: False, id="none"),
    ],
)
def test_each_detection_is_counted_in_the_cell_of_its_foot_point(viewed, filters, matches):
    expected: Counter[tuple[int, int]] = Counter()
    for one in viewed.frames:
        for box in one.detections:
            if one.source == "gate" and matches(one, box):
                x, y, width, height = box.box_xywh
                across = (max(x, 0) + min(x + width, one.image_width)) / 2 / one.image_width
                down = min(y + height, one.image_height) / one.image_height
                expected[min(int(across * 48), 47), min(int(down * 27), 26)] += 1
    found = viewed.viewer.json("/api/v1/heatmap", day=DAY, source="gate", **filters)
    assert {(column, row): count for column, row, count in found["cells"]} == expected
    assert found["detections"] == expected.total()
    listed = viewed.viewer.json("/api/v1/frames", day=DAY, source="gate", **filters)
    assert listed["detections"] == found["detections"]


def test_the_page_is_of_the_source_with_most_frames_and_links_to_its_detections(viewed):
    found = viewed.viewer.json("/api/v1/heatmap", day=DAY)
    page = viewed.viewer.get("/heatmap", day=DAY).text
    assert f"<b>{found['detections']}</b>" in page
    assert f'href="/review?day={DAY}&amp;source={found["source"]}"' in page
    assert page.count('class="heat"') == len(found["cells"]) > 0
