"""Re-processing a day: the same model gives the same results, nothing is missing, and nothing is done twice."""

from dataclasses import replace
from datetime import timedelta

import pytest

from imgpipeline.contracts.keys import day_table_key, redetection_key, summary_key
from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.errors import DeadLetterCode, PermanentError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.image_retention import retain_images
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON, REDETECTED_FRAMES, REDETECTIONS
from imgpipeline.lake.storage.engine import all_rows, open_engine
from imgpipeline.objectstore import ImageReader
from imgpipeline.redetect.frames import FrameProcessor, FrameToProcess
from imgpipeline.redetect.run import redetect_day
from imgpipeline.settings.variables import SourceLimits
from imgpipeline_tests.daily.builds import build_comparison
from imgpipeline_tests.ledger.samples import append, writer
from imgpipeline_tests.redetect.days import (
    DAY,
    LOW,
    NOON,
    add_frames,
    build_live,
    detector,
    live_rows,
    redetected_rows,
    redetector,
)


@pytest.mark.medium
def test_the_same_model_with_the_same_threshold_finds_row_by_row_what_live_detection_found(settings, store):
    build_live(settings, store, range(30))
    before = {table: store.get(day_table_key(table, DAY)) for table in ("frames", "detections")}
    told: list[tuple[int, int]] = []
    done = redetect_day(redetector(settings, store, "demo"), DAY, progress=lambda *seen: told.append(seen))
    assert told == [(n, 30) for n in range(31)]
    live = live_rows(store, "detections")
    assert len(live) > 30
    assert redetected_rows(store, "detections", "demo") == live
    assert (done.manifest.frames, done.manifest.processed, done.looked_at) == (30, 30, 30)
    assert done.manifest.rows == len(live)
    assert {table: store.get(day_table_key(table, DAY)) for table in before} == before


@pytest.mark.medium
def test_another_threshold_finds_what_the_detector_finds_in_each_picture(settings, store):
    frames = build_live(settings, store, range(9))
    done = redetect_day(redetector(settings, store), DAY)
    looker = FrameProcessor(settings, ImageReader(store, settings), detector(LOW))
    expected = []
    for frame in frames:
        to_see = FrameToProcess(frame.frame_id, frame.source_image_path, 0, frame.status.value, None)
        seen = looker.look(looker.read(to_see))
        expected += [
            (
                frame.frame_id,
                number,
                found.label,
                round(found.confidence, 6),
                *(round(v, 2) for v in found.box_xywh or ()),
            )
            for number, found in enumerate(seen.detections)
        ]
    rows = redetected_rows(store, "detections")
    names = ("frame_id", "detection_number", "label", "confidence", "x", "y", "width", "height")
    assert [tuple(row[name] for name in names) for row in rows] == expected
    assert len(rows) > len(live_rows(store, "detections"))
    assert {row["confidence_threshold"] for row in rows} == {0.05}
    assert {row["model_sha256"] for row in rows} == {done.manifest.model_sha256}
    counted = {row["frame_id"]: row["detections"] for row in redetected_rows(store, "frames")}
    assert counted == {f.frame_id: sum(row["frame_id"] == f.frame_id for row in rows) for f in frames}


@pytest.mark.medium
def test_pictures_that_are_gone_damaged_or_others_are_outcomes_with_a_code(settings, store):
    frames = build_live(settings, store, range(10))
    paths = [frame.source_image_path for frame in frames]
    store.delete(paths[1])
    store.put(paths[3], b"x" * len(store.get(paths[3])))
    store.put(paths[5], store.get(paths[5]) + b"more")
    done = redetect_day(redetector(settings, store), DAY)
    assert done.manifest.failed == {"DECODE_FAILED": 1, "HASH_MISMATCH": 1, "OBJECT_NOT_FOUND": 1}
    assert (done.manifest.frames, done.manifest.processed) == (10, 7)
    rows = {row["frame_id"]: row for row in redetected_rows(store, "frames")}
    assert set(rows) == {frame.frame_id for frame in frames}
    wrong = {n: rows[frames[n].frame_id]["code"] for n in range(10) if rows[frames[n].frame_id]["outcome"] == "failed"}
    assert wrong == {1: "OBJECT_NOT_FOUND", 3: "DECODE_FAILED", 5: "HASH_MISMATCH"}
    assert set(wrong.values()) <= set(DeadLetterCode)
    assert not {frames[n].frame_id for n in wrong} & {row["frame_id"] for row in redetected_rows(store, "detections")}


