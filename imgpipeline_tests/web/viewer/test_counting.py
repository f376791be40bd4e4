"""Which frames a person is asked about, what the API describes of them, and which answers it stores."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from imgpipeline.accuracy.answers import Answer, keep_answer, read_answers
from imgpipeline.accuracy.plans import extend_plan
from imgpipeline.events.accuracy import DayAccuracy
from imgpipeline.events.configuration import Rules
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.derived import build
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline_tests.accuracy.samples import population
from imgpipeline_tests.ledger.samples import DAY, NOON
from imgpipeline_tests.web.viewer.planned import SOURCE, PlannedSite, planned_settings, planned_site
from imgpipeline_tests.web.viewer.viewing import links, viewing

pytestmark = pytest.mark.medium

ROUTE = f"/api/v1/count/{DAY}"
NOBODY = {"car": 0, "person": 0}


@pytest.fixture
def site(tmp_path) -> Iterator[PlannedSite]:
    with planned_site(planned_settings(tmp_path)) as made:
        yield made


def asked(site: PlannedSite, by: str, limit: int = 40) -> Any:
    """Return the frames that a person is asked about."""
    return site.viewer.json(ROUTE, source=SOURCE, by=by, limit=limit)


def send(site: PlannedSite, frame_id: str, by: str | None = "ann", **body: object) -> httpx.Response:
    """Send what a person counted on a frame; without numbers, nothing is in the image."""
    given = {"source": SOURCE, "frame_id": frame_id, "by": by, "counts": NOBODY, **body}
    return site.viewer.http.post(ROUTE, json={name: value for name, value in given.items() if value is not None})


def test_people_are_asked_in_the_order_of_the_plan_until_they_have_answered(site):
    assert asked(site, "ann")["left"] == list(site.plan.samples)
    for sample in site.plan.samples[:3]:
        assert send(site, sample).status_code == 201
    again = asked(site, "ann", limit=5)
    assert (again["samples"], again["left"]) == (40, list(site.plan.samples[3:]))
    assert [one["frame_id"] for one in again["frames"]] == list(site.plan.samples[3:8])


def test_a_frame_comes_with_the_counted_detections_of_the_labels_of_the_plan(site):
    shown = asked(site, "ann")["frames"][site.first()]
    frame = site.frames[shown["frame_id"]]
    expected = [n for n, seen in enumerate(frame.detections) if seen.label != "dog" and seen.confidence >= 0.5]
    assert [box["detection_number"] for box in shown["boxes"]] == expected
    assert shown["counts"]["car"] == 1
    assert shown["counts"]["person"] == len(expected) - 1
    x, y, width, height = frame.detections[0].box_xywh
    assert shown["boxes"][0] == {
        "detection_number": 0, "label": "car", "x": x, "y": y, "width": width, "height": height,
    }  # fmt: skip


def test_a_blind_frame_comes_without_help_and_its_answer_says_so(site):
    shown = asked(site, "ann")["frames"][site.first(blind=True)]
    assert (shown["blind"], shown["counts"], shown["boxes"]) == (True, {}, [])
    assert send(site, shown["frame_id"]).json()["blind"] is True
    assert send(site, site.plan.samples[site.first()]).json()["blind"] is False


def test_the_last_answers_of_a_person_come_with_their_frames_when_asked_for(site):
    for number, sample in enumerate(site.plan.samples[:4]):
        send(site, sample, counts={"car": number, "person": 0})
    send(site, site.plan.samples[4], "bob")
    assert [one["answer"] for one in asked(site, "ann", limit=1)["frames"]] == [None]
    found = site.viewer.json(ROUTE, source=SOURCE, by="ann", limit=1, back=3)["frames"]
    assert [one["frame_id"] for one in found] == [*site.plan.samples[1:4], site.plan.samples[5]]
    assert [one["answer"] and one["answer"]["counts"]["car"] for one in found] == [1, 2, 3, None]


def test_two_people_at_the_same_time_count_different_frames(site):
    send(site, site.plan.samples[0], "ann")
    send(site, site.plan.samples[-1], "bob")
    assert asked(site, "ann")["frames"][0]["frame_id"] == site.plan.samples[1]
    assert asked(site, "bob")["frames"][0]["frame_id"] == site.plan.samples[-2]


def test_a_tenth_of_the_frames_is_asked_of_two_people(site):
    for sample in site.plan.samples:
        send(site, sample, "ann")
    for_two = {sample for sample in site.plan.samples if site.plan.is_for_two(sample)}
    assert for_two
    assert asked(site, "ann")["left"] == []
    assert set(asked(site, "bob")["left"]) == for_two
    for sample in for_two:
        send(site, sample, "bob")
    assert asked(site, "eve")["left"] == []


def test_an_answer_is_stored_with_everything_that_the_person_did(site):
    sample = site.plan.samples[site.first()]
    counts, missing = {"car": 3, "person": 0}, [["car", 10.5, 20.0], ["car", 30.0, 20.0]]
    said = send(site, sample, counts=counts, wrong=[2], missing=missing).json()
    assert said["counts"] == counts
    stored = read_answers(site.store, DAY, SOURCE)
    at = stored[0].at
    points = (("car", 10.5, 20.0), ("car", 30.0, 20.0))
    assert stored == [Answer(DAY, SOURCE, sample, "ann", at, counts, wrong=(2,), missing=points)]


def test_a_correction_replaces_an_answer_and_cannot_tell_is_one(site):
    sample = site.plan.samples[0]
    send(site, sample)
    send(site, sample, counts={}, cannot_tell=True)
    assert [(one.cannot_tell, one.counts) for one in read_answers(site.store, DAY, SOURCE)] == [(True, {})]


def test_wrong_answers_are_refused_with_a_reason(site):
    sample = site.plan.samples[0]
    other = next(frame_id for frame_id in site.frames if frame_id not in site.plan.samples)
    for body, said in (
        ({"frame_id": other}, "not in the sample"),
        ({"counts": {"car": 1}}, "one count for each label"),
        ({"counts": {"car": -1, "person": 0}}, "greater than or equal to 0"),
        ({"cannot_tell": True}, "none with cannot_tell"),
        ({"by": None}, "The name of the person who counts is missing."),
        ({"by": "  "}, "The name of the person who counts is missing."),
        ({"by": "a\0"}, "NUL"),
        ({"colour": "red"}, "colour"),
    ):
        answer = send(site, **{"frame_id": sample, **body})
        assert answer.status_code == 400
        assert said in f"{answer.json()['error']} {answer.json()['next']}"
    assert read_answers(site.store, DAY, SOURCE) == []


def test_a_source_without_a_plan_is_told_the_command_that_makes_one(site):
    for path in (f"/count/{DAY}", ROUTE):
        answer = site.viewer.get(path, source="back yard", **({"by": "ann"} if path == ROUTE else {}))
        assert answer.status_code == 404
        assert f"imgpipeline accuracy plan --day {DAY} --source &#39;back yard&#39;" in answer.text.replace(
            "'", "&#39;"
        )
    assert send(site, site.plan.samples[0], source="yard").status_code == 404


def test_frames_that_are_gone_are_not_asked(site):
    lost = "f" * 32
    keep = site.plan.draws[0]
    extra = population([(NOON, lost)], SOURCE)
    extend_plan(site.store, replace(site.plan, draws=(keep,)), extra, by="ada", at=NOON)
    found = asked(site, "ann")
    assert found["samples"] == 41
    assert lost not in found["left"]
    keep_answer(site.store, Answer(DAY, SOURCE, lost, "bob", NOON, NOBODY))
    assert len(asked(site, "ann")["left"]) == 40


def test_overview_frames_and_menu_lead_to_the_plans_of_the_day(site):
    get = site.viewer.get
    assert f"/count?day={DAY}" in links(get("/", day=DAY).text, "/count")
    assert f"/count?day={DAY}" in links(get("/review", day=DAY).text, "/count")
    assert f"/count/{DAY}?source=gate" in links(get("/review", day=DAY, source=SOURCE).text, "/count")


def test_the_list_of_plans_shows_progress_and_the_estimates_so_far(site):
    page = site.viewer.get("/count").text
    assert links(page, "/count/") == [f"/count/{DAY}?source=gate"]
    assert "0 of 40" in page
    for sample in site.plan.samples[:30]:
        persons = sum(seen.label == "person" for seen in site.frames[sample].detections)
        send(site, sample, counts={"car": 2, "person": persons})
    car, person = re.findall(r"</bdi></th>(<td class=.right.>\d.*?)</tr>", site.viewer.get("/count").text)
    assert car == '<td class="right">60</td><td class="right">120</td><td>114 to 126</td>'
    assert person == '<td class="right">30</td><td class="right">30</td><td>not enough counted yet</td>'


@pytest.mark.slow
def test_overview_and_review_show_the_interval_of_a_count_of_whole_days(tmp_path):
    settings = planned_settings(tmp_path)
    with planned_site(settings) as site:
        for sample in site.plan.samples[:30]:
            keep_answer(site.store, Answer(DAY, SOURCE, sample, "ann", NOON, {"car": 2, "person": 0}))
        rebuild_day(site.store, DAY, now=NOON)
        build(DayAccuracy(site.store, settings, Rules(), DAY, NOON))
    with viewing(settings) as viewer:
        counted = {"day": DAY, "label": "car", "min_confidence": 0.5}
        assert "114 to 126" in viewer.get("/", day=DAY).text
        assert "95 % interval of the true count: 114 to 126" in viewer.get("/review", **counted).text
        assert "114 to 126" not in viewer.get("/review", **counted, hour=12).text


def test_who_logs_in_counts_under_the_own_name_and_needs_a_scope(tmp_path):
    settings = planned_settings(tmp_path)
    keys = KeyFile(settings.api_keys_file)
    reader = keys.add((), NOON, scopes=(Scope.READ,), name="bob")
    counter = keys.add((), NOON, scopes=(Scope.READ, Scope.ACKNOWLEDGE), name="ann")
    with planned_site(settings) as site:
        site.viewer.http.headers["Authorization"] = f"Bearer {reader}"
        refused = send(site, site.plan.samples[0], "bob")
        assert (refused.status_code, "acknowledge" in refused.text) == (403, True)
        assert "needs an API key" in site.viewer.get(f"/count/{DAY}", source=SOURCE).text
        site.viewer.http.headers["Authorization"] = f"Bearer {counter}"
        assert send(site, site.plan.samples[0], None).json()["by"] == "ann"
        other = send(site, site.plan.samples[1], "bob")
        assert (other.status_code, other.json()["error"]) == (400, "bob counted this, but ann is logged in.")
        assert 'data-by="ann"' in site.viewer.get(f"/count/{DAY}", source=SOURCE).text
