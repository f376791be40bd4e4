"""The replacements of the Hadoop jobs print lines on stdout, and a report on the input on stderr."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from imgpipeline_tests.cli.command import run

DOCUMENT = json.dumps(
    {"processing_timestamp": "2026-01-09T12:34:56.7Z", "detections": [{"label": "car"}, {"label": 5}]}
)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.json").write_text(DOCUMENT)
    (folder / "broken.json").write_text("{")
    return folder


def test_label_hour_to_stdout_and_to_a_file(documents, tmp_path):
    ended = run("mapreduce", "label-hour", "--input", documents, "--output", "-", cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, f"car@2026-01-09 12:00\t3\t[{', '.join(['2026-01-09T12:34:56'] * 3)}]\n")
    assert ended.stderr == "files: 4; documents: 3; detections: 3; keys: 1; malformed: 1; unlabelled: 3\n"
    again = run("mapreduce", "label-hour", "--input", f"{documents}/*.json", "--output", "out", cwd=tmp_path)
    assert (again.status, again.stdout, (tmp_path / "out").read_text()) == (0, "", ended.stdout)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_label_total_of_a_prefix_of_a_bucket(bucket, tmp_path):
    store = bucket.store()
    store.put("day/a.csv", b"timestamp,detected_label,confidence\n2026-01-09T12:00:00, car,0.9\n")
    store.put("day/b.csv", b"2026-01-09T12:00:00,Car ,0.9\ncut")
    arguments = ("--input", f"s3://{bucket.name}/day", "--output", "-")
    ended = run("mapreduce", "label-total", *arguments, env=bucket.environment(), cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, "CAR\t2\n")
    assert "malformed: 1" in ended.stderr


def test_the_labels_of_documents_become_a_folder_in_a_bucket(bucket, documents, tmp_path):
    target = f"s3a://{bucket.name}/mapreduce-output/object-counts"
    arguments = ("mapreduce", "label-total", "--input", documents, "--output", target, "--reducers", "3")
    ended = run(*arguments, env=bucket.environment(), cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, "")
    assert ended.stderr == "files: 4; detections: 3; labels: 1; malformed: 1; unlabelled: 3\n"
    shown = run("mapreduce", "show", target, "--json", env=bucket.environment(), cwd=tmp_path)
    assert shown.json()["top"] == [{"key": "car", "count": 3}]
    again = run(*arguments, env=bucket.environment(), cwd=tmp_path)
    assert again.status == 1
    assert "exists" in again.stderr


def test_identity_reports_the_hash_of_the_copy(documents, tmp_path):
    ended = run("mapreduce", "identity", "--input", documents, "--output", "out", cwd=tmp_path)
    assert (ended.status, (tmp_path / "out").read_text()) == (0, "{\n" + f"{DOCUMENT}\n" * 3)
    copied = sha256((tmp_path / "out").read_bytes()).hexdigest()
    assert ended.stderr == f"files: 4; lines: 4; sha256: {copied}\n"
    to_stdout = run("mapreduce", "identity", "--input", documents, "--output", "-", cwd=tmp_path)
    assert to_stdout.stdout == (tmp_path / "out").read_text()
    assert to_stdout.stderr == ended.stderr


def test_the_ten_largest_counts_of_a_job_are_shown_with_bars(tmp_path):
    (tmp_path / "detections.csv").write_text("".join(f"t,label{n},1\n" * (n + 1) for n in range(12)))
    run("mapreduce", "label-total", "--input", "detections.csv", "--output", "output.txt", cwd=tmp_path)
    ended = run("mapreduce", "show", "output.txt", cwd=tmp_path)
    rows = [line.split("│")[1:4] for line in ended.stdout.splitlines() if "LABEL" in line]
    assert [(key.strip(), count.strip()) for key, count, _ in rows] == [
        (f"LABEL{n}", str(n + 1)) for n in range(11, 1, -1)
    ]
    lengths = [bar.count("█") for _, _, bar in rows]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == 30
    assert "10 of 12 lines; all counts add up to 78." in ended.stderr
    with (tmp_path / "output.txt").open("a") as output:
        output.write("no count\n")
    again = run("mapreduce", "show", "output.txt", cwd=tmp_path)
    assert "Skipped because they are not a key and a count, separated by a tab: 1 line." in again.stderr
    as_json = json.loads(run("mapreduce", "show", "output.txt", "--limit", "1", "--json", cwd=tmp_path).stdout)
    assert as_json == {"lines": 12, "total": 78, "malformed": 1, "top": [{"key": "LABEL11", "count": 12}]}
