"""In a pool of threads, every outcome and every error of a record arrives in its future."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.contracts.outcomes import DeadLetter, Frame, FrameStatus, RecordOutcome, outcome_to_json
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.detect.work import FrameWork
from imgpipeline.errors import DeadLetterCode, TransientError
from imgpipeline.ledger.segment import encode_line
from imgpipeline.objectstore import Fetched, ImageReader, ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline.vision.detector import Detector, DetectorGroup, Member, load_detector
from imgpipeline.vision.image_pool import ImagePool
from imgpipeline_tests.detect.conftest import jpeg, message

NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)


def record(offset: int, **fields: object) -> KafkaRecord:
    return KafkaRecord("frames", 0, offset, 1772366400000, b"camera", message(frame_number=offset, **fields), ())


def frame_work(store: ObjectStore, **changes: object) -> FrameWork:
    settings = load_settings(store_url="file:///unused", **changes)
    return FrameWork(settings, ImageReader(store, settings), load_detector("demo", threads=1), lambda: NOW)


@pytest.fixture
def store(memory: ObjectStore) -> ObjectStore:
    memory.put("images/one.jpg", jpeg())
    return memory


def outcomes_of(of: FrameWork, *records: KafkaRecord) -> list[RecordOutcome]:
    pool = ImagePool(of, most_readers=4, lookers=2, most_bytes=2**26)
    try:
        return [future.result(30) for future in [pool.submit(r) for r in records]]
    finally:
        pool.close()


def test_each_record_gets_its_own_outcome_from_any_thread(store):
    records = [record(n, image_path="images/one.jpg" if n % 3 else "images/none.jpg") for n in range(30)]
    found = outcomes_of(frame_work(store), *records)
    assert [outcome.offset for outcome in found] == list(range(30))
    assert [n for n, outcome in enumerate(found) if isinstance(outcome, DeadLetter)] == list(range(0, 30, 3))


def test_a_frame_has_the_sha256_of_the_image_file_in_the_store_or_in_the_record(store):
    of = frame_work(store)
    for one in (record(0, image_path="images/one.jpg"), replace(record(1), value=jpeg())):
        found = of.work(one)
        assert found.sha256 == sha256(jpeg()).hexdigest()
        assert Frame.from_json(found.to_json()).sha256 == found.sha256


def test_a_gated_frame_has_a_sha256_if_its_image_was_read(store):
    dark = frame_work(store, gate_min_brightness=255).work(record(0, image_path="images/one.jpg"))
    announced = {"gated": {"reason": "unchanged"}, "sha256": "ab" * 32}
    unread = frame_work(store).work(record(1, image_path="images/none.jpg", **announced))
    assert (dark.status, dark.sha256) == (FrameStatus.GATED, sha256(jpeg()).hexdigest())
    assert (unread.status, unread.sha256) == (FrameStatus.GATED, None)


def test_the_pool_and_the_calling_thread_find_the_same(store):
    of = frame_work(store)
    [found] = outcomes_of(of, record(0, image_path="images/one.jpg"))
    assert found == of.work(record(0, image_path="images/one.jpg"))


def test_a_notice_needs_no_image_and_one_of_the_far_future_is_a_dead_letter(store):
    def online(offset: int, at: datetime) -> KafkaRecord:
        told = {"source": "camera", "session": "s1", "kind": "online", "timestamp": at.isoformat()}
        return KafkaRecord("frames", 0, offset, 1772366400000, b"camera", json.dumps(told).encode(), ())

    notice, letter = outcomes_of(frame_work(store), online(0, NOW), online(1, NOW.replace(year=2099)))
    assert notice == Notice(0, NoticeKind.ONLINE, "camera", "s1", NOW, NOW)
    assert letter.code is DeadLetterCode.TIMESTAMP_OUT_OF_RANGE


def test_an_error_of_the_environment_arrives_in_the_future(store):
    def fail(_read: object) -> Fetched:
        raise TransientError("the store is down")

    of = frame_work(store)
    of.images.retry_missing = fail
    with pytest.raises(TransientError, match="the store is down"):
        outcomes_of(of, record(0, image_path="images/one.jpg"))


def test_an_image_over_the_limit_is_a_dead_letter_however_small_the_limit(store):
    [found] = outcomes_of(frame_work(store, max_image_bytes=1024), record(0, image_path="images/one.jpg"))
    assert found.code is DeadLetterCode.TOO_LARGE


def test_missing_images_are_read_in_parallel(store):
    """No looker ever gets one of these images, so the pool must notice that items are waiting."""
    of, meet = frame_work(store), threading.Barrier(4)

    def wait_for_the_others(read: "object") -> Fetched:
        meet.wait(30)
        return read()  # raises, as the object is missing

    of.images.retry_missing = wait_for_the_others
    found = outcomes_of(of, *[record(n, image_path="images/none.jpg") for n in range(8)])
    assert {outcome.code for outcome in found if isinstance(outcome, DeadLetter)} == {DeadLetterCode.OBJECT_NOT_FOUND}


def test_the_pool_continues_if_no_more_threads_can_start(store, monkeypatch):
    start = threading.Thread.start

    def refuse_more_readers(thread: threading.Thread) -> None:
        if thread.name.startswith("read-") and thread.name != "read-1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_more_readers)
    found = outcomes_of(frame_work(store), *[record(n, image_path="images/one.jpg") for n in range(20)])
    assert all(isinstance(outcome, Frame) for outcome in found)


def counted(of: FrameWork) -> list[int]:
    """Counts the inferences of the work's detector."""
    calls: list[int] = []
    detect = of.detector.detect

    def counting(image: object) -> object:
        calls.append(1)
        return detect(image)

    object.__setattr__(of.detector, "detect", counting)
    return calls


