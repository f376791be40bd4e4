"""Imports by command with real Kafka and S3: other commands treat them like any chain, and a kill loses nothing."""

import json
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import import_chain, segment_key
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.compat.imports.samples import csv_lines, frames_of, held, write_csv

ROWS = 25_000


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """A CSV file of 50 rows, of which the third is bad."""
    lines = csv_lines(50)
    lines[3] = "2026-01-05T00:00:00Z,car,many"
    return write_csv(tmp_path / "counts.csv", lines)


@pytest.mark.slow
def test_an_import_is_audited_listed_and_explained_like_any_chain(site, counts, tmp_path):
    def command(*arguments: str | Path) -> object:
        ended = run(*arguments, "--json", env=site, cwd=tmp_path)
        assert ended.status == 0, ended.stderr
        return ended.json()

    report = command("import", "detections", counts, "--build")
    assert (report["rows"], report["frames"], report["codes"]) == (50, 49, {"BAD_ROW": 1})
    assert report["days_built"] == len(report["days"]) > 0
    again = run("import", "detections", counts, env=site, cwd=tmp_path)
    assert (again.status, "rows: 50; already there: 50; frames: 0" in again.stderr) == (0, True)

    audit = command("audit", "--full")
    assert audit["ok"] is True
    [chain] = [p for p in audit["partitions"] if p["topic"] == "import.counts"]
    assert (chain["frames"], chain["dead_letters"], chain["log_end"], chain["ledger_end"]) == (49, 1, None, 50)
    assert {day["stale"] for day in audit["days"]} == {False}
    assert all(summary["ok"] for summary in audit["summaries"])

    assert [end["end"] for end in command("ledger", "list", "--topic", "import.counts")] == [50]
    assert {p["topic"] for p in command("status")["partitions"]} == {site["IMGPIPELINE_KAFKA_TOPIC"]}
    [total] = command("query", "SELECT sum(count)::BIGINT AS total FROM label_counts")
    assert total["total"] == 49
    [segment] = command("query", "SELECT frames, dead_letters FROM segments")
    assert segment == {"frames": 49, "dead_letters": 1}


def test_a_dead_letter_of_an_import_is_shown_and_its_replay_is_refused(site, counts, tmp_path):
    assert run("import", "detections", counts, env=site, cwd=tmp_path).status == 0
    [letter] = run("dead-letters", "list", "--json", env=site, cwd=tmp_path).json()
    assert (letter["topic"], letter["offset"], letter["code"]) == ("import.counts", 2, "BAD_ROW")
    shown = run("dead-letters", "show", "import.counts/0/2", env=site, cwd=tmp_path)
    assert shown.status == 0, shown.stderr
    assert "counts.csv:4: confidence: got 'many', expected a number from 0 to 1." in shown.stdout
    assert "2026-01-05T00:00:00Z,car,many" in shown.stdout
    assert "import it under another --name" in shown.stdout
    replay = run("dead-letters", "replay", "--code", "BAD_ROW", "--yes", env=site, cwd=tmp_path)
    assert replay.status == 1
    assert "Nothing to announce again." in replay.stderr
    assert "Rows of imports, which have no record in Kafka: 1." in replay.stderr
    every = run("dead-letters", "replay", "--yes", "--json", env=site, cwd=tmp_path)
    assert (every.status, every.json()["imported"], every.json()["announced"]) == (0, 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["segment put:2", "segment put done:2"])
