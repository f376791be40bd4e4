"""Derived images lie beside their original, and the announcement leads to them."""

from datetime import UTC, datetime
from threading import Event

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.keys import derived_image_key, original_image_key
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.derived_images import check_derivation
from imgpipeline.sources.preparing import Preparation
from imgpipeline.sources.protocol import CapturedFrame
from imgpipeline.sources.storing import FrameStorer

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


def picture() -> np.ndarray:
    pixels = np.full((90, 160, 3), (200, 100, 50), np.uint8)
    cv2.rectangle(pixels, (40, 20), (100, 70), (255, 255, 255), -1)
    return pixels


def stored(data: bytes, name: str, *derive: str) -> tuple[ObjectStore, FrameMessage]:
    store, frame = open_memory_store(), CapturedFrame(NOON, ClockSource.EXIF, data=data, name=name)
    storer = FrameStorer(Settings(_env_file=None), "yard", "s1", store, Preparation(derive=derive))
    prepared = storer.prepare(frame, None, Event())
    return store, storer.store(frame, prepared)


def decoded(store: ObjectStore, key: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(store.get(key), np.uint8), cv2.IMREAD_UNCHANGED)


def test_row_1_4_a_grey_and_a_resized_image_lie_beside_the_original_and_the_frame_names_them():
    data = cv2.imencode(".png", picture())[1].tobytes()
    store, message = stored(data, "a.png", "gray", "64x36")
    assert store.get(str(message.image_path)) == data
    derived = message.attributes["derived"]
    assert derived == {
        "gray": "images/yard/2026-01-09/derived/gray/a.png",
        "64x36": "images/yard/2026-01-09/derived/64x36/a.png",
    }
    grey = decoded(store, derived["gray"])
    assert np.array_equal(grey, cv2.cvtColor(picture(), cv2.COLOR_BGR2GRAY))
    assert decoded(store, derived["64x36"]).shape == (36, 64, 3)


def test_edges_are_where_the_picture_changes():
    store, message = stored(cv2.imencode(".png", picture())[1].tobytes(), "a.png", "edges")
    edges = decoded(store, message.attributes["derived"]["edges"])
    assert edges[45, 36:45].max() == 255
    assert edges[5:15, 5:30].max() == 0


def test_of_an_image_that_cannot_be_decoded_nothing_is_derived():
    _, message = stored(b"\xff\xd8\xff damaged", "a.jpg", "gray")
    assert message.attributes["derived"] == {}


@pytest.mark.parametrize("text", ["grey", "0x10", "640"])
def test_what_is_no_derivation_is_refused(text: str):
    with pytest.raises(ValueError, match="gray, edges or a size"):
        check_derivation(text)


def test_a_derived_key_leads_back_to_the_original():
    key = "images/yard/2026-01-09/a.jpg"
    assert original_image_key(derived_image_key(key, "gray")) == key
    assert original_image_key(key) == key
