"""Judges two models on a day by the answers of people who counted a random sample of its frames (`accuracy.plans`)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

from imgpipeline.accuracy.answers import read_answers
from imgpipeline.accuracy.plans import Plan, read_plans
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.measuring import WHOLE_DAY, Ask, measure
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.pairs import Side, open_pair, open_side
from imgpipeline.settings import LIVE, Settings


def judge_pair(store: ObjectStore, settings: Settings, day: date, model_a: str, model_b: str) -> list[dict[str, Any]]:
    """Judges two models by the answers to each plan of a day, in the frames that both processed.

    Args:
        day: UTC day.
        model_a: `live`, or a choice such as `demo@0.3`.
        model_b: The other one.

    Returns:
        For each source and label, the count of each model with the interval of the true count by its errors, and how
        many more objects b miscounts than a, added up frame by frame.

    Raises:
        PermanentError: The day has no plan, or one of the models no results.
        TransientError: The store does not answer.
    """
    plans = [plan for plan in read_plans(store, day) if not plan.line]  # only live detection has tracks
    if not plans:
        raise PermanentError(
            f"Nobody has counted on frames of {day}.", next_step=f"imgpipeline accuracy plan --day {day}"
        )
    with open_pair(store, day, model_a, model_b, memory=settings.duckdb_memory) as (engine, *sides):
        # Plans refer to offsets, which only the frames of live detection have.
        live = next((side for side in sides if side.name == LIVE), None) or open_side(store, engine, LIVE, day, "live")
        both = " ".join(f"SEMI JOIN {side.view}_frames AS {side.view} USING (frame_id)" for side in sides)
        engine.run(f"CREATE VIEW frames AS SELECT *, DATE '{day}' AS day FROM {live.view}_frames AS live {both}")  # noqa: S608 - own names
        a, b = (partial(_ask, engine, side, day) for side in sides)
        return [row for plan in plans for row in _judge(store, plan, a, b, settings.summary_threshold)]


def _judge(store: ObjectStore, plan: Plan, a: Ask, b: Ask, threshold: float) -> Iterator[dict[str, Any]]:
    answers = read_answers(store, plan.day, plan.source)
    of_a, of_b = (measure(ask, plan, answers, threshold) for ask in (a, b))
    pairs = zip(of_a, of_b, measure(b, plan, answers, threshold, other=a), strict=True)
    for row, one, two, paired in ((row, row.found, other.found, more.found) for row, other, more in pairs):
        if row.part == WHOLE_DAY:
            more = replace(paired, count=0.0, seen=-math.inf)
            yield {
                "source": plan.source, "label": row.label, "frames": more.frames, "samples": more.samples,
                "count_a": one.count, "low_a": one.low, "high_a": one.high,
                "count_b": two.count, "low_b": two.low, "high_b": two.high,
                "more_miscounted": more.estimate, "more_low": more.low, "more_high": more.high,
            }  # fmt: skip


def _ask(engine: Engine, side: Side, day: date, sql: str, given: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """Runs a query in which `detections` are those of one side."""
    found = f"SELECT *, DATE '{day}' AS day FROM {side.view}_found SEMI JOIN frames USING (frame_id)"  # noqa: S608 - own names
    engine.run(f"CREATE OR REPLACE VIEW detections AS {found}")
    return engine.run(sql, given)
