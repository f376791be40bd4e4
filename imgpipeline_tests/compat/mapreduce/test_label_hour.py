"""`label-hour` writes what the classic mapper and reducer write, in a fixed order."""

import bz2
import gzip
import json
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imgpipeline.compat.mapreduce import label_hour
from imgpipeline.compat.mapreduce.label_hour import LabelHour, count_label_hours
from imgpipeline.errors import PermanentError
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.compat.mapreduce import classic
from imgpipeline_tests.examples import examples
from imgpipeline_tests.lake.samples import gated, seen
from imgpipeline_tests.ledger.samples import dead_letter, gap, write_chain

T = "2026-01-09T12:34:56"


def document(time: object = T, *labels: object, **more: object) -> bytes:
    return json.dumps({"processing_timestamp": time, "detections": [{"label": x} for x in labels], **more}).encode()


def run(folder: Path, files: list[bytes]) -> tuple[bytes, LabelHour]:
    location = classic.write_files(folder / "in", files)
    done = count_label_hours(str(location), str(folder / "out"), load_settings())
    return (folder / "out").read_bytes(), done


def test_one_line_a_label_and_hour_with_its_times(tmp_path):
    lines = [
        document("2026-01-09T13:00:00", "car"),
        document(T, "car", "Person", "car"),
        document("2026-01-09T12:00:01"),
    ]
    output, done = run(tmp_path, [b"\n".join(lines)])
    assert output == (
        b"Person@2026-01-09 12:00\t1\t[2026-01-09T12:34:56]\n"
        b"car@2026-01-09 12:00\t2\t[2026-01-09T12:34:56, 2026-01-09T12:34:56]\n"
        b"car@2026-01-09 13:00\t1\t[2026-01-09T13:00:00]\n"
    )
    assert done == LabelHour(files=1, documents=3, detections=4, keys=3, malformed=0, unlabelled=0)


def test_keys_are_in_byte_order(tmp_path):
    labels = ["é", "z", "a", "A", "\U0001f600", "\uffee", "a@", "a b", "0"]
    output, _ = run(tmp_path, [document(T, *labels)])
    keys = [line.split(b"\t")[0] for line in output.splitlines()]
    assert keys == sorted(keys)
    assert len(keys) == len(labels)


def test_times_are_in_the_order_of_files_and_of_places_in_them(tmp_path, monkeypatch):
    monkeypatch.setattr(label_hour, "BATCH_ROWS", 1_000)
    hours = [f"2026-01-09T12:{(7 * n) % 60:02d}:{(11 * n) % 60:02d}" for n in range(4_000)]
    files = [
        b"\n".join(document(time, "car", filler="x" * 400) for time in hours[n : n + 800]) for n in range(0, 4_000, 800)
    ]
    files[2] = document(hours[1600], "car") + b"\n" + files[2].partition(b"\n")[2]
    output, done = run(tmp_path, files)
    assert output == b"car@2026-01-09 12:00\t4000\t[" + ", ".join(hours).encode() + b"]\n"
    assert done.files == 5


@pytest.mark.parametrize(
    "time",
    ["2026-01-09 12:34:56", T + ".123456", T + "Z", T + "+09:00", T + " whatever"],
)
def test_times_are_used_as_written_and_cut_to_the_second(tmp_path, time):
    assert run(tmp_path, [document(time, "car")])[0] == b"car@2026-01-09 12:00\t1\t[2026-01-09T12:34:56]\n"


@pytest.mark.parametrize(
    "line",
    [
        *(b"{", b"[]", b"5", b"null", b'"text"', b"{}", b"no json", b'{"processing_timestamp": "' + T.encode() + b'"}'),
        *map(document, [None, 5, "", "2026-01-09", "2026-1-9T12:34:56", "2026-02-29T00:00:00", "2026-13-01T00:00:00"]),
        *map(document, ["2026-01-09T24:00:00", "2026-01-09T12:60:00", "2026-01-09T12:00:60", "0000-01-01T00:00:00"]),
        *map(document, [" " + T, {"a": 1}, [T], "\uff12026-01-09T12:34:56", "now", "infinity", "-infinity"]),
        document(T, "car", attributes="\ud800"),
        b'{"source": "\xff", ' + document(T, "car")[1:],
        document(T, "car") + b" {}",
        document(T, "car").replace(b'[{"label": "car"}]', b'{"label": "car"}'),
        document(T, "car").replace(b'[{"label": "car"}]', b"null"),
    ],
)
def test_a_line_that_is_not_a_document_is_skipped_and_counted(tmp_path, line):
    good = document(T, "dog")
    output, done = run(tmp_path, [b"\n".join([good, line, good])])
    assert output == b"dog@2026-01-09 12:00\t2\t[2026-01-09T12:34:56, 2026-01-09T12:34:56]\n"
    assert (done.documents, done.malformed, done.unlabelled) == (2, 1, 0)
    assert classic.label_hour([b"\n".join([good, line, good])]) == output


