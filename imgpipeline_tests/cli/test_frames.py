"""`imgpipeline frames`, `explain` and `images`: frames are listed, numbers traced to them, and old images deleted."""

import csv
import io
import json
import signal
from dataclasses import replace
from datetime import timedelta

import pytest

from imgpipeline.contracts.keys import segment_key, summary_key
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.lake import Lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import CAR, DOG, NEXT_DAY, OpenStore, seen
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, dead_letter, write_chain

pytestmark = pytest.mark.medium


def at(offset: int, frame: Frame) -> Frame:
    return replace(frame, timestamp=frame.timestamp.replace(microsecond=0) + timedelta(seconds=offset))


@pytest.fixture
def filled(folder_site: dict[str, str], store_of: OpenStore) -> dict[str, str]:
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
    return folder_site


def test_frames_are_filtered_by_day_source_and_status(filled, tmp_path):
    def files(*options: str) -> list[str]:
        return [frame["file"] for frame in run("frames", "list", *options, "--json", env=filled, cwd=tmp_path).json()]

    assert files() == ["7.jpg", "6.jpg"]
    assert files("--day", "2026-01-09", "--status", "gated") == ["4.jpg"]
    assert files("--from", "2026-01-09", "--to", "2026-01-10", "--source", "=yard") == ["=SUM(A1).jpg"]


