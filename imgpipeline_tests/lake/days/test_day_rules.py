"""A build whose rows break a rule stores nothing, and names the rule, a frame and its offset."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.lake.days import day_rows as outcomes
from imgpipeline.lake.days import day_rules as day_checks
from imgpipeline.lake.days.day_rows import keep_unique, load_outcomes
from imgpipeline.lake.days.day_rules import UnsoundRowsError, check_rows
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.storage.engine import Engine, open_engine
from imgpipeline.ledger.days import read_day
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.samples import day_outcomes, seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, dead_letter, write_chain


def with_detection(offset: int, **changes: Any) -> Frame:
    """Return a frame of 640 x 480 with one detection that is right but for the changes."""
    right = Detection("car", 2, 0.75, (10.0, 10.0, 100.0, 100.0))
    return replace(seen(offset), detections=(replace(right, **changes),))


WRONG = {
    "left of the image": ("boxes_in_image", with_detection(3, box_xywh=(-1.0, 0.0, 10.0, 10.0))),
    "above the image": ("boxes_in_image", with_detection(3, box_xywh=(0.0, -0.1, 10.0, 10.0))),
    "behind the right edge": ("boxes_in_image", with_detection(3, box_xywh=(600.0, 0.0, 40.1, 10.0))),
    "below the image": ("boxes_in_image", with_detection(3, box_xywh=(0.0, 470.0, 10.0, 11.0))),
    "of negative width": ("boxes_in_image", with_detection(3, box_xywh=(50.0, 0.0, -10.0, 10.0))),
    "below the threshold": ("confidence_in_range", with_detection(3, confidence=0.49)),
    "above one": ("confidence_in_range", with_detection(3, confidence=1.01)),
    "below zero without a threshold": (
        "confidence_in_range", replace(with_detection(3, confidence=-0.1), confidence_threshold=None)),
    "above one in an import": ("confidence_in_range", replace(with_detection(3, confidence=1.01), topic="import.cams")),
}  # fmt: skip

RIGHT = {
    "the whole image": with_detection(3, box_xywh=(0.0, 0.0, 640.0, 480.0)),
    "rounded over the edge": with_detection(3, box_xywh=(0.005, 0.0, 640.0, 480.01)),
    "exactly the threshold, by rounding": with_detection(3, confidence=0.5000001),
    "certain": with_detection(3, confidence=1.0),
    "an import that knows no box": with_detection(3, box_xywh=None),
    "an import that knows no size": replace(
        with_detection(3, box_xywh=(0.0, 0.0, 9999.0, 9999.0)), image_width=None, image_height=None),
    "an import with a box over the edge": replace(
        with_detection(3, box_xywh=(-5.0, 0.0, 900.0, 10.0)), topic="import.cameras"),
    "an import with a confidence below its threshold": replace(
        with_detection(3, confidence=0.3), topic="import.cameras"),
    "an import that knows no threshold": replace(with_detection(3, confidence=0.0), confidence_threshold=None),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_stops_the_build_before_anything_is_stored(memory, name):
    rule, frame = WRONG[name]
    chain = write_chain(memory, day_outcomes(0, 3))
    rebuild_day(memory, DAY, now=NOON)
    keys = [day_table_key(table.name, DAY) for table in DAY_TABLES]
    before = [memory.get(key) for key in keys]
    assert append(chain, [frame, *day_outcomes(4, 6)])
    with pytest.raises(UnsoundRowsError) as error:
        rebuild_day(memory, DAY, now=NOON)
    ((found),) = error.value.violations
    assert (found.table, found.rule, found.rows) == ("detections", rule, 1)
    assert found.example == f"frame {frame.frame_id}, announced at offset 3 of {frame.topic}/{CHAIN.topic_id}/0"
    assert found.example in str(error.value)
    assert [memory.get(key) for key in keys] == before


@pytest.mark.parametrize("name", RIGHT)
def test_a_correct_row_is_accepted(memory, name):
    write_chain(memory, [*day_outcomes(0, 3), RIGHT[name]])
    assert rebuild_day(memory, DAY, now=NOON).of("frames").rows == 4


@pytest.fixture
def loaded(memory: ObjectStore) -> Iterator[Engine]:
    """Rows of a day as a build has them before it puts anything."""
    write_chain(memory, [*day_outcomes(0, 5), dead_letter(5)])
    ends = {chain: end.offset for chain, end in fix_ends(memory).items()}
    with open_engine(memory=None) as engine:
        load_outcomes(engine, read_day(memory, DAY, ends), {DAY: {}})
        keep_unique(engine)
        yield engine


def broken(engine: Engine) -> list[tuple[str, str, int]]:
    return [(found.table, found.rule, found.rows) for found in check_rows(engine, DAY)]


def test_loaded_rows_break_no_rule(loaded):
    assert broken(loaded) == []


def test_a_duplicate_frame_is_found(loaded):
    loaded.run("INSERT INTO found SELECT * FROM found WHERE source_kafka_offset < 2")
    assert broken(loaded) == [("frames", "frame_id_unique", 2)]


def test_a_frame_of_another_day_is_found_with_its_detections(loaded):
    loaded.run('UPDATE found SET "timestamp" = ? WHERE source_kafka_offset = 2', [NOON + timedelta(days=1)])
    loaded.run('UPDATE found SET "timestamp" = NULL WHERE source_kafka_offset = 0')
    assert broken(loaded) == [("frames", "timestamps_in_day", 2), ("detections", "timestamps_in_day", 2)]


def test_the_days_first_and_last_moments_are_inside(loaded):
    last = NOON.replace(hour=23, minute=59, second=59, microsecond=999_999)
    loaded.run('UPDATE found SET "timestamp" = ? WHERE source_kafka_offset = 1', [last])
    loaded.run('UPDATE found SET "timestamp" = ? WHERE source_kafka_offset = 2', [NOON.replace(hour=0)])
    assert broken(loaded) == []


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("SELECT * EXCLUDE (topic_id) FROM buried", "topic_id is missing, expected VARCHAR"),
        ("SELECT *, 1 AS more FROM buried", "more is INTEGER, expected none"),
        (
            "SELECT * REPLACE (kafka_offset::INTEGER AS kafka_offset) FROM buried",
            "kafka_offset is INTEGER, expected BIGINT",
        ),
        ("SELECT code, * EXCLUDE (code) FROM buried", "the columns' order differs"),
    ],
    ids=["missing", "more", "other type", "other order"],
)
def test_columns_that_differ_from_the_documents_are_found(loaded, monkeypatch, rows, what):
    monkeypatch.setitem(outcomes.ROWS, "dead_letters", rows)
    assert day_checks.ROWS is outcomes.ROWS
    (found,) = check_rows(loaded, DAY)
    assert (found.table, found.rule, found.rows) == ("dead_letters", "schema", 1)
    assert found.example == what