@pytest.mark.parametrize("label", [None, 5, True, "", "a\tb", "a\nb", "a\rb", {"a": 1}, ["car"]])
def test_a_detection_without_a_label_that_can_be_printed_is_skipped_alone(tmp_path, label):
    line = document(T, "dog", label, "dog")
    output, done = run(tmp_path, [line])
    assert output == b"dog@2026-01-09 12:00\t2\t[2026-01-09T12:34:56, 2026-01-09T12:34:56]\n"
    assert (done.documents, done.malformed, done.unlabelled, done.detections) == (1, 0, 1, 2)
    assert classic.label_hour([line]) == output


def test_only_the_detections_that_are_not_objects_are_skipped(tmp_path):
    line = document(T, "dog").replace(b'[{"label"', b'[1, "car", null, [], {}, {"label"')
    output, done = run(tmp_path, [line])
    assert output == b"dog@2026-01-09 12:00\t1\t[2026-01-09T12:34:56]\n" == classic.label_hour([line])
    assert done.unlabelled == 5


@pytest.mark.parametrize(
    "label", ["\\", '"', "\\t", "a/b", "\x00", "\x7f", "\u2028", "é", "e\u0301", " car ", "日本", "[1, 2]"]
)
def test_a_label_is_written_unchanged(tmp_path, label):
    for line in (document(T, label), json.dumps(json.loads(document(T, label)), ensure_ascii=False).encode()):
        output, _ = run(tmp_path, [line])
        assert output == f"{label}@2026-01-09 12:00\t1\t[2026-01-09T12:34:56]\n".encode() == classic.label_hour([line])


def test_one_label_spelled_in_two_ways_is_one(tmp_path):
    escaped, plain = document(T, "é"), document(T, "é").replace(b"\\u00e9", "é".encode())
    assert run(tmp_path, [escaped + b"\n" + plain])[0].startswith("é@2026-01-09 12:00\t2\t".encode())


def test_blank_lines_line_ends_and_empty_files_do_not_matter(tmp_path):
    line = document(T, "car")
    files = [
        b"",
        b"\n\n",
        b"\r\n" + line + b"\r\n\r\n" + line + b"\r\n",
        b"\xef\xbb\xbf" + line,
        b"  " + line + b"  \n",
    ]
    output, done = run(tmp_path, files)
    assert output.startswith(b"car@2026-01-09 12:00\t4\t")
    assert (done.files, done.documents, done.malformed) == (5, 4, 0)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_one_document_may_stand_over_several_lines_of_its_file(tmp_path, newline):
    pretty = json.dumps(json.loads(document(T, "car", source="two\nlines")), indent=2).encode().replace(b"\n", newline)
    files = [pretty, document(T, "car") + b"\n" + document(T, "car"), pretty + newline]
    output, done = run(tmp_path, files)
    assert output.startswith(b"car@2026-01-09 12:00\t4\t")
    assert (done.documents, done.malformed) == (4, 0)


def test_a_file_whose_first_line_is_broken_is_still_one_of_lines(tmp_path):
    output, done = run(tmp_path, [b'{"cut\n' + document(T, "car") + b"\n" + document(T, "car")])
    assert output.startswith(b"car@2026-01-09 12:00\t2\t")
    assert (done.documents, done.malformed) == (2, 1)


@pytest.mark.parametrize("name", ["large.jsonl", "what*.[a]?.jsonl"])
def test_a_large_file_is_read_in_place_or_copied_with_the_same_result(tmp_path, name):
    """More than 1 MiB; DuckDB would take the second name for a glob."""
    lines = [document(T, "car", filler="x" * 1_000) for _ in range(2_000)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"\n".join(lines))
    (tmp_path / "in" / "a").write_bytes(document("2026-01-09T12:00:00", "car"))
    (tmp_path / "in" / "z").write_bytes(document("2026-01-09T12:59:59", "car"))
    done = count_label_hours(str(tmp_path / "in"), str(tmp_path / "out"), load_settings())
    output = (tmp_path / "out").read_bytes()
    assert output.startswith(b"car@2026-01-09 12:00\t2002\t[2026-01-09T12:00:00, 2026-01-09T12:34:56, ")
    assert output.endswith(b"2026-01-09T12:34:56, 2026-01-09T12:59:59]\n")
    assert done.documents == 2_002


