"""`label-total` prints what the classic mapper and reducer print."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgpipeline.compat.mapreduce import label_total, lines
from imgpipeline.compat.mapreduce.label_total import LabelTotal, total_labels
from imgpipeline.settings import load_settings
from imgpipeline_tests.compat.mapreduce import classic
from imgpipeline_tests.examples import examples

HEADER = b"timestamp,detected_label,confidence\n"


def run(folder: Path, files: list[bytes]) -> tuple[bytes, LabelTotal]:
    location = classic.write_files(folder / "in", files)
    done = total_labels(str(location), str(folder / "out"), load_settings())
    return (folder / "out").read_bytes(), done


def test_labels_are_trimmed_upper_cased_and_counted(tmp_path: Path):
    rows = b"2026-01-09T12:00:00, car ,0.9\n2026-01-09T12:00:01,CAR,0.8\n,Person,\n"
    output, done = run(tmp_path, [HEADER + rows])
    assert output == b"CAR\t2\nPERSON\t1\n"
    assert done == LabelTotal(files=1, detections=3, labels=2, malformed=0)


def test_labels_are_in_byte_order(tmp_path: Path):
    labels = ["é", "z", "a", "0", "日", "\U0001f600", "\uffee", "a b"]
    output, _ = run(tmp_path, ["".join(f"1,{label},1\n" for label in labels).encode()])
    assert output.splitlines() == sorted(output.splitlines())
    assert len(output.splitlines()) == len(labels)


@pytest.mark.parametrize(
    "line",
    [b"car", b"1,car", b"1,car,1,1", b'1,"a, b",1', b"1,,1", b"1,  ,1", b"1,a\tb,1", b"1,\xff,1", b",", b"Timestamp"],
)
def test_a_malformed_line_is_skipped_and_counted(tmp_path: Path, line: bytes):
    output, done = run(tmp_path, [b"1,car,1\n" + line + b"\n1,car,1\n"])
    assert output == b"CAR\t2\n" == classic.label_total([b"1,car,1\n" + line + b"\n1,car,1\n"])
    assert done.malformed == 1


def test_headers_and_blank_lines_are_passed_over_in_every_file(tmp_path: Path):
    files = [
        HEADER + b"1,car,1",
        b"",
        b"\xef\xbb\xbf" + HEADER + b"\n \t\n1,car,1\r\n",
        b"  " + HEADER + b"\r\n1,car,1\n",
    ]
    output, done = run(tmp_path, files)
    assert output == b"CAR\t3\n"
    assert (done.files, done.malformed) == (4, 0)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_a_line_ends_as_hadoop_has_it(tmp_path: Path, newline: bytes):
    output, done = run(tmp_path, [newline.join([b"1,car,1", b"1,dog,1", b"", b"1,car,1"])])
    assert output == b"CAR\t2\nDOG\t1\n"
    assert done.malformed == 0


def test_more_labels_than_memory_takes_are_counted_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(label_total, "MOST_IN_MEMORY", 100)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 2_000)
    data = b"".join(b"1,label %d,1\n" % (number % 700) for number in range(3_000))
    output, done = run(tmp_path, [data])
    assert output == classic.label_total([data])
    assert (done.labels, done.detections) == (700, 3_000)


FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=",\r\n"), max_size=4)
ROWS = st.lists(FIELDS, min_size=1, max_size=4).map(lambda fields: ",".join(fields).encode())
GOOD = st.sampled_from(["car", " Car", "straße", "\u0131", "person\t", "\x1cdog"]).map(
    lambda label: f"1,{label},1".encode()
)
ODD = st.sampled_from([b"", b" ", b"timestamp", b" timestamp,car,1", b"1,timestamp,1", b"\xff,car,\xff", b"1,\xff,1"])


@given(st.lists(st.builds(lambda rows, newline: newline.join(rows), st.lists(ROWS | GOOD | ODD, max_size=8),
                          st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=3), st.integers(1, 30))  # fmt: skip
@settings(max_examples=examples(50), suppress_health_check=[HealthCheck.too_slow])
def test_any_files_give_what_mapper_and_reducer_give(files: list[bytes], block_bytes: int):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block_bytes)
        output, _ = run(Path(folder), files)
    assert output == classic.label_total(files)
