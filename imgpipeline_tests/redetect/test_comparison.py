"""Comparisons of two models equal those of plain Python, and their pictures show both."""

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.keys import comparison_examples_prefix, redetection_key, summary_key
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.redetect.comparison import MOST_EXAMPLES
from imgpipeline.redetect.examples import COLOUR_A, COLOUR_B
from imgpipeline.redetect.pairs import compare_day, compare_pair, open_pair
from imgpipeline.redetect.run import redetect_day
from imgpipeline.settings import Settings
from imgpipeline.vision.detector import Detector
from imgpipeline_tests.daily.builds import build_comparison
from imgpipeline_tests.objectstore.stores import copy_objects
from imgpipeline_tests.redetect.days import (
    DAY,
    LOW,
    NOON,
    build_live,
    live_rows,
    objects_below,
    read_rows,
    redetected_rows,
    redetector,
)

HIGH = "demo@0.7"
TABLE = summary_key("model_comparison", DAY)
Box = dict[str, Any]


def overlap(a: Box, b: Box) -> float:
    """Return the IoU of two boxes."""
    wide = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
    high = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
    shared = max(0.0, wide) * max(0.0, high)
    return float(shared / (a["width"] * a["height"] + b["width"] * b["height"] - shared))


def matched_of(boxes_a: Sequence[Box], boxes_b: Sequence[Box]) -> list[tuple[int, int, float]]:
    """Return the pairs of one frame and label, greedily: an oracle in plain Python."""
    pairs = [(overlap(a, b), i, j) for i, a in enumerate(boxes_a) for j, b in enumerate(boxes_b)]
    free_a, free_b, chosen = set(range(len(boxes_a))), set(range(len(boxes_b))), []
    for iou, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if iou >= 0.5 and i in free_a and j in free_b:
            free_a.remove(i)
            free_b.remove(j)
            chosen.append((i, j, iou))
    return chosen


