"""`mapreduce show` reads what jobs write."""

import gzip
from pathlib import Path

import pytest

from imgpipeline.compat.mapreduce.result import JobResult, read_result
from imgpipeline.settings import load_settings


def read(file: Path, most: int = 10) -> JobResult:
    return read_result(str(file), most, load_settings())


def test_the_largest_counts_come_first_and_equal_ones_by_key(tmp_path: Path):
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
def test_a_line_without_a_key_and_a_count_is_skipped_and_counted(tmp_path: Path, line: bytes):
    (tmp_path / "out").write_bytes(b"dog\t1\n" + line + b"\ncat\t1\n")
    assert read(tmp_path / "out") == JobResult(files=1, lines=2, total=2, malformed=1, top=[("cat", 1), ("dog", 1)])


def test_the_parts_of_a_hadoop_job_are_one_result(tmp_path: Path):
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "part-00000").write_text("car\t1\n")
    (tmp_path / "part-00001.gz").write_bytes(gzip.compress(b"dog\t2\n"))
    assert read(tmp_path).top == [("dog", 2), ("car", 1)]
    assert read(tmp_path).files == 2
