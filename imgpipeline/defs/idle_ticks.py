"""Skips evaluations of automation that cannot find anything new.

An evaluation compares all days of all tables, which is most of the CPU time of an idle code location. Its result
changes only with a new event in Dagster's log, or when the pause of an outdated day ends.
"""

import time
from dataclasses import dataclass

import dagster as dg

from imgpipeline.defs.dagster_internals import SensorExecutionData, kept_instance, lend_instance

LONGEST_REST_S = 60.0
"""Everything is compared after this time in any case: a new UTC day may have begun, or an event id appeared late."""

_waiting: set[str] = set()


def note_waiting(who: str, *, waits: bool) -> None:
    """Records whether a condition has outdated days, due now or later. No tick is skipped while any condition has some.

    Args:
        who: The condition and its asset.
        waits: Whether it has found outdated days in this evaluation.
    """
    (_waiting.add if waits else _waiting.discard)(who)


@dataclass(frozen=True, slots=True)
class _Look:
    """The last evaluation."""

    instance: dg.DagsterInstance
    """Dagster's storage."""
    newest_event: int
    """Id of the newest event in Dagster's log at its start."""
    at_s: float
    """Its start, by the sensor's clock."""


class RestingAutomation(dg.AutomationConditionSensorDefinition):
    """An automation sensor whose ticks do nothing while there is no new event and no outdated day.

    Its memory only saves work: after a restart of the code server, the first tick evaluates everything.
    """

    clock = staticmethod(time.monotonic)
    """Returns the time in seconds."""
    _last: _Look | None = None

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> SensorExecutionData:
        """Evaluates all conditions or skips the tick; a context that was created with an instance is never skipped."""
        if context.instance_ref is None:
            return super().evaluate_tick(context)
        instance = kept_instance(context)
        look = _Look(instance, instance.event_log_storage.get_maximum_record_id() or 0, self.clock())
        if self._can_rest(look):
            said = "Nothing new: no event since the last evaluation, and no outdated day."
            return SensorExecutionData(skip_message=said, cursor=context.cursor)
        lend_instance(context, instance)
        self._last = None  # an evaluation that fails is repeated
        told = super().evaluate_tick(context)
        self._last = look
        return told

    def _can_rest(self, now: _Look) -> bool:
        last = self._last
        if last is None or last.instance is not now.instance or last.newest_event != now.newest_event or _waiting:
            return False
        return now.at_s - last.at_s < LONGEST_REST_S
