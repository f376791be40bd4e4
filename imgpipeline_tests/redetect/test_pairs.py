"""Boxes that overlap several others are matched as in plain Python, by SQL and the choice together."""

import itertools
import random
from typing import Any

import pytest

from imgpipeline.lake.storage.engine import Engine, open_engine
from imgpipeline.redetect import pairs
from imgpipeline.redetect.pairs import match_found
from imgpipeline_tests.redetect.test_comparison import Box, matched_of

COLUMNS = "frame_id VARCHAR, detection_number INTEGER, label VARCHAR, x DOUBLE, y DOUBLE, width DOUBLE, height DOUBLE"
FRAMES, LABELS = ("f1", "f2", "f3"), ("car", "dog")


def crowded(dice: random.Random) -> list[Box]:
    """Return boxes of three frames and two labels, many over each other; numbered within each frame."""
    return [
        {
            "frame_id": frame, "detection_number": number, "label": dice.choice(LABELS), "x": dice.randint(0, 4),
            "y": dice.randint(0, 4), "width": dice.randint(4, 8), "height": dice.randint(4, 8),
        }
        for frame in FRAMES
        for number in range(dice.randint(4, 9))
    ]  # fmt: skip


def fill(engine: Engine, name: str, boxes: list[Box]) -> None:
    engine.run(f"CREATE OR REPLACE TABLE {name} ({COLUMNS})")
    for box in boxes:
        engine.run(f"INSERT INTO {name} VALUES (?, ?, ?, ?, ?, ?, ?)", list(box.values()))  # noqa: S608 - own names


@pytest.mark.parametrize("seed", range(12))
def test_crowded_boxes_are_matched_as_in_plain_python(seed, monkeypatch):
    monkeypatch.setattr(pairs, "ROWS_AT_ONCE", 3)
    dice = random.Random(seed)  # noqa: S311 - the same boxes each time
    of_a, of_b = crowded(dice), crowded(dice)
    expected: set[tuple[Any, ...]] = set()
    for frame, label in itertools.product(FRAMES, LABELS):
        a, b = ([box for box in of if (box["frame_id"], box["label"]) == (frame, label)] for of in (of_a, of_b))
        expected |= {
            (frame, label, a[i]["detection_number"], b[j]["detection_number"], iou) for i, j, iou in matched_of(a, b)
        }
    with open_engine(memory=None) as engine:
        fill(engine, "found_a", of_a)
        fill(engine, "found_b", of_b)
        match_found(engine)
        assert set(engine.run("SELECT frame_id, label, a, b, iou FROM matched")) == expected
    assert expected


def test_boxes_without_an_area_match_nothing():
    """Boxes of imports may have none; nothing divided by nothing is no overlap."""
    flat: Box = {"frame_id": "f1", "detection_number": 0, "label": "car", "x": 5, "y": 5, "width": 0, "height": 4}
    with open_engine(memory=None) as engine:
        fill(engine, "found_a", [flat])
        fill(engine, "found_b", [flat, flat | {"detection_number": 1, "width": 3}])
        match_found(engine)
        assert engine.run("SELECT * FROM matched") == []
