"""The day tables return metadata documents as Python wrote them."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.contracts.outcomes import Frame
from imgpipeline.contracts.times import day_of
from imgpipeline.lake.days import day_tables
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.tables import FRAMES
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.contracts.strategies import frames as any_frame
from imgpipeline_tests.examples import examples
from imgpipeline_tests.lake.oracle import rows
from imgpipeline_tests.lake.samples import chosen_frames, seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, write_chain


def nested(levels: int) -> dict[str, object]:
    return {"in": nested(levels - 1)} if levels else {"end": "\u2028 ' \" \\ \n"}


def test_hostile_text_numbers_and_depth_round_trip(memory: ObjectStore, tmp_path):
    attributes = {"🚗\n\"'\\": [10**40, -(2**63) - 1, 2**64 - 1, 1e300, 0.1, True, None], "deep": nested(30), "": {}}
    name = "caméra 'x'; DROP TABLE frames; -- \"\n\t🚦\x01\ufffe"
    hostile = replace(
        seen(0, [name]),
        source=name,
        source_image_path=name,
        gate_reason=name,
        attributes=attributes,
        frame_number=2**63 - 1,
        timestamp=datetime(2026, 1, 9, 23, 59, 59, 999999, tzinfo=UTC),
    )
    write_chain(memory, [hostile])
    rebuild_day(memory, DAY, now=NOON)
    columns = 'source, source_image_path, gate_reason, attributes, frame_number, "timestamp"'
    *texts, stored, number, timestamp = rows(memory, "frames", columns, tmp_path)[0]
    assert texts == [name, name, name]
    assert json.loads(stored) == attributes
    assert (number, timestamp) == (2**63 - 1, hostile.timestamp)
    assert rows(memory, "detections", "label", tmp_path) == [(name,)]


@pytest.mark.medium
def test_a_line_longer_than_duckdb_s_own_limit_is_read(memory: ObjectStore, tmp_path):
    write_chain(memory, [seen(0, attributes={"long": "x" * (17 * 2**20)}), seen(1)])
    assert rebuild_day(memory, DAY, now=NOON).of("frames").rows == 2
    assert rows(memory, "frames", "max(len(attributes))", tmp_path)[0][0] > 17 * 2**20


@pytest.mark.medium
@settings(max_examples=examples(25))
@given(st.lists(any_frame, min_size=1, max_size=4))
def test_any_frame_reads_back_as_python_wrote_it(tmp_path_factory, made: list[Frame]):
    store = open_memory_store()
    day = day_of(made[0].timestamp)
    same_day = [
        replace(f, offset=n, topic=CHAIN.topic, partition=0, timestamp=made[0].timestamp) for n, f in enumerate(made)
    ]
    write_chain(store, same_day)
    with pytest.MonkeyPatch.context() as patched:
        # A detector's boxes lie in their picture, which a build looks at; what JSON carries is more than that.
        patched.setattr(day_tables, "refuse_unsound", lambda *_: None)
        rebuild_day(store, day, now=NOON)
    chosen = chosen_frames(store, day)
    left_out = ("day", "detections", "timestamp", "processing_timestamp", "source_kafka_topic_id")
    names = [column.name for column in FRAMES.columns if column.name not in left_out]
    found = rows(store, "frames", ", ".join(names), tmp_path_factory.mktemp("rows"), day)
    assert len(found) == len(chosen)
    for row in found:
        values = dict(zip(names, row, strict=True))
        expected = chosen[values["frame_id"]].to_json()
        assert json.loads(values.pop("attributes")) == expected["attributes"]
        assert values == {name: expected.get(name) for name in values}
    columns = "frame_id, detection_number, label, class_id, confidence, x, y, width, height"
    assert sorted(rows(store, "detections", columns, tmp_path_factory.mktemp("rows"), day)) == sorted(
        (name, n, d.label, d.class_id, d.confidence, *(d.box_xywh or (None,) * 4))
        for name, each in chosen.items()
        for n, d in enumerate(each.detections)
    )
