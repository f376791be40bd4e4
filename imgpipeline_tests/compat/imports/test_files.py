"""Reads CSV files and JSON documents as other programs write them, and refuses or reports everything else."""

import gzip
import json
import os
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from imgpipeline.compat.imports import files as import_files
from imgpipeline.compat.imports.files import CsvRows, find_files
from imgpipeline.compat.imports.rows import Row, not_shown
from imgpipeline.contracts.outcomes import Frame, FrameStatus, make_frame_id
from imgpipeline.errors import ConfigurationError, LedgerError, PermanentError
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.compat.imports.conftest import METADATA, import_documents
from imgpipeline_tests.compat.imports.samples import frames_of, held, letters_of
from imgpipeline_tests.ledger.samples import frame
from imgpipeline_tests.objectstore.stores import s3_settings


def read(settings: Settings, path: Path, data: bytes, delimiter: str = ",") -> list[Row]:
    path.write_bytes(data)
    [file] = find_files(settings, [str(path)], [".csv"])
    rows = CsvRows(file, delimiter)
    assert rows.columns == ("a", "b")
    return list(rows.read(not_shown))


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,x\n2,y\n",
        b"a,b\r\n1,x\r\n2,y",
        b"a,b\r1,x\r2,y\r",
        b"\xef\xbb\xbfa,b\n1,x\n\n\n2,y\n",
        b" a , b \n1,x\n2,y\n",
        gzip.compress(b"a,b\n1,x\n2,y\n"),
    ],
    ids=["plain", "crlf", "cr", "byte order mark", "blanks", "gzip"],
)
def test_the_same_rows_have_the_same_bytes_whatever_the_file_is_like(folder_settings, tmp_path, data):
    rows = read(folder_settings, tmp_path / "counts.csv", data)
    assert [(row.raw, row.fields, row.problem) for row in rows] == [(b"1,x", ["1", "x"], ""), (b"2,y", ["2", "y"], "")]


def test_a_row_is_named_by_the_line_it_begins_at(folder_settings, tmp_path):
    rows = read(folder_settings, tmp_path / "counts.csv", b'a,b\n\n1,"two\nlines, ""quoted"""\n2,y\n')
    assert [(row.place, row.fields) for row in rows] == [
        ("counts.csv:3", ["1", 'two\nlines, "quoted"']),
        ("counts.csv:5", ["2", "y"]),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"1", "got 1 fields, expected 2 as in the header."),
        (b"1,2,3", "got 3 fields, expected 2 as in the header."),
        (b"1,caf\xe9", "it contains a byte that is not UTF-8."),
        (b'1,"x"y', "it is not valid CSV: ',' expected after '\"', in lines 2 to 2."),
    ],
    ids=["too few", "too many", "not UTF-8", "quote"],
)
def test_a_bad_row_says_why_and_the_next_one_is_read(folder_settings, tmp_path, line, problem):
    bad, good = read(folder_settings, tmp_path / "counts.csv", b"a,b\n" + line + b"\n2,y\n")
    assert (bad.problem, bad.raw) == (problem, line)
    assert (good.problem, good.fields) == ("", ["2", "y"])


def test_an_unclosed_quote_costs_at_most_a_field_s_length(folder_settings, tmp_path):
    data = b'a,b\n1,"open\n' + b"2,y\n" * 100_000
    rows = read(folder_settings, tmp_path / "counts.csv", data)
    bad = [row for row in rows if row.problem]
    assert len(bad) == 1
    assert "field larger than field limit" in bad[0].problem
    assert len(bad[0].raw) < 132_000
    assert len(rows) > 60_000


def test_a_quote_that_is_open_at_the_end_is_one_bad_row(folder_settings, tmp_path):
    rows = read(folder_settings, tmp_path / "counts.csv", b'a,b\n1,x\n2,"y\n3,z\n')
    assert [row.problem for row in rows] == ["", "it is not valid CSV: unexpected end of data, in lines 3 to 4."]


def test_other_characters_may_stand_between_columns(folder_settings, tmp_path):
    [row] = read(folder_settings, tmp_path / "counts.csv", b"a;b\n1,5;x\n", ";")
    assert row.fields == ["1,5", "x"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04 and so on", "ZIP"),
        (b"PAR1 and so on", "Parquet"),
        (gzip.compress(b"PAR1 and so on"), "Parquet"),
        (b"", "has no header"),
    ],
    ids=["utf-16", "zip", "parquet", "gzipped parquet", "empty"],
)
def test_files_that_are_not_text_are_refused_by_their_format(folder_settings, tmp_path, data, text):
    with pytest.raises(ConfigurationError, match=text) as caught:
        read(folder_settings, tmp_path / "counts.csv", data)
    assert caught.value.next_step