def test_compressed_files_are_read_as_hadoop_reads_them(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    line = document(T, "car") + b"\n"
    (folder / "a.gz").write_bytes(gzip.compress(line) + gzip.compress(line))
    (folder / "b.bz2").write_bytes(bz2.compress(line))
    (folder / "c.zst").write_bytes(zstandard.compress(line) + zstandard.compress(line))
    count_label_hours(str(folder), str(tmp_path / "out"), load_settings())
    assert (tmp_path / "out").read_bytes().startswith(b"car@2026-01-09 12:00\t5\t")
    (folder / "b.bz2").write_bytes(bz2.compress(line)[:-4])
    with pytest.raises(PermanentError, match=r"b\.bz2 cannot be read"):
        count_label_hours(str(folder), str(tmp_path / "out2"), load_settings())
    assert not (tmp_path / "out2").exists()


def test_the_ledgers_segments_are_files_of_documents_too(tmp_path):
    store = open_store(load_settings(store_url=(tmp_path / "store").as_uri()))
    frames = [seen(0, ["car", "dog"]), seen(1, ["car"])], [dead_letter(2), gap(3, 5), seen(5, ["car"]), gated(6)]
    write_chain(store, *frames)
    done = count_label_hours(str(tmp_path / "store" / "metadata"), str(tmp_path / "out"), load_settings())
    hours = [line.split(b"\t")[:2] for line in (tmp_path / "out").read_bytes().splitlines()]
    hour = f"{frames[0][0].processing_timestamp:%Y-%m-%d %H}:00"
    assert hours == [[f"car@{hour}".encode(), b"3"], [f"dog@{hour}".encode(), b"1"]]
    assert done == LabelHour(files=2, documents=4, detections=4, keys=2, malformed=0, unlabelled=0)


@pytest.mark.medium
def test_a_line_beyond_the_limit_stops_the_job_with_its_file(tmp_path):
    with pytest.raises(PermanentError, match="maximum_object_size"):
        run(tmp_path, [document(T, "car") + b"\n" + document(T, "car", filler="x" * (33 * 2**20))])
    assert not (tmp_path / "out").exists()


TIMES = st.one_of(
    st.datetimes().map(lambda time: time.isoformat()),
    st.datetimes().map(str),
    st.sampled_from([T, "2026-01-09T12:00:00", "2026-02-30T00:00:00", "soon", "", None, 7]),
)
LABELS = st.one_of(
    st.sampled_from(["car", "Car", "person"]), st.text(max_size=4), st.none(), st.integers(), st.booleans()
)
DETECTIONS = st.one_of(
    st.lists(st.one_of(st.fixed_dictionaries({"label": LABELS}), st.just({}), st.none(), st.integers()), max_size=4),
    st.none(),
    st.text(max_size=3),
)
VALUES = st.one_of(
    st.fixed_dictionaries(
        {"processing_timestamp": TIMES, "detections": DETECTIONS},
        optional={"box": st.lists(st.floats(allow_nan=False, allow_infinity=False))},
    ),
    st.fixed_dictionaries({}, optional={"processing_timestamp": TIMES, "detections": DETECTIONS}),
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2), max_leaves=3
    ),
)
COMPACT = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace"),
    VALUES,
    st.booleans(),
)
CUT = st.builds(lambda text, end: text[:end], COMPACT, st.integers(0, 30))
LINES = st.lists(st.one_of(COMPACT, COMPACT, CUT, st.sampled_from([b"", b" ", b"\xff"])), max_size=8)
FILES = st.one_of(
    st.builds(lambda lines, newline: newline.join(lines), LINES, st.sampled_from([b"\n", b"\r\n"])),
    st.builds(lambda value: json.dumps(value, indent=1).encode(), VALUES),
)


@pytest.mark.slow
@pytest.mark.medium
@given(st.lists(FILES, max_size=4))
@example([b'{"a": "\\ud800"}', document(T, "car")])
@example([])
@example([b"", document(T)])
@settings(max_examples=examples(50), suppress_health_check=[HealthCheck.too_slow])
def test_any_files_give_what_mapper_and_reducer_give(files):
    with tempfile.TemporaryDirectory() as folder:
        output, done = run(Path(folder), files)
    assert output == classic.label_hour(files)
    assert done.detections == sum(int(line.split(b"\t")[1]) for line in output.splitlines())
