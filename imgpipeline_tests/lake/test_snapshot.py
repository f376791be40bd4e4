"""Whatever came in, was built, or died on the way: a session shows what plain Python finds in the segments."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgpipeline.contracts.outcomes import Frame
from imgpipeline.lake.day_tables import rebuild_day
from imgpipeline.lake.session import open_lake
from imgpipeline.ledger import ChainWriter
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.lake.killed_builds import die_after_detections, die_after_frames
from imgpipeline_tests.lake.oracle import check
from imgpipeline_tests.lake.samples import again, gated, seen
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    append,
    frames,
    gap,
    write_chain,
)

NEXT = DAY + timedelta(days=1)


steps = st.lists(
    st.sampled_from(
        ["frame", "again", "gated", "late", "build", "die after frames", "die after detections", "older build"]
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.data())
def test_whatever_came_in_and_was_built_each_frame_is_shown_once(tmp_path, taken: list[str], data: st.DataObject):
    store = open_memory_store()
    made = write_chain(store, [gap(0, 1)])
    for step in taken:
        STEPS[step](store, made, lambda most: data.draw(st.integers(1, max(most, 1))))
    with open_lake(store, cache_dir=tmp_path / "cache") as session:
        check(session, store)


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
