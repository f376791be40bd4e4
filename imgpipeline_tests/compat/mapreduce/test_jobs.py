"""A job writes one file, or a folder of parts as Hadoop does: on this machine and in a bucket."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from imgpipeline.compat.mapreduce.label_hour import count_label_hours
from imgpipeline.compat.mapreduce.line_jobs import copy_lines, read_result, total_labels
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.compat.mapreduce import classic
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket

LABELS = ["car", "person", "é", "日本", "a b", "bus", "dog", "cat", "truck", "van"]


def documents(count: int) -> list[bytes]:
    chance = random.Random(3)  # noqa: S311 - the same documents each time
    return [
        json.dumps(
            {
                "processing_timestamp": f"2026-01-09T{chance.randrange(24):02d}:00:{number % 60:02d}",
                "detections": [{"label": chance.choice(LABELS)} for _ in range(chance.randrange(4))],
            },
            indent=2,
        ).encode()
        for number in range(count)
    ]


def java_partition(key: bytes, reducers: int) -> int:
    """Hadoop's HashPartitioner over a Text: a hash of signed bytes in 32 bits, its sign cut off."""
    found = 1
    for byte in key:
        found = (31 * found + (byte - 256 if byte > 127 else byte)) % 2**32
    return (found & 0x7FFFFFFF) % reducers


def parts_of(lines: bytes, reducers: int) -> dict[str, bytes]:
    parts = {f"part-{number:05d}": b"" for number in range(reducers)}
    for line in lines.splitlines(keepends=True):
        key = line.rstrip(b"\n").partition(b"\t")[0]
        parts[f"part-{java_partition(key, reducers):05d}"] += line
    return {**parts, "_SUCCESS": b""}


def store_of(bucket: S3Bucket) -> ObjectStore:
    return open_store(s3_settings(bucket, store_url=bucket.url))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("reducers", [1, 3, 4])
def test_each_reducer_has_a_part_with_the_keys_that_hadoop_gives_it(tmp_path, reducers):
    files = documents(40)
    source = classic.write_files(tmp_path / "in", files)
    done = count_label_hours(str(source), str(tmp_path / "out"), load_settings(), reducers)
    assert files_of(tmp_path / "out") == parts_of(classic.label_hour(files), reducers)
    assert done.keys == len(classic.label_hour(files).splitlines())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_the_parts_of_the_other_jobs(tmp_path):
    source = classic.write_files(tmp_path / "csv", [b"1,car,1\n1,dog,1\n1,Car,1\n1,bus,1\n"])
    total_labels(str(source), str(tmp_path / "totals"), load_settings(), 2)
    assert files_of(tmp_path / "totals") == parts_of(b"BUS\t1\nCAR\t2\nDOG\t1\n", 2)
    copy_lines(str(source), str(tmp_path / "copy"), load_settings(), 2)
    assert files_of(tmp_path / "copy") == parts_of(b"1,Car,1\n1,bus,1\n1,car,1\n1,dog,1\n", 2)


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_a_folder_in_a_bucket_is_written_and_read_again(bucket, tmp_path, scheme):
    files = documents(40)
    source = classic.write_files(tmp_path / "in", files)
    location = f"{scheme}://{bucket.name}/mapreduce-output/object-counts"
    count_label_hours(str(source), f"{location}/", s3_settings(bucket), 3)
    store, prefix = store_of(bucket), "mapreduce-output/object-counts"
    written = {info.key.removeprefix(f"{prefix}/"): store.get(info.key) for info in store.list_objects(prefix)}
    assert written == parts_of(classic.label_hour(files), 3)
    assert read_result(location, 5, s3_settings(bucket)).lines == len(classic.label_hour(files).splitlines())

    total_labels(str(source), f"s3://{bucket.name}/totals", s3_settings(bucket))
    assert sorted(info.key for info in store.list_objects("totals")) == ["totals/_SUCCESS", "totals/part-00000"]


def test_a_folder_that_exists_is_refused_before_anything_is_read(bucket, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigurationError, match="exists"):
        count_label_hours(str(tmp_path), str(tmp_path / "out"), load_settings(), 1)
    assert files_of(tmp_path / "out") == {}
    store_of(bucket).put("out/part-00000", b"old\t1\n")
    with pytest.raises(ConfigurationError, match="exists"):
        count_label_hours(str(tmp_path), f"s3://{bucket.name}/out", s3_settings(bucket))
    assert store_of(bucket).get("out/part-00000") == b"old\t1\n"
    store_of(bucket).put("output/part-00000", b"")
    count_label_hours(str(tmp_path), f"s3://{bucket.name}/outpu", s3_settings(bucket))


def test_stdout_has_no_parts(tmp_path):
    with pytest.raises(UsageError, match="--reducers"):
        count_label_hours(str(tmp_path), "-", load_settings(), 2)


def test_a_job_that_fails_leaves_no_folder(tmp_path):
    source = classic.write_files(tmp_path / "in", [b"x" * 2**25])
    (source / "cut.gz").write_bytes(b"no gzip")
    with pytest.raises(Exception, match=r"cut\.gz"):
        copy_lines(str(source), str(tmp_path / "out"), load_settings(), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_labels_of_documents_are_counted_as_they_are_written(tmp_path):
    """A document needs no time here: only its labels count."""
    files = [
        *documents(30),
        b'{"detections": [{"label": "Car"}, {"label": " Car"}, {"label": 5}, {"label": ""}, 7]}\n{"cut\n{}',
    ]
    expected = Counter(
        found["label"] for data in files[:-1] for found in json.loads(data)["detections"]
    ) + Counter(["Car", " Car"])  # fmt: skip
    source = classic.write_files(tmp_path / "in", files)
    done = total_labels(str(source), str(tmp_path / "out"), load_settings())
    lines = sorted(f"{label}\t{count}\n".encode() for label, count in expected.items())
    assert (tmp_path / "out").read_bytes() == b"".join(lines)
    assert (done.detections, done.labels, done.malformed, done.unlabelled) == (expected.total(), len(lines), 2, 3)