def test_a_truncated_gzip_file_is_an_error_after_its_complete_rows(folder_settings, tmp_path):
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(100_000)))
    path = tmp_path / "counts.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    [file] = find_files(folder_settings, [str(path)], [".csv"])
    reading = CsvRows(file).read(not_shown)
    assert next(reading).fields == ["0", "x"]
    with pytest.raises(PermanentError, match="not a complete gzip file"):
        list(reading)


def test_a_file_that_is_not_there_is_named(folder_settings, tmp_path):
    with pytest.raises(ConfigurationError, match=r"absent\.csv"):
        find_files(folder_settings, [str(tmp_path / "absent.csv")], [".csv"])


CLASSIC: dict[str, Any] = {
    "image_path": "s3://cameras/gate/0007.jpg",
    "processing_timestamp": "2026-01-09 12:00:00",
    "detections": [{"label": "car", "confidence": 0.9, "box": [1, 2, 3, 4]}],
}


def imported(settings: Settings, tmp_path: Path, **changes: object) -> Frame:
    """Import one document and return its frame."""
    path = tmp_path / "one.json"
    path.write_text(json.dumps({**CLASSIC, **changes}))
    import_documents(settings, path)
    [found] = frames_of(held(open_store(settings), METADATA))
    return found


def refused(settings: Settings, tmp_path: Path, data: bytes) -> str:
    """Import one document and return the message of its dead letter."""
    path = tmp_path / "one.json"
    path.write_bytes(data)
    import_documents(settings, path)
    [letter] = letters_of(held(open_store(settings), METADATA))
    return f"{letter.code.value} {letter.message}"


def with_box(box: object) -> dict[str, Any]:
    """Return a classic document whose detection has this box."""
    return {**CLASSIC, "detections": [{"label": "car", "confidence": 0.5, "box": box}]}


def test_a_classic_document_is_a_frame_of_its_processing_time(folder_settings, tmp_path):
    found = imported(folder_settings, tmp_path)
    assert found.timestamp == found.processing_timestamp == datetime(2026, 1, 9, 12, tzinfo=UTC)
    assert (found.source, found.source_image_path) == ("gate", "s3://cameras/gate/0007.jpg")
    assert found.attributes == {"imported_from": "one.json"}
    assert (found.image_width, found.brightness, found.model_used) == (None, None, "")
    assert found.status is FrameStatus.PROCESSED
    assert [(d.label, d.confidence, d.box_xywh) for d in found.detections] == [("car", 0.9, (1.0, 2.0, 3.0, 4.0))]


def test_a_path_by_s3a_is_kept_by_s3(folder_settings, tmp_path):
    found = imported(folder_settings, tmp_path, image_path="s3a://cameras/gate/0007.jpg")
    assert (found.source, found.source_image_path) == ("gate", "s3://cameras/gate/0007.jpg")


def test_the_frame_s_own_time_goes_before_that_of_processing(folder_settings, tmp_path):
    found = imported(folder_settings, tmp_path, timestamp="2026-01-08T23:59:59Z")
    assert found.timestamp == datetime(2026, 1, 8, 23, 59, 59, tzinfo=UTC)
    assert found.processing_timestamp == datetime(2026, 1, 9, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("detection", "box"),
    [
        ({"class": "car", "score": 0.5, "bbox": {"x": 1, "y": 2, "w": 3, "h": 4}}, (1, 2, 3, 4)),
        ({"detected_label": "car", "probability": "0.5", "bounding_box": [1, 2, 3, 4]}, (1, 2, 3, 4)),
        ({"class_name": "car", "confidence": 0.5, "box": {"x1": 1, "y1": 2, "x2": 4, "y2": 6}}, (1, 2, 3, 4)),
        ({"name": "car", "confidence": 0.5}, None),
        ({"class_id": 2, "confidence": 0.5}, None),
    ],
)
def test_a_detection_goes_by_many_names(folder_settings, tmp_path, detection, box):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({**CLASSIC, "detections": [detection]}))
    import_documents(folder_settings, path, labels=("person", "bicycle", "car"))
    [found] = frames_of(held(open_store(folder_settings), METADATA))
    assert [(d.label, d.confidence, d.box_xywh) for d in found.detections] == [("car", 0.5, box)]


def test_a_document_with_one_label_has_one_detection(folder_settings, tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"timestamp": 1767960000, "detected_label": "dog", "confidence": 0.4, "camera": 3}))
    import_documents(folder_settings, path)
    [found] = frames_of(held(open_store(folder_settings), METADATA))
    assert (found.source, [d.label for d in found.detections]) == ("3", ["dog"])


def test_what_the_contract_does_not_know_is_kept_as_attributes(folder_settings, tmp_path):
    found = imported(
        folder_settings,
        tmp_path,
        bucket="cameras",
        source_kafka_offset=41,
        weather={"rain": 0.5},
        width=640,
        height=360,
    )
    assert found.attributes == {"imported_from": "one.json", "source_kafka_offset": 41, "weather": {"rain": 0.5}}
    assert (found.image_width, found.image_height) == (640, 360)


