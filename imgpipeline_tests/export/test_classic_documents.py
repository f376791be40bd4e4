"""One document for each frame, as the classic consumer stores it; what reads them follows its format to the letter."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import import_chain, segment_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.export.classic_documents import ClassicDocuments
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.lake.samples import gated
from imgpipeline_tests.ledger.samples import CHAIN, NOON, append, dead_letter, frame, gap, write_chain
from imgpipeline_tests.ledger.test_follow import repair_chain
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket

FIELDS = [
    "source_image_path",
    "source_kafka_offset",
    "source_kafka_partition",
    "processing_timestamp",
    "image_width",
    "image_height",
    "model_used",
    "confidence_threshold",
    "nms_threshold",
    "detections",
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(store_url=(tmp_path / "store").as_uri())


def seen(offset: int, path: str, **changes: Any) -> Frame:
    found = Detection("car", 2, 0.7512345678, (10.6, 20.2, 30.9, 40.5))
    return replace(frame(offset), source_image_path=path, detections=(found,), **changes)


def documents_of(folder: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in folder.iterdir()}


def export(settings: Settings, target: Path | str, *, force: bool = False) -> Counter[str]:
    return ClassicDocuments(open_store(settings), settings, str(target), force=force).export()


def test_a_document_is_written_to_the_letter(tmp_path):
    """Indented by two; boxes in whole pixels; local time without an offset, and without a fraction that is zero."""
    settings = load_settings(store_url=(tmp_path / "store").as_uri(), timezone="Asia/Kolkata")
    later = NOON + timedelta(microseconds=250)
    frames = [seen(7, "images/frame_000007.jpg"), replace(frame(8), processing_timestamp=later)]
    write_chain(open_store(settings), [gap(0, 7), *frames, gated(9), dead_letter(10)])
    counts = export(settings, tmp_path / "metadata")
    assert counts == Counter(written=2, without_detector=1)
    assert (
        (tmp_path / "metadata" / "frame_000007.json").read_text()
        == """{
  "source_image_path": "images/frame_000007.jpg",
  "source_kafka_offset": 7,
  "source_kafka_partition": 0,
  "processing_timestamp": "2026-01-09T17:30:00",
  "image_width": 640,
  "image_height": 480,
  "model_used": "demo",
  "confidence_threshold": 0.5,
  "nms_threshold": 0.4,
  "detections": [
    {
      "label": "car",
      "class_id": 2,
      "confidence": 0.751235,
      "box": [
        10,
        20,
        30,
        40
      ]
    }
  ]
}"""
    )
    other = documents_of(tmp_path / "metadata")["8.json"]
    assert list(other) == FIELDS
    assert datetime.strptime(other["processing_timestamp"], "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=UTC)
    assert other["processing_timestamp"] == "2026-01-09T17:30:00.000250"
    assert other["detections"] == []


def test_two_pictures_of_one_name_have_two_documents_whatever_comes_again(settings, tmp_path):
    store, target = open_store(settings), tmp_path / "metadata"
    chain = write_chain(store, [seen(0, "images/a/1.jpg"), seen(1, "images/b/1.jpg"), seen(2, "images/b/1.png")])
    assert export(settings, target) == Counter(written=3)
    before = documents_of(target)
    assert {document["source_image_path"] for document in before.values()} == {
        "images/a/1.jpg", "images/b/1.jpg", "images/b/1.png",
    }  # fmt: skip
    assert before["1.json"]["source_image_path"] == "images/a/1.jpg"
    assert {name[:2] for name in before if name != "1.json"} == {"1@"}
    append(chain, [seen(3, "images/b/1.jpg", processing_timestamp=NOON + timedelta(hours=1))])
    assert export(settings, target) == Counter(written=1)
    after = documents_of(target)
    assert after.keys() == before.keys()
    assert sorted(document["source_kafka_offset"] for document in after.values()) == [0, 2, 3]
    assert export(settings, target, force=True) == Counter(unchanged=3)
    assert documents_of(target) == after


def test_a_later_call_continues_and_a_repair_replaces_its_documents(settings, tmp_path):
    store, target = open_store(settings), tmp_path / "metadata"
    write_chain(store, [frame(0)], [frame(1)], [frame(2)])
    assert export(settings, target)["written"] == 3
    assert export(settings, target) == Counter()
    store.put(segment_key(CHAIN, 1), b"damaged")
    repair_chain(store, CHAIN)
    again = export(settings, target)
    assert again["written"] + again["unchanged"] == 1
    assert documents_of(target).keys() == {"0.json", "1.json", "2.json"}


def test_imported_documents_stay_as_their_own_program_wrote_them(settings, tmp_path):
    """Else an export to their folder would replace them, and write their times in another time zone."""
    target = tmp_path / "metadata"
    target.mkdir()
    (target / "7.json").write_text("{}")
    write_chain(open_store(settings), [seen(0, "s3://old/images/7.jpg")], chain=import_chain("old", "metadata"))
    write_chain(open_store(settings), [seen(0, "images/8.jpg")])
    assert export(settings, target) == Counter(written=1)
    assert documents_of(target)["7.json"] == {}
    assert documents_of(target).keys() == {"7.json", "8.json"}


def test_documents_in_a_bucket_name_the_whole_address(bucket, tmp_path):
    settings = s3_settings(bucket, store_url=f"{bucket.url}/site")
    store: ObjectStore = open_store(settings)
    write_chain(store, [seen(0, "images/a/1.jpg"), seen(1, "s3://elsewhere/images/2.jpg")])
    assert export(settings, f"s3a://{bucket.name}/metadata")["written"] == 2
    listed = {info.key: store_at(bucket).get(info.key) for info in store_at(bucket).list_objects("metadata")}
    assert {key: json.loads(data)["source_image_path"] for key, data in listed.items()} == {
        "metadata/1.json": f"{bucket.url}/site/images/a/1.jpg",
        "metadata/2.json": "s3://elsewhere/images/2.jpg",
    }
    described = obstore.get(bucket.store(), "metadata/1.json").attributes
    assert described["Content-Type"] == "application/json"


def store_at(bucket: S3Bucket) -> ObjectStore:
    return open_store(s3_settings(bucket, store_url=bucket.url))
