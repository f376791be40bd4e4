"""A JPEG decoded at a reduced size is complete and upright, with the same objects, and never enlarged."""

import dataclasses
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.truth import score_of
from imgpipeline.vision.agreement import Score
from imgpipeline.vision.decode import DecodedImage, ImageLimits, choose_reduction, decode_image, measured_reduction
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.gate import measure_quality
from imgpipeline.vision.model import NetworkInput
from imgpipeline.vision.preprocess import make_blob
from imgpipeline.vision.registry import registered_model
from imgpipeline_tests.vision.decode_cases import cuts
from imgpipeline_tests.vision.pictures import detailed_picture, encode, two_halves, with_orientation

LIMITS = ImageLimits(max_pixels=50_000_000, max_bytes=50_000_000)
INPUT = NetworkInput(160, 160, "letterbox")
KINDS = {
    "jpeg": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 7),
    "4:4:4": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "4:1:1": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
}
SIZES = {2: (1277, 723), 4: (1923, 1081), 8: (2603, 1403)}
SURE, LEAST_IOU, MOST_DIFFERENCE = 0.6, 0.8, 0.12
"""The tolerance of detections that `vision.decode` states."""


def reduced(data: bytes, wanted: NetworkInput = INPUT) -> DecodedImage:
    return decode_image(data, LIMITS, reduced_for=wanted)


