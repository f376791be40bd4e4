"""Judges two models on a day by the answers of people who counted a random sample of its frames (`accuracy.plans`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from imgpipeline.accuracy.answers import read_answers
from imgpipeline.accuracy.estimator import Estimate
from imgpipeline.accuracy.plans import Plan, read_plans
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.measuring import WHOLE_DAY, measure, measure_difference
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.pairs import Side, open_pair, open_side
from imgpipeline.settings import LIVE, Settings


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """Two models' counts of a label at a source, in the frames that both processed.

    Attributes:
        a, b: The count of each model, and the estimate of the true count by its errors.
        more: How many more objects b miscounts than a, frame by frame.
    """

    source: str
    label: str
    a: Estimate
    b: Estimate
    more: Estimate


def judge_pair(store: ObjectStore, settings: Settings, day: date, model_a: str, model_b: str) -> list[JudgedPair]:
    """Judges two models by the answers to each plan of a day.

    Args:
        day: UTC day.
        model_a: `live`, or a choice such as `demo@0.3`.
        model_b: The other one.

    Raises:
        PermanentError: The day has no plan, or one of the models no results.
        TransientError: The store does not answer.
    """
    plans = read_plans(store, day)
    if not plans:
        raise PermanentError(
            f"Nobody has counted on frames of {day}.", next_step=f"imgpipeline accuracy plan --day {day}"
        )
    with open_pair(store, day, model_a, model_b, memory=settings.duckdb_memory) as (engine, a, b):
        _show_frames(store, engine, day, a, b)
        return [pair for plan in plans for pair in _judge(store, settings, plan, engine, (a, b))]


def _show_frames(store: ObjectStore, engine: Engine, day: date, a: Side, b: Side) -> None:
    """Creates the view of the frames that both processed, with the offsets of live detection, which plans refer to."""
    live = next((side for side in (a, b) if side.name == LIVE), None)
    live = live or open_side(store, engine, LIVE, day, "live")
    engine.run(
        f"CREATE VIEW frames AS SELECT *, DATE '{day}' AS day FROM {live.view}_frames AS live "  # noqa: S608 - own names
        f"SEMI JOIN {a.view}_frames AS a USING (frame_id) SEMI JOIN {b.view}_frames AS b USING (frame_id)"
    )


def _judge(
    store: ObjectStore, settings: Settings, plan: Plan, engine: Engine, sides: tuple[Side, Side]
) -> list[JudgedPair]:
    answers, threshold = read_answers(store, plan.day, plan.source), settings.summary_threshold
    a, b = (partial(_ask, engine, side, plan.day) for side in sides)
    of_a, of_b = (measure(ask, plan, answers, threshold) for ask in (a, b))
    more = measure_difference(b, a, plan, answers, threshold)
    rows = zip(of_a, of_b, more, strict=True)
    return [
        JudgedPair(plan.source, one.label, one.found, other.found, difference.found)
        for one, other, difference in rows
        if one.part == WHOLE_DAY
    ]


def _ask(engine: Engine, side: Side, day: date, sql: str, given: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """Runs a query in which `detections` are those of one side, in the frames that both processed."""
    engine.run(
        f"CREATE OR REPLACE VIEW detections AS SELECT *, DATE '{day}' AS day FROM {side.view}_found "  # noqa: S608 - own names
        "SEMI JOIN frames USING (frame_id)"
    )
    return engine.run(sql, given)
