"""Filters of frames: each is compared with the same filter in plain Python."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.contracts.detection import Detection, DetectorUse
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.events.configuration import Zone
from imgpipeline.events.geometry import objects_in
from imgpipeline.events.values import SeenObject
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.frames import count_detections, list_frames
from imgpipeline.lake.query.wanted_frames import Area, TimeOfDay, WantedFrames
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.ledger.samples import DAY, frame, write_chain

NEXT_DAY = DAY + timedelta(days=1)
SIZE = (40, 30)
PLACES = [(float(x), float(y)) for x in (-6, 4, 31) for y in (-20, 3, 22)]
BOXES = [(*place, width, height) for place in PLACES for width, height in ((0.0, 9.0), (12.0, 8.0))]


def _frame(number: int) -> Frame:
    day = (DAY, NEXT_DAY)[number % 2]
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=97 * number, seconds=number)
    boxes = BOXES[number % len(BOXES)], BOXES[(7 * number) % len(BOXES)]
    found = [Detection("car", 2, 0.9, boxes[0]), Detection("dog", 3, 0.6, boxes[1])]
    made = replace(frame(number, day), timestamp=at, image_width=SIZE[0], image_height=SIZE[1], detections=tuple(found))
    if number % 5:
        return made
    both = (DetectorUse("demo", "ab" * 32, None, 0.5, 0.4), DetectorUse("small", "cd" * 32, None, 0.5, 0.4))
    return replace(made, detectors=both, detections=(replace(found[0], detector=0), replace(found[1], detector=1)))


FRAMES = [_frame(number) for number in range(30)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeSession]:
    store = open_memory_store()
    write_chain(store, FRAMES)
    with open_lake(store, cache_dir=Path(tmp_path_factory.mktemp("wanted"))) as opened:
        yield opened


def found_by(lake: LakeSession, wanted: WantedFrames) -> set[str]:
    found = list_frames(lake, wanted)
    assert found.matching == found.table.num_rows
    return set(found.table["frame_id"].to_pylist())


def model_of(one: Frame, found: Detection) -> str | None:
    return one.model_used if found.detector is None else one.detectors[found.detector].model_name


def names(frames: list[Frame]) -> set[str]:
    return {one.frame_id for one in frames}


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(DAY, DAY, id="one"),
        pytest.param(DAY, NEXT_DAY, id="both"),
        pytest.param(None, DAY, id="until"),
        pytest.param(NEXT_DAY, None, id="from"),
        pytest.param(None, None, id="all"),
    ],
)
def test_days(lake, first, last):
    span = Span(first, last)
    assert found_by(lake, WantedFrames(span=span)) == names([one for one in FRAMES if one.day in span])


@pytest.mark.parametrize(
    ("start", "end"),
    [
        pytest.param(timedelta(hours=3), timedelta(hours=7, minutes=30), id="within"),
        pytest.param(timedelta(hours=22), timedelta(hours=4), id="over-midnight"),
        pytest.param(timedelta(minutes=97, seconds=1), timedelta(minutes=194, seconds=2), id="start-not-end"),
        pytest.param(timedelta(), timedelta(days=1), id="whole-day"),
    ],
)
def test_time_of_day(lake, start, end):
    def is_in(at: datetime) -> bool:
        time = at - at.replace(hour=0, minute=0, second=0, microsecond=0)
        return start <= time < end if start < end else time >= start or time < end

    wanted = WantedFrames(time_of_day=TimeOfDay(int(start.total_seconds()), int(end.total_seconds())))
    assert found_by(lake, wanted) == names([one for one in FRAMES if is_in(one.timestamp)])


@pytest.mark.parametrize(("model", "looked"), [("small", 6), ("demo", 30), ("'", 0)], ids=["second", "first", "none"])
def test_a_model_filters_frames_and_their_counted_detections(lake, model, looked):
    wanted = WantedFrames(model=model)
    assert len(found_by(lake, wanted)) == looked
    assert count_detections(lake, wanted) == {"small": 6, "demo": 54}.get(model, 0)
    assert len(found_by(lake, replace(wanted, label="dog"))) == {"small": 6, "demo": 24}.get(model, 0)


@pytest.mark.medium
@settings(max_examples=30)
@given(
    corners=st.lists(st.tuples(*[st.sampled_from([0, 0.1, 0.25, 0.5, 0.77, 1])] * 2), min_size=3, max_size=7),
    label=st.sampled_from(["car", "dog", None]),
)
def test_an_area_holds_the_objects_that_rules_find_in_the_zone(lake, corners, label):
    zone = Zone(name="zone", source="cam-1", points=tuple(corners))
    wanted = WantedFrames(label=label, area=Area(zone.source, zone.fractions))
    inside = {}
    for one in FRAMES:
        objects = [SeenObject(each.label, each.confidence, each.box_xywh, None) for each in one.detections]
        inside[one.frame_id] = sum(label in (None, each.label) for each in objects_in(zone, objects, SIZE))
    assert found_by(lake, wanted) == {name for name, count in inside.items() if count}
    assert count_detections(lake, wanted) == sum(inside.values())


@pytest.mark.medium
@settings(max_examples=examples(50))
@given(
    st.builds(
        WantedFrames,
        source=st.sampled_from(["cam-1", "cam-2", None]),
        label=st.sampled_from(["car", "dog", None]),
        status=st.sampled_from([*FrameStatus, None]),
        span=st.sampled_from([Span(), Span(DAY, DAY), Span(NEXT_DAY, None)]),
        hour=st.sampled_from([3, 8, None]),
        min_confidence=st.sampled_from([0.0, 0.7]),
        model=st.sampled_from(["small", "demo", None]),
        words=st.sampled_from([(), ("dog",), ("frame", "cam"), ("nowhere",)]),
    )
)
def test_matching_detections_are_in_the_listed_frames_for_any_filters(lake, wanted):
    listed = found_by(lake, wanted)
    matching = [
        found
        for one in FRAMES if one.frame_id in listed
        for found in one.detections
        if wanted.label in (None, found.label) and found.confidence >= wanted.min_confidence
        and wanted.model in (None, model_of(one, found))
    ]  # fmt: skip
    assert count_detections(lake, wanted) == len(matching)


def test_an_area_applies_to_its_source(lake):
    assert found_by(lake, WantedFrames(area=Area("cam-2", ((0, 0), (1, 0), (1, 1))))) == set()


def test_one_detection_must_meet_all_conditions(lake):
    assert found_by(lake, WantedFrames(label="dog", min_confidence=0.7)) == set()
