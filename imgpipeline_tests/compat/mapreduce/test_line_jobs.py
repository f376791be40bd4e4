"""`label-total` writes what the classic mapper and reducer write; `identity` copies lines; `show` reads results."""

import gzip
import os
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imgpipeline.compat.mapreduce import inputs
from imgpipeline.compat.mapreduce.line_jobs import JobResult, LabelTotal, copy_lines, read_result, total_labels
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings
from imgpipeline_tests.compat.mapreduce import classic
from imgpipeline_tests.examples import examples

HEADER = b"timestamp,detected_label,confidence\n"


def run(folder: Path, files: list[bytes]) -> tuple[bytes, LabelTotal]:
    location = classic.write_files(folder / "in", files)
    done = total_labels(str(location), str(folder / "out"), load_settings())
    return (folder / "out").read_bytes(), done


def test_labels_are_trimmed_upper_cased_and_counted(tmp_path):
    rows = b"2026-01-09T12:00:00, car ,0.9\n2026-01-09T12:00:01,CAR,0.8\n,Person,\n"
    output, done = run(tmp_path, [HEADER + rows])
    assert output == b"CAR\t2\nPERSON\t1\n"
    assert done == LabelTotal(files=1, detections=3, labels=2, malformed=0)


def test_labels_are_in_byte_order(tmp_path):
    labels = ["é", "z", "a", "0", "日", "\U0001f600", "\uffee", "a b"]
    output, _ = run(tmp_path, ["".join(f"1,{label},1\n" for label in labels).encode()])
    assert output.splitlines() == sorted(output.splitlines())
    assert len(output.splitlines()) == len(labels)


@pytest.mark.parametrize(
    "line",
    [b"car", b"1,car", b"1,car,1,1", b'1,"a, b",1', b"1,,1", b"1,  ,1", b"1,a\tb,1", b"1,\xff,1", b",", b"Timestamp"],
)
def test_a_malformed_line_is_skipped_and_counted(tmp_path, line):
    output, done = run(tmp_path, [b"1,car,1\n" + line + b"\n1,car,1\n"])
    assert output == b"CAR\t2\n" == classic.label_total([b"1,car,1\n" + line + b"\n1,car,1\n"])
    assert done.malformed == 1


def test_headers_and_blank_lines_are_ignored_in_every_file(tmp_path):
    files = [
        HEADER + b"1,car,1",
        b"",
        b"\xef\xbb\xbf" + HEADER + b"\n \t\n1,car,1\r\n",
        b"  " + HEADER + b"\r\n1,car,1\n",
    ]
    output, done = run(tmp_path, files)
    assert output == b"CAR\t3\n"
    assert (done.files, done.malformed) == (4, 0)


FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=",\r\n"), max_size=4)
ROWS = st.lists(FIELDS, min_size=1, max_size=4).map(lambda fields: ",".join(fields).encode())
GOOD = st.sampled_from(["car", " Car", "straße", "\u0131", "person\t", "\x1cdog"]).map(
    lambda label: f"1,{label},1".encode()
)
ODD = st.sampled_from([b"", b" ", b"timestamp", b" timestamp,car,1", b"1,timestamp,1", b"\xff,car,\xff", b"1,\xff,1"])


@given(st.lists(st.builds(lambda rows, newline: newline.join(rows), st.lists(ROWS | GOOD | ODD, max_size=8),
                          st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=3), st.integers(1, 30))  # fmt: skip
@settings(max_examples=examples(50), suppress_health_check=[HealthCheck.too_slow])
def test_any_files_give_what_mapper_and_reducer_give(files, block_bytes):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "BLOCK_BYTES", block_bytes)
        output, _ = run(Path(folder), files)
    assert output == classic.label_total(files)


@pytest.mark.slow
@given(
    st.lists(st.binary(max_size=12) | st.text("ab\t\r\n", max_size=12).map(str.encode), max_size=3), st.integers(1, 5)
)
@settings(max_examples=examples(50))
@example([b"b\r\n\x00\xff\n", b"", b"a\rno end"], 1)
def test_any_bytes_are_copied_as_the_lines_that_hadoop_cuts_in_the_order_of_their_keys(files, block_bytes):
    files = [data.removeprefix(b"\xef\xbb\xbf") for data in files]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "BLOCK_BYTES", block_bytes)
        location = classic.write_files(Path(folder) / "in", files)
        done = copy_lines(str(location), f"{folder}/out", load_settings())
        output = Path(folder, "out").read_bytes()
    expected = sorted(
        (line for data in files for line in classic.split_lines(data)), key=lambda line: line.partition(b"\t")[0]
    )
    assert output == b"".join(line + b"\n" for line in expected)
    assert (done.files, done.lines) == (len(files), len(expected))
    assert done.sha256 == sha256(output).hexdigest()


def test_an_output_is_replaced_as_a_whole_and_never_one_of_the_inputs(tmp_path):
    location = classic.write_files(tmp_path / "in", [b"a\n"])
    (tmp_path / "out").write_bytes(b"older and longer\n")
    copy_lines(str(location), str(tmp_path / "out"), load_settings())
    assert (tmp_path / "out").read_bytes() == b"a\n"
    with pytest.raises(ConfigurationError, match="one of the files to read"):
        copy_lines(str(location), str(location / "0000"), load_settings())
    with pytest.raises(ConfigurationError, match="cannot be written"):
        copy_lines(str(location), str(tmp_path / "nowhere" / "out"), load_settings())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_pipe_or_device_is_never_replaced_and_a_link_leads_to_its_file(tmp_path):
    location = classic.write_files(tmp_path / "in", [b"a\n"])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "alias").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "alias"):
        with pytest.raises(ConfigurationError, match="not a file"):
            copy_lines(str(location), str(tmp_path / name), load_settings())
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "real").write_bytes(b"older\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    copy_lines(str(location), str(tmp_path / "link"), load_settings())
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"a\n"


def read(file: Path, most: int = 10) -> JobResult:
    return read_result(str(file), most, load_settings())


def test_the_largest_counts_come_first_and_equal_ones_by_key(tmp_path):
    (tmp_path / "out").write_text("a\t2\nb\t30\nc d\t2\n\ncar@2026-01-09 12:00\t4\t[2026-01-09T12:34:56]\n")
    assert read(tmp_path / "out") == JobResult(
        files=1, lines=4, total=38, malformed=0, top=[("b", 30), ("car@2026-01-09 12:00", 4), ("a", 2), ("c d", 2)]
    )
    assert read(tmp_path / "out", 2).top == [("b", 30), ("car@2026-01-09 12:00", 4)]


@pytest.mark.parametrize(
    "line",
    [b"car", b"car 5", b"car\tmany", b"car\t-1", b"car\t", b"\xff\t1", b"car\t" + b"9" * 5000, "car\t٣".encode()],
    ids=["alone", "space", "word", "negative", "empty", "not-utf-8", "endless", "arabic-digit"],
)
def test_a_line_without_a_key_and_a_count_is_skipped_and_counted(tmp_path, line):
    (tmp_path / "out").write_bytes(b"dog\t1\n" + line + b"\ncat\t1\n")
    assert read(tmp_path / "out") == JobResult(files=1, lines=2, total=2, malformed=1, top=[("cat", 1), ("dog", 1)])


def test_the_parts_of_a_hadoop_job_are_one_result(tmp_path):
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "part-00000").write_text("car\t1\n")
    (tmp_path / "part-00001.gz").write_bytes(gzip.compress(b"dog\t2\n"))
    assert read(tmp_path).top == [("dog", 2), ("car", 1)]
    assert read(tmp_path).files == 2
