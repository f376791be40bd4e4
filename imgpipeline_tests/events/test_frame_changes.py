"""Image changes: consecutive frames of a source are compared once, and a change is an event with both images."""

from dataclasses import replace
from datetime import timedelta

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from imgpipeline.events.comparing import difference_image, difference_norm
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.derived import Built
from imgpipeline.lake.schema.events import EVENTS, FRAME_CHANGES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.lake.storage.manifest import Manifest
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table
from imgpipeline_tests.events.samples import CHANGE, NOON, png, rotated, rules, square_picture, stored_frames
from imgpipeline_tests.ledger.samples import DAY, append, write_chain

LATER = NOON + timedelta(hours=1)
PIXELS = arrays(np.uint8, (3, 4, 3))


def build(store: ObjectStore, text: str = CHANGE) -> tuple[Built[Manifest], Built[Manifest]]:
    """Bring both tables up to the ledger."""
    rebuild_day(store, DAY, now=LATER)
    read = rules(text)
    changes = build_table(store, DAY, FRAME_CHANGES, rules=read, settings=Settings(), now=LATER)
    return changes, build_table(store, DAY, EVENTS, rules=read, settings=Settings(), now=LATER)


def asked(store: ObjectStore, sql: str) -> list[tuple]:
    with open_lake(store) as lake:
        return lake.query(sql).rows


@pytest.mark.medium
def test_the_rotate_pattern_has_two_events_and_the_first_image_none(memory):
    write_chain(memory, stored_frames(memory, rotated()))
    changes, events = build(memory)
    assert (changes.manifest.rows, events.manifest.rows) == (9, 2)
    found = asked(memory, "SELECT image_paths, value > 0, started_at, timestamp FROM events ORDER BY timestamp")
    assert found == [
        (["images/cam-1/00001.jpg", "images/cam-1/00002.jpg"], True, NOON + timedelta(seconds=1),
         NOON + timedelta(seconds=2)),
        (["images/cam-1/00005.jpg", "images/cam-1/00006.jpg"], True, NOON + timedelta(seconds=5),
         NOON + timedelta(seconds=6)),
    ]  # fmt: skip
    assert asked(memory, "SELECT count(*) FILTER (norm = 0), count(*) FROM frame_changes") == [(7, 9)]


@given(PIXELS, PIXELS)
def test_the_norm_is_that_of_the_float_difference(image, previous):
    expected = np.linalg.norm((image.astype(float) - previous.astype(float)).ravel())
    assert difference_norm(image, previous) == pytest.approx(expected, rel=1e-12)
    assert (difference_norm(image, previous) == 0) == np.array_equal(image, previous)


def test_images_of_different_sizes_are_an_event_with_the_reason(memory):
    small, large = np.zeros((20, 30, 3), np.uint8), np.zeros((30, 20, 3), np.uint8)
    write_chain(memory, stored_frames(memory, [png(small), png(large)]))
    build(memory)
    assert asked(memory, "SELECT value, reason, difference_image FROM events") == [
        (None, "the image is 20x30, the one before 30x20", None)
    ]


def test_the_threshold_is_part_of_the_rule(memory):
    dark, lighter = np.zeros((10, 10, 3), np.uint8), np.full((10, 10, 3), 2, np.uint8)
    write_chain(memory, stored_frames(memory, [png(dark), png(lighter), png(dark)]))
    norm = 2 * 300**0.5
    for threshold, events in ((0, 2), (norm - 0.1, 2), (norm + 0.1, 0)):
        assert build(memory, f"{CHANGE}threshold = {threshold}\n")[1].manifest.rows == events


@given(PIXELS, PIXELS)
def test_the_difference_is_stretched_over_all_channels_together(image, previous):
    drawn, difference = difference_image(image, previous), image.astype(np.float64) - previous
    assert (drawn.dtype, drawn.shape) == (np.uint8, image.shape)
    spread = difference.max() - difference.min()
    if spread == 0:
        assert not drawn.any()
    else:
        assert (drawn.min(), drawn.max()) == (0, 255)
        assert np.abs((difference - difference.min()) / spread * 255 - drawn).max() <= 1


def test_an_event_is_a_row_and_the_image_of_its_difference_an_object(memory):
    dark = square_picture()
    write_chain(memory, stored_frames(memory, [png(dark), png(np.rot90(dark).copy())]))
    build(memory)
    ((event_id, key),) = asked(memory, "SELECT event_id, difference_image FROM events")
    assert key == f"event_images/day=2026-01-09/{event_id}.difference.jpg"
    stored = cv2.imdecode(np.frombuffer(memory.get(key), np.uint8), cv2.IMREAD_COLOR)
    expected = difference_image(np.rot90(dark), dark)
    assert np.abs(stored.astype(int) - expected).mean() < 10  # JPEG


@pytest.mark.medium
def test_each_pair_is_compared_once_while_the_day_grows(memory):
    images = rotated()
    chain = write_chain(memory, stored_frames(memory, images[:6]))
    build(memory)
    for number in range(5):  # an image that was compared is not read again
        memory.delete(f"images/cam-1/{number:05d}.jpg")
    append(chain, stored_frames(memory, images[6:], first=6))
    changes, events = build(memory)
    assert (changes.manifest.rows, events.manifest.rows) == (9, 2)
    assert asked(memory, "SELECT DISTINCT outcome FROM frame_changes") == [("compared",)]
    assert build(memory)[0].skipped


@pytest.mark.medium
def test_a_late_frame_between_two_others_is_compared_with_both(memory):
    picture = png(square_picture())
    first, late, last = stored_frames(memory, [picture, png(np.rot90(square_picture()).copy()), picture])
    late, last = replace(late, offset=2), replace(last, offset=1)
    chain = write_chain(memory, [first, last])
    assert build(memory)[1].manifest.rows == 0
    append(chain, [late])
    changes, events = build(memory)
    assert (changes.manifest.rows, events.manifest.rows) == (2, 2)


def test_a_missing_image_is_named_and_not_an_event(memory):
    write_chain(memory, stored_frames(memory, rotated()[:3]))
    memory.delete("images/cam-1/00001.jpg")
    assert build(memory)[1].manifest.rows == 0
    ((outcome, reason),) = asked(memory, "SELECT DISTINCT outcome, reason FROM frame_changes")
    assert (outcome, "00001.jpg" in reason) == ("unreadable", True)


def test_only_sources_of_rules_are_compared(memory):
    write_chain(memory, stored_frames(memory, rotated()[:3]))
    changes, events = build(memory, f'{CHANGE}sources = ["cam-2"]\n')
    assert (changes.manifest.rows, events.manifest.rows) == (0, 0)


def test_a_cooldown_suppresses_later_events(memory):
    write_chain(memory, stored_frames(memory, rotated()))
    assert build(memory, f"{CHANGE}cooldown_s = 4\n")[1].manifest.rows == 2
    assert build(memory, f"{CHANGE}cooldown_s = 5\n")[1].manifest.rows == 1
