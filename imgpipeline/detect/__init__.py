"""The detection loop: what a run does with the records of its lane.

Owns the way of a record to its outcome and of outcomes to segments. Fetching belongs to `stream`, looking at pictures
to `vision`, keeping outcomes to `ledger`, runs and events to `defs`.
"""

from imgpipeline.detect.lane import follow_lane
from imgpipeline.detect.report import DayReport, LaneReport

__all__ = ["DayReport", "LaneReport", "follow_lane"]