def expected(a: Sequence[Box], b: Sequence[Box], frames: set[str]) -> dict[str, tuple[int, int, int, int, int, float]]:
    """Return counts of A and B, pairs, only A, only B and agreement by label."""
    grouped: dict[tuple[str, str], tuple[list[Box], list[Box]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((a, b)):
        for row in rows:
            if row["frame_id"] in frames:
                grouped[row["frame_id"], row["label"]][side].append(row)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for (_, label), (of_a, of_b) in grouped.items():
        counts[label].update(a=len(of_a), b=len(of_b), matched=len(matched_of(of_a, of_b)))
    return {
        label: (n["a"], n["b"], n["matched"], n["a"] - n["matched"], n["b"] - n["matched"],
                n["matched"] / (n["a"] + n["b"] - n["matched"]))
        for label, n in counts.items()
    }  # fmt: skip


def numbers(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("count_a", "count_b", "matched", "only_a", "only_b", "agreement"))


@functools.cache
def _compared() -> ObjectStore:
    settings, store = Settings(_env_file=None), open_memory_store()
    frames = build_live(settings, store, range(0, 60, 4))
    redetect_day(redetector(settings, store, HIGH), DAY)
    store.delete(frames[4].source_image_path)
    redetect_day(redetector(settings, store), DAY)
    return store


@pytest.fixture
def compared(store: ObjectStore) -> ObjectStore:
    """A day that three have looked at: live, and the same model with a lower and with a higher threshold."""
    copy_objects(_compared(), store)
    return store


@pytest.mark.medium
def test_every_number_of_every_pair_is_that_of_plain_python(settings, compared):
    done = build_comparison(settings, compared, DAY, now=NOON)
    assert list(done.manifest.made_of) == ["live", LOW, HIGH]
    found = {name: redetected_rows(compared, "detections", name) for name in (LOW, HIGH)}
    looked_at = {
        name: {row["frame_id"] for row in redetected_rows(compared, "frames", name) if row["outcome"] == "processed"}
        for name in (LOW, HIGH)
    }
    found["live"] = live_rows(compared, "detections")
    looked_at["live"] = {row["frame_id"] for row in live_rows(compared, "frames")}
    assert [len(looked_at[name]) for name in ("live", LOW, HIGH)] == [15, 14, 15]
    rows = read_rows(compared, TABLE)
    assert len(rows) == done.manifest.rows
    for a, b in itertools.combinations(("live", LOW, HIGH), 2):
        frames = looked_at[a] & looked_at[b]
        of_pair = [row for row in rows if (row["model_a"], row["model_b"]) == (a, b)]
        assert {row["label"]: numbers(row) for row in of_pair} == expected(found[a], found[b], frames)
        assert {row["frames"] for row in of_pair} == {len(frames)}
        assert sum(row["only_a"] + row["only_b"] for row in of_pair) > 0


@pytest.mark.medium
def test_live_and_the_same_model_agree_in_everything(settings, store):
    build_live(settings, store, range(10))
    redetect_day(redetector(settings, store, "demo"), DAY)
    with open_pair(store, DAY, "live", "demo", memory=None) as sides:
        pair = compare_pair(*sides)
    assert pair.labels
    for label in pair.labels:
        assert (label["only_a"], label["only_b"], label["agreement"], label["mean_iou"]) == (0, 0, 1.0, 1.0)
        assert label["models_a"] == label["models_b"]
        assert label["models_a"][0].endswith(">0.5")
    assert all(example.labels == () for example in pair.examples)
    assert pair.examples


@pytest.mark.medium
def test_ten_frames_of_each_pair_are_drawn_with_the_boxes_of_both(settings, compared):
    done = build_comparison(settings, compared, DAY, now=NOON)
    assert objects_below(compared, comparison_examples_prefix(DAY)) == sorted(done.manifest.examples)
    assert Counter(key.split("/examples/")[1].rpartition("/")[0] for key in done.manifest.examples) == {
        "live/demo~0.05": MOST_EXAMPLES,
        "live/demo~0.7": MOST_EXAMPLES,
        "demo~0.05/demo~0.7": MOST_EXAMPLES,
    }
    key = next(key for key in done.manifest.examples if "/live/demo~0.05/" in key)
    drawn = cv2.imdecode(np.frombuffer(compared.get(key), np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    picture, legend = drawn[:-56], drawn[-56:]
    for colour in (COLOUR_A, COLOUR_B):
        assert (np.abs(picture.astype(int) - colour).max(axis=2) < 60).sum() > 50
        assert (np.abs(legend.astype(int) - colour).max(axis=2) < 60).sum() > 150
    named = {key for row in read_rows(compared, TABLE) for key in row["examples"]}
    assert named <= set(done.manifest.examples)
    assert named


@pytest.mark.medium
def test_pictures_of_an_earlier_comparison_do_not_stay(settings, compared):
    build_comparison(settings, compared, DAY, now=NOON)
    for table in ("frames", "detections"):
        compared.delete(redetection_key(LOW, DAY, table))
    done = build_comparison(settings, compared, DAY, now=NOON)
    assert list(done.manifest.made_of) == ["live", HIGH]
    assert objects_below(compared, comparison_examples_prefix(DAY)) == sorted(done.manifest.examples)


@pytest.mark.medium
def test_a_day_without_redetections_has_an_empty_comparison(settings, store):
    build_live(settings, store, range(3))
    done = build_comparison(settings, store, DAY, now=NOON)
    assert (done.manifest.rows, list(done.manifest.made_of), done.manifest.examples) == (0, ["live"], [])


def test_what_is_not_there_is_an_error_that_names_the_command(settings, store):
    build_live(settings, store, range(3))
    with pytest.raises(PermanentError, match="imgpipeline redetect --model demo --day 2026-03-01"):
        compare_day(store, DAY, "live", "demo", memory=None)


@pytest.mark.medium
def test_a_redetection_between_its_two_puts_is_not_compared(settings, compared, monkeypatch):
    monkeypatch.setattr("imgpipeline.lake.days.summary_inputs.SETTLE_S", 0.0)
    older = compared.get(redetection_key(LOW, DAY, "detections"))
    build_live(settings, compared, [59])
    redetect_day(redetector(settings, compared), DAY)
    compared.put(redetection_key(LOW, DAY, "detections"), older)
    with pytest.raises(TransientError, match=f"{LOW} of {DAY} cannot be compared yet") as caught:
        compare_day(compared, DAY, "live", LOW, memory=None)
    assert caught.value.next_step == f"imgpipeline redetect --model {LOW} --day {DAY}"


@pytest.mark.medium
def test_two_precisions_of_one_model_are_told_apart(settings, store):
    build_live(settings, store, range(3))
    plain = redetector(settings, store, LOW)
    own = plain.detector
    rough = Detector(own.spec, own.model_sha256, own.backend, confidence_threshold=0.05, precision="bf16")
    done = [redetect_day(each, DAY) for each in (plain, replace(plain, model="demo@bf16@0.05", detector=rough))]
    assert [each.manifest.precision for each in done] == [None, "bf16"]
    assert done[0].manifest.made_by != done[1].manifest.made_by
    build_comparison(settings, store, DAY, now=NOON)
    found = {(row["model_b"], *row["models_b"]) for row in read_rows(store, TABLE) if row["model_a"] == "live"}
    version = f"demo {own.model_sha256[:8]}"
    assert found == {("demo@0.05", f"{version} >0.05"), ("demo@bf16@0.05", f"{version} bf16 >0.05")}
