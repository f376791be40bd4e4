"""Skips evaluations of automation that cannot find anything new.

An evaluation compares all days of all tables in about 0.3 s of CPU time, which is most of the CPU time of an idle code
location. Its result changes only with a new event in Dagster's log, or when the pause of an outdated day ends. While a
detection run reports frames, there is always a new event, but nearly all are of a day that waits for the end of its
pause.
"""

import time
from dataclasses import dataclass

import dagster as dg

from imgpipeline.defs.dagster_internals import SensorExecutionData, kept_instance, lend_instance

LONGEST_REST_S = 60.0
"""Everything is compared after this time in any case: a new UTC day may have begun, or an event id appeared late."""
LONGEST_REST_IN_PAUSE_S = 30.0
"""The same while outdated days wait for the end of their pauses: other days may have news, too."""
NOTHING_NEW = "Nothing new: no event since the last evaluation, and no outdated day."
"""Why a tick rests."""
PAUSED = "Days with new frames wait for the end of the pause after their last build."
"""Why a tick rests while a detection run reports frames."""

_due_in_s: dict[str, float] = {}


def note_due(who: str, in_s: float | None) -> None:
    """Records when the first outdated day of a condition is due.

    Args:
        who: The condition and its asset.
        in_s: Seconds after this evaluation; 0 if it is due now, None if no day is outdated.
    """
    if in_s is None:
        _due_in_s.pop(who, None)
    else:
        _due_in_s[who] = in_s


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
    """An automation sensor whose ticks do nothing while no new event has arrived, or all outdated days are paused.

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
            said = PAUSED if _due_in_s else NOTHING_NEW
            return SensorExecutionData(skip_message=said, cursor=context.cursor)
        lend_instance(context, instance)
        self._last = None  # an evaluation that fails is repeated
        told = super().evaluate_tick(context)
        self._last = look
        return told

    def _can_rest(self, now: _Look) -> bool:
        last = self._last
        if last is None or last.instance is not now.instance:
            return False
        rested_s = now.at_s - last.at_s
        if _due_in_s:
            return rested_s < min(LONGEST_REST_IN_PAUSE_S, *_due_in_s.values())
        return rested_s < LONGEST_REST_S and last.newest_event == now.newest_event