def test_a_gated_frame_stays_gated(settings, store):
    first = add_frames(settings, store, range(3))
    gated = replace(first[0], frame_id="ab" * 16, offset=3, status=FrameStatus.GATED, gate_reason="dark",
                    timestamp=first[0].timestamp + timedelta(hours=1), detections=())  # fmt: skip
    assert append(writer(store), [gated])
    rebuild_day(store, DAY, now=NOON)
    manifest = redetect_day(redetector(settings, store), DAY).manifest
    assert (manifest.frames, manifest.processed, manifest.gated) == (4, 3, 1)
    row = redetected_rows(store, "frames")[-1]
    assert (row["frame_id"], row["outcome"], row["code"], row["detections"]) == ("ab" * 16, "gated", "dark", 0)


@pytest.mark.medium
def test_only_the_late_frames_of_a_day_are_processed(settings, store):
    build_live(settings, store, range(10))
    redetect_day(redetector(settings, store), DAY)
    build_live(settings, store, [50, 20, 21])
    done = redetect_day(redetector(settings, store), DAY)
    assert (done.skipped, done.looked_at, done.manifest.frames) == (False, 3, 13)
    rows = redetected_rows(store, "detections")
    redetect_day(redetector(settings, store), DAY, force=True)
    assert redetected_rows(store, "detections") == rows


@pytest.mark.medium
def test_failed_frames_are_tried_again_once_the_day_has_news(settings, store):
    frames = build_live(settings, store, range(4))
    path = frames[2].source_image_path
    data = store.get(path)
    store.delete(path)
    assert redetect_day(redetector(settings, store), DAY).manifest.failed == {"OBJECT_NOT_FOUND": 1}
    store.put(path, data)
    build_live(settings, store, [9])
    done = redetect_day(redetector(settings, store), DAY)
    assert (done.looked_at, done.manifest.processed, done.manifest.failed) == (2, 5, {})


@pytest.mark.medium
def test_another_recipe_takes_nothing_over(settings, store):
    build_live(settings, store, range(5))
    redetect_day(redetector(settings, store), DAY)
    changed = settings.model_copy(update={"max_image_pixels": 50_000_000})
    assert redetect_day(redetector(changed, store), DAY).looked_at == 5


def test_a_day_without_frames_gives_empty_tables(settings, store):
    rebuild_day(store, DAY, now=NOON)
    manifest = redetect_day(redetector(settings, store), DAY).manifest
    assert (manifest.frames, manifest.rows) == (0, 0)
    assert redetected_rows(store, "detections") == []
    assert redetect_day(redetector(settings, store), DAY).skipped


def test_a_day_without_a_table_is_an_error_that_names_the_command(settings, store):
    add_frames(settings, store, [0])
    with pytest.raises(PermanentError, match=r"materialize -m imgpipeline\.definitions --select frames,detections"):
        redetect_day(redetector(settings, store), DAY)


@pytest.mark.medium
def test_the_stored_columns_are_the_documented_ones(settings, store):
    build_live(settings, store, range(4))
    redetect_day(redetector(settings, store), DAY)
    build_comparison(settings, store, DAY, now=NOON)
    places = {
        redetection_key(LOW, DAY, "frames"): REDETECTED_FRAMES,
        redetection_key(LOW, DAY, "detections"): REDETECTIONS,
        summary_key("model_comparison", DAY): MODEL_COMPARISON,
    }
    with open_engine(memory=None) as engine:
        for key, table in places.items():
            path = engine.folder / "read.parquet"
            path.write_bytes(store.get(key))
            described = engine.run(f"DESCRIBE {all_rows(path)}")
            assert [(row[0], row[1].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")) for row in described] == [
                (column.name, column.duckdb_type) for column in table.columns if column.name not in ("model", "day")
            ]
            assert all(column.meaning.endswith(".") for column in table.columns)


def test_any_engine_reads_models_and_days_from_the_paths(settings, store):
    build_live(settings, store, range(4))
    redetect_day(redetector(settings, store), DAY)
    folder = settings.store_url.removeprefix("file://")
    with open_engine(memory=None) as engine:
        rows = engine.run(
            "SELECT DISTINCT model, day FROM read_parquet(?)", [f"{folder}/redetections/*/*/detections.parquet"]
        )
    assert rows == [(LOW.replace("@", "~"), DAY)]


@pytest.mark.medium
def test_a_picture_that_image_retention_has_deleted_says_so(settings, store):
    build_live(settings, store, range(2))
    limits = settings.model_copy(update={"keep_images_bytes": SourceLimits(1)})
    assert retain_images(store, limits, now=NOON).images == 2
    redetect_day(redetector(settings, store), DAY)
    messages = {row["message"] for row in redetected_rows(store, "frames")}
    assert {str(message).split(" by ")[0] for message in messages} == {f"Image deleted on {NOON.date()}"}
