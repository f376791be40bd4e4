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
    assert "tracks" not in ended.stderr