def test_a_document_of_this_project_is_the_same_frame(folder_settings, tmp_path):
    """So a history that was moved counts each frame once, whatever else has told of it."""
    original = frame(7)
    path = tmp_path / "one.json"
    path.write_text(json.dumps(original.to_json()))
    import_documents(folder_settings, path)
    [found] = frames_of(held(open_store(folder_settings), METADATA))
    assert found.frame_id == original.frame_id
    assert (found.sharpness, found.model_sha256) == (original.sharpness, original.model_sha256)


def test_the_number_names_the_frame_as_a_detection_run_would(folder_settings, tmp_path):
    found = imported(folder_settings, tmp_path, timestamp="2026-01-09T12:00:00Z", frame_id="17")
    assert found.frame_number == 17
    assert found.frame_id == make_frame_id("gate", found.timestamp, 17)


def test_a_latency_that_a_document_does_not_tell_is_left_out(folder_settings, tmp_path):
    """A document with one time alone does not say how long its frame waited."""
    lines = [CLASSIC, {**CLASSIC, "timestamp": "2026-01-09T11:59:56Z"}]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, lines)))
    import_documents(folder_settings, tmp_path / "two.jsonl")
    with open_lake(open_store(folder_settings), cache_dir=tmp_path / "cache") as lake:
        rows = lake.query("SELECT frames, latency FROM frame_stats ORDER BY hour").rows
    assert rows == [(1, {4.0: 1}), (1, {})]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "BAD_ROW one.json: it is not valid JSON"),
        (b"", "BAD_ROW one.json: it is not valid JSON"),
        (b"[1]", "BAD_ROW one.json: got a JSON list, expected a JSON object."),
        (b'{"a": "\xff"}', "BAD_ROW one.json: it contains a byte that is not UTF-8 at position 7."),
        (json.dumps({**CLASSIC, "detections": None}).encode(), "detections: got None, expected a list."),
        (json.dumps({**CLASSIC, "detections": [{"confidence": 1}]}).encode(), "detections[0].label: got None"),
        (json.dumps({**CLASSIC, "detections": [{"label": "a"}]}).encode(), "detections[0].confidence: got None"),
        (json.dumps({**CLASSIC, "processing_timestamp": True}).encode(), "processing_timestamp: got True"),
        (json.dumps({**CLASSIC, "processing_timestamp": None}).encode(), "timestamp: got None"),
        (json.dumps({**CLASSIC, "width": 1.5}).encode(), "width: got 1.5, expected a whole number"),
        (json.dumps({**CLASSIC, "note": float("nan")}).encode(), "attributes: got 'NaN or infinity'"),
        (json.dumps({**CLASSIC, "width": 10**400}).encode(), "width: got 1000"),
        (json.dumps({**CLASSIC, "size_bytes": 2**62}).encode(), "size_bytes: got 4611686018427387904, expected"),
        (json.dumps({**CLASSIC, "brightness": 1e300}).encode(), "brightness: got 1e+300, expected a number"),
        (json.dumps({**CLASSIC, "sharpness": -1e20}).encode(), "sharpness: got -1e+20, expected a number"),
        (json.dumps(with_box([0, 0, 1, 10**400])).encode(), "detections[0].box: got 1000"),
        (json.dumps(with_box([0, float("nan"), 1, 1])).encode(), "detections[0].box: got nan"),
        (json.dumps(with_box([0, 0, -1, 1])).encode(), "expected a size from 0"),
        (json.dumps(with_box([0, 0, 1])).encode(), "expected left, top, width and height"),
        (json.dumps(with_box({"x1": 5, "y1": 5, "x2": 1, "y2": 9})).encode(), "expected a size from 0"),
        (json.dumps({**CLASSIC, "note": "\x00"}).encode(), "attributes: got a null character"),
        (json.dumps({**CLASSIC, "image_path": "\ud800"}).encode(), "image_path: got '\\ud800'"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "BAD_ROW one.json: it is not valid JSON"),
    ],
)
def test_an_invalid_document_is_a_dead_letter(folder_settings, tmp_path, data, message):
    assert message in refused(folder_settings, tmp_path, data)


def test_a_document_that_is_too_large_is_not_loaded(folder_settings, tmp_path, monkeypatch):
    monkeypatch.setattr(import_files, "MOST_ROW_BYTES", 1_000)
    large = json.dumps({**CLASSIC, "note": "x" * 5_000})
    path = tmp_path / "some.jsonl"
    path.write_text(f"{json.dumps(CLASSIC)}\n{large}\n{json.dumps(CLASSIC)}\n")
    for _ in range(2):
        import_documents(folder_settings, path)
    outcomes = held(open_store(folder_settings), METADATA)
    [letter] = letters_of(outcomes)
    assert (letter.offset, letter.code.value, letter.raw_sha256) == (
        1,
        "TOO_LARGE",
        sha256(f"{large}\n".encode()).hexdigest(),
    )
    assert letter.raw_size_bytes == len(large) + 1
    assert len(frames_of(outcomes)) == 2


