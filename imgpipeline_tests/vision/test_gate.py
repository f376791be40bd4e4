"""A gate leaves frames out for one stated reason, with the figures that decided it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from imgpipeline.contracts.capture import Gated
from imgpipeline.contracts.times import Hours
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.gate import Gate, GateKeeper
from imgpipeline.vision.quality import measure_quality

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
def test_hours_hold_in_their_time_zone_and_may_span_midnight(hours: str, local: str, is_inside: bool):
    zone = ZoneInfo("Asia/Kolkata")
    time = datetime.fromisoformat(f"2026-01-09T{local}").replace(tzinfo=zone).astimezone(UTC)
    gated = GateKeeper(Gate(hours=Hours.parse(hours, zone))).decide_by_time(time)
    assert (gated is None) is is_inside


def test_hours_that_are_none_are_refused():
    with pytest.raises(ValueError, match="06:00-20:30"):
        Hours.parse("morning", UTC)
