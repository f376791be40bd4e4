"""The classic jobs run by hand: mapper, sort by bytes, reducer, in sequence in this process."""

import re
from pathlib import Path

from imgpipeline_tests.compat.mapreduce.jobs import (
    label_hour_mapper,
    label_hour_reducer,
    label_total_mapper,
    label_total_reducer,
)


def split_lines(data: bytes) -> list[bytes]:
    """Return lines as Hadoop cuts them, for text files: ended by LF, CRLF or CR."""
    lines = re.split(rb"\r\n|\n|\r", data)
    return lines[:-1] if not lines[-1] else lines


def sort_by_key(lines: list[str]) -> list[str]:
    """Sort as the shuffle does, by the bytes of the keys; equal keys keep their order, which Hadoop leaves open."""
    return sorted(lines, key=lambda line: line.partition("\t")[0].encode())


def label_hour(files: list[bytes]) -> bytes:
    mapped = [line for data in files for line in label_hour_mapper.run(data.split(b"\n"))]
    return "".join(label_hour_reducer.run(sort_by_key(mapped))).encode()


def label_total(files: list[bytes]) -> bytes:
    mapped = [line for data in files for line in label_total_mapper.run(split_lines(data))]
    return "".join(label_total_reducer.run(sort_by_key(mapped))).encode()


def write_files(folder: Path, files: list[bytes]) -> Path:
    """Write files whose names are in order."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for number, data in enumerate(files):
        (folder / f"{number:04d}").write_bytes(data)
    return folder


def times_aside(output: bytes) -> list[tuple[bytes, bytes, tuple[bytes, ...]]]:
    """Return the lines of `label-hour`, each with its times sorted: their order is what Hadoop leaves open."""
    rows = []
    for line in output.splitlines():
        key, count, times = line.split(b"\t")
        assert (times[:1], times[-1:]) == (b"[", b"]")
        rows.append((key, count, tuple(sorted(times[1:-1].split(b", ")))))
    return rows