def write_documents(folder: Path, numbers: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        document = {**CLASSIC, "image_path": f"gate/{number:04d}.jpg"}
        (folder / f"{number:04d}.json").write_text(json.dumps(document, indent=1))


def test_documents_are_read_in_the_order_of_their_names_and_new_ones_after_them(folder_settings, tmp_path):
    write_documents(tmp_path / "b", range(5))
    first = import_documents(folder_settings, tmp_path)
    write_documents(tmp_path / "c", range(3))
    (tmp_path / "c" / "notes.txt").write_text("no document")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(json.dumps(CLASSIC).encode() + b"\n\n" + b"{}\n"))
    second = import_documents(folder_settings, tmp_path)
    assert (first.frames, second.already_there, second.frames, second.dead_letters) == (5, 5, 4, 1)
    outcomes = held(open_store(folder_settings), METADATA)
    names = [f"b/000{n}.json" for n in range(5)] + [f"c/000{n}.json" for n in range(3)] + ["d.jsonl.gz:1"]
    assert [found.attributes["imported_from"] for found in frames_of(outcomes)] == names
    write_documents(tmp_path / "a", range(1))
    with pytest.raises(LedgerError, match=r"row 1 \(b/0000\.json\) is the first"):
        import_documents(folder_settings, tmp_path)


def test_file_names_that_are_not_valid_text_are_still_named(folder_settings, tmp_path):
    for name in (b"\xff.json", b"\xfe.json"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(json.dumps(CLASSIC))
    import_documents(folder_settings, tmp_path)
    outcomes = frames_of(held(open_store(folder_settings), METADATA))
    assert [found.attributes["imported_from"] for found in outcomes] == ["\\udcfe.json", "\\udcff.json"]


def test_a_pipe_is_refused_since_it_can_be_read_only_once(folder_settings, tmp_path):
    os.mkfifo(tmp_path / "counts.csv")
    with pytest.raises(ConfigurationError, match="is not a file: an import reads its rows more than once"):
        find_files(folder_settings, [str(tmp_path / "counts.csv")], [".csv"])


def test_patterns_and_several_paths_name_each_file_once(folder_settings, tmp_path):
    write_documents(tmp_path / "b", range(12))
    found = find_files(folder_settings, [f"{tmp_path}/b/000*.json", str(tmp_path / "b" / "0003.json")], [".json"])
    assert [file.name for file in found] == [f"000{n}.json" for n in range(10)]
    with pytest.raises(ConfigurationError, match="nothing to read"):
        find_files(folder_settings, [f"{tmp_path}/none/*.json"], [".json"])
    with pytest.raises(ConfigurationError, match="no file to import"):
        find_files(folder_settings, [str(tmp_path)], [".csv"])


def test_documents_are_read_from_a_bucket(bucket, tmp_path):
    settings = s3_settings(bucket)
    place = open_store(s3_settings(bucket, store_url=f"{bucket.url}/classic"))
    for number in range(40):
        place.put(f"0/{number:02d}.json", json.dumps({**CLASSIC, "image_path": f"gate/{number}.jpg"}).encode())
    place.put("1.jsonl.gz", gzip.compress(b"".join(json.dumps(CLASSIC).encode() + b"\n" for _ in range(3))))
    place.put("2.txt", b"no document")
    assert import_documents(settings, f"{bucket.url}/classic").frames == 43
    assert import_documents(settings, f"{bucket.url}/classic/").already_there == 43
    assert import_documents(settings, f"{bucket.url}/classic/".replace("s3://", "s3a://")).already_there == 43
    frames = frames_of(held(open_store(settings), METADATA))
    assert [f.source_image_path for f in frames[:40]] == [f"gate/{number}.jpg" for number in range(40)]
    assert frames[1].attributes["imported_from"] == "0/01.json"
    some = find_files(settings, [f"{bucket.url}/classic/0/0*.json"], [".json"])
    assert [file.name for file in some] == [f"0{n}.json" for n in range(10)]
    for nothing in ("absent", "classic/*.json"):  # as in a folder, `*` stays within a part of the path
        with pytest.raises(ConfigurationError, match="nothing to read"):
            find_files(settings, [f"{bucket.url}/{nothing}"], [".json"])
    with pytest.raises(ConfigurationError, match="no file to import"):
        find_files(settings, [f"{bucket.url}/classic"], [".csv"])
    assert len(find_files(settings, [f"{bucket.url}/classic/**/*.json"], [".json"])) == 40
