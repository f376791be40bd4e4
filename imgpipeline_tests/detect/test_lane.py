"""A run over a lane, on a real broker and a real S3 server."""

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from itertools import zip_longest

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.notices import Account, Notice
from imgpipeline.contracts.outcomes import DeadLetter, Frame
from imgpipeline.errors import PermanentError
from imgpipeline.lake.query.lake import Lake
from imgpipeline.ledger.reading import fix_ends, list_segments, read_segments
from imgpipeline.objectstore import ImageReader
from imgpipeline.redetect.frames import FrameProcessor, FrameToProcess
from imgpipeline.redetect.manifest import recipe_of
from imgpipeline.settings import load_settings
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.stream.lanes import Lane
from imgpipeline.vision.adding import Wishes, add_model
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.registry import find_model
from imgpipeline_tests.detect.conftest import START, encode, jpeg, message, running
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.stream.group import group_offsets

FORBIDDEN = (
    "../../etc/passwd",
    "file:///etc/passwd",
    "http://169.254.169.254/latest",
    "images/%2e%2e/secret.jpg",
    "s3://another-bucket/x.jpg",
)


def test_announced_frames_become_outcomes_with_their_detections(lane):
    path = lane.put_image("images/camera/street.jpg")
    lane.send(message(image_path=path, frame_number=7, attributes={"exposure_ms": 4}, shift="night"))

    report = lane.follow()

    [frame] = lane.frames()
    assert (frame.source, frame.frame_number, frame.timestamp) == ("camera", 7, START)
    assert (frame.image_width, frame.image_height, frame.size_bytes) == (640, 360, len(jpeg()))
    assert frame.model_used == "demo"
    assert frame.attributes == {"exposure_ms": 4, "shift": "night"}
    assert frame.detections
    assert all(d.confidence > frame.confidence_threshold for d in frame.detections)
    assert (report.frames, report.dead_letters, report.lag, report.ended_by) == (1, 0, 0, "linger")


@pytest.mark.parametrize("topic", [4], indirect=True)
def test_two_lanes_share_the_partitions_and_each_offset_has_one_outcome_in_order(lane):
    for source in ("north", "south", "east", "west", "yard", "gate"):
        lane.announce(10, source=source)

    lane.follow(Lane(0, 2))
    assert {f.partition % 2 for f in lane.frames()} == {0}
    lane.follow(Lane(1, 2))

    by_partition: dict[int, list[int]] = {}
    for frame in lane.frames():
        by_partition.setdefault(frame.partition, []).append(frame.offset)
    assert sum(map(len, by_partition.values())) == 60
    assert all(offsets == list(range(len(offsets))) for offsets in by_partition.values())


def test_a_record_that_is_the_image_itself_is_stored_first(lane):
    lane.send(jpeg(), key=b"door", headers={"content-type": b"image/jpeg", "timestamp": b"2026-03-01T12:00:00Z"})

    lane.follow()

    [frame] = lane.frames()
    assert frame.source == "door"
    assert frame.source_image_path.startswith("images/door/2026-03-01/")
    assert lane.store.get(frame.source_image_path) == jpeg()


def test_a_run_reports_each_day_it_touched_and_then_commits_the_group_offset(lane):
    path = lane.put_image("images/camera/one.jpg")
    lane.send(*[message(image_path=path, timestamp=f"2026-03-0{d}T00:00:00Z") for d in (1, 2, 9)])

    lane.follow()

    days = {day for report in lane.reports for day in report.days}
    assert days == {date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 9)}
    assert group_offsets(lane.settings, [lane.partition()]) == {lane.partition(): 3}


def test_a_stopped_run_commits_what_is_finished_and_leaves_the_rest(lane):
    lane.announce(2000)
    stop = threading.Event()
    with running(lambda: lane.follow(stop=stop)) as results:
        wait_until(lambda: any(r.frames for r in lane.reports), limit_s=60, what="the first report")
        stop.set()
        wait_until(lambda: bool(results), limit_s=60, what="the end of the run")

    [report] = results
    assert report.ended_by == "stopped"
    assert 0 < report.frames < 2000
    assert [f.offset for f in lane.frames()] == list(range(report.frames))


@pytest.mark.slow
def test_a_run_ends_after_its_maximum_time_and_the_next_continues(lane):
    lane.announce(600)

    first = lane.with_settings(max_run_s=1.0).follow()
    lane.follow()

    assert first.ended_by == "max_run"
    assert 0 < first.frames < 600
    assert [f.offset for f in lane.frames()] == list(range(600))


@pytest.mark.fault(39)
def test_a_damaged_model_after_the_start_fails_the_run_before_frames_are_blamed(lane, tmp_path):
    model = tmp_path / "own.onnx"
    model.write_bytes(load_detector("demo").spec.path.read_bytes())
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(load_detector("demo").spec.labels))
    follower = lane.with_settings(model=str(model), model_decoder="yolox", model_labels=labels, linger_s=60.0)
    lane.announce(3)

    def damage_then_send_rubbish() -> None:
        wait_until(lambda: len(lane.frames()) == 3, limit_s=60, what="the first frames")
        model.write_bytes(b"damaged")
        lane.send(b"rubbish")

    damager = threading.Thread(target=damage_then_send_rubbish)
    damager.start()
    try:
        with pytest.raises(PermanentError, match="self-test"):
            follower.follow()
    finally:
        damager.join(60)

    assert lane.dead_letters() == []