def test_a_dark_frame_is_counted_as_gated_with_its_brightness_and_without_inference(store):
    store.put("images/dark.jpg", cv2.imencode(".jpg", np.full((90, 160, 3), 5, np.uint8))[1].tobytes())
    of = frame_work(store, gate_min_brightness=30)
    calls = counted(of)
    dark = of.work(record(0, image_path="images/dark.jpg"))
    bright = of.work(record(1, image_path="images/one.jpg"))
    assert (dark.status, dark.gate_reason, dark.detections) == (FrameStatus.GATED, "dark", ())
    assert dark.gate_measurements["brightness"] == pytest.approx(5)
    assert bright.status is FrameStatus.PROCESSED
    assert len(calls) == 1


def test_a_frame_outside_the_hours_is_gated_unread(store):
    of = frame_work(store, gate_hours="20:00-21:00")
    found = of.work(record(0, image_path="images/none.jpg"))
    assert (found.status, found.gate_reason) == (FrameStatus.GATED, "time_of_day")


def test_a_repetition_is_gated_if_a_minimum_change_is_set(store):
    of = frame_work(store, gate_min_change=2)
    first, second = (of.work(record(n, image_path="images/one.jpg")) for n in range(2))
    assert (first.gate_reason, second.gate_reason) == (None, "unchanged")


def test_a_frame_that_its_source_has_gated_is_recorded_as_gated_and_not_read(store):
    gated = {"reason": "unchanged", "measurements": {"brightness": 80.5, "change": 0.2}}
    found = frame_work(store).work(record(0, image_path="images/none.jpg", gated=gated, width=640, height=360))
    assert (found.status, found.gate_reason, found.brightness) == (FrameStatus.GATED, "unchanged", 80.5)
    assert (found.image_width, found.image_height) == (640, 360)
    assert found.gate_measurements == gated["measurements"]


def test_an_unknown_gate_stays_an_attribute(store):
    found = frame_work(store).work(record(0, image_path="images/one.jpg", gated="yes"))
    assert found.status is FrameStatus.PROCESSED
    assert found.attributes["gated"] == "yes"


def test_weak_detections_are_kept_apart_and_change_nothing_else(store):
    wanted = record(1, image_path="images/one.jpg")
    without = frame_work(store, confidence_threshold=0.97).work(wanted)
    kept = frame_work(store, confidence_threshold=0.97, weak_confidence=0.1).work(wanted)
    assert kept.weak_detections
    assert all(0.1 < found.confidence <= 0.97 for found in kept.weak_detections)
    assert replace(kept, weak_detections=()) == without


def test_without_the_setting_a_segment_says_nothing_of_weak_detections(store):
    outcome = frame_work(store).work(record(1, image_path="images/one.jpg"))
    assert outcome.detections
    assert b"weak" not in encode_line(outcome_to_json(outcome))
    lower = frame_work(store, weak_confidence=0.5).work(record(1, image_path="images/one.jpg"))
    assert encode_line(outcome_to_json(lower)) == encode_line(outcome_to_json(outcome))


def test_only_a_model_that_does_not_compute_in_32_bit_floats_is_listed_with_its_precision(store):
    of = frame_work(store)
    plain = of.work(record(0, image_path="images/one.jpg"))
    detector = of.detector
    rough = Detector(detector.spec, detector.model_sha256, detector.backend, precision="bf16")
    found = replace(of, detector=rough).work(record(0, image_path="images/one.jpg"))
    assert (plain.detectors, found.detectors) == ((), (rough.use,))
    assert found.detectors[0].precision == "bf16"


def test_a_gated_frame_lists_no_detector(store):
    of = frame_work(store, gate_min_brightness=255)
    detector = of.detector
    rough = Detector(detector.spec, detector.model_sha256, detector.backend, precision="int8")
    found = replace(of, detector=rough).work(record(0, image_path="images/one.jpg"))
    assert (found.status, found.detectors) == (FrameStatus.GATED, ())


def test_a_frame_names_every_detector_that_looked_at_it_and_each_detection_its_own(store):
    of = frame_work(store)
    twice = DetectorGroup(
        [Member(load_detector("demo"), frozenset({"car"})), Member(load_detector("demo"), frozenset({"person", "dog"}))]
    )
    plain = of.work(record(0, image_path="images/one.jpg"))
    found = replace(of, detector=twice).work(record(0, image_path="images/one.jpg"))
    assert [use.model_name for use in found.detectors] == ["demo", "demo"]
    assert found.detections
    for one in found.detections:
        assert one.detector == (0 if one.label == "car" else 1)
    read_back = Frame.from_json(found.to_json())
    assert read_back.detectors == found.detectors
    assert [d.detector for d in read_back.detections] == [d.detector for d in found.detections]
    assert sorted(d.label for d in found.detections) == sorted(
        d.label for d in plain.detections if d.label in ("car", "person", "dog")
    )
