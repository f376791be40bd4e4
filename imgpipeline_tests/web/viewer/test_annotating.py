"""People say what is wrong or missing in a frame: it is kept with its author, taken back, and changes no count."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

FRAME = replace(seen(0, ["car", "dog"], source="gate"), image_width=640, image_height=480)
PATH = f"/api/v1/frames/{DAY}/{FRAME.frame_id}/annotations"
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


@pytest.mark.medium
def test_feedback_is_stored_and_withdrawn_and_changes_no_count(folder: Settings):
    store = stored(folder)
    with viewing(folder) as viewer:
        before = viewer.json("/api/v1/label-counts", day=DAY)
        wrong = viewer.http.post(PATH, json={"mistake": "wrong", "detection_number": 1})
        missing = viewer.http.post(PATH, json=MISSING)
        assert (wrong.status_code, missing.status_code) == (201, 201)
        given = FRAME.detections[1]
        assert (wrong.json()["label"], tuple(wrong.json()["box"])) == (given.label, given.box_xywh)
        assert (missing.json()["box"], missing.json()["detection_number"]) == ([10, 20, 30.5, 40], None)
        assert sorted(one["mistake"] for one in said(viewer)) == ["missing", "wrong"]
        back = f"{PATH}/{missing.json()['annotation_id']}/withdrawal"
        assert [viewer.http.post(back).status_code for _ in range(2)] == [200, 200]
        assert {one["mistake"]: one["withdrawn_by"] is None for one in said(viewer)} == {
            "missing": False,
            "wrong": True,
        }
        assert viewer.json("/api/v1/label-counts", day=DAY) == before
        assert len(list(store.list_objects("annotations"))) == 3


@pytest.mark.medium
def test_invalid_feedback_is_refused_and_not_stored(folder: Settings):
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
            answer = viewer.http.post(PATH, json=body)
            assert (answer.status_code, why in answer.text) == (400, True), (body, answer.text)
        assert viewer.http.post(PATH.replace(FRAME.frame_id, "0" * 32), json=MISSING).status_code == 404
        assert viewer.http.post(f"{PATH}/{'0' * 32}/withdrawal").status_code == 404
    assert list(store.list_objects("annotations")) == []


@pytest.mark.medium
def test_feedback_needs_the_scope_acknowledge_and_names_the_author(folder: Settings):
    settings = folder.model_copy(update={"api_keys_file": Path(folder.store_url[7:]).parent / "keys.json"})
    stored(settings)
    keys = KeyFile(settings.api_keys_file)
    reader = keys.add((), NOON, scopes=(Scope.READ,), name="bert")
    writer = keys.add((), NOON, scopes=(Scope.READ, Scope.ACKNOWLEDGE), name="anna")
    with viewing(settings) as viewer:
        status = {
            key: viewer.http.post(PATH, json=MISSING, headers={"Authorization": f"Bearer {key}"}).status_code
            for key in (reader, writer)
        }
        assert status == {reader: 403, writer: 201}
        forged = {"Authorization": f"Bearer {writer}", "Sec-Fetch-Site": "cross-site"}
        assert viewer.http.post(PATH, json=MISSING, headers=forged).status_code == 403
        shown = viewer.http.get(f"/api/v1/annotations?day={DAY}", headers={"Authorization": f"Bearer {reader}"}).json()
        assert [one["by"] for one in shown["annotations"]] == ["anna"]
        page = viewer.http.get(f"/frames/{DAY}/{FRAME.frame_id}", headers={"Authorization": f"Bearer {reader}"}).text
        assert "below the car" in page
        assert "/annotate" not in page


@pytest.mark.medium
def test_the_filters_of_a_frame_stay_after_feedback_and_its_withdrawal(folder: Settings):
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


@pytest.mark.medium
def test_a_box_is_drawn_on_the_image_and_notes_stay_text(browser: Browser, folder: Settings):
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
