"""The API of the classic dashboard answers in the classic form."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.objectstore import open_store
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY
from imgpipeline_tests.lake.samples import counted_labels, seen
from imgpipeline_tests.ledger.samples import notice, write_chain
from imgpipeline_tests.web.viewer.conftest import HOSTILE_LABEL, ViewedStore
from imgpipeline_tests.web.viewer.viewing import viewing

RANGE = {"start": f"{DAY}T07:00:00Z", "end": f"{DAY}T09:00:00Z"}


def hourly(viewed: ViewedStore, label: str) -> dict[str, int]:
    """Count a label by hour in plain Python, sources together."""
    found: dict[str, int] = {}
    for hour, _, name, count, _, _ in counted_labels(viewed.frames):
        if name == label:
            found[hour.isoformat()] = found.get(hour.isoformat(), 0) + count
    return found


def test_count_specific(viewed):
    hours = hourly(viewed, "car")
    expected = hours[f"{DAY}T07:00:00+00:00"] + hours[f"{DAY}T08:00:00+00:00"]
    answer = viewed.viewer.json("/api/count_specific", label="car", **RANGE)
    assert answer == {"label": "car", "count_in_range": expected}
    assert viewed.viewer.json("/api/count_specific", label="zebra", **RANGE)["count_in_range"] == 0
    missing = viewed.viewer.get("/api/count_specific")
    assert (missing.status_code, missing.json()) == (400, {"error": "Missing 'label' parameter"})


def test_label_counts_are_the_largest_first(viewed):
    answer = viewed.viewer.json("/api/label_counts", start=f"{DAY}T00:00Z")
    expected = {label: sum(hourly(viewed, label).values()) for label in ("car", "person", "dog", HOSTILE_LABEL)}
    assert dict(zip(answer["labels"], answer["counts"], strict=True)) == expected
    assert answer["counts"] == sorted(answer["counts"], reverse=True)


def test_a_timeline_has_zeros_between_its_first_and_last_hour(viewed):
    answer = viewed.viewer.json(f"/api/timeline?label=car&label=zebra&start={DAY}T00:00Z")
    expected = hourly(viewed, "car")
    assert answer["zebra"] == []
    assert {point["t"]: point["y"] for point in answer["car"] if point["y"]} == expected
    assert [answer["car"][0]["t"], answer["car"][-1]["t"]] == [min(expected), max(expected)]
    assert len(answer["car"]) == 1 + int(max(expected)[11:13]) - int(min(expected)[11:13])


def test_a_timeline_without_labels_is_empty(viewed):
    assert viewed.viewer.json("/api/timeline") == {}


def test_without_hours_the_latest_day_is_counted(viewed):
    labels = viewed.viewer.json("/api/label_counts")
    frames = [one for one in viewed.site.frames if one.day == NEXT_DAY]
    assert sum(labels["counts"]) == sum(len(one.detections) for one in frames)


@pytest.mark.parametrize(
    "hours",
    [
        {"start": "yesterday"},
        {"start": "9999-12-31T23:00Z"},
        {"start": f"{DAY}T07:00Z", "end": f"{DAY}T07:00Z"},
        {"start": f"{DAY}T07:00Z", "end": f"{DAY + timedelta(days=40)}T07:00Z"},
    ],
    ids=["no time", "end of time", "empty", "too long"],
)
def test_wrong_hours_are_refused(viewed, hours):
    answer = viewed.viewer.get("/api/label_counts", **hours)
    assert (answer.status_code, "error" in answer.json()) == (400, True)


def test_the_dashboard_shows_totals_bars_and_lines(viewed):
    page = viewed.viewer.get(f"/dashboard?label=car&start={DAY}T00:00Z").text
    total = sum(hourly(viewed, "car").values())
    assert f'<option value="car" selected>car · {total}</option>' in page
    assert page.count('<td class="bar">') == 4
    assert page.count("<circle") == len({one.timestamp.hour for one in viewed.frames})
    assert f'href="/review?day={DAY}&amp;label=car">{total}</a>' in page
    assert HOSTILE_LABEL not in page


@pytest.mark.medium
def test_the_chart_has_zeros_for_observed_hours_and_gaps_for_others(folder):
    hours = {5: [], 6: ["car"], 7: ["car", "car"], 10: [], 11: ["car"], 20: []}
    outcomes: list[Outcome] = [
        seen(offset, labels, timestamp=datetime(DAY.year, DAY.month, DAY.day, hour, tzinfo=UTC))
        for offset, (hour, labels) in enumerate(hours.items())
    ]
    write_chain(open_store(folder), [*outcomes, notice(6)])  # an account of a minute at noon, without a frame
    with viewing(folder) as viewer:
        page = viewer.get(f"/dashboard?label=car&start={DAY}").text
    points = re.findall(r"<title>car (\d\d):00:00: (\d+)</title>", page)
    assert [(int(hour), int(count)) for hour, count in points] == [
        (5, 0), (6, 1), (7, 2), (10, 0), (11, 1), (12, 0), (20, 0)
    ]  # fmt: skip
    assert page.count("<polyline") == 3
    assert "were not observed" in page