@pytest.mark.medium
@pytest.mark.parametrize("reduction", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_jpeg_is_the_picture_that_averaging_would_make(kind, reduction):
    width, height = SIZES[reduction]
    data = encode(".jpg", detailed_picture(width, height), *KINDS[kind])
    image, full = reduced(data), decode_image(data, LIMITS)
    assert (image.width, image.height, image.reduction) == (width, height, reduction)
    assert image.pixels.shape == (math.ceil(height / reduction), math.ceil(width / reduction), 3)
    whole = (width // reduction, height // reduction)
    averaged = cv2.resize(
        full.pixels[: whole[1] * reduction, : whole[0] * reduction], whole, interpolation=cv2.INTER_AREA
    )
    assert np.abs(image.pixels[: whole[1], : whole[0]].astype(int) - averaged).mean() < 3


def test_grey_becomes_bgr():
    image = reduced(encode(".jpg", np.full((800, 1280), 77, np.uint8)))
    np.testing.assert_array_equal(image.pixels, np.full((400, 640, 3), 77))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_and_the_upright_size_decides(orientation):
    stored = two_halves(2000, 900)
    full = decode_image(with_orientation(encode(".jpg", stored), orientation), LIMITS)
    image = reduced(with_orientation(encode(".jpg", stored), orientation), NetworkInput(400, 900, "stretch"))
    assert image.reduction == (1 if orientation < 5 else 2), "upright, it is 900x2000"
    assert (image.width, image.height, image.orientation) == (full.width, full.height, orientation)
    small = cv2.resize(full.pixels, image.pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(image.pixels.astype(int) - small).mean() < 1


@pytest.mark.parametrize("ending", [".png", ".webp", ".bmp", ".tiff", ".gif"])
def test_other_formats_keep_their_size(ending):
    assert reduced(encode(ending, two_halves(1400, 700))).reduction == 1


@pytest.mark.medium
@pytest.mark.parametrize("reduction", SIZES)
@pytest.mark.parametrize("kind", ["jpeg", "restarts", "4:4:4", "4:1:1"])
def test_a_cut_jpeg_with_a_new_end_marker_is_refused(kind, reduction):
    data = encode(".jpg", detailed_picture(*SIZES[reduction]), *KINDS[kind])
    for kept in [*cuts(len(data) - 400, 8, begin=700), len(data) - 400]:
        with pytest.raises(BadInputError) as caught:
            reduced(data[:kept] + b"\xff\xd9")
        assert caught.value.code is DeadLetterCode.DECODE_FAILED, f"{kept} of {len(data)} bytes"


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    data = encode(".jpg", detailed_picture(1300, 700), *KINDS["progressive"])
    for start in [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]:
        with pytest.raises(BadInputError):
            reduced(data[:start] + b"\xff\xd9")


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_complete_grey_picture_is_not_taken_for_a_truncated_one(options):
    grey = np.full((900, 1500, 3), 128, np.uint8)
    cv2.circle(grey, (300, 300), 90, (0, 0, 255), -1)
    assert reduced(encode(".jpg", grey, *options)).reduction == 4


def test_a_claim_beyond_the_limit_is_refused_by_the_size_of_the_original():
    data = encode(".jpg", two_halves(1400, 700))
    with pytest.raises(BadInputError) as caught:
        decode_image(data, ImageLimits(1400 * 700 - 1, 10**7), reduced_for=INPUT)
    assert caught.value.code is DeadLetterCode.IMAGE_TOO_LARGE


@pytest.mark.parametrize("model", ["yolox-nano", "yolov4-tiny"])
@pytest.mark.parametrize("reduction", SIZES)
def test_a_box_in_the_input_is_the_same_box_of_the_original(model, reduction):
    """A white block is looked for in the input; mapped back it is where it was drawn."""
    spec, (width, height) = registered_model(model), SIZES[reduction]
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = width // 2, height // 3, width - 1, height - height // 8
    pixels[top:bottom, left:right] = 255
    image = reduced(encode(".jpg", pixels), dataclasses.replace(spec.network_input, width=160, height=160))
    assert image.reduction == reduction
    blob, placement = make_blob(image, spec)
    rows, columns = np.nonzero(blob[0, 0] > blob[0, 0].max() / 2)
    if spec.preprocessing.resize == "letterbox":
        inside = rows < int(height * 416 / width)  # below lies the grey of the letterbox
        rows, columns = rows[inside], columns[inside]
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    a_pixel = max(width, height) / 416
    np.testing.assert_allclose(placement.to_picture(box)[0], (left, top, right, bottom), atol=1.5 * a_pixel)
    everything = placement.to_picture(np.array([[0, 0, 500, 500]], np.float32))
    np.testing.assert_allclose(everything, [[0, 0, width, height]])


@pytest.mark.medium
@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (2592, 1944), (3840, 2160)])
@pytest.mark.parametrize("noise", [0, 8])
def test_brightness_and_sharpness_are_those_of_the_full_decoding(size, noise):
    """Brightness within 0.3, sharpness within 2 %."""
    street = cv2.resize(Scene(5).frame(20)[0], size, interpolation=cv2.INTER_CUBIC).astype(int)
    noisy = street + np.random.default_rng(1).normal(0, noise, street.shape)
    data = encode(".jpg", np.clip(noisy, 0, 255).astype(np.uint8))
    image = reduced(data, registered_model("yolox-nano").network_input)
    full, small = measure_quality(decode_image(data, LIMITS)), measure_quality(image)
    assert image.reduction > 1
    assert small.brightness == pytest.approx(full.brightness, abs=0.3)
    assert small.sharpness == pytest.approx(full.sharpness, rel=0.02)


@pytest.mark.medium
def test_sure_detections_in_real_pictures_are_found_again(shared_data):
    """Same label, IoU >= 0.8, confidence within 0.12, for what has a confidence above 0.6 in either decoding."""
    path = shared_data / "models" / "yolox_nano.onnx"
    detector = load_detector(str(path), decoder="yolox", confidence_threshold=0.05)
    compared, width = 0, 1920
    for picture in real_pictures(shared_data):
        height = round(picture.shape[0] * width / picture.shape[1])
        data = encode(".jpg", cv2.resize(picture, (width, height), interpolation=cv2.INTER_LANCZOS4))
        image = reduced(data, detector.spec.network_input)
        assert image.reduction > 1
        full, small = detector.detect(decode_image(data, LIMITS)), detector.detect(image)
        compared += check_found_again(full, small) + check_found_again(small, full)
    assert compared > 20


def real_pictures(shared_data) -> list[np.ndarray]:
    pictures = [cv2.imread(str(path)) for path in sorted((shared_data / "images").glob("*.jpg"))]
    for name in ("vehicles", "one-by-one-person-detection"):
        video = cv2.VideoCapture(str(shared_data / "video" / f"{name}.mp4"))
        frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        for number in range(frames):
            read, frame = video.read()
            if read and number % (frames // 3) == 0:
                pictures.append(frame)
    assert len(pictures) >= 8
    return pictures


def check_found_again(expected: list[Detection], found: list[Detection]) -> int:
    sure = [detection for detection in expected if detection.confidence > SURE]
    for detection in sure:
        same = [other for other in found if other.label == detection.label]
        best = max(same, key=lambda other: iou(other, detection))
        assert iou(best, detection) >= LEAST_IOU
        assert abs(best.confidence - detection.confidence) <= MOST_DIFFERENCE
    return len(sure)


def iou(one: Detection, other: Detection) -> float:
    (x, y, w, h), (other_x, other_y, other_w, other_h) = one.box_xywh, other.box_xywh
    common_w = max(0.0, min(x + w, other_x + other_w) - max(x, other_x))
    common_h = max(0.0, min(y + h, other_y + other_h) - max(y, other_y))
    return common_w * common_h / (w * h + other_w * other_h - common_w * common_h)


@pytest.mark.medium
def test_in_simulated_scenes_recall_and_precision_do_not_fall():
    width = 1280
    detector, scores = load_detector("demo"), {"full": Score(), "reduced": Score()}
    for seed in range(6):
        picture, truth = Scene(seed).frame(25)
        data = encode(".jpg", cv2.resize(picture, (width, width * 9 // 16), interpolation=cv2.INTER_LANCZOS4))
        full, small = decode_image(data, LIMITS), reduced(data, detector.spec.network_input)
        assert small.reduction > 1
        for name, image in (("full", full), ("reduced", small)):
            scores[name] += score_of(found_at_640(detector, image), truth)
    assert scores["full"].matched > 20
    assert scores["reduced"].recall >= scores["full"].recall - 0.01
    assert scores["reduced"].precision >= scores["full"].precision - 0.01


def found_at_640(detector: Detector, image: DecodedImage) -> list[Detection]:
    factor = 640 / image.width
    return [
        dataclasses.replace(found, box_xywh=tuple(side * factor for side in found.box_xywh))
        for found in detector.detect(image)
    ]


LETTERBOX = NetworkInput(416, 416, "letterbox")
STRETCH = NetworkInput(416, 416, "stretch")


@pytest.mark.parametrize(
    ("size", "letterbox", "stretch"),
    [
        ((640, 360), 1, 1),
        ((831, 500), 1, 1),
        ((832, 500), 2, 1),
        ((832, 832), 2, 2),
        ((1280, 720), 2, 1),
        ((720, 1280), 2, 1),
        ((1920, 1080), 4, 2),
        ((3840, 2160), 8, 4),
        ((8000, 6000), 8, 8),
    ],
)
def test_the_side_that_decides_is_the_longer_in_a_letterbox_and_the_shorter_where_it_is_stretched(
    size, letterbox, stretch
):
    assert choose_reduction(*size, LETTERBOX) == letterbox
    assert choose_reduction(*size, STRETCH) == stretch


def test_a_small_network_does_not_make_the_picture_smaller_than_its_quality_is_measured_at():
    assert choose_reduction(640, 360, NetworkInput(64, 64, "letterbox")) == 1
    assert choose_reduction(1280, 720, NetworkInput(64, 64, "letterbox")) == 2
    assert [measured_reduction(side, 10) for side in (1, 640, 641, 1280, 1281, 2560, 5121)] == [1, 1, 2, 2, 4, 4, 16]


@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([LETTERBOX, STRETCH]))
def test_nothing_is_ever_enlarged_again(width, height, wanted):
    reduction = choose_reduction(width, height, wanted)
    if reduction > 1:
        placed = wanted.placed_size(width, height)
        assert width // reduction >= placed[0]
        assert height // reduction >= placed[1]
        assert measured_reduction(width, height) % reduction == 0
