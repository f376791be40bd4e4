"""A day on which a model misses some cars, a plan for it, and the people who count."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from imgpipeline.accuracy.answers import Answer, keep_answer, read_answers
from imgpipeline.accuracy.plans import Plan, extend_plan, make_plan, read_plan
from imgpipeline.contracts.outcomes import Frame, Outcome, make_frame_id
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.measuring import read_population
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.conftest import OpenLake
from imgpipeline_tests.lake.samples import detection
from imgpipeline_tests.ledger.samples import DAY, NOON, frame, write_chain

SOURCE = "cam-1"
Count = Callable[[int], int]


def cars(offset: int) -> int:
    """Return how many cars are in the image of an offset."""
    return (0, 0, 1, 1, 2, 4)[offset * 7 % 11 % 6]


def found_cars(offset: int) -> int:
    """Return how many of them the model finds: it misses one in three of seven images with cars."""
    return max(0, cars(offset) - (offset * 13 % 7 < 3))


def seen(offset: int, found: Count = found_cars, minutes: float = 1.0) -> Frame:
    """Return the frame of an offset, some minutes after the one before it."""
    time = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) + timedelta(minutes=offset * minutes)
    return replace(
        frame(offset),
        frame_id=make_frame_id(SOURCE, time, offset),
        timestamp=time,
        detections=tuple(detection("car", 0.9 - 0.1 * number) for number in range(found(offset))),
    )


def day_of(start: int, stop: int, found: Count = found_cars, minutes: float = 1.0) -> list[Outcome]:
    return [seen(offset, found, minutes) for offset in range(start, stop)]


def rewrite(store: ObjectStore, outcomes: Sequence[Outcome]) -> None:
    """Replace the ledger and the tables of the day, as processing it again or a repair does."""
    keys = [info.key for info in store.list_objects() if not info.key.startswith("accuracy/")]
    for key in keys:
        store.delete(key)
    write_chain(store, outcomes)
    rebuild_day(store, DAY, now=NOON)


def draw(store: ObjectStore, lake: OpenLake, samples: int = 60, labels: Iterable[str] = ("car",)) -> Plan:
    """Make the plan of the day, or extend it."""
    plan = read_plan(store, DAY, SOURCE)
    with lake(store, [DAY]) as session:
        population = read_population(session.rows, DAY, SOURCE, session.snapshot.ends, plan)
    if plan is None:
        make_plan(store, population, labels=labels, samples=samples, by="ada", at=NOON)
    else:
        extend_plan(store, plan, population, by="ada", at=NOON)
    made = read_plan(store, DAY, SOURCE)
    assert made is not None
    return made


def offsets(frames: Iterable[Outcome]) -> dict[str, int]:
    return {each.frame_id: each.offset for each in frames if isinstance(each, Frame)}


def count_all(store: ObjectStore, plan: Plan, frames: Iterable[Outcome], by: str = "ada", truth: Count = cars) -> None:
    """Answer all samples of a plan that this person has not answered yet."""
    of, done = offsets(frames), {each.frame_id for each in read_answers(store, DAY, SOURCE) if each.by == by}
    for frame_id in plan.samples:
        if frame_id not in done:
            keep_answer(store, Answer(DAY, SOURCE, frame_id, by, NOON, {"car": truth(of[frame_id])}))


def total(frames: Iterable[Outcome], count: Count) -> int:
    return sum(count(offset) for offset in offsets(frames).values())