def test_a_notice_among_frames_is_a_separate_outcome(lane):
    path = lane.put_image("images/camera/street.jpg")
    account = {
        "source": "camera", "session": "s1", "kind": "account", "from": START.isoformat(), "to": START.isoformat(),
        "received": 2, "announced": 1, "gated": 1, "observed_s": 0.5,
    }  # fmt: skip
    lane.send(message(image_path=path, frame_number=0))
    lane.send(json.dumps(account).encode())
    lane.send(json.dumps(account | {"received": "two"}).encode())

    report = lane.follow()

    frame, notice, letter = lane.outcomes()
    assert [type(outcome) for outcome in (frame, notice, letter)] == [Frame, Notice, DeadLetter]
    assert notice.account == Account(received=2, announced=1, gated=1, observed_s=0.5)
    assert letter.message.startswith("received: got 'two'")
    assert (report.frames, report.notices, report.dead_letters) == (1, 1, 1)
    assert (START.date(),) in [told.accounted for told in lane.reports]


@pytest.mark.medium
def test_each_row_of_detections_names_its_model_and_every_frame_both(lane, tmp_path):
    demo = find_model("demo")
    yard = add_model(demo.path, "yard", Wishes(labels=demo.labels), model_dir=tmp_path, replace_it=False)
    several = lane.with_settings(detectors="demo: person, bicycle; yard: car, dog", model_dir=tmp_path)
    lane.announce(3)
    lane.follow()
    plain = [detection.label for frame in lane.frames() for detection in frame.detections]
    lane.announce(3, first=3)
    several.follow()

    frames = lane.frames()
    assert [[use.model_name for use in frame.detectors] for frame in frames] == [[]] * 3 + [["demo", "yard"]] * 3
    with Lake.open(several.settings) as lake:
        rows = lake.sql(
            "SELECT d.label, d.model_used, d.model_sha256 FROM detections d JOIN frames f USING (frame_id) "
            "WHERE f.source_kafka_offset >= 3"
        )
    assert sorted(rows["label"]) == sorted(plain), "each object once, as with one model"
    owner = {"person": "demo", "bicycle": "demo", "car": "yard", "dog": "yard"}
    assert [owner[label] for label in rows["label"]] == list(rows["model_used"])
    assert set(rows["model_used"]) == {"demo", "yard"}
    assert set(rows["model_sha256"]) == {yard.sha256}


LIMITS = ImageLimits(50_000_000, 50_000_000)


@pytest.fixture(scope="module")
def large() -> bytes:
    """A street of 1920x1080 pixels as JPEG."""
    return encode(cv2.resize(Scene(3, frames=60).frame(20)[0], (1920, 1080), interpolation=cv2.INTER_LANCZOS4), ".jpg")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("demo", threads=1)


def expected(data: bytes, detector: Detector, *, is_reduced: bool) -> list[Detection]:
    image = decode_image(data, LIMITS, reduced_for=detector.spec.network_input if is_reduced else None)
    assert (image.reduction > 1) == is_reduced
    return detector.detect(image)


def agree(found: Iterable[Detection], wanted: Iterable[Detection]) -> bool:
    """Whether detections are the same up to what the ledger rounds."""
    pairs = list(zip_longest(found, wanted))
    return all(a and b and a.label == b.label and np.allclose(numbers(a), numbers(b), atol=0.006) for a, b in pairs)


def numbers(of: Detection) -> tuple[float, ...]:
    return (of.confidence, *(of.box_xywh or ()))


def test_full_and_reduced_decoding_differ_for_this_image(large, detector):
    assert not agree(*(expected(large, detector, is_reduced=is_reduced) for is_reduced in (True, False)))


def test_a_run_decodes_as_configured_and_its_segments_record_it(lane, large, detector):
    path = lane.put_image("images/camera/large.jpg", large)
    ways = {is_reduced: lane.with_settings(reduced_decoding=is_reduced) for is_reduced in (True, False)}
    for number, way in enumerate(ways.values()):
        time = START + timedelta(seconds=number)
        lane.send(json.dumps({"source": "camera", "image_path": path, "timestamp": time.isoformat()}).encode())
        way.follow()
    [(chain, end)] = fix_ends(lane.store).items()
    segments = list(read_segments(lane.store, chain, list_segments(lane.store, chain, 0, end.offset)))
    hashes = [segment.header.provenance.settings_hash for segment in segments]
    assert hashes == [way.settings.results_hash() for way in ways.values()]
    assert hashes[0] != hashes[1]
    for is_reduced, frame in zip(ways, lane.frames(), strict=True):
        assert agree(frame.detections, expected(large, detector, is_reduced=is_reduced))


@pytest.mark.parametrize("is_reduced", [True, False], ids=["reduced", "full size"])
def test_a_redetection_decodes_as_configured(large, detector, memory, is_reduced):
    settings = load_settings(reduced_decoding=is_reduced)
    memory.put("large.jpg", large)
    looker = FrameProcessor(settings, ImageReader(memory, settings), detector)
    seen = looker.look(looker.read(FrameToProcess("a" * 32, "large.jpg", 0, "processed", None)))
    assert list(seen.detections) == expected(large, detector, is_reduced=is_reduced)


def test_results_of_full_and_reduced_decoding_are_not_mixed(detector):
    def recipe(**changes: object) -> str:
        return recipe_of(detector, load_settings(**changes))

    assert recipe() == recipe(reduced_decoding=True) != recipe(reduced_decoding=False)


def test_preprocessing_and_whole_pixels_are_part_of_a_recipe():
    demo = load_detector("demo")
    settings = load_settings()
    rules = replace(demo.spec.preprocessing, mean=(0.5, 0.5, 0.5))
    normalized = Detector(replace(demo.spec, preprocessing=rules), demo.model_sha256, demo.backend)
    whole = Detector(demo.spec, demo.model_sha256, demo.backend, integer_boxes=True)
    assert len({recipe_of(one, settings) for one in (demo, normalized, whole)}) == 3