def test_a_killed_import_is_continued(site, store_of, tmp_path, step):
    path = write_csv(tmp_path / "counts.csv", csv_lines(ROWS))
    killed = run("import", "detections", path, env={**site, "IMGPIPELINE_FAULT_AT": f"{step}=kill"}, cwd=tmp_path)
    assert killed.status == -9
    ended = run("import", "detections", path, "--json", env=site, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert ended.json()["rows"] == ROWS
    assert ended.json()["already_there"] % 10_000 == 0
    frames = frames_of(held(store_of(site), import_chain("counts", "detections")))
    assert len({frame.frame_id for frame in frames}) == len(frames) == ROWS


@pytest.mark.medium
def test_a_damaged_end_of_an_import_is_repaired_by_a_gap_and_the_import_continues(folder_site, store_of, tmp_path):
    lines = csv_lines(90)
    for behind in (31, 61, 91):
        path = write_csv(tmp_path / "counts.csv", lines[:behind])
        assert run("import", "detections", path, env=folder_site, cwd=tmp_path).status == 0
    chain, store = import_chain("counts", "detections"), store_of(folder_site)
    key = segment_key(chain, 60)
    store.put(key, b"bit rot")
    refused = run("ledger", "repair", env=folder_site, cwd=tmp_path)
    assert (refused.status, "is an import" in refused.stderr) == (1, True)
    assert "--without-kafka" in refused.stderr
    mended = run("ledger", "repair", "--without-kafka", "--key", key, env=folder_site, cwd=tmp_path)
    assert mended.status == 0, mended.stderr
    again = run("import", "detections", path, "--json", env=folder_site, cwd=tmp_path)
    assert again.status == 0, again.stderr
    offsets = [frame.offset for frame in frames_of(held(store, chain))]
    assert offsets == [n for n in range(90) if n != 60]


def test_an_import_of_detections_says_that_tracks_need_documents(folder_site, tmp_path):
    path = write_csv(tmp_path / "counts.csv", csv_lines(3))
    for option in ([], ["--json"]):
        ended = run("import", "detections", path, *option, env=folder_site, cwd=tmp_path)
        assert ended.status == 0, ended.stderr
        assert "each row is a separate frame, so no tracker" in ended.stderr
        assert "imgpipeline import metadata" in ended.stderr


MOT = ["1,-1,10,20,40,80,0.9,-1,-1,-1", "", "1,-1,300,20,40,80,0.97,-1,-1,-1", "3,-1,12,20,40,80,-1,-1,-1,-1", ""]


def test_a_file_of_the_mot_challenge_is_imported_by_frame(folder_site, tmp_path):
    (tmp_path / "det.txt").write_text("\n".join(MOT))
    options = ("--format", "mot", "--fps", "25", "--start", "2026-01-09T12:00:00Z", "--name", "walk")
    ended = run("import", "detections", "det.txt", *options, env=folder_site, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert "imgpipeline build --from 2026-01-09 --to 2026-01-09" in ended.stderr
    boxes = "(SELECT count(*) FROM detections AS d WHERE d.frame_id = f.frame_id) AS boxes"
    asked = f'SELECT frame_number, "timestamp", {boxes} FROM frames AS f ORDER BY 1'  # noqa: S608 - own text
    found = run("query", asked, "--json", env=folder_site, cwd=tmp_path).json()
    assert [(row["frame_number"], row["timestamp"][17:26], row["boxes"]) for row in found] == [
        (1, "00.000000", 2), (2, "00.040000", 0), (3, "00.080000", 1),
    ]  # fmt: skip
    asked = "SELECT label, round(confidence, 2) AS c, x, width FROM detections ORDER BY x, c"
    boxes = run("query", asked, "--json", env=folder_site, cwd=tmp_path).json()
    assert [tuple(row.values()) for row in boxes] == [
        ("person", 0.9, 10.0, 40.0), ("person", 1.0, 12.0, 40.0), ("person", 0.97, 300.0, 40.0),
    ]  # fmt: skip
    again = run("import", "detections", "det.txt", *options, env=folder_site, cwd=tmp_path)
    assert "already there: 3; frames: 0" in again.stderr


def test_scores_beyond_confidences_keep_their_order(folder_site, tmp_path):
    (tmp_path / "det.txt").write_text(
        "".join(f"{n},-1,10,20,40,80,{score}\n" for n, score in enumerate((-1, 0.5, 3), 1))
    )
    options = ("--format", "mot", "--fps", "25", "--name", "walk")
    assert run("import", "detections", "det.txt", *options, env=folder_site, cwd=tmp_path).status == 0
    asked = 'SELECT round(confidence, 2) AS c FROM detections ORDER BY "timestamp"'
    found = run("query", asked, "--json", env=folder_site, cwd=tmp_path).json()
    assert [row["c"] for row in found] == [0.27, 0.62, 0.95]


@pytest.mark.parametrize("line", ["0,-1,1,1,5,5,1", "1.5,-1,1,1,5,5,1", "99999999,-1,1,1,5,5,1", "1,-1,1,1,5,0,1"])
def test_a_line_that_is_no_box_of_a_frame_is_named_and_nothing_is_imported(folder_site, tmp_path, line):
    (tmp_path / "det.txt").write_text(f"{MOT[0]}\n{line}\n")
    ended = run("import", "detections", "det.txt", "--format", "mot", "--fps", "25", env=folder_site, cwd=tmp_path)
    assert (ended.status, "det.txt, line 2: expected frame, id" in ended.stderr) == (1, True), ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fps", "25", "--start", "yesterday"), "--start: got 'yesterday', expected a time"),
        (("--fps", "500"), "--fps is 500; expected frames per second, up to 240"),
        ((), "--fps is missing"),
    ],
)
def test_a_frame_rate_that_no_camera_has_is_refused(folder_site, tmp_path, options, said):
    (tmp_path / "det.txt").write_text(MOT[0])
    ended = run("import", "detections", "det.txt", "--format", "mot", *options, env=folder_site, cwd=tmp_path)
    assert (ended.status, said in ended.stderr) == (2, True), ended.stderr


