"""The three commands write the output of the real Hadoop Streaming with the classic scripts."""

import json
import random
import sys
from pathlib import Path

import pytest

from imgpipeline.compat.mapreduce.label_hour import count_label_hours
from imgpipeline.compat.mapreduce.line_jobs import copy_lines, total_labels
from imgpipeline.settings import load_settings
from imgpipeline_tests.compat.mapreduce import classic

JOBS = Path(__file__).with_name("jobs")
LABELS = ["car", "Car", "person", "é", "日本", "\U0001f600", "a b", "z@", "", "tab\there", None, 7, '"quoted"', "\\"]

pytestmark = pytest.mark.slow


def script(name: str) -> str:
    return f"{sys.executable} {JOBS / name}.py"


def document(number: int, chance: random.Random) -> dict[str, object]:
    time = (
        f"2026-01-{1 + number % 3:02d}T{chance.randrange(25):02d}:{chance.randrange(60):02d}:{chance.randrange(60):02d}"
    )
    found = [{"label": chance.choice(LABELS), "confidence": chance.random()} for _ in range(chance.randrange(4))]
    return {"processing_timestamp": time + chance.choice(["", ".5", "Z", "+02:00"]), "detections": found, "n": number}


def test_label_hour_prints_what_hadoop_prints(hadoop, tmp_path):
    """Over a file that Hadoop splits among mappers, documents over several lines, and what is malformed."""
    chance = random.Random(1)  # noqa: S311 - the same documents each time
    documents = [document(number, chance) for number in range(1_000)]
    lines = [json.dumps(each, ensure_ascii=bool(n % 2)).encode() for n, each in enumerate(documents)]
    lines[500:500] = [
        b"",
        b"no json",
        b"{",
        b'{"processing_timestamp": "2026-01-01T00:00:00"}',
        b"\xff",
        b"[]",
        lines[7][:40],
    ]
    pretty = [json.dumps(document(number, chance), indent=2).encode() for number in range(3)]
    source = classic.write_files(tmp_path / "in", [*pretty, b"\r\n".join(lines), b"", lines[0]])

    options = {"mapreduce.job.maps": 4}
    ours = tmp_path / "ours"
    done = count_label_hours(str(source), str(ours), load_settings())
    theirs = hadoop.run(
        source, tmp_path / "theirs", script("label_hour_mapper"), script("label_hour_reducer"), options=options
    )

    assert done.malformed > 5
    assert done.detections > 500
    assert classic.times_aside(ours.read_bytes()) == classic.times_aside(theirs)


def test_label_total_prints_what_hadoop_prints(hadoop, tmp_path):
    chance = random.Random(2)  # noqa: S311 - the same lines each time
    labels = ["car", " Car ", "PERSON", "straße", "é", "日本", "a b", "", "tab\there", "\u0131", "x,y", "timestamp"]
    lines = [f"2026-01-09T12:00:{n % 60:02d},{chance.choice(labels)},0.{n}".encode() for n in range(2_000)]
    lines[100:100] = [b"", b"  ", b"1,\xff,1", b"one", b"1,2", b"1,2,3,4", b"timestamp,detected_label,confidence"]
    header = b"timestamp,detected_label,confidence"
    files = [b"\n".join([header, *lines]), b"\r\n".join([header, *lines[:50]]), b"", b"1,cr,1\r1,cr,1"]
    source = classic.write_files(tmp_path / "in", files)

    ours = tmp_path / "ours"
    done = total_labels(str(source), str(ours), load_settings())
    theirs = hadoop.run(source, tmp_path / "theirs", script("label_total_mapper"), script("label_total_reducer"))

    assert done.malformed > 5
    assert ours.read_bytes() == theirs


def test_identity_is_what_hadoop_copies_in_its_order(hadoop, tmp_path):
    """Streaming ends a line that has no tab with one: key, tab, empty value. Nothing else differs."""
    files = [b"b\tx\r\na\n\n  lead\n\xff\xfe\x00\nno end", b"z\ry\n", b"", b"\xef\xbb\xbfmark\n"]
    source = classic.write_files(tmp_path / "in", files)

    ours = tmp_path / "ours"
    copy_lines(str(source), str(ours), load_settings())
    theirs = hadoop.run(source, tmp_path / "theirs", "cat", "cat")

    copied = ours.read_bytes().split(b"\n")[:-1]
    assert len(copied) == 9
    assert [line if b"\t" in line else line + b"\t" for line in copied] == theirs.split(b"\n")[:-1]


def test_each_reducer_of_hadoop_has_the_keys_of_our_part(hadoop, tmp_path):
    """Labels with bytes above 127, whose sign matters, and long enough that the hash overflows."""
    chance = random.Random(4)  # noqa: S311 - the same lines each time
    labels = ["".join(chance.choices("abé日 Z@", k=chance.randrange(1, 40))) for _ in range(200)]
    source = classic.write_files(tmp_path / "in", ["".join(f"1,{label},1\n" for label in labels).encode()])

    total_labels(str(source), str(tmp_path / "ours"), load_settings(), 3)
    options = {"mapreduce.job.reduces": 3}
    mapper, reducer = script("label_total_mapper"), script("label_total_reducer")
    hadoop.run(source, tmp_path / "theirs", mapper, reducer, options=options)

    names = ["_SUCCESS", "part-00000", "part-00001", "part-00002"]
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == names
    for name in names:
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