def test_the_file_has_the_name_that_its_producer_gave_it(folder_site, store_of, tmp_path):
    given: list[dict[str, object]] = [{"file": "über/Überführung.jpg"}, {"file": ""}, {"file": 7}, {}]
    write_chain(store_of(folder_site), [at(n, seen(n, attributes=said)) for n, said in enumerate(given)])
    rows = run("frames", "list", "--json", env=folder_site, cwd=tmp_path).json()
    assert [row["file"] for row in reversed(rows)] == ["über/Überführung.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert rows[-1]["source_image_path"] == "images/cam-1/0.jpg"


def test_frames_are_json_csv_without_formulas_or_a_table_with_sizes_in_kb(filled, tmp_path):
    asked = ("frames", "list", "--day", DAY.isoformat())
    *_, first = run(*asked, "--json", env=filled, cwd=tmp_path).json()
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
    rows = list(csv.DictReader(io.StringIO(run(*asked, "--csv", env=filled, cwd=tmp_path).stdout)))
    assert [row["file"] for row in rows] == ["4.jpg", "'=SUM(A1).jpg", "1.jpg", "0.jpg"]
    assert (rows[1]["size_bytes"], rows[1]["source"]) == ("12345", "'=yard")
    assert json.loads(rows[3]["detections"]) == {"car": 2, "dög": 1}
    ended = run(*asked, "--limit", "2", env=filled, cwd=tmp_path)
    row = next(line for line in ended.stdout.splitlines() if "SUM" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("=SUM(A1).jpg", "12.35 kB", "2026-01-09T12:00:03Z", "=yard", "processed", "dög 1"),
    ]
    assert ended.stderr == "Showing the latest 2 of 4 frames (2026-01-09); --limit shows more.\n"


def test_an_empty_lake_has_no_frames(folder_site, tmp_path):
    ended = run("frames", "list", env=folder_site, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, "")
    assert ended.stderr == "No frames match (all days); `imgpipeline summary sources` lists the sources.\n"


def test_one_frame_is_shown_with_its_detections(filled, tmp_path):
    ended = run("frames", "show", "0.jpg", "--day", "2026-01-09", cwd=tmp_path, env=filled)
    shown = ended.json()
    assert (shown["file"], shown["source_kafka_offset"]) == ("0.jpg", 0)
    assert [found["label"] for found in shown["detections"]] == ["car", "dög", "car"]
    again = run("frames", "show", shown["frame_id"], "--day", "2026-01-09", cwd=tmp_path, env=filled)
    assert again.json() == shown
    assert run("frames", "show", "7.jpg", cwd=tmp_path, env=filled).json()["detections"] == []
    missing = run("frames", "show", "' OR 1=1 --", cwd=tmp_path, env=filled)
    assert (missing.status, "2026-01-10 has no frame" in missing.stderr) == (1, True)


HOUR = ("--day", "2026-01-09", "--hour", "12")


@pytest.fixture
def traced(folder_site: dict[str, str], store_of: OpenStore) -> dict[str, str]:
    """Three cars in the stored summary and a newer one; one of them is weaker than 0.8."""
    store = store_of(folder_site)
    weak = replace(CAR, confidence=0.75)
    made = write_chain(store, [seen(0, CAR, DOG, weak), seen(1, CAR, source="ya\x1brd")], [seen(2, day=NEXT_DAY)])
    rebuild_day(store, DAY, now=NOON)
    build_summary(store, "label_counts", DAY, settings=Settings(_env_file=None), now=NOON)
    append(made, [seen(3, CAR, replay_of="frames/0/7")], writer_id="the-writer")
    return folder_site


def test_the_page_explains_the_number(traced, tmp_path):
    ended = run("explain", *HOUR, "--label", "car", env=traced, cwd=tmp_path)
    assert ended.status == 0
    assert ended.stdout.split("\n┏")[0].splitlines() == [
        "4 car on 2026-01-09 from 12:00 to 13:00 UTC",
        "",
        "Adds up:   4 detections in 3 frames, each confirmed by its segment (2 segments)",
        "Sources:   cam-1 3, ya\\x1brd 1",
        f"Model:     demo, sha256 {'ab' * 8}, confidence above 0.5: 4 detections",
        f"Stored:    3 in {summary_key('label_counts', DAY)} (the number above includes newer frames)",
        *(line for line in ended.stdout.splitlines() if "built 2026-01-09T12:00:00Z by recipe" in line),
    ]
    assert "frames/0 up to 3" in ended.stdout
    assert "frames/0/3 (replay of frames/0/7)" in ended.stdout
    assert segment_key(CHAIN, 3) in ended.stdout
    assert ended.stderr == ""
    ended = run("explain", *HOUR, "--label", "car", "--limit", "1", env=traced, cwd=tmp_path)
    assert ended.stdout.count("frames/0/") == 1
    assert ended.stderr.splitlines() == [
        "Showing the first 1 of 4 detections; --limit shows more, --json all.",
        "Showing the first 1 of 2 segments; --limit shows more, --json all.",
    ]


AT_ONCE = {"IMGPIPELINE_KEEP_IMAGES_DAYS": "0.000000001"}
EXPLAIN = ("explain", "--day", str(DAY), "--label", "car")


def store_images(store: ObjectStore, sources: int = 1) -> list[str]:
    keys = [f"images/cam-{n}/{DAY}/a.jpg" for n in range(sources)]
    for key in keys:
        store.put(key, b"0123456789")
    write_chain(store, [seen(n, CAR, source_image_path=key, source=f"cam-{n}") for n, key in enumerate(keys)])
    return keys


def kept(store: ObjectStore) -> list[str]:
    return [info.key for info in store.list_objects("images")]


def test_old_images_are_deleted_after_a_dry_run_and_frames_say_so(folder_site, store_of, tmp_path):
    store = store_of(folder_site)
    keys = store_images(store)
    env = folder_site | AT_ONCE
    assert run("images", "retain", env=folder_site, cwd=tmp_path).status == 2
    planned = run("images", "retain", "--dry-run", env=env, cwd=tmp_path)
    assert "Would delete 1 image" in planned.stderr
    assert kept(store) == keys
    ended = run("images", "retain", "--json", env=env, cwd=tmp_path)
    told = ended.json()
    [deleted] = told.pop("deleted")
    assert told == {"dry_run": False, "images": 1, "size_bytes": 10, "left": 0, "is_complete": True}
    assert (deleted["source"], deleted["day"], deleted["images"], deleted["size_bytes"]) == ("cam-0", str(DAY), 1, 10)
    assert kept(store) == []
    explained = run(*EXPLAIN, env=folder_site, cwd=tmp_path)
    assert explained.status == 0
    assert f"Image retention deleted 1 image of cam-0 of {DAY}" in explained.stderr
    (record,) = run(*EXPLAIN, "--json", env=folder_site, cwd=tmp_path).json()["deleted_images"]
    assert (record["source"], record["images"]) == ("cam-0", 1)
    lake = Lake.open(folder_site["IMGPIPELINE_STORE_URL"])
    with pytest.raises(PermanentError, match="Image deleted on"):
        lake.image(DAY, replace(seen(0, CAR, source="cam-0")).frame_id)


@pytest.mark.parametrize("step", ["delete images", "delete images done"], ids=["before", "after"])
def test_a_run_that_was_killed_is_continued_by_the_next(folder_site, store_of, tmp_path, step):
    store = store_of(folder_site)
    store_images(store, sources=3)
    killed = run(
        "images", "retain", env=folder_site | AT_ONCE | {"IMGPIPELINE_FAULT_AT": f"{step}:2=kill"}, cwd=tmp_path
    )
    assert killed.status == -signal.SIGKILL
    assert len(kept(store)) in (1, 2)
    assert run("images", "retain", env=folder_site | AT_ONCE, cwd=tmp_path).status == 0
    assert kept(store) == []