@pytest.mark.medium
def test_stored_tracks_of_an_import_are_compared_with_the_truth(folder_site, tmp_path):
    """Two people walk apart; the truth names them 7 and 9."""
    rows = [(n, who, 100 + way * 4 * n, 50 * who) for n in range(1, 61) for who, way in ((7, 1), (9, -1))]
    (tmp_path / "gt.txt").write_text("".join(f"{n},{who},{x},{y},40,80,1\n" for n, who, x, y in rows))
    (tmp_path / "det.txt").write_text("".join(f"{n},-1,{x},{y},40,80,0.9\n" for n, _, x, y in rows))
    options = ("--format", "mot", "--fps", "25", "--start", "2026-01-09T12:00:00Z", "--name", "walk")
    assert run("import", "detections", "det.txt", *options, env=folder_site, cwd=tmp_path).status == 0
    asked = ("tracks", "evaluate", "--truth", "gt.txt", "--source", "walk", "--day", "2026-01-09", "--json")
    ended = run(*asked, env=folder_site, cwd=tmp_path)
    assert (ended.status, "imgpipeline build --day 2026-01-09" in ended.stderr) == (1, True), ended.stderr
    assert run("build", "--day", "2026-01-09", env=folder_site, cwd=tmp_path).status == 0
    found = run(*asked, env=folder_site, cwd=tmp_path).json()
    assert [(row["tracks"], row["hota"], row["objects"], row["true_objects"]) for row in found] == [
        ("tracks", 1.0, 2, 2), ("objects", 1.0, 2, 2),
    ]  # fmt: skip


def test_documents_are_imported_by_their_folder_s_name(folder_site, tmp_path):
    folder = tmp_path / "old documents"
    folder.mkdir()
    for number in range(3):
        document = {"timestamp": f"2026-01-09T12:00:0{number}Z", "detections": [{"label": "car", "confidence": 0.5}]}
        (folder / f"{number}.json").write_text(json.dumps(document))
    ended = run("import", "metadata", folder, env=folder_site, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert ended.stderr.splitlines()[0] == (
        "topic: import.old-documents; kind: metadata; rows: 3; already there: 0; frames: 3; dead letters: 0; codes: -; "
        "segments: 1; days: 2026-01-09; days built: -"
    )
    assert "nightly_rebuild" in ended.stderr
    assert "no tracker" not in ended.stderr
