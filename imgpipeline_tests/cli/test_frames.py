"""Frames are listed by day, source, label and status, the latest first, in three formats."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import CAR, DOG, NEXT_DAY, seen
from imgpipeline_tests.ledger.samples import DAY, dead_letter, write_chain
from imgpipeline_tests.parameter_ids import short_id


def at(offset: int, frame: Frame) -> Frame:
    return replace(frame, timestamp=frame.timestamp.replace(microsecond=0) + timedelta(seconds=offset))


@pytest.fixture
def filled(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
) -> dict[str, str]:
    yard = {"source": "=yard", "source_image_path": "s3://pictures/=SUM(A1).jpg", "size_bytes": 12_345}
    write_chain(
        store_of(folder_site),
        [at(0, seen(0, CAR, DOG, CAR)), at(1, seen(1, CAR)), dead_letter(2)],
        [at(3, seen(3, DOG, **yard)), at(4, seen(4, status=FrameStatus.GATED, gate_reason="dark"))],
        [
            replace(at(0, seen(0, CAR, DOG, CAR)), offset=5),
            at(6, seen(6, CAR, day=NEXT_DAY)),
            at(7, seen(7, day=NEXT_DAY)),
        ],
    )
    return {**folder_site, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.medium
@pytest.mark.parametrize(
    ("options", "files"),
    [
        ([], ["7.jpg", "6.jpg"]),
        (["--day", "2026-01-09"], ["4.jpg", "=SUM(A1).jpg", "1.jpg", "0.jpg"]),
        (["--from", "2026-01-09", "--label", "car"], ["6.jpg", "1.jpg", "0.jpg"]),
        (["--to", "2026-01-09", "--label", "dög"], ["=SUM(A1).jpg", "0.jpg"]),
        (["--day", "2026-01-09", "--status", "gated"], ["4.jpg"]),
        (["--from", "2026-01-09", "--to", "2026-01-10", "--source", "=yard"], ["=SUM(A1).jpg"]),
        (["--from", "2026-01-09", "--limit", "3"], ["7.jpg", "6.jpg", "4.jpg"]),
        (["--day", "2026-01-09", "--source", "it's not there"], []),
        (["--day", "2025-01-09"], []),
        (["--source", "=yard"], ["=SUM(A1).jpg"]),
        (["--status", "gated"], ["4.jpg"]),
        (["--source", "cam-1"], ["7.jpg", "6.jpg"]),
        (["--source", "cam-1", "--status", "gated"], ["4.jpg"]),
        (["--source", "=yard", "--label", "car"], []),
    ],
    ids=lambda value: short_id(" ".join(value), "none"),
)
def test_frames_are_filtered_by_day_source_label_and_status(
    filled: dict[str, str], tmp_path: Path, options: list[str], files: list[str]
):
    ended = run("frames", "list", *options, "--json", env=filled, cwd=tmp_path)
    assert [frame["file"] for frame in ended.json()] == files
    assert ended.status == 0


def test_each_frame_has_its_size_and_detections(filled: dict[str, str], tmp_path: Path):
    *_, first = run("frames", "list", "--day", DAY.isoformat(), "--json", env=filled, cwd=tmp_path).json()
    assert first == {
        "file": "0.jpg",
        "source_image_path": "images/cam-1/0.jpg",
        "source": "cam-1",
        "timestamp": "2026-01-09T12:00:00.000000Z",
        "size_bytes": 1000,
        "status": "processed",
        "frame_id": seen(0).frame_id,
        "detections": {"car": 2, "dög": 1},
    }


def test_the_file_has_the_name_that_its_producer_gave_it(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
):
    given: list[dict[str, object]] = [{"file": "über/Überführung.jpg"}, {"file": ""}, {"file": 7}, {}]
    write_chain(store_of(folder_site), [at(n, seen(n, attributes=said)) for n, said in enumerate(given)])
    rows = run("frames", "list", "--json", env=folder_site, cwd=tmp_path).json()
    assert [row["file"] for row in reversed(rows)] == ["über/Überführung.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert rows[-1]["source_image_path"] == "images/cam-1/0.jpg"


@pytest.mark.medium
def test_frames_are_a_table_with_sizes_in_kb_and_a_note_where_frames_are_left_out(
    filled: dict[str, str], tmp_path: Path
):
    ended = run("frames", "list", "--day", DAY.isoformat(), "--limit", "2", env=filled, cwd=tmp_path)
    row = next(line for line in ended.stdout.splitlines() if "SUM" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("=SUM(A1).jpg", "12.3", "2026-01-09T12:00:03Z", "=yard", "processed", "dög 1"),
    ]
    assert ended.stderr == "Showing the latest 2 of 4 frames (2026-01-09); --limit shows more.\n"


def test_as_csv_without_formulas(filled: dict[str, str], tmp_path: Path):
    ended = run("frames", "list", "--day", DAY.isoformat(), "--csv", env=filled, cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert [row["file"] for row in rows] == ["4.jpg", "'=SUM(A1).jpg", "1.jpg", "0.jpg"]
    assert (rows[1]["size_kb"], rows[1]["source"]) == ("12.345", "'=yard")
    assert (rows[3]["detections"], rows[3]["labels"]) == ("3", "car 2, dög 1")
    assert rows[3]["timestamp"] == "2026-01-09T12:00:00.000000Z"


def test_an_empty_lake_has_no_frames(folder_site: dict[str, str], tmp_path: Path):
    ended = run("frames", "list", env=folder_site, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, "")
    assert ended.stderr == "No frames match (all days); `imgpipeline summary sources` lists the sources.\n"


@pytest.mark.medium
def test_an_unknown_source_points_to_the_list_of_sources(filled: dict[str, str], tmp_path: Path):
    ended = run("frames", "list", "--source", "gate", env=filled, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, "")
    assert "`imgpipeline summary sources` lists the sources" in ended.stderr


@pytest.mark.medium
def test_one_frame_is_shown_with_its_detections(filled: dict[str, str], tmp_path: Path):
    ended = run("frames", "show", "0.jpg", "--day", "2026-01-09", cwd=tmp_path, env=filled)
    shown = ended.json()
    assert (shown["file"], shown["source_kafka_offset"]) == ("0.jpg", 0)
    assert [found["label"] for found in shown["detections"]] == ["car", "dög", "car"]
    again = run("frames", "show", shown["frame_id"], "--day", "2026-01-09", cwd=tmp_path, env=filled)
    assert again.json() == shown
    assert run("frames", "show", "7.jpg", cwd=tmp_path, env=filled).json()["detections"] == []
    missing = run("frames", "show", "' OR 1=1 --", cwd=tmp_path, env=filled)
    assert (missing.status, "2026-01-10 has no frame" in missing.stderr) == (1, True)
