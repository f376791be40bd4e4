"""Plays the people who count on a random sample of frames: the simulator knows what is in each of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from imgpipeline.accuracy.answers import Answer, keep_answer
from imgpipeline.accuracy.estimator import Estimate
from imgpipeline.accuracy.plans import Plan, make_plan
from imgpipeline.contracts.times import Clock, day_of
from imgpipeline.events.accuracy import DayAccuracy, measure_plan
from imgpipeline.events.configuration import Rules
from imgpipeline.lake.days.derived import build
from imgpipeline.lake.days.measuring import WHOLE_DAY, read_population
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.sources.simulator.truth import LABELS, countable
from imgpipeline.sources.simulator.writer import FrameTruth

SAMPLES = 80
"""Frames that are counted. An interval needs ten frames with an error among them."""
_NAME = "simulator"


@dataclass(frozen=True, slots=True)
class Judged:
    """The count of a label in all frames of a source, its estimate from the sample, and the truth."""

    label: str
    found: Estimate
    truth: int

    @property
    def holds(self) -> bool | None:
        """Whether the interval contains the truth, as 95 of 100 do; None without an interval."""
        low, high = self.found.low, self.found.high
        return None if low is None or high is None else low <= self.truth <= high


def count_sample(
    store: ObjectStore, settings: Settings, truths: Sequence[FrameTruth], source: str, clock: Clock
) -> list[Judged]:
    """Draws a sample of a source's frames on its first day, answers it with the truth, and builds the day's accuracy.

    Args:
        truths: The objects of each frame of all sources.
    """
    contents = {
        frame.timestamp: Counter(thing.label for thing in frame.objects if countable(thing))
        for frame in truths
        if frame.source == source
    }
    day = day_of(min(contents))
    with open_lake(store, settings=settings, days=[day]) as lake:
        frames = read_population(lake.rows, day, source, lake.snapshot.ends, None)
        plan = Plan((make_plan(store, frames, labels=LABELS, samples=SAMPLES, by=_NAME, at=clock()),))
        times = {frame_id: at for at, frame_id in frames.later}
        for frame_id in plan.samples:
            counts = {label: contents[times[frame_id]][label] for label in LABELS}
            keep_answer(store, Answer(day, source, frame_id, _NAME, clock(), counts))
        found = measure_plan(store, settings, lake.rows, plan)
    build(DayAccuracy(store, settings, Rules(), day, clock()))
    truth = sum(contents.values(), Counter())
    return [Judged(row.label, row.found, truth[row.label]) for row in found if row.part == WHOLE_DAY]
