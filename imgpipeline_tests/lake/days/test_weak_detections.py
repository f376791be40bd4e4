"""The day table `weak_detections`: only days with weak detections have one, and nothing else changes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.outcomes import Frame, Outcome
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.tables import DAY_TABLES, WEAK_DETECTIONS
from imgpipeline.lake.storage.manifest import read_manifest, read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.publish.detections import detections_records
from imgpipeline.publish.transactions import Form, Publication
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.daily.looking import stale_days
from imgpipeline_tests.lake.samples import again, gated, seen
from imgpipeline_tests.ledger.faulty_store import CrashError, FaultyStore
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, notice, write_chain

LATER = NOON + timedelta(hours=1)
WEAK_KEY = day_table_key(WEAK_DETECTIONS.name, DAY)
SHOWN = "SELECT source_kafka_offset, detection_number, label, confidence FROM weak_detections ORDER BY ALL"


def dim(frame: Frame, *confidences: float) -> Frame:
    """Return a frame with weak detections of cars."""
    found = [Detection("car", 0, confidence, (30.0 * n, 2.0, 10.0, 20.0)) for n, confidence in enumerate(confidences)]
    return replace(frame, weak_detections=tuple(found))


def day_of_outcomes(*, with_weak: bool) -> list[Sequence[Outcome]]:
    weak = dim if with_weak else lambda frame, *_: frame
    return [
        [weak(seen(0, ["car", "dog"]), 0.4, 0.2), seen(1), dead_letter(2), notice(3)],
        [weak(seen(4, []), 0.3), gated(5), weak(again(6, 1), 0.45)],
    ]


def contents(store: ObjectStore) -> dict[str, tuple[int, str]]:
    names = (WEAK_DETECTIONS.name, *(table.name for table in DAY_TABLES))
    found = {name: read_manifest(store, name, DAY) for name in names}
    return {name: (manifest.rows, manifest.content) for name, manifest in found.items() if manifest}


def full_build(store: ObjectStore) -> dict[str, tuple[int, str]]:
    copy = open_memory_store()
    for info in list(store.list_objects("metadata")) + list(store.list_objects("metadata_days")):
        copy.put(info.key, store.get(info.key))
    rebuild_day(copy, DAY, now=NOON)
    return contents(copy)


@pytest.mark.medium
def test_weak_detections_change_no_other_table_or_summary_or_published_result(memory):
    plain = open_memory_store()
    for store, with_weak in ((plain, False), (memory, True)):
        write_chain(store, *day_of_outcomes(with_weak=with_weak))
        rebuild_day(store, DAY, now=NOON)
        for name in SUMMARIES:
            build_summary(store, name, DAY, settings=Settings(), now=NOON)
    assert plain.head(WEAK_KEY) is None
    assert contents(memory)[WEAK_DETECTIONS.name][0] == 3  # the frame that was announced again does not count
    for name in (*(table.name for table in DAY_TABLES), *SUMMARIES):
        one, other = (read_stored(store, stored_key(name, DAY)).manifest for store in (plain, memory))
        assert (one.rows, one.content, one.made_by) == (other.rows, other.content, other.made_by), name
    for form in Form:
        wanted = Publication("out", form)
        one, other = (detections_records(wanted, each) for each in (seen(0), dim(seen(0), 0.4)))
        assert one == other


def test_rows_are_numbered_after_the_detections_of_their_frame(memory, lake):
    write_chain(memory, *day_of_outcomes(with_weak=True))
    expected = [(0, 2, "car", 0.4), (0, 3, "car", 0.2), (4, 0, "car", 0.3)]
    with lake(memory) as session:
        assert session.query(SHOWN).rows == expected
        assert session.query("SELECT count(*) FROM detections").rows == [(3,)]
    rebuild_day(memory, DAY, now=NOON)
    with lake(memory) as session:
        assert session.query(SHOWN).rows == expected
        assert session.query("SELECT sum(count) FROM label_totals").rows == [(3,)]


@pytest.mark.medium
@pytest.mark.parametrize(
    "newer",
    [
        pytest.param([dim(seen(9), 0.2)], id="more"),
        pytest.param([seen(9)], id="a-frame-without"),
        pytest.param([dim(again(9, 0), 0.2), dim(again(10, 5), 0.3)], id="announced-again"),
        pytest.param([dead_letter(9)], id="no-frame"),
    ],
)
@pytest.mark.parametrize("with_weak", [True, False], ids=["has-some", "has-none"])
def test_segments_newer_than_the_tables_give_the_rows_of_a_full_build(memory, lake, newer, with_weak):
    chain = write_chain(memory, *day_of_outcomes(with_weak=with_weak), [seen(7), seen(8)])
    rebuild_day(memory, DAY, now=NOON)
    append(chain, newer)
    with lake(memory) as session:
        shown = session.query(SHOWN).rows
    assert rebuild_day(memory, DAY, now=LATER).is_extended
    assert contents(memory) == full_build(memory)
    with lake(memory) as session:
        assert session.query(SHOWN).rows == shown
    assert rebuild_day(memory, DAY, now=LATER).skipped
    assert stale_days(memory) == []


@pytest.mark.medium
def test_the_next_build_finishes_a_killed_one(lake):
    store = FaultyStore()
    chain = write_chain(store, [seen(0)])
    rebuild_day(store, DAY, now=NOON)
    append(chain, [dim(seen(1), 0.2), dim(again(2, 0), 0.3)])
    with lake(store) as session:
        expected = session.query(SHOWN).rows
    assert expected == [(1, 1, "car", 0.2)]
    store.faults["table"] = ["crash after"]
    with pytest.raises(CrashError):
        rebuild_day(store, DAY, now=LATER)
    assert store.head(WEAK_KEY)
    with lake(store) as session:
        assert session.query(SHOWN).rows == expected
    assert stale_days(store) == [DAY]
    rebuild_day(store, DAY, now=LATER)
    assert contents(store) == full_build(store)


@pytest.mark.medium
def test_the_next_build_finishes_a_first_build_killed_after_its_first_write(lake):
    store = FaultyStore()
    chain = write_chain(store, [dim(seen(0), 0.2)])
    store.faults["table"] = ["crash after"]
    with pytest.raises(CrashError):
        rebuild_day(store, DAY, now=NOON)
    assert store.head(WEAK_KEY)
    append(chain, [dim(seen(1), 0.3)])
    with lake(store) as session:
        assert session.query(SHOWN).rows == [(0, 1, "car", 0.2), (1, 1, "car", 0.3)]
    rebuild_day(store, DAY, now=LATER)
    assert contents(store) == full_build(store)


def test_a_day_without_weak_detections_does_not_change(memory, lake):
    write_chain(memory, *day_of_outcomes(with_weak=False))
    rebuild_day(memory, DAY, now=NOON)
    assert stale_days(memory) == []
    assert rebuild_day(memory, DAY, now=LATER).skipped
    with lake(memory) as session:
        assert session.query(SHOWN).rows == []
