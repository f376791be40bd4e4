"""A clip shows the frames around an event with their times; a missing image is shown as text."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import av
import numpy as np
import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import PermanentError, UsageError
from imgpipeline.events.clips import Clip, ClipWish, write_event_clip
from imgpipeline.events.reading import read_event, read_events
from imgpipeline.events.values import Event
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.images import DeletedImages, write_deleted
from imgpipeline_tests.daily.builds import build_table
from imgpipeline_tests.events.samples import NOON, png, rules
from imgpipeline_tests.ledger.samples import DAY, append, frame, write_chain, writer
from imgpipeline_tests.objectstore.stores import folder_settings

pytestmark = pytest.mark.medium

CROWD = rules('[[rule]]\nname = "crowd"\nkind = "count"\nabove = 0\n')
SECONDS = (0.0, 1.0, 2.5, 3.0, 4.2, 5.0, 6.0, 9.0)
"""Times of the frames after noon; a car is in those from 3 to 5 seconds."""
BOX = (20.0, 30.0, 40.0, 30.0)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """Eight images of 160 x 120 pixels, each of another brightness, and one event: a car from 3.0 to 5.0 s."""
    opened = open_store(folder_settings(tmp_path))
    frames = []
    for number, second in enumerate(SECONDS):
        key = f"images/cam-1/{DAY}/{number}.png"
        opened.put(key, png(np.full((120, 160, 3), 60 + 20 * number, np.uint8)))
        cars = (Detection("car", 2, 0.9, BOX),) if 3 <= second <= 5 else ()
        made = replace(frame(number), timestamp=NOON + timedelta(seconds=second), source_image_path=key)
        frames.append(replace(made, detections=cars, image_width=160, image_height=120))
    write_chain(opened, frames)
    rebuild_day(opened, DAY, now=NOON)
    build_table(opened, DAY, EVENTS, rules=CROWD, settings=folder_settings(tmp_path), now=NOON)
    return opened


def event_of(store: ObjectStore, tmp_path: Path) -> Event:
    (event,) = read_events(store, folder_settings(tmp_path), DAY)
    return event


def write(store: ObjectStore, tmp_path: Path, name: str = "clip.mp4", wish: ClipWish = ClipWish()) -> Clip:  # noqa: B008 - a value
    return write_event_clip(store, folder_settings(tmp_path), event_of(store, tmp_path), tmp_path / name, wish)


def decoded(path: Path) -> list[tuple[float, np.ndarray]]:
    """Return time and pixels (RGB) of each frame of a file."""
    with av.open(str(path)) as container:
        return [(float(found.time or 0), found.to_ndarray(format="rgb24")) for found in container.decode(video=0)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif"])
def test_a_clip_has_the_frames_before_during_and_after_at_their_times(store, tmp_path, name):
    made = write(store, tmp_path, name, ClipWish(before_s=2, after_s=1))
    expected = [second for second in SECONDS if 1 <= second <= 6]
    assert (made.frames, made.missing, made.is_cut) == (len(expected), 0, False)
    assert (made.first, made.last) == (NOON + timedelta(seconds=1), NOON + timedelta(seconds=6))
    shown = decoded(tmp_path / name)
    assert [time for time, _ in shown] == pytest.approx([second - 1 for second in expected], abs=0.006)
    assert {pixels.shape for _, pixels in shown} == {(120, 160, 3)}
    brightness = [int(np.median(pixels)) for _, pixels in shown]
    assert brightness == pytest.approx([60 + 20 * SECONDS.index(second) for second in expected], abs=6)


def test_boxes_are_drawn_and_the_event_is_marked(store, tmp_path):
    write(store, tmp_path, wish=ClipWish(before_s=1, after_s=1))
    shown = dict(zip(["before", "first", "second", "third", "after"], decoded(tmp_path / "clip.mp4"), strict=True))

    def contrast(name: str, part: tuple[slice, slice]) -> float:
        return float(shown[name][1][part].std())

    edge, caption = (slice(45, 55), slice(15, 25)), (slice(100, 120), slice(0, 100))
    assert contrast("before", edge) < 5 < contrast("first", edge)
    red = {name: shown[name][1][caption].astype(int) for name in shown}
    assert [bool((pixels[..., 0] - pixels[..., 1] > 80).any()) for pixels in red.values()] == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_a_deleted_image_is_shown_as_text(store, tmp_path):
    for number in (2, 3):
        store.delete(f"images/cam-1/{DAY}/{number}.png")
    write_deleted(store, DeletedImages("cam-1", DAY, NOON + timedelta(days=3), 2, 200, 0, NOON + timedelta(days=3)))
    made = write(store, tmp_path, wish=ClipWish(before_s=2, after_s=1))
    assert (made.frames, made.missing) == (6, 2)
    shown = [pixels[:90] for _, pixels in decoded(tmp_path / "clip.mp4")]
    is_grey = [abs(float(np.median(pixels)) - 64) < 6 for pixels in shown]
    assert is_grey == [False, True, True, False, False, False]
    assert all((pixels > 200).sum() > 100 for pixels in shown[1:3]), "text"


def test_a_clip_can_be_faster_shorter_and_of_images_of_several_sizes(store, tmp_path):
    store.put(f"images/cam-1/{DAY}/4.png", png(np.full((301, 201, 3), 140, np.uint8)))
    made = write(store, tmp_path, wish=ClipWish(before_s=3, after_s=60, speed=2, most_frames=5))
    assert (made.frames, made.is_cut) == (5, True)
    shown = decoded(tmp_path / "clip.mp4")
    assert [time for time, _ in shown] == pytest.approx([second / 2 for second in SECONDS[:5]], abs=0.002)
    assert {pixels.shape for _, pixels in shown} == {(120, 160, 3)}


def test_frames_with_the_same_time_are_shown_in_sequence(store, tmp_path):
    event = replace(event_of(store, tmp_path), source="twin")
    image = {"source_image_path": f"images/cam-1/{DAY}/1.png", "timestamp": event.timestamp}
    append(writer(store), [replace(frame(8 + number, source="twin"), **image) for number in (0, 1)])
    write_event_clip(store, folder_settings(tmp_path), event, tmp_path / "clip.gif", ClipWish())
    assert [time for time, _ in decoded(tmp_path / "clip.gif")] == pytest.approx([0, 0.01])


def test_a_clip_that_cannot_be_made_is_an_error_with_the_next_step(store, tmp_path):
    settings, event = folder_settings(tmp_path), event_of(store, tmp_path)
    with pytest.raises(UsageError, match=r"expected \.mp4 or \.gif"):
        write(store, tmp_path, "clip.avi")
    with pytest.raises(UsageError, match="There is no event 'abc'"):
        read_event(store, settings, "abc")
    with pytest.raises(PermanentError, match=r"absent/clip\.mp4 cannot be written"):
        write(store, tmp_path, "absent/clip.mp4")
    with pytest.raises(PermanentError, match="other has no frames from"):
        write_event_clip(store, settings, replace(event, source="other"), tmp_path / "clip.mp4", ClipWish())
    assert read_event(store, settings, event.event_id) == event
