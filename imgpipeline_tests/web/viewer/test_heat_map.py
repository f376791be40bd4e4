"""The heat map counts every detection that the review page counts, each in the cell where it stands."""

from collections import Counter

import pytest

from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.web.viewer.conftest import ViewedStore


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
def test_each_detection_is_counted_where_it_stands(viewed: ViewedStore, filters, matches):
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


def test_the_page_is_of_the_source_with_most_frames_and_links_to_its_detections(viewed: ViewedStore):
    found = viewed.viewer.json("/api/v1/heatmap", day=DAY)
    page = viewed.viewer.get("/heatmap", day=DAY).text
    assert f"<b>{found['detections']}</b>" in page
    assert f'href="/review?day={DAY}&amp;source={found["source"]}"' in page
    assert page.count('class="heat"') == len(found["cells"]) > 0
