"""A gate leaves frames out for one stated reason, with its measurements; quality is measured cheaply."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.capture import Gated
from imgpipeline.contracts.times import Hours
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.gate import Gate, GateKeeper, measure_quality
from imgpipeline_tests.vision.pictures import detailed_picture

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


def grey(shade: int) -> np.ndarray:
    return np.full((72, 128, 3), shade, np.uint8)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (72, 128, 3)).astype(np.uint8)


def decide(keeper: GateKeeper, pixels: np.ndarray, source: str = "gate") -> Gated | None:
    image = DecodedImage.of(pixels)
    return keeper.decide(source, image, measure_quality(image))


def test_nothing_is_left_out_by_default():
    keeper = GateKeeper(Gate())
    assert not keeper.gate
    assert decide(keeper, grey(0)) is None
    assert keeper.decide_by_time(NOON) is None


def test_a_dark_frame_is_left_out_with_its_brightness():
    gated = decide(GateKeeper(Gate(min_brightness=30)), grey(29))
    assert gated is not None
    assert gated.reason == "dark"
    assert gated.measurements["brightness"] == pytest.approx(29)
    assert decide(GateKeeper(Gate(min_brightness=30)), grey(30)) is None


def test_a_blurred_frame_is_left_out_and_a_sharp_one_is_not():
    keeper = GateKeeper(Gate(min_sharpness=100))
    gated = decide(keeper, grey(128))
    assert gated is not None
    assert gated.reason == "blurred"
    assert decide(keeper, noise(1)) is None


def test_a_frame_is_compared_with_the_last_kept_one_not_with_the_last_one():
    keeper = GateKeeper(Gate(min_change=5))
    outcomes = [decide(keeper, grey(shade)) for shade in (100, 103, 106, 109)]
    assert [gated.reason if gated else "kept" for gated in outcomes] == ["kept", "unchanged", "kept", "unchanged"]
    assert outcomes[1] is not None
    assert outcomes[1].measurements["change"] == pytest.approx(3)


def test_each_source_is_compared_with_itself():
    keeper = GateKeeper(Gate(min_change=5))
    assert decide(keeper, grey(100), "a") is None
    assert decide(keeper, grey(100), "b") is None
    assert decide(keeper, grey(100), "a") is not None


@pytest.mark.parametrize(
    ("hours", "local", "is_inside"),
    [
        ("06:00-20:00", "05:59", False),
        ("06:00-20:00", "06:00", True),
        ("06:00-20:00", "20:00", False),
        ("22:00-05:00", "23:00", True),
        ("22:00-05:00", "04:59", True),
        ("22:00-05:00", "12:00", False),
    ],
)
def test_hours_hold_in_their_time_zone_and_may_span_midnight(hours, local, is_inside):
    zone = ZoneInfo("Asia/Kolkata")
    time = datetime.fromisoformat(f"2026-01-09T{local}").replace(tzinfo=zone).astimezone(UTC)
    gated = GateKeeper(Gate(hours=Hours.parse(hours, zone))).decide_by_time(time)
    assert (gated is None) is is_inside


def test_hours_that_are_none_are_refused():
    with pytest.raises(ValueError, match="06:00-20:30"):
        Hours.parse("morning", UTC)


@pytest.mark.parametrize(
    ("size", "level"), [((50, 70), 0), ((50, 70), 255), ((1, 1), 7), ((1, 5000), 7), ((5000, 1), 7), ((3, 2), 100)]
)
def test_a_plain_picture_of_any_size_has_its_level_as_brightness_and_no_sharpness(size, level):
    quality = measure_quality(np.full((*size, 3), level, np.uint8))
    assert quality.brightness == pytest.approx(level, abs=0.5)
    assert quality.sharpness == 0


def test_brightness_is_luma_and_not_the_mean_of_the_channels():
    green, blue = np.zeros((2, 10, 10, 3), np.uint8)
    green[..., 1], blue[..., 0] = 255, 255
    assert measure_quality(green).brightness == pytest.approx(0.587 * 255, abs=1)
    assert measure_quality(blue).brightness == pytest.approx(0.114 * 255, abs=1)


def test_the_more_blurred_the_less_sharp():
    picture = detailed_picture(640, 360)
    figures = [measure_quality(cv2.GaussianBlur(picture, (0, 0), sigma)).sharpness for sigma in (0.5, 1, 2, 4)]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] > 10 * figures[-1]


def test_a_larger_camera_does_not_change_the_scale():
    small = detailed_picture(640, 360)
    large = cv2.resize(small, (2560, 1440), interpolation=cv2.INTER_NEAREST)
    assert measure_quality(large).sharpness == pytest.approx(measure_quality(small).sharpness, rel=0.05)
    assert measure_quality(large).brightness == pytest.approx(measure_quality(small).brightness, abs=0.5)
