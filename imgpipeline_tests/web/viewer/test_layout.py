"""What a browser lays out: tables fit a screen of 1280 pixels, captions stay in the image, and text keeps off boxes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from imgpipeline.contracts.detection import Detection
from imgpipeline.events.alerts.chain import AlertChain
from imgpipeline.events.configuration import load_rules
from imgpipeline.events.values import Event
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.ledger.samples import DAY, NOON, dead_letter, rejected, write_chain
from imgpipeline_tests.tracking.films import Car, film
from imgpipeline_tests.web.viewer.viewing import viewing

pytestmark = pytest.mark.medium

START = datetime(2026, 1, 9, 11, 50, tzinfo=UTC)
END = START + timedelta(minutes=20)
SOURCE = "loading_bay_camera_seven"
PATH = f"images/{SOURCE}/20260109/frame_20260109T123456789012Z.jpg"
RULES = f"""
[[zone]]
name = "in front of the loading bay"
source = "{SOURCE}"
points = [[0.9, 0.1], [1, 0.1], [1, 0.9], [0, 0.9]]

[[line]]
name = "stop line at the northern gate"
source = "{SOURCE}"
size = [640, 480]
points = [[95, 100], [95, 300]]
backward = "leaving the yard"
"""
EDGE = (
    Detection("delivery truck", 7, 0.8, (600.0, 100.0, 40.0, 50.0)),
    Detection("dog", 1, 0.8, (0.0, 0.0, 40.0, 9.0)),
)
PAGES = (
    "/",
    f"/dead-letters?day={DAY}",
    "/dead-letters/frames/0/240",
    f"/places?day={DAY}",
    "/alerts/1",
    "/search?q=car",
    "/search?q=colour:red",
    "/docs",
)
TOUCHING = """() => {
  const boxes = [...document.querySelectorAll("main :is(.scroll, .facts, .notice, pre)")];
  const range = document.createRange();
  const found = [];
  const add = (part, rects) => {
    for (const box of boxes) {
      const edge = box.getBoundingClientRect();
      for (const rect of box.contains(part) || part.contains(box) ? [] : rects) {
        const gap = Math.max(rect.top - edge.bottom, edge.top - rect.bottom);
        if (rect.width && gap < 6) found.push(`${part.textContent.trim().slice(0, 40)}: ${gap}`);
      }
    }
  };
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    if (!texts.currentNode.textContent.trim()) continue;
    range.selectNodeContents(texts.currentNode);
    add(texts.currentNode, [...range.getClientRects()]);
  }
  for (const button of document.querySelectorAll("main button")) add(button, [button.getBoundingClientRect()]);
  return found;
}"""


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of 1280 x 800 of a viewer whose names are long."""
    folder = tmp_path_factory.mktemp("layout")
    (folder / "rules.toml").write_text(RULES)
    settings = Settings(_env_file=None, store_url=(folder / "store").as_uri(), rules_file=str(folder / "rules.toml"))
    store = open_store(settings)
    frames = film(START, END, [Car(START, END), Car(START, END, y=350)], source=SOURCE)
    frames[-1] = replace(frames[-1], detections=(*frames[-1].detections, *EDGE))
    store.put(frames[-1].source_image_path, cv2.imencode(".png", np.zeros((480, 640, 3), np.uint8))[1].tobytes())
    said = f"s3://site/{PATH} cannot be decoded"
    record = f'{{"image_path":"s3://site/{PATH}"}}'.encode()
    letters = [
        rejected(replace(dead_letter(240 + n), source=SOURCE, image_path=PATH, message=said), record) for n in range(3)
    ]
    write_chain(store, [*frames, *letters])
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=NOON)
    for table in (ZONE_OCCUPANCY, LINE_CROSSINGS):
        build_table(store, DAY, table, rules=load_rules(folder / "rules.toml"), settings=settings, now=NOON)
    last = frames[-1]
    event = Event("crowd", "count", SOURCE, last.timestamp, last.timestamp, last.timestamp, None, None, None, 4.0,
                  "4 objects", (last.frame_id,), (last.source_image_path,))  # fmt: skip
    AlertChain(store).append(event, difference_image=None, now=NOON)
    with viewing(settings) as viewer, browser.new_context(base_url=str(viewer.http.base_url)) as context:
        made = context.new_page()
        made.set_viewport_size({"width": 1280, "height": 800})
        yield made


def show(page: Page, path: str) -> None:
    """Open a page; `/frame` is that of the alert's frame."""
    page.goto("/alerts/1" if path == "/frame" else path)
    if path == "/frame":
        page.locator("a.picture").click()
        page.wait_for_url("**/frames/**")


@pytest.mark.parametrize("path", [PAGES[1], PAGES[3], "/frame"], ids=["dead letters", "places", "frame"])
def test_tables_fit_a_screen(page, path):
    show(page, path)
    assert page.locator(".scroll").count() > 0
    sizes = page.evaluate("[...document.querySelectorAll('.scroll')].map((one) => [one.scrollWidth, one.clientWidth])")
    assert [size for size in sizes if size[0] > size[1]] == []


@pytest.mark.parametrize("path", PAGES)
def test_text_keeps_off_boxes(page, path):
    page.goto(path)
    assert page.evaluate(TOUCHING) == []


@pytest.mark.parametrize("path", ["/frame", "/alerts/1"])
def test_captions_stay_in_the_image_and_above_the_names_of_places(page, path):
    show(page, path)
    image = page.locator(".picture img").bounding_box()
    assert image is not None
    captions = page.locator(".picture text")
    assert captions.count() == 4 + 2
    for number in range(captions.count()):
        box = captions.nth(number).bounding_box()
        assert box is not None
        assert image["x"] <= box["x"]
        assert box["x"] + box["width"] <= image["x"] + image["width"] + 1
    drawn = page.locator(".picture svg").evaluate_all("(all) => all.map((one) => one.getAttribute('class'))")
    assert drawn == ["ways", "boxes"]


def test_a_record_without_spaces_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        page.goto("/dead-letters/frames/0/240")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    finally:
        page.set_viewport_size({"width": 1280, "height": 800})
