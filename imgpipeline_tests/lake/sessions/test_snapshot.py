"""A session shows what plain Python finds in the segments, whatever arrived, was built, or was killed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgpipeline.contracts.keys import segment_key
from imgpipeline.contracts.outcomes import Frame, Outcome
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.lake.killed_builds import die_after_detections, die_after_frames
from imgpipeline_tests.lake.oracle import check
from imgpipeline_tests.lake.samples import again, gated, seen
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    append,
    dead_letter,
    frames,
    gap,
    write_chain,
)
from imgpipeline_tests.objectstore.noting import NotingStore

pytestmark = pytest.mark.slow

NEXT = DAY + timedelta(days=1)
DAYS = 3


steps = st.lists(
    st.sampled_from(
        ["frame", "again", "gated", "late", "build", "die after frames", "die after detections", "older build"]
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.data())
def test_each_frame_is_shown_once_whatever_arrived_and_was_built(tmp_path, taken, data):
    store = open_memory_store()
    made = write_chain(store, [gap(0, 1)])
    for step in taken:
        STEPS[step](store, made, lambda most: data.draw(st.integers(1, max(most, 1))))
    with open_lake(store, cache_dir=tmp_path / "cache") as session:
        check(session, store)


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*range(1, DAYS + 1), "segment", "build"]), min_size=1, max_size=30), st.data())
def test_days_in_any_order_are_read_in_one_pass_and_shown_as_each_alone(tmp_path_factory, taken, data):
    """Each step announces a frame of some day, ends a segment, or builds a day."""
    store = open_memory_store()
    made, waiting, bounds = write_chain(store, [gap(0, 1)]), [], [0]
    for step in [*taken, "segment"]:
        offset = made.end.offset + len(waiting)
        if step == "build":
            rebuild_day(store, DAY + timedelta(days=data.draw(st.integers(0, DAYS - 1))), now=NOON)
        elif step != "segment":
            kind = data.draw(st.sampled_from(["frame", "again", "letter"]))
            waiting.append(_outcome(kind, offset, DAY + timedelta(days=int(step) - 1)))
        elif waiting:
            bounds.append(made.end.offset)
            assert append(made, waiting)
            waiting = []
    counting = NotingStore(store)
    folder = tmp_path_factory.mktemp("sessions")
    shown = shown_rows(counting, folder / "all")
    last = segment_key(CHAIN, bounds[-1])  # read once more to find the end
    assert all(times <= 1 + (key == last) for key, times in Counter(counting.segments).items())
    alone = [shown_rows(store, folder / f"{n}", [DAY + timedelta(days=n)]) for n in range(DAYS)]
    assert shown == [sorted(row for rows in tables for row in rows) for tables in zip(*alone, strict=True)]


def _outcome(kind: str, offset: int, day: date) -> Outcome:
    if kind == "letter":
        return dead_letter(offset, day)
    found = seen(offset, ["car"] * (offset % 3), day)
    return found if kind == "frame" else replace(found, frame_id="announced on every day")


def shown_rows(store: ObjectStore, cache: Path, days: list[date] | None = None) -> list[list[tuple]]:
    """Return the frames, detections and dead letters of each day that a session shows."""
    asked = (
        "SELECT day, frame_id, source_kafka_offset, status FROM frames",
        "SELECT day, frame_id, source_kafka_offset, detection_number, label FROM detections",
        "SELECT day, sum(dead_letters) FROM frame_stats GROUP BY day",
    )
    with open_lake(store, cache_dir=cache, days=days) as session:
        return [sorted(session.query(sql).rows) for sql in asked]


def _append(made: ChainWriter, frame: Frame) -> None:
    assert append(made, [frame])


def _frame(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    _append(made, seen(made.end.offset, ["car"] * (draw(3) - 1)))


def _again(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    _append(made, again(made.end.offset, of=draw(made.end.offset), labels=["dog"] * (draw(3) - 1)))


def _gated(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    _append(made, replace(gated(draw(made.end.offset)), offset=made.end.offset))


def _late(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    append(made, frames(made.end.offset, made.end.offset + 1, NEXT))


def _build(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    rebuild_day(store, DAY, now=NOON)


def _older_build(store: ObjectStore, made: ChainWriter, draw: Callable[[int], int]) -> None:
    rebuild_day(store, DAY, now=NOON, force=True, ends={CHAIN: 1})


STEPS = {
    "frame": _frame,
    "again": _again,
    "gated": _gated,
    "late": _late,
    "build": _build,
    "die after frames": die_after_frames,
    "die after detections": die_after_detections,
    "older build": _older_build,
}
