"""The timeline of the review page: a bar for each part of a day, and each leads to the frames that it counts."""

import re
from collections.abc import Iterator
from html import unescape

import pytest

from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.web.viewer.conftest import HOSTILE_LABEL, ViewedStore
from imgpipeline_tests.web.viewer.filmed import NEXT_DAY, FilmedSite, filmed_site

_BAR = re.compile(r'<a href="(/review[^"]*)" tabindex="-1" aria-label="([^"]*)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilmedSite]:
    """For reading only."""
    with filmed_site(tmp_path_factory.mktemp("timeline")) as made:
        yield made


def bars(site: FilmedSite, **filters: object) -> list[tuple[str, str]]:
    page = site.viewer.get("/review", **filters)
    assert page.status_code == 200
    return [(unescape(address), unescape(label)) for address, label in _BAR.findall(page.text)]


@pytest.mark.medium
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
def test_a_bar_says_what_it_counts(site: FilmedSite, filters: dict[str, object], expected: list[str]):
    assert [label for _, label in bars(site, **filters)] == expected


@pytest.mark.medium
@pytest.mark.parametrize("filters", [{"from": DAY}, {"day": DAY, "zone": "lower half"}], ids=["days", "zone"])
def test_a_bar_leads_to_frames_with_the_same_sum(site: FilmedSite, filters: dict[str, object]):
    found = bars(site, **filters)
    assert found
    for address, label in found:
        frames, *counts = (int(number) for number in re.findall(r"(\d+) (?:frames|[a-z]+)", label.split(": ")[1]))
        assert f"<b>{frames}</b> frames, with <b>{sum(counts)}</b>" in site.viewer.http.get(address).text


@pytest.mark.medium
def test_a_page_begins_at_an_exact_moment(site: FilmedSite):
    page = site.viewer.json("/api/v1/frames", **{"from": DAY, "to": NEXT_DAY, "at": "22:30:20", "limit": 3})
    times = [one["timestamp"][11:19] for one in page["frames"]]
    assert times == ["22:30:20", "22:30:15", "22:30:10"]
    assert page["matching"] == 60
    newer = site.viewer.json("/api/v1/frames", **{"from": DAY, "to": NEXT_DAY, "before": page["newer"], "limit": 100})
    assert len(newer["frames"]) == 7
    assert site.viewer.json("/api/v1/frames", day=DAY, at="24:00")["frames"][0]["frame_id"] == site.of()[0].frame_id
    both = site.viewer.get("/api/v1/frames", day=DAY, at="12:00", after=page["older"])
    assert (both.status_code, "Two of after, before and at" in both.text) == (400, True)


def test_a_label_that_is_markup_stays_text(viewed: ViewedStore):
    page = viewed.viewer.get("/review", day=DAY).text
    assert HOSTILE_LABEL not in page
    assert f"1 frames, 1 {HOSTILE_LABEL[:39]}" in unescape(page)
