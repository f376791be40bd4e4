"""Plays the people who count on a random sample of frames: the simulator knows what is in each of them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from imgpipeline.accuracy.answers import Answer, keep_answer
from imgpipeline.accuracy.estimator import Estimate, add
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
"""Frames of each source that are counted."""
_NAME = "simulator"


@dataclass(frozen=True, slots=True)
class Judged:
    """The count of a label in all frames, its estimate from the samples, and the truth."""

    label: str
    found: Estimate
    truth: int

    @property
    def holds(self) -> bool | None:
        """Whether the interval contains the truth, as 95 of 100 do; None without an interval."""
        low, high = self.found.low, self.found.high
        return None if low is None or high is None else low <= self.truth <= high


def count_samples(store: ObjectStore, settings: Settings, truths: Sequence[FrameTruth], clock: Clock) -> list[Judged]:
    """Draws a sample of each source's frames, answers it with the truth, and builds the accuracy of each day."""
    contents = {
        (frame.source, frame.timestamp): Counter(thing.label for thing in frame.objects if countable(thing))
        for frame in truths
    }
    found: dict[str, list[Estimate]] = defaultdict(list)
    for day in sorted({day_of(at) for _, at in contents}):
        with open_lake(store, settings=settings, days=[day]) as lake:
            for source in sorted({source for source, at in contents if day_of(at) == day}):
                frames = read_population(lake.rows, day, source, lake.snapshot.ends, None)
                plan = Plan((make_plan(store, frames, labels=LABELS, samples=SAMPLES, by=_NAME, at=clock()),))
                times = {frame_id: at for at, frame_id in frames.later}
                for frame_id in plan.samples:
                    counts = {label: contents[source, times[frame_id]][label] for label in LABELS}
                    keep_answer(store, Answer(day, source, frame_id, _NAME, clock(), counts))
                for row in measure_plan(store, settings, lake.rows, plan):
                    if row.part == WHOLE_DAY:
                        found[row.label].append(row.found)
        build(DayAccuracy(store, settings, Rules(), day, clock()))
    truth = sum(contents.values(), Counter())
    return [Judged(label, add(found[label]), truth[label]) for label in LABELS]
