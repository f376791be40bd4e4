"""A number is traced to the segments, and the detections there add up to it."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from imgpipeline.contracts.keys import segment_key, summary_key
from imgpipeline.errors import ConfigurationError, LedgerError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.explain import CountedDetection, Explanation, NumberId, explain
from imgpipeline.lake.query.frames import list_frames
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.lake.sessions.session import LakeSession, create_summary_views, open_lake
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.ledger.segment import encode_segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.faults.invariant import chosen, read_ledger, unpack
from imgpipeline_tests.lake.busy_day import LABELS, BusyDay
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, dead_letter, stored_segments, write_chain

SETTINGS = Settings(_env_file=None)
STRICT = Settings(_env_file=None, summary_threshold=0.6)
SUMMARIES_OF_LABELS = ("label_counts", "label_totals")
Numbers = Mapping[tuple[int | None, str | None, str], list[tuple[Any, ...]]]


def build(store: ObjectStore, settings: Settings = SETTINGS) -> None:
    rebuild_day(store, DAY, now=NOON)
    for name in SUMMARIES_OF_LABELS:
        build_summary(store, name, DAY, settings=settings, now=NOON)


def oracle(store: ObjectStore, least: float) -> Numbers:
    """Return the detections behind every number of the day, by plain Python over the lines of the segments."""
    held = read_ledger(store)
    kept = {row[0]: row[2:] for row in chosen(held.frames)}
    numbers: dict[tuple[int | None, str | None, str], list[tuple[Any, ...]]] = defaultdict(list)
    for document in held.frames:
        chain, offset = document["chain"], document["source_kafka_offset"]
        time = datetime.fromisoformat(document["timestamp"]).astimezone(UTC)
        if time.date() != DAY or kept[document["frame_id"]] != (chain.topic, chain.partition, offset, chain.topic_id):
            continue
        for place, found in enumerate(document["detections"]):
            if found["confidence"] >= least:
                row = (time, document["source"], document["frame_id"], place, found["confidence"], tuple(found["box"]),
                       document["source_image_path"], chain, offset, document["confidence_threshold"],
                       document["replay_of"])  # fmt: skip
                for hour in (time.hour, None):
                    for source in (document["source"], None):
                        numbers[hour, source, found["label"]].append(row)
    return numbers


def row_of(found: CountedDetection) -> tuple[Any, ...]:
    return (found.timestamp, found.source, found.frame_id, found.detection_number, found.confidence,
            found.box_xywh, found.source_image_path, found.chain, found.offset, found.confidence_threshold,
            found.replay_of)  # fmt: skip


def check_segments(store: ObjectStore, explanation: Explanation, cache: dict[str, list[dict[str, Any]]]) -> None:
    """Assert that each offset named in a segment really holds that frame and detection, and that pictures are there."""
    behind = {segment.key: segment for segment in explanation.segments}
    for found in explanation.detections:
        header, *lines = cache.setdefault(found.segment, unpack(store.get(found.segment)))
        [document] = [
            line["frame"] for line in lines if line.get("frame", {}).get("source_kafka_offset") == found.offset
        ]
        detection = document["detections"][found.detection_number]
        assert document["frame_id"] == found.frame_id
        assert (detection["label"], detection["confidence"]) == (found.label, found.confidence)
        assert (document["model_used"], document["model_sha256"]) == (found.model_used, found.model_sha256)
        segment = behind[found.segment]
        assert segment.start <= found.offset < segment.end
        made = header["provenance"]
        assert (segment.run_id, segment.writer_id) == (made["run_id"], header["writer_id"])
        assert (segment.model_used, segment.model_sha256) == (made["model_name"], made["model_sha256"])
        assert store.head(found.source_image_path) is not None
    assert sum(segment.detections for segment in explanation.segments) == explanation.count


def macro_rows(session: LakeSession, wanted: NumberId) -> list[tuple[Any, ...]]:
    label = "'" + wanted.label.replace("'", "''") + "'"
    arguments = (
        f"DATE '{wanted.day}', {label}" if wanted.hour is None else f"DATE '{wanted.day}', {wanted.hour}, {label}"
    )
    if wanted.source is not None:
        arguments += f", of_source := '{wanted.source}'"
    columns = "frame_id, detection_number, source_kafka_offset, segment, writer_id"
    return sorted(session.query(f"SELECT {columns} FROM explain_{wanted.summary}({arguments})").rows)  # noqa: S608 - own


def check_numbers(store: ObjectStore, session: LakeSession, settings: Settings, *, every: int = 1) -> None:
    """Assert that all numbers are those of the ledger, and follow each back, or every third, fourth, … one."""
    expected, cache = oracle(store, settings.summary_threshold), {}
    counts = session.query(f"SELECT hour(hour), source, label, count FROM label_counts WHERE day = DATE '{DAY}'").rows  # noqa: S608 - a day
    totals = session.query(f"SELECT NULL, source, label, count FROM label_totals WHERE day = DATE '{DAY}'").rows  # noqa: S608 - a day
    shown: Counter[tuple[int | None, str | None, str]] = Counter()
    for hour, source, label, count in counts + totals:
        shown[hour, source, label] += count
        shown[hour, None, label] += count
    assert shown == {key: len(rows) for key, rows in expected.items()}
    for (hour, source, label), count in list(shown.items())[::every]:
        wanted = NumberId(DAY, hour, label, source)
        explanation = explain(session, store, wanted, settings)
        assert sorted(map(row_of, explanation.detections)) == sorted(expected[hour, source, label])
        assert explanation.count == len(explanation.detections) == count
        check_segments(store, explanation, cache)
        writers = {segment.key: segment.writer_id for segment in explanation.segments}
        assert macro_rows(session, wanted) == sorted(
            (d.frame_id, d.detection_number, d.offset, d.segment, writers[d.segment]) for d in explanation.detections
        )


@pytest.mark.slow
def test_traces_a_number(memory, tmp_path):
    """Each number of both summaries of labels with segments newer than the tables, and a share once all is built."""
    day = BusyDay(memory)
    day.write(segments=4)
    build(memory)
    day.write(segments=3)
    with open_lake(memory, cache_dir=tmp_path) as session:
        assert session.snapshot.newer_frames > 0
        check_numbers(memory, session, SETTINGS)
    build(memory)
    with open_lake(memory, cache_dir=tmp_path, days=[DAY]) as session:
        assert session.snapshot.newer_frames == 0
        check_numbers(memory, session, SETTINGS, every=5)


@pytest.mark.slow
@pytest.mark.medium
def test_traces_a_number_that_leaves_out_weak_detections(memory, tmp_path):
    day = BusyDay(memory, seed=7)
    day.write(segments=3)
    build(memory, STRICT)
    day.write(segments=2)
    with open_lake(memory, settings=STRICT, cache_dir=tmp_path) as session:
        check_numbers(memory, session, STRICT, every=5)


@pytest.mark.medium
def test_traces_a_number_on_every_store(store, lake):
    day = BusyDay(store, seed=6)
    day.write(segments=1)
    build(store)
    day.write(segments=1)
    with lake(store, [DAY]) as session:
        for label in LABELS:
            explanation = explain(session, store, NumberId(DAY, None, label), SETTINGS)
            assert sorted(map(row_of, explanation.detections)) == sorted(oracle(store, 0)[None, None, label])
            check_segments(store, explanation, {})


def test_the_busy_day_has_what_makes_it_hard(memory):
    day = BusyDay(memory)
    day.write(segments=7)
    held = read_ledger(memory)
    names = [document["frame_id"] for document in held.frames]
    kept = {row[0]: row for row in chosen(held.frames)}
    first = dict(reversed(list(zip(names, held.frames, strict=True))))
    assert len(held.ends) == 4
    assert len(set(names)) < len(names) - 20
    assert any(document["replay_of"] for document in held.frames)
    assert any(first[name]["status"] == "gated" and not row[1] for name, row in kept.items())
    assert held.dead_letters
    assert held.gaps


def number(hour: int | None = 12, label: str = "car", day: date = DAY, source: str | None = None) -> NumberId:
    return NumberId(day, hour, label, source)


@pytest.mark.medium
def test_the_recipe_of_the_stored_summary_is_shown_and_whether_it_is_current(memory, lake):
    made = write_chain(memory, [seen(0, ["car", "dog"]), seen(1, ["car"])])
    with lake(memory) as session:
        assert explain(session, memory, number(), SETTINGS).stored is None
    build(memory)
    append(made, [seen(2, ["car"])])
    with lake(memory) as session:
        explanation = explain(session, memory, number(), SETTINGS)
    assert explanation.stored is not None
    assert (explanation.count, explanation.stored.count) == (3, 2)
    assert explanation.stored.key == summary_key("label_counts", DAY)
    assert explanation.stored.manifest.ends == {CHAIN: 2}
    assert explanation.stored.manifest.built_at == NOON
    assert explanation.stored.is_by_present_recipe
    with open_lake(memory, settings=STRICT) as session:
        build(memory)
        append(made, [seen(3, ["car"])])
        with pytest.raises(ConfigurationError, match=r"3 detections of car on .* below 0\.6"):
            explain(session, memory, number(), STRICT)


@pytest.mark.medium
def test_weaker_detections_are_told_apart_and_another_threshold_is_another_recipe(memory):
    strong = replace(seen(0, ["car"]).detections[0], confidence=0.9)
    write_chain(memory, [replace(seen(0, ["car", "car"]), detections=(strong, *seen(0, ["car", "car"]).detections))])
    build(memory)
    with open_lake(memory, settings=STRICT) as session:
        explanation = explain(session, memory, number(None), STRICT)
    assert (explanation.count, explanation.not_counted, explanation.least_confidence) == (1, 2, 0.6)
    assert explanation.stored is not None
    assert (explanation.stored.count, explanation.stored.is_by_present_recipe) == (3, False)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (number(label="cat"), r"no cat on 2026-01-09 from 12:00 to 13:00 UTC\. .*labels of that time: car 2, dog 1"),
        (number(source="yard"), r"no car of yard on .* take one of the sources with it: cam-1 2"),
        (number(hour=7), r"Nothing was found on 2026-01-09 from 07:00 .* hours with detections: 12"),
        (number(day=DAY + timedelta(days=1)), r"Nothing was found on 2026-01-10, in 1 frame"),
        (number(day=DAY + timedelta(days=2)), r"have a frame of 2026-01-11.* the ledger knows: 2026-01-09, 2026-01-10"),
    ],
)  # fmt: skip
def test_an_unknown_number_names_existing_ones(memory, lake, wanted, message):
    nothing = seen(2, [], day=DAY + timedelta(days=1))
    write_chain(memory, [seen(0, ["car", "dog"]), seen(1, ["car"]), nothing, dead_letter(3)])
    with lake(memory) as session, pytest.raises(ConfigurationError, match=message):
        explain(session, memory, wanted, SETTINGS)


def test_missing_details_of_an_import_stay_unknown(memory, lake):
    unknown = replace(seen(0, ["car"]).detections[0], class_id=None, box_xywh=None)
    imported = replace(seen(0), detections=(unknown,), model_used="", model_sha256="", source_image_path="",
                       size_bytes=None, confidence_threshold=None, nms_threshold=None,
                       processing_timestamp=None)  # fmt: skip
    write_chain(memory, [imported])
    with lake(memory) as session:
        explanation = explain(session, memory, number(), SETTINGS)
        [listed] = list_frames(session, WantedFrames(), limit=1).table.to_pylist()
    [found] = explanation.detections
    assert (found.box_xywh, found.model_used, found.confidence_threshold) == (None, "", None)
    assert explanation.models == {("", "", None): 1}
    assert (listed["size_bytes"], listed["file"], listed["detections"]) == (None, "", [("car", 1)])


@pytest.mark.medium
def test_a_segment_that_differs_from_the_tables_is_named(memory, lake):
    """As after a repair whose day was not rebuilt, or after somebody changed an object."""
    write_chain(memory, [seen(0, ["dog"])], [seen(1, ["car"]), seen(2, ["car"])])
    build(memory)
    segment = stored_segments(memory)[1]
    changed = [seen(1, ["car"]), seen(2, ["dog"])]
    memory.put(segment_key(CHAIN, 1), encode_segment(segment.header, changed))
    with (
        lake(memory) as session,
        pytest.raises(LedgerError, match=rf"{segment_key(CHAIN, 1)} does not hold .* offset 2"),
    ):
        explain(session, memory, number(), SETTINGS)
    memory.delete(segment_key(CHAIN, 1))
    with lake(memory) as session, pytest.raises(LedgerError, match=r"No segment of .* holds the offset 1"):
        explain(session, memory, number(), SETTINGS)


@pytest.mark.medium
def test_a_stored_number_that_differs_at_the_same_ends_is_an_error(memory, lake):
    write_chain(memory, [seen(0, ["car"])])
    build(memory)
    key = summary_key("label_counts", DAY)
    table = pq.read_table(pa.BufferReader(memory.get(key)))
    wrong = table.set_column(table.column_names.index("count"), "count", pc.add(table["count"], 1))
    sink = pa.BufferOutputStream()
    pq.write_table(wrong, sink)
    memory.put(key, sink.getvalue().to_pybytes())
    with lake(memory) as session, pytest.raises(LedgerError, match=r"says 2 car on .*, but there are 1 up to the same"):
        explain(session, memory, number(), SETTINGS)


def test_a_number_that_is_not_the_sum_of_its_detections_is_an_error(memory, tmp_path, monkeypatch):
    """As if the summary's query counted something else."""
    write_chain(memory, [seen(0, ["car"])])
    doubled = (
        "CREATE OR REPLACE VIEW label_counts AS SELECT DATE '2026-01-09' AS day, "
        "TIMESTAMPTZ '2026-01-09 12:00Z' AS hour, "
    )

    def wrong_views(engine: Engine, settings: Settings | None) -> None:
        create_summary_views(engine, settings)
        engine.run(f"{doubled} 'cam-1' AS source, 'car' AS label, 2 AS count")

    monkeypatch.setattr("imgpipeline.lake.sessions.session.create_summary_views", wrong_views)
    with (
        open_lake(memory, cache_dir=tmp_path) as session,
        pytest.raises(LedgerError, match=r"label_counts says 2 car on .*, but its detections are 1"),
    ):
        explain(session, memory, number(), SETTINGS)
