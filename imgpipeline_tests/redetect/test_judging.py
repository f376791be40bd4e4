"""Two models on a day, judged by the same answers of people."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from imgpipeline.accuracy.answers import Answer, keep_answer
from imgpipeline.accuracy.plans import Plan, make_plan
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.measuring import read_population
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.redetect.judging import judge_pair
from imgpipeline.redetect.run import redetect_day
from imgpipeline.settings import LIVE, Settings
from imgpipeline_tests.objectstore.stores import copy_objects
from imgpipeline_tests.redetect.days import DAY, LOW, NOON, build_live, live_rows, redetected_rows, redetector

pytestmark = pytest.mark.medium
FRAMES = 60
HIGH = "demo@0.97"
Counts = Callable[[str], Mapping[str, int]]


@functools.cache
def _looked() -> ObjectStore:
    settings, store = Settings(_env_file=None), open_memory_store()
    build_live(settings, store, range(FRAMES))
    for choice in (LOW, HIGH):
        redetect_day(redetector(settings, store, choice), DAY)
    return store


@pytest.fixture
def looked(store: ObjectStore) -> None:
    """A day that was detected live and re-processed with a low and a high threshold."""
    copy_objects(_looked(), store)


def found_by(store: ObjectStore, name: str) -> Counts:
    """Return what a model counts in a frame."""
    rows = live_rows(store, "detections") if name == LIVE else redetected_rows(store, "detections", name)
    counts = Counter((row["frame_id"], row["label"]) for row in rows)
    return lambda frame_id: Counter({label: number for (at, label), number in counts.items() if at == frame_id})


def answer(settings: Settings, store: ObjectStore, samples: int, truth: Counts) -> Plan:
    """Draw frames, and count on them what the truth says."""
    with open_lake(store, settings=settings, days=[DAY]) as lake:
        frames = read_population(lake.rows, DAY, "yard", lake.snapshot.ends, None)
    plan = Plan((make_plan(store, frames, labels=["car", "person"], samples=samples, by="ada", at=NOON),))
    for frame_id in plan.samples:
        counts = {label: truth(frame_id).get(label, 0) for label in plan.labels}
        keep_answer(store, Answer(DAY, "yard", frame_id, "ada", NOON, counts))
    return plan


def total(store: ObjectStore, name: str, label: str) -> int:
    rows = live_rows(store, "detections") if name == LIVE else redetected_rows(store, "detections", name)
    return sum(row["label"] == label for row in rows)


def judged(settings: Settings, store: ObjectStore, a: str, b: str) -> dict[str, dict[str, Any]]:
    return {pair["label"]: pair for pair in judge_pair(store, settings, DAY, a, b)}


@pytest.mark.usefixtures("looked")
def test_each_model_has_its_count_and_its_interval(settings, store):
    answer(settings, store, FRAMES, found_by(store, LOW))
    pair = judged(settings, store, LIVE, LOW)["person"]
    truth = total(store, LOW, "person")
    assert (pair["count_a"], pair["count_b"]) == (total(store, LIVE, "person"), truth)
    # People counted all frames, so both models lead to the same true count.
    assert (pair["low_a"], pair["high_a"], pair["low_b"], pair["high_b"]) == (truth,) * 4


@pytest.mark.usefixtures("looked")
def test_a_census_gives_the_difference_of_the_miscounts_of_all_frames(settings, store):
    answer(settings, store, FRAMES, found_by(store, LOW))
    expected = total(store, LOW, "person") - total(store, HIGH, "person")
    assert expected > 0
    assert judged(settings, store, LOW, HIGH)["person"]["more_miscounted"] == expected
    turned = judged(settings, store, HIGH, LOW)["person"]
    assert (turned["more_low"], turned["more_miscounted"], turned["more_high"]) == (-expected,) * 3


@pytest.mark.usefixtures("looked")
def test_the_interval_of_a_sample_contains_the_difference(settings, store):
    answer(settings, store, 50, found_by(store, LOW))
    more = judged(settings, store, LOW, HIGH)["person"]
    assert more["more_low"] < total(store, LOW, "person") - total(store, HIGH, "person") < more["more_high"]
    assert (more["frames"], more["samples"]) == (FRAMES, 50)


@pytest.mark.usefixtures("looked")
def test_misses_and_false_alarms_do_not_cancel_out(settings, store):
    """A model that finds as many too many as too few counts right in total, and wrong in each frame."""
    live = found_by(store, LIVE)
    with open_lake(store, settings=settings, days=[DAY]) as lake:
        ids = sorted(frame_id for (frame_id,) in lake.query("SELECT frame_id FROM frames").rows)
    shift = {frame_id: (1, -1)[number % 2] for number, frame_id in enumerate(ids)}
    truth = {frame_id: Counter(person=max(0, live(frame_id).get("person", 0) + by)) for frame_id, by in shift.items()}
    answer(settings, store, FRAMES, lambda frame_id: truth[frame_id])
    low = found_by(store, LOW)
    misses = [
        sum(abs(truth[frame_id]["person"] - found(frame_id).get("person", 0)) for frame_id in ids)
        for found in (live, low)
    ]
    assert judged(settings, store, LIVE, LOW)["person"]["more_miscounted"] == misses[1] - misses[0]


@pytest.mark.usefixtures("looked")
def test_models_without_results_and_days_without_plans_are_refused(settings, store):
    with pytest.raises(PermanentError) as refused:
        judge_pair(store, settings, DAY, LIVE, LOW)
    assert refused.value.next_step == f"imgpipeline accuracy plan --day {DAY}"
    answer(settings, store, 10, found_by(store, LOW))
    with pytest.raises(PermanentError) as refused:
        judge_pair(store, settings, DAY, LIVE, "demo@0.2")
    assert refused.value.next_step == f"imgpipeline redetect --model demo@0.2 --day {DAY}"
