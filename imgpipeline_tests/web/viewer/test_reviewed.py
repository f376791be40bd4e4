"""What people mark as reviewed or wrong: by frame and day, with its author, taken back, and never in a count."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline.web.viewer.reviewed import PREFIX
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, frames, write_chain
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.web.viewer.filmed import NEXT_DAY, FilmedSite, filmed_site
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

pytestmark = pytest.mark.medium
PATH = "/api/v1/reviewed"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FilmedSite]:
    with filmed_site(tmp_path) as made:
        yield made


def reviewed(site: FilmedSite, **headers: str) -> dict[str, int]:
    answer = site.viewer.http.get(PATH, headers=headers)
    assert answer.status_code == 200, answer.text
    return {row["day"]: row["reviewed"] for row in answer.json()["days"]}


def test_frames_and_days_are_marked_and_unmarked(site):
    http, ids = site.viewer.http, [one.frame_id for one in site.of()]
    day = str(DAY)
    counts = site.viewer.get("/api/v1/label-counts", day=DAY).content
    assert reviewed(site) == {day: 0, str(NEXT_DAY): 0}
    answer = http.post(PATH, json={"day": day, "frames": ids[:3]})
    assert (answer.status_code, answer.json()) == (
        200, {"by": "viewer without login", "day": day, "frames": 48, "reviewed": 3},
    )  # fmt: skip
    assert http.post(PATH, json={"day": day, "frames": ids[2:5]}).json()["reviewed"] == 5
    assert http.post(PATH, json={"day": day, "frames": ids[:1], "reviewed": False}).json()["reviewed"] == 4
    page = site.viewer.get("/review", day=DAY).text
    assert '<b id="reviewed-count">4</b> of 48 frames' in page
    assert page.count('class="card reviewed"') == 4
    assert http.post(PATH, json={"day": day}).json()["reviewed"] == 48
    assert reviewed(site) == {day: 48, str(NEXT_DAY): 0}
    refused = http.post(PATH, json={"day": day, "frames": ids[:1], "reviewed": False})
    assert (refused.status_code, "remove the mark of the day" in refused.text) == (400, True)
    assert http.post(PATH, json={"day": day, "reviewed": False}).json()["reviewed"] == 0
    assert site.viewer.get("/api/v1/label-counts", day=DAY).content == counts


def test_forms_mark_frames_and_redirect_back(site):
    http, one = site.viewer.http, site.of()[0]
    frame = f"/frames/{DAY}/{one.frame_id}?label=car"
    assert "not reviewed" in http.get(frame).text
    sent = http.post("/review/reviewed", data={"day": str(DAY), "frames": one.frame_id, "reviewed": "1", "back": frame})
    assert (sent.status_code, sent.headers["location"]) == (303, frame)
    assert "✓ reviewed" in http.get(frame).text
    back = f"/review?day={DAY}&label=car"
    assert f'name="back" value="{back}"' in unescape(http.get(back).text)
    assert http.post("/review/reviewed", data={"day": str(DAY), "back": back}).headers["location"] == back
    assert reviewed(site)[str(DAY)] == 48


def test_unknown_frames_and_days_cannot_be_marked_and_a_form_redirects_only_to_pages_of_this_server(site):
    http, day = site.viewer.http, str(DAY)
    for body in ({"day": "2020-01-01"}, {"day": day, "frames": ["0" * 32]}, {"day": day, "frames": ["' OR 1=1"]},
                 {"day": day, "who": "anna"}, {}):  # fmt: skip
        assert http.post(PATH, json=body).status_code in {400, 404}, body
        assert http.post("/review/reviewed", data=body).status_code in {400, 404}, body
    for back in ("//evil.example/", "https://evil.example/", "/review\r\nX: y", "/api/v1/days"):
        assert http.post("/review/reviewed", data={"day": day, "back": back}).status_code == 400, back
    assert [info.key for info in site.store.list_objects(PREFIX)] == []


def test_each_person_has_separate_marks_and_needs_the_scope(tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    both = (Scope.READ, Scope.ACKNOWLEDGE)
    anna, bert, carl = (
        {"Authorization": f"Bearer {keys.add((), NOON, scopes=scopes, name=name)}"}
        for name, scopes in (("anna", both), ("bert/../anna", both), ("carl", (Scope.READ,)))
    )
    with filmed_site(tmp_path, api_keys_file=tmp_path / "keys.json") as site:
        http, body = site.viewer.http, {"day": str(NEXT_DAY)}
        assert http.post(PATH, json=body).status_code == 401
        for path, sent in ((PATH, {"json": body}), ("/review/reviewed", {"data": body})):
            refused = http.post(path, headers=carl, **sent)
            assert (refused.status_code, "acknowledge" in refused.text) == (403, True)
            forged = http.post(path, headers={**anna, "Sec-Fetch-Site": "cross-site"}, **sent)
            assert forged.status_code == 403
        assert http.post(PATH, json=body, headers=anna).json()["by"] == "anna"
        counts = [reviewed(site, **headers)[str(NEXT_DAY)] for headers in (anna, bert, carl)]
        assert counts == [12, 0, 0]
        assert "Mark whole day as reviewed" not in http.get("/review", headers=carl).text
        assert "reviewed by <bdi>bert/../anna</bdi>" in http.get("/calendar", headers=bert).text


def test_a_frame_that_arrives_after_the_day_was_marked_is_not_reviewed(folder):
    store = open_store(folder)
    chain = write_chain(store, frames(0, 3))
    with viewing(folder) as viewer:
        assert viewer.http.post(PATH, json={"day": str(DAY)}).json()["reviewed"] == 3
        append(chain, frames(3, 5))
        wait_until(lambda: viewer.json("/api/v1/frames")["matching"] == 5, limit_s=120, what="the new frames")
        assert viewer.json(PATH)["days"] == [{"day": str(DAY), "frames": 5, "reviewed": 3}]
        assert "3 reviewed" in viewer.get("/calendar").text


def test_the_calendar_shows_days_with_data_and_what_is_left(site):
    http = site.viewer.http
    http.post(PATH, json={"day": str(DAY)})
    http.post(PATH, json={"day": str(NEXT_DAY), "frames": [site.of(NEXT_DAY)[0].frame_id]})
    page = http.get("/calendar?month=2026-01").text
    assert "<h1>January 2026</h1>" in page
    assert "<b>2</b> days with frames, <b>1</b> reviewed" in page
    assert f'<td class="reviewed"><a href="/review?day={DAY}"><b>9</b> <span>48 frames</span>' in page
    assert f'<td class="partly"><a href="/review?day={NEXT_DAY}"><b>10</b> <span>12 frames</span>' in page
    assert f'<a href="/review?day={NEXT_DAY}">First day left to review: {NEXT_DAY}</a>' in page
    assert "No frames in this month." in http.get("/calendar?month=2025-12").text
    assert 'href="/calendar?month=2026-01"' in http.get("/calendar?month=2025-12").text
    assert http.get("/calendar?month=2026-13").status_code == 400
    assert 'href="/calendar?month=2026-01"' in http.get(f"/review?day={DAY}").text


FRAME = replace(seen(0, ["car", "dog"], source="gate"), image_width=640, image_height=480)
ANNOTATIONS = f"/api/v1/frames/{DAY}/{FRAME.frame_id}/annotations"
MISSING = {"mistake": "missing", "label": "cat", "box": [10, 20, 30.5, 40], "note": "below the car"}


def said(viewer: Viewer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = viewer.json("/api/v1/annotations", day=DAY)["annotations"]
    return found


def stored(folder: Settings) -> ObjectStore:
    store = open_store(folder)
    write_chain(store, [FRAME])
    return store


def actions(page: str) -> list[str]:
    """Return where the forms of a page are posted."""
    return [unescape(found) for found in re.findall(r'action="([^"]*)" method="post"', page)]


def test_feedback_is_stored_and_withdrawn_and_changes_no_count(folder):
    store = stored(folder)
    with viewing(folder) as viewer:
        before = viewer.json("/api/v1/label-counts", day=DAY)
        wrong = viewer.http.post(ANNOTATIONS, json={"mistake": "wrong", "detection_number": 1})
        missing = viewer.http.post(ANNOTATIONS, json=MISSING)
        assert (wrong.status_code, missing.status_code) == (201, 201)
        given = FRAME.detections[1]
        assert (wrong.json()["label"], tuple(wrong.json()["box"])) == (given.label, given.box_xywh)
        assert (missing.json()["box"], missing.json()["detection_number"]) == ([10, 20, 30.5, 40], None)
        assert sorted(one["mistake"] for one in said(viewer)) == ["missing", "wrong"]
        back = f"{ANNOTATIONS}/{missing.json()['annotation_id']}/withdrawal"
        assert [viewer.http.post(back).status_code for _ in range(2)] == [200, 200]
        assert {one["mistake"]: one["withdrawn_by"] is None for one in said(viewer)} == {
            "missing": False,
            "wrong": True,
        }
        assert viewer.json("/api/v1/label-counts", day=DAY) == before
        assert len(list(store.list_objects("annotations"))) == 3


def test_invalid_feedback_is_refused_and_not_stored(folder):
    store = stored(folder)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"mistake": "wrong"}, "detection_number is missing"),
        ({"mistake": "wrong", "detection_number": 2}, "give one of 0, 1"),
        ({"mistake": "wrong", "detection_number": 0, "label": "cat"}, "takes no label or box"),
        ({"mistake": "missing", "label": "cat"}, "needs a label and a box"),
        ({**MISSING, "box": [630, 0, 11, 10]}, "640 x 480"),
        ({**MISSING, "box": [0, 0, 0, 10]}, "is not inside the image"),
        ({**MISSING, "box": [1, 2, 3]}, "box"),
        ({**MISSING, "box": "NaN"}, "box"),
        ({**MISSING, "note": "x" * 2001}, "note"),
        ({**MISSING, "label": "a\0b"}, "NUL"),
        ({"mistake": "odd"}, "mistake"),
    ]
    with viewing(folder) as viewer:
        for body, why in wrong:
            answer = viewer.http.post(ANNOTATIONS, json=body)
            assert (answer.status_code, why in answer.text) == (400, True), (body, answer.text)
        assert viewer.http.post(ANNOTATIONS.replace(FRAME.frame_id, "0" * 32), json=MISSING).status_code == 404
        assert viewer.http.post(f"{ANNOTATIONS}/{'0' * 32}/withdrawal").status_code == 404
    assert list(store.list_objects("annotations")) == []


def test_feedback_needs_the_scope_acknowledge_and_names_the_author(folder):
    stored(folder)
    keys = KeyFile(folder.api_keys_file)
    reader = keys.add((), NOON, scopes=(Scope.READ,), name="bert")
    writer = keys.add((), NOON, scopes=(Scope.READ, Scope.ACKNOWLEDGE), name="anna")
    with viewing(folder) as viewer:
        status = {
            key: viewer.http.post(ANNOTATIONS, json=MISSING, headers={"Authorization": f"Bearer {key}"}).status_code
            for key in (reader, writer)
        }
        assert status == {reader: 403, writer: 201}
        forged = {"Authorization": f"Bearer {writer}", "Sec-Fetch-Site": "cross-site"}
        assert viewer.http.post(ANNOTATIONS, json=MISSING, headers=forged).status_code == 403
        shown = viewer.http.get(f"/api/v1/annotations?day={DAY}", headers={"Authorization": f"Bearer {reader}"}).json()
        assert [one["by"] for one in shown["annotations"]] == ["anna"]
        page = viewer.http.get(f"/frames/{DAY}/{FRAME.frame_id}", headers={"Authorization": f"Bearer {reader}"}).text
        assert "below the car" in page
        assert "/annotate" not in page


def test_the_filters_of_a_frame_stay_after_feedback_and_its_withdrawal(folder):
    stored(folder)
    own = f"/frames/{DAY}/{FRAME.frame_id}?source=gate&label=car"
    wrong = {"mistake": "wrong", "detection_number": "0"}
    missing = {"mistake": "missing", "label": "cat", "box": "1, 2, 3, 4"}
    with viewing(folder) as viewer:
        for form in (wrong, missing):
            action = next(one for one in actions(viewer.get(own).text) if "/annotate" in one)
            assert viewer.http.post(action, data=form).headers["location"] == f"{own}#feedback"
        back = [one for one in actions(viewer.get(own).text) if "/withdraw" in one]
        assert [viewer.http.post(one).headers["location"] for one in back] == [f"{own}#feedback"] * 2


def test_a_box_is_drawn_on_the_image_and_notes_stay_text(browser, folder):
    store = stored(folder)
    encoded, image = cv2.imencode(".jpg", np.full((480, 640, 3), 90, np.uint8))
    assert encoded
    store.put(FRAME.source_image_path, image.tobytes())
    with viewing(folder) as viewer, browser.new_context(base_url=str(viewer.http.base_url)) as context:
        page = context.new_page()
        page.goto(f"/frames/{DAY}/{FRAME.frame_id}")
        canvas = page.locator(".large svg.boxes").bounding_box()
        assert canvas is not None
        scale = canvas["width"] / 640
        page.mouse.move(canvas["x"] + 100 * scale, canvas["y"] + 50 * scale)
        page.mouse.down()
        page.mouse.move(canvas["x"] + 200 * scale, canvas["y"] + 130 * scale)
        page.mouse.up()
        form = page.get_by_role("form", name="An object is missing")
        drawn = [float(value) for value in form.get_by_label("x, y, width, height").input_value().split(",")]
        assert drawn == pytest.approx([100, 50, 100, 80], abs=2)
        form.get_by_label("Missing label").fill("cat")
        form.get_by_label("Note").fill("<img src=x onerror=document.title=1>")
        form.get_by_role("button", name="Report missing object").click()
        item = page.locator("section[aria-labelledby=feedback] li")
        expect(item).to_contain_text("cat is missing: <img src=x onerror=document.title=1>")
        wrong = page.get_by_role("form", name="A detection is wrong")
        wrong.get_by_label("Wrong detection").select_option("1")
        wrong.get_by_role("button").click()
        expect(item).to_have_count(2)
        item.filter(has_text="cat").get_by_role("button", name="Withdraw").click()
        expect(item.filter(has_text="cat")).to_contain_text("withdrawn by")
        page.goto(f"/feedback?day={DAY}")
        expect(page.get_by_role("status")).to_contain_text("1 annotation")
        expect(page.get_by_role("row")).to_have_count(3)
