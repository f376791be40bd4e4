"""The table `accuracy` of a day: what people counted on a random sample, compared with the model.

It exists on days for which somebody has made a plan (`accuracy.plans`). It is made of the tables of the day and of its
plans and answers, and is made again when any of them changes.
"""

from collections.abc import Mapping
from hashlib import sha256

from imgpipeline.accuracy.answers import read_answers
from imgpipeline.accuracy.plans import Plan, list_inputs, read_plans
from imgpipeline.events.configuration import Rules
from imgpipeline.events.recipe import accuracy_recipe
from imgpipeline.events.rule_tables import DayOfRules, Row
from imgpipeline.events.slices import open_samples
from imgpipeline.events.values import TRACKED
from imgpipeline.lake.days.measuring import AccuracyRow, Ask, measure
from imgpipeline.lake.days.summary_inputs import Inputs
from imgpipeline.lake.schema.accuracy import ACCURACY
from imgpipeline.lake.schema.tables import DETECTIONS, FRAMES
from imgpipeline.lake.storage.manifest import Stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


def measure_plan(store: ObjectStore, settings: Settings, ask: Ask, plan: Plan) -> list[AccuracyRow]:
    """Estimates the true counts that a plan is about by the answers so far.

    Args:
        ask: Queries `frames` and `detections` of the day, and for a plan of a line also `tracks` and `track_points`.

    Raises:
        PermanentError: An answer is damaged.
        TransientError: The store does not answer.
    """
    answers = read_answers(store, plan.day, plan.source, plan.line_name)
    with open_samples(ask, plan.day, plan.line, memory=settings.duckdb_memory) as samples:
        return measure(samples, plan, answers, settings.summary_threshold)


class DayAccuracy(DayOfRules):
    """A day's table `accuracy`. A plan keeps its line, so the current rules do not matter."""

    table = ACCURACY

    def inputs(self, _rules: Rules, /) -> tuple[str, ...]:
        """Returns the names of the stored tables that it reads."""
        return (FRAMES.name, DETECTIONS.name)

    def track_inputs(self, _rules: Rules, /) -> tuple[str, ...]:
        """Returns the tables of tracks, if a plan is about a line."""
        return TRACKED if any(plan.line for plan in read_plans(self.store, self.day)) else ()

    def other_inputs(self) -> Mapping[str, str]:
        """Returns a hash of the keys of the day's plans and answers, which are never replaced."""
        keys = "\n".join(list_inputs(self.store, self.day))
        return {"plans and answers": sha256(keys.encode()).hexdigest()[:16]}

    def recipe(self, _rules: Rules, /) -> str:
        """Returns the hash of the code version and of the settings."""
        return accuracy_recipe(self.settings)

    def rows(self, inputs: Inputs, _rules: Rules, _stored: Stored | None, /) -> list[Row]:
        """Returns the rows of each plan."""
        plans = read_plans(self.store, self.day)
        found = [row for plan in plans for row in measure_plan(self.store, self.settings, inputs.engine.run, plan)]
        return [row.to_record() for row in sorted(found, key=lambda row: (row.source, row.label, row.part))]
