"""A picture is complete and upright, at full or at reduced size, or refused with the right code."""

import dataclasses
import math
import resource
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.truth import score_of
from imgpipeline.vision.agreement import Score, iou_of
from imgpipeline.vision.decode import DecodedImage, ImageLimits, choose_reduction, decode_image, measured_reduction
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.gate import measure_quality
from imgpipeline.vision.header import MOST_SCANS
from imgpipeline.vision.model import NetworkInput
from imgpipeline.vision.preprocess import make_blob
from imgpipeline.vision.registry import registered_model
from imgpipeline_tests.vision.pictures import (
    BLUE,
    CMYK_JPEG,
    RED,
    detailed_picture,
    encode,
    hollow_png,
    png_chunk,
    raw_tiff,
    two_halves,
    with_orientation,
)

LIMITS = ImageLimits(max_pixels=50_000_000, max_bytes=20_000_000)
PICTURE = detailed_picture()
LAST_BLOCKS_BYTES = 150
"""Of the encoded data, what the last two blocks of the picture take at most; see the module's docstring."""

FILES = {
    "png": encode(".png", PICTURE),
    "webp": encode(".webp", PICTURE, cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless webp": encode(".webp", PICTURE, cv2.IMWRITE_WEBP_QUALITY, 101),
    "gif": encode(".gif", PICTURE),
    "bmp": encode(".bmp", PICTURE),
    "tiff": encode(".tiff", PICTURE),
    "raw tiff": encode(".tiff", PICTURE, cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "jpeg": encode(".jpg", PICTURE),
    "grey jpeg": encode(".jpg", PICTURE[..., 1]),
    "progressive jpeg": encode(".jpg", PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpeg with restarts": encode(".jpg", PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 7),
}
JPEGS = [name for name in FILES if "jpeg" in name]


INPUT = NetworkInput(160, 160, "letterbox")
KINDS = {
    "jpeg": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 7),
    "4:4:4": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "4:1:1": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
}
SIZES = {2: (1277, 723), 4: (1923, 1081), 8: (2603, 1403)}
"""By the reduction at which such a picture is decoded for `INPUT`."""


def refused(data: bytes, limits: ImageLimits = LIMITS, wanted: NetworkInput | None = None) -> DeadLetterCode:
    with pytest.raises(BadInputError) as caught:
        decode_image(data, limits, reduced_for=wanted)
    return caught.value.code


def reduced(data: bytes, wanted: NetworkInput = INPUT) -> DecodedImage:
    return decode_image(data, LIMITS, reduced_for=wanted)


def cuts(size_bytes: int, count: int, begin: int = 1) -> list[int]:
    """Places to cut, spread over the file, with the last bytes among them."""
    return sorted({*np.linspace(begin, size_bytes - 1, count).astype(int).tolist(), size_bytes - 2, size_bytes - 1})


def test_no_bytes():
    assert refused(b"") is DeadLetterCode.EMPTY_OBJECT


def test_more_bytes_than_allowed():
    data = FILES["png"]
    assert refused(data, ImageLimits(LIMITS.max_pixels, len(data) - 1)) is DeadLetterCode.TOO_LARGE
    assert decode_image(data, ImageLimits(LIMITS.max_pixels, len(data))).width == 301


def test_more_pixels_than_allowed():
    assert refused(FILES["jpeg"], ImageLimits(301 * 207 - 1, 10**6)) is DeadLetterCode.IMAGE_TOO_LARGE
    assert decode_image(FILES["jpeg"], ImageLimits(301 * 207, 10**6)).height == 207
    large = encode(".jpg", two_halves(1400, 700))
    limits = ImageLimits(1400 * 700 - 1, 10**7)
    assert refused(large, limits, INPUT) is DeadLetterCode.IMAGE_TOO_LARGE, "the size of the original counts"


@pytest.mark.medium
@pytest.mark.fault(22)
def test_a_huge_claim_is_refused_before_anything_is_decoded(monkeypatch):
    data = hollow_png(30_000, 30_000)
    assert 50_000 < len(data) < 200_000
    monkeypatch.delattr(cv2, "imdecode")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(data) is DeadLetterCode.IMAGE_TOO_LARGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


def test_a_claim_larger_than_opencv_itself_allows_is_refused_as_too_large():
    assert refused(FILES["png"][:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1)) is DeadLetterCode.IMAGE_TOO_LARGE


@pytest.mark.parametrize("name", FILES)
def test_every_format_becomes_the_same_bgr(name):
    image = decode_image(FILES[name], LIMITS)
    assert (image.width, image.height, image.orientation) == (301, 207, 1)
    assert image.pixels.shape == (207, 301, 3)
    assert image.pixels.dtype == np.uint8
    expected = np.repeat(PICTURE[..., 1:2], 3, axis=2) if name == "grey jpeg" else PICTURE
    most = 1 if name in ("png", "lossless webp", "bmp", "tiff", "raw tiff") else 16
    assert np.abs(image.pixels.astype(int) - expected).mean() < most


@pytest.mark.parametrize(
    "data",
    [
        encode(".png", np.dstack([two_halves(), np.full((16, 24), 9, np.uint8)])),
        encode(".png", two_halves().astype(np.uint16) * 257),
        encode(".tiff", two_halves().astype(np.uint16) * 257),
        encode(".webp", np.dstack([two_halves(), np.full((16, 24), 255, np.uint8)]), 64, 101),
        CMYK_JPEG,
    ],
    ids=["alpha png", "16-bit png", "16-bit tiff", "alpha webp", "cmyk jpeg"],
)
def test_alpha_16_bits_and_cmyk_become_bgr(data):
    pixels = decode_image(data, LIMITS).pixels
    assert pixels.shape == (16, 24, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[8, 3], BLUE, atol=3)
    np.testing.assert_allclose(pixels[8, 20], RED, atol=3)


@pytest.mark.parametrize("ending", [".png", ".tiff", ".jpg", ".bmp"])
def test_grey_becomes_bgr(ending):
    for wanted in (None, INPUT):
        pixels = decode_image(encode(ending, np.full((800, 1280), 77, np.uint8)), LIMITS, reduced_for=wanted).pixels
        assert pixels.shape[:2] == ((400, 640) if wanted and ending == ".jpg" else (800, 1280))
        np.testing.assert_array_equal(pixels, np.full((*pixels.shape[:2], 3), 77))


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_of_an_animation_the_first_frame_is_taken(ending):
    animation = cv2.Animation()
    opaque = np.full((16, 24), 255, np.uint8)
    animation.frames = [np.dstack([two_halves(), opaque]), np.dstack([two_halves()[:, ::-1], opaque])]
    animation.durations = np.array([100, 100])
    written, data = cv2.imencodeanimation(ending, animation)
    assert written
    pixels = decode_image(data.tobytes(), LIMITS).pixels
    np.testing.assert_allclose(pixels[8, 3], BLUE, atol=60)  # GIF has a palette
    np.testing.assert_allclose(pixels[8, 20], RED, atol=60)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tiff"])
def test_the_orientation_is_applied_once(ending):
    marked = np.zeros((16, 32, 3), np.uint8)
    marked[:8, :8] = 255  # top left, as stored
    # EXIF: where the stored top left corner is to be seen.
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    for orientation, seen_at in corner.items():
        plain = encode(ending, marked)
        data = raw_tiff(marked, orientation) if ending == ".tiff" else with_orientation(plain, orientation)
        image = decode_image(data, LIMITS)
        assert image.orientation == orientation
        assert (image.width, image.height) == ((32, 16) if orientation < 5 else (16, 32))
        assert image.pixels.shape == (image.height, image.width, 3)
        for at in ((0, 0), (0, -1), (-1, -1), (-1, 0)):
            assert (image.pixels[at].min() > 200) == (at == seen_at), orientation


@pytest.mark.fault(21)
@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_refused_wherever_it_was_cut(name):
    data = FILES[name]
    for kept in cuts(len(data), 60):
        assert refused(data[:kept]) is DeadLetterCode.DECODE_FAILED, f"{kept} of {len(data)} bytes"


@pytest.mark.parametrize("name", JPEGS)
def test_a_cut_jpeg_that_was_filled_up_with_zeros_is_refused(name):
    data = FILES[name]
    for kept in cuts(len(data), 40):
        assert refused(data[:kept] + bytes(len(data) - kept)) is DeadLetterCode.DECODE_FAILED, f"{kept} bytes"


@pytest.mark.parametrize("name", ["jpeg", "grey jpeg", "jpeg with restarts"])
def test_a_cut_jpeg_with_a_new_end_marker_is_refused(name):
    """This is what OpenCV decodes to grey without a word."""
    data = FILES[name]
    for kept in cuts(len(data) - LAST_BLOCKS_BYTES, 60, begin=700):
        assert refused(data[:kept] + b"\xff\xd9") is DeadLetterCode.DECODE_FAILED, f"{kept} of {len(data)} bytes"


@pytest.mark.medium
@pytest.mark.parametrize(
    ("kind", "reduction"), [("jpeg", 2), ("jpeg", 4), ("jpeg", 8), ("restarts", 4), ("4:4:4", 2), ("4:1:1", 8)]
)
def test_a_cut_jpeg_with_a_new_end_marker_is_refused_at_a_reduced_size(kind, reduction):
    data = encode(".jpg", detailed_picture(*SIZES[reduction]), *KINDS[kind])
    for kept in [*cuts(len(data) - 400, 8, begin=700), len(data) - 400]:
        code = refused(data[:kept] + b"\xff\xd9", wanted=INPUT)
        assert code is DeadLetterCode.DECODE_FAILED, f"{kept} of {len(data)} bytes"


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    large = encode(".jpg", detailed_picture(1300, 700), *KINDS["progressive"])
    for data, wanted in ((FILES["progressive jpeg"], None), (large, INPUT)):
        starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
        assert len(starts) > 4
        for start in starts:
            assert refused(data[:start] + b"\xff\xd9", wanted=wanted) is DeadLetterCode.DECODE_FAILED


@pytest.mark.parametrize("lost", [1, 3, 8])
def test_a_jpeg_that_lost_restart_intervals_in_its_middle_is_refused(lost):
    data = FILES["jpeg with restarts"]
    markers = [at for at in range(len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    assert refused(data[: markers[3]] + data[markers[3 + lost] :]) is DeadLetterCode.DECODE_FAILED


def test_bytes_after_the_end_of_a_jpeg_are_ignored():
    whole = decode_image(FILES["jpeg"], LIMITS)
    for tail in (b"\0", b"trailing text", b"\xff\xd9", FILES["jpeg"]):
        np.testing.assert_array_equal(decode_image(FILES["jpeg"] + tail, LIMITS).pixels, whole.pixels)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_complete_grey_picture_is_not_taken_for_a_truncated_one(options):
    grey = np.full((900, 1500, 3), 128, np.uint8)
    cv2.circle(grey, (300, 300), 90, (0, 0, 255), -1)
    for pixels in (grey, np.full_like(grey, 128), np.zeros_like(grey)):
        data = encode(".jpg", pixels, *options)
        assert np.abs(decode_image(data, LIMITS).pixels.astype(int) - pixels).mean() < 2
        assert reduced(data).reduction == 4


def test_an_end_marker_inside_a_thumbnail_is_not_the_end():
    thumbnail = b"Exif\0\0" + encode(".jpg", two_halves())
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = FILES["jpeg"][:2] + segment + FILES["jpeg"][2:]
    assert decode_image(data, LIMITS).width == 301
    assert refused(data[: len(segment) + 1000]) is DeadLetterCode.DECODE_FAILED


def test_a_jpeg_with_thousands_of_scans_is_refused_before_it_costs_minutes():
    data = FILES["progressive jpeg"]
    last = data.rfind(b"\xff\xda")
    many = data[:last] + data[last:-2] * (MOST_SCANS + 1) + b"\xff\xd9"
    assert refused(many) is DeadLetterCode.DECODE_FAILED


@pytest.mark.parametrize(
    "data",
    [
        FILES["jpeg"][:2] + b"\xff\xfe\0\x02" * 4_000_000 + FILES["jpeg"][2:],
        FILES["jpeg"][:2] + b"\xff" * 16_000_000,
        FILES["jpeg"][:2] + b"\xff\xd0" * 8_000_000 + FILES["jpeg"][2:],
        FILES["png"][:33] + png_chunk(b"teSt", b"") * 1_300_000 + FILES["png"][33:],
        FILES["webp"] + b"teSt\0\0\0\0" * 2_000_000,
        b"II*\0\x08\0\0\0\xff\xff" + b"\0\1\0\3\0\0\0\1\0\0\0\0" * 65_535,
    ],
    ids=["jpeg comments", "jpeg fill bytes", "jpeg restarts", "png chunks", "webp chunks", "tiff entries"],
)
@pytest.mark.timeout(60)
def test_millions_of_tiny_parts_are_refused(data):
    """In a fraction of a second; the time-out is for a walk that became quadratic, which would take minutes."""
    assert refused(data) is DeadLetterCode.DECODE_FAILED


def test_a_png_chunk_that_claims_gigabytes_takes_no_memory():
    """OpenCV takes the memory first, 2 GB for a file of 100 bytes, and sees then that the file ends."""
    data = FILES["png"]
    claim = data[:33] + struct.pack(">I", 0x7FFF_FFFF) + data[37:]
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(claim) is DeadLetterCode.DECODE_FAILED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


def test_an_animation_frame_that_is_larger_than_its_picture_is_refused():
    frame = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 60_000, 60_000, 0, 0, 1, 10, 0, 0))
    data = FILES["png"][:33] + png_chunk(b"acTL", struct.pack(">II", 1, 0)) + frame + FILES["png"][33:]
    assert refused(data) is DeadLetterCode.DECODE_FAILED


def test_a_png_with_one_flipped_bit_in_its_data_is_refused():
    for at in cuts(len(FILES["png"]) - 20, 30, begin=60):
        flipped = bytearray(FILES["png"])
        flipped[at] ^= 4
        assert refused(bytes(flipped)) is DeadLetterCode.DECODE_FAILED


def test_a_png_with_a_flipped_bit_in_its_orientation_is_refused():
    data = bytearray(with_orientation(FILES["png"], 1))
    assert decode_image(bytes(data), LIMITS).orientation == 1
    data[data.index(b"eXIf") + 4 + 18] ^= 2
    assert refused(bytes(data)) is DeadLetterCode.DECODE_FAILED


def test_many_threads_decode_at_once():
    expected = {name: decode_image(data, LIMITS).pixels for name, data in FILES.items()}

    def check(name: str) -> None:
        data = FILES[name]
        np.testing.assert_array_equal(decode_image(data, LIMITS).pixels, expected[name])
        assert refused(data[: len(data) // 2]) is DeadLetterCode.DECODE_FAILED

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, [*FILES] * 8))


def test_decoding_leaves_opencvs_threads_alone():
    code = (
        "import cv2; before = cv2.getNumThreads(); import imgpipeline.vision.decode; "
        "assert cv2.getNumThreads() == before"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SURE, LEAST_IOU, MOST_DIFFERENCE = 0.6, 0.8, 0.12
"""The tolerance of detections that `vision.decode` states."""


@pytest.mark.medium
@pytest.mark.parametrize(
    ("kind", "reduction"),
    [("jpeg", 2), ("jpeg", 4), ("jpeg", 8), ("progressive", 2), ("restarts", 4), ("4:4:4", 8), ("4:1:1", 4)],
)
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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_and_the_upright_size_decides(orientation):
    data = with_orientation(encode(".jpg", two_halves(2000, 900)), orientation)
    full, image = decode_image(data, LIMITS), reduced(data, NetworkInput(400, 900, "stretch"))
    assert image.reduction == (1 if orientation < 5 else 2), "upright, it is 900x2000"
    assert (image.width, image.height, image.orientation) == (full.width, full.height, orientation)
    small = cv2.resize(full.pixels, image.pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(image.pixels.astype(int) - small).mean() < 1


@pytest.mark.parametrize("ending", [".png", ".webp", ".bmp", ".tiff", ".gif"])
def test_other_formats_keep_their_size(ending):
    assert reduced(encode(ending, two_halves(1400, 700))).reduction == 1


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
@pytest.mark.parametrize(
    ("size", "noise"), [((1280, 720), 0), ((1280, 720), 8), ((1920, 1080), 8), ((2592, 1944), 0), ((3840, 2160), 8)]
)
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
        best = max(same, key=lambda other: iou_of(other, detection))
        assert iou_of(best, detection) >= LEAST_IOU
        assert abs(best.confidence - detection.confidence) <= MOST_DIFFERENCE
    return len(sure)


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
        ((831, 500), 1, 1),
        ((832, 500), 2, 1),
        ((832, 832), 2, 2),
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
