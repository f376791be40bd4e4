"""Frames are stored as received, or masked, resized and gated, with derived images next to the original."""

from datetime import UTC, datetime
from hashlib import sha256
from threading import Event
from typing import Any

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.keys import derived_image_key, original_image_key
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.errors import BadInputError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.options import Preparation, PublishOptions, check_derivation, parse_polygon, parse_size
from imgpipeline.sources.protocol import CapturedFrame
from imgpipeline.sources.storing import FrameStorer, PreparedFrame
from imgpipeline.vision.gate import Gate

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


def jpeg(shade: int, *, width: int = 200, height: int = 100) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), shade, np.uint8))[1].tobytes()


def prepare(preparation: Preparation, data: bytes | None = None, **fields: Any) -> PreparedFrame:
    storer = FrameStorer(
        Settings(_env_file=None), "gate", "s1", open_memory_store(), PublishOptions(preparation=preparation)
    )
    return storer.prepare(CapturedFrame(NOON, ClockSource.RECEIVER, data=data, **fields), None, Event())


def pixels_of(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_mask_is_painted_before_anything_is_stored():
    prepared = prepare(Preparation(masks=(((0, 0), (0.5, 0), (0.5, 1), (0, 1)),)), jpeg(200))
    pixels = pixels_of(prepared.data)
    assert pixels[:, :90].max() < 20
    assert pixels[:, 110:].min() > 180
    assert (prepared.width, prepared.height) == (200, 100)


def test_an_image_that_must_be_masked_and_cannot_be_decoded_is_not_stored():
    with pytest.raises(BadInputError):
        prepare(Preparation(masks=(((0, 0), (1, 0), (1, 1)),)), jpeg(200)[:60])


@pytest.mark.parametrize("preparation", [Preparation(gate=Gate(min_brightness=10)), Preparation(resize=(64, 36))])
def test_an_image_that_cannot_be_gated_or_resized_is_stored_as_it_is_for_its_dead_letter(preparation):
    damaged = jpeg(200)[:60]
    assert prepare(preparation, damaged).data == damaged


def test_an_image_is_stretched_to_the_wanted_size():
    prepared = prepare(Preparation(resize=(64, 36)), jpeg(100))
    assert pixels_of(prepared.data).shape == (36, 64, 3)
    assert (prepared.width, prepared.height) == (64, 36)


def test_the_digest_of_the_source_is_used_only_for_unchanged_bytes():
    unchanged = prepare(Preparation(), jpeg(100), sha256="0" * 64)
    assert unchanged.data == jpeg(100)
    resized = prepare(Preparation(resize=(64, 36)), jpeg(100), sha256="0" * 64)
    assert unchanged.sha256 == "0" * 64
    assert resized.sha256 == sha256(resized.data).hexdigest()


def test_pixels_are_encoded():
    assert pixels_of(prepare(Preparation(), pixels=np.full((20, 30, 3), 50, np.uint8)).data).shape == (20, 30, 3)


def test_masked_pixels_do_not_affect_the_gate():
    whole = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    gated = prepare(Preparation(gate=Gate(min_brightness=50), masks=(whole,)), jpeg(200)).gated
    assert gated is not None
    assert gated.measurements["brightness"] < 5


def test_a_size_and_a_polygon_are_read():
    assert parse_size("640x360") == (640, 360)
    assert parse_polygon("0,0 0.5,0 0.5,0.25") == ((0, 0), (0.5, 0), (0.5, 0.25))


@pytest.mark.parametrize(
    ("read", "texts", "said"),
    [
        (parse_size, ["640", "0x10", "axb", "-1x5"], "640x360"),
        (parse_polygon, ["0,0 1,1", "0,0 1,1 2,2", "0,0 1 1,1"], "three or more points"),
        (check_derivation, ["grey", "0x10", "640"], "gray, edges or a size"),
    ],
    ids=["size", "polygon", "derivation"],
)
def test_an_invalid_text_is_refused(read, texts, said):
    for text in texts:
        with pytest.raises(ValueError, match=said):
            read(text)


def picture() -> np.ndarray:
    pixels = np.full((90, 160, 3), (200, 100, 50), np.uint8)
    cv2.rectangle(pixels, (40, 20), (100, 70), (255, 255, 255), -1)
    return pixels


def stored(data: bytes, name: str, *derive: str) -> tuple[ObjectStore, FrameMessage]:
    store, frame = open_memory_store(), CapturedFrame(NOON, ClockSource.EXIF, data=data, name=name)
    storer = FrameStorer(
        Settings(_env_file=None), "yard", "s1", store, PublishOptions(preparation=Preparation(derive=derive))
    )
    prepared = storer.prepare(frame, None, Event())
    return store, storer.store(frame, prepared)


def test_grey_and_resized_images_are_stored_next_to_the_original_and_the_frame_names_them():
    data = cv2.imencode(".png", picture())[1].tobytes()
    store, message = stored(data, "a.png", "gray", "64x36")
    assert store.get(str(message.image_path)) == data
    derived = message.attributes["derived"]
    assert derived == {
        "gray": "images/yard/2026-01-09/derived/gray/a.png",
        "64x36": "images/yard/2026-01-09/derived/64x36/a.png",
    }
    grey = pixels_of(store.get(derived["gray"]))
    assert np.array_equal(grey, cv2.cvtColor(picture(), cv2.COLOR_BGR2GRAY))
    assert pixels_of(store.get(derived["64x36"])).shape == (36, 64, 3)


def test_edges_are_where_the_picture_changes():
    store, message = stored(cv2.imencode(".png", picture())[1].tobytes(), "a.png", "edges")
    edges = pixels_of(store.get(message.attributes["derived"]["edges"]))
    assert edges[45, 36:45].max() == 255
    assert edges[5:15, 5:30].max() == 0


def test_nothing_is_derived_from_an_image_that_cannot_be_decoded():
    _, message = stored(b"\xff\xd8\xff damaged", "a.jpg", "gray")
    assert message.attributes["derived"] == {}


@pytest.mark.parametrize("key", ["images/yard/2026-01-09/a.jpg", "a.jpg"])
def test_a_derived_key_leads_back_to_the_original(key):
    assert original_image_key(derived_image_key(key, "gray")) == key
    assert original_image_key(key) == key
