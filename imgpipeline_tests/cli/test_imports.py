"""Imports by command with real Kafka and S3: other commands treat them like any chain, and a kill loses nothing."""

import json
import re
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import import_chain, segment_key
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.compat.imports.samples import csv_lines, frames_of, held, write_csv

ROWS = 25_000
REPOSITORY = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize(
    "line", ["0,-1,1,1,5,5,1", "1.5,-1,1,1,5,5,1", "99999999,-1,1,1,5,5,1", "1,-1,1,1,5,0,1", "1,-1,1e9,1,5,5,1"]
)
def test_a_line_that_is_no_box_of_a_frame_is_named_and_nothing_is_imported(folder_site, tmp_path, line):
    (tmp_path / "det.txt").write_text(f"{MOT[0]}\n{line}\n")
    ended = run("import", "detections", "det.txt", "--format", "mot", "--fps", "25", env=folder_site, cwd=tmp_path)
    assert (ended.status, "det.txt, line 2: expected frame, id" in ended.stderr) == (1, True), ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fps", "25", "--start", "yesterday"), "--start: got 'yesterday', expected a time"),
        (("--fps", "500"), "--fps is 500; expected frames per second, up to 240"),
        (("--fps", "240.0001"), "--fps is 240.0001; expected"),
        (("--fps", "25", "--start", "9999-12-31T23:59:59Z"), "--start is 9999-12-31T23:59:59Z; frames have times from"),
        (("--fps", "25", "--start", "1990-01-01"), "--start is 1990-01-01; frames have times from"),
        ((), "--fps is missing, and no seqinfo.ini of the sequence has it"),
        (("--fps", "25", "--size", "big"), "--size: got 'big', expected a size such as 640x360"),
        (("--fps", "25", "--label", " "), "--label: got"),
    ],
)
def test_a_wrong_option_of_a_sequence_is_refused(folder_site, tmp_path, options, said):
    (tmp_path / "det.txt").write_text(MOT[0])
    ended = run("import", "detections", "det.txt", "--format", "mot", *options, env=folder_site, cwd=tmp_path)
    assert (ended.status, said in ended.stderr) == (2, True), ended.stderr


def write_walk(folder: Path, *, name: str = "", info: str = "") -> Path:
    """Write a MOT sequence of 60 frames in which a person walks 4 pixels per frame to the right."""
    rows = [f"{n},-1,{100 + 4 * n},50,40,80,0.9" for n in range(1, 61)]
    (folder / "det").mkdir(parents=True)
    (folder / "det" / "det.txt").write_text("\n".join(rows))
    if name or info:
        (folder / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\n{info}")
    return folder / "det" / "det.txt"


SIZES = "SELECT DISTINCT source, image_width, image_height FROM frames"
INFO = "imWidth=640\nimHeight=480\nframeRate=10\n"


def test_rate_size_and_name_of_a_sequence_come_from_its_seqinfo(folder_site, tmp_path):
    file = write_walk(tmp_path / "MOT17-02-SDP", name="MOT17-02", info=INFO)
    report = run("import", "detections", file, "--format", "mot", "--json", env=folder_site, cwd=tmp_path).json()
    assert report["topic"] == "import.MOT17-02"
    assert run("query", SIZES, "--json", env=folder_site, cwd=tmp_path).json() == [
        {"source": "MOT17-02", "image_width": 640, "image_height": 480}
    ]
    asked = 'SELECT date_diff(\'ms\', min("timestamp"), max("timestamp")) AS ms FROM frames'
    assert run("query", asked, "--json", env=folder_site, cwd=tmp_path).json() == [{"ms": 5900}]


def test_options_win_over_the_seqinfo(folder_site, tmp_path):
    file = write_walk(tmp_path / "street", name="other", info=INFO)
    options = ("--format", "mot", "--fps", "20", "--size", "320x240", "--name", "mine", "--json")
    assert run("import", "detections", file, *options, env=folder_site, cwd=tmp_path).json()["topic"] == "import.mine"
    assert run("query", SIZES, "--json", env=folder_site, cwd=tmp_path).json() == [
        {"source": "mine", "image_width": 320, "image_height": 240}
    ]


@pytest.mark.parametrize("named", ["street/det/det.txt", "det.txt"])
def test_a_sequence_without_seqinfo_is_named_by_its_folder(folder_site, tmp_path, named):
    write_walk(tmp_path / "street")
    cwd = tmp_path if "/" in named else tmp_path / "street" / "det"
    ended = run("import", "detections", named, "--format", "mot", "--fps", "25", env=folder_site, cwd=cwd)
    assert ended.status == 0, ended.stderr
    assert "topic: import.street; kind: detections; frames in the file: 60; already there: 0;" in ended.stderr


RULES = (
    '[[zone]]\nname = "left"\nsource = "street"\npoints = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]\n'
    '[[line]]\nname = "door"\nsource = "street"\npoints = [[0.3, 0], [0.3, 1]]\nforward = "in"\nbackward = "out"\n'
)


@pytest.fixture
def ruled_site(folder_site: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a site with a zone and a line of the source `street`."""
    (tmp_path / "rules.toml").write_text(RULES)
    return {**folder_site, "IMGPIPELINE_RULES_FILE": str(tmp_path / "rules.toml")}


@pytest.mark.slow
@pytest.mark.medium
def test_build_builds_tracks_zones_and_lines_of_an_import(ruled_site, tmp_path):
    file = write_walk(tmp_path / "street")
    options = ("--format", "mot", "--fps", "25", "--size", "640x480", "--build")
    ended = run("import", "detections", file, *options, env=ruled_site, cwd=tmp_path)
    assert (ended.status, "count nothing" in ended.stderr) == (0, False), ended.stderr
    for table in ("objects", "zones", "lines"):
        (row,) = run("summary", table, "--json", env=ruled_site, cwd=tmp_path).json()
        assert row["source"] == "street"


@pytest.mark.slow
@pytest.mark.medium
def test_zones_and_lines_say_that_frames_without_a_size_count_nothing(ruled_site, tmp_path):
    file = write_walk(tmp_path / "street")
    options = ("--format", "mot", "--fps", "25", "--build")
    ended = run("import", "detections", file, *options, env=ruled_site, cwd=tmp_path)
    assert "Zones and lines count nothing of this import: the size of its images is not known" in ended.stderr
    assert "--size" in ended.stderr
    for table in ("zones", "lines"):
        said = run("summary", table, "--source", "street", env=ruled_site, cwd=tmp_path).stderr
        assert "the size of the images, which is not known for 60 frames of these days" in said
        assert "how to set up" not in said
        other = run("summary", table, "--source", "other", env=ruled_site, cwd=tmp_path).stderr
        assert "counted when a day is built" in other


@pytest.mark.slow
def test_frames_that_another_import_has_under_the_same_source_are_counted_and_named(folder_site, tmp_path):
    file = write_walk(tmp_path / "street")
    options = ("--format", "mot", "--fps", "25", "--source", "cam", "--build")
    first = run("import", "detections", file, *options, "--name", "first", env=folder_site, cwd=tmp_path)
    assert "came again" not in first.stderr
    second = run("import", "detections", file, *options, "--name", "second", env=folder_site, cwd=tmp_path)
    assert "60 frames came again with the same source, time and number, and count once" in second.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fps", "25", "--label", "car"), "Only for --format mot: --fps, --label."),
        (("--size", "640x480"), "Only for --format mot: --size."),
        (("--format", "mot", "--fps", "25", "--delimiter", ";"), "Only for --format csv: --delimiter."),
    ],
)
def test_options_of_the_other_format_are_refused(folder_site, tmp_path, options, said):
    write_csv(tmp_path / "counts.csv", csv_lines(3))
    ended = run("import", "detections", "counts.csv", *options, env=folder_site, cwd=tmp_path)
    assert (ended.status, said in ended.stderr) == (2, True), ended.stderr


def test_a_mot_file_that_is_imported_as_csv_names_its_format(folder_site, tmp_path):
    (tmp_path / "det.txt").write_text("\n".join(MOT))
    ended = run("import", "detections", "det.txt", env=folder_site, cwd=tmp_path)
    assert (ended.status, "--format mot" in ended.stderr) == (2, True), ended.stderr


@pytest.mark.parametrize(
    "other", [("--fps", "10"), ("--start", "2026-01-10"), ("--label", "car"), ("--size", "640x480")]
)
def test_a_sequence_imported_again_with_other_options_names_them(folder_site, tmp_path, other):
    (tmp_path / "det.txt").write_text(MOT[0])
    command = ("import", "detections", "det.txt", "--name", "walk", "--format", "mot", "--fps", "25")
    assert run(*command, env=folder_site, cwd=tmp_path).status == 0
    again = run(*command, *other, env=folder_site, cwd=tmp_path)
    assert again.status == 1
    assert "import.walk was imported with different options" in again.stderr
    assert other[0] in again.stderr
    assert "give the options of the first import" in again.stderr


def test_a_changed_file_is_said_to_have_changed(folder_site, tmp_path):
    command = ("import", "detections", "det.txt", "--name", "walk", "--format", "mot", "--fps", "25")
    for text in (MOT[0], MOT[2]):
        (tmp_path / "det.txt").write_text(text)
        ended = run(*command, env=folder_site, cwd=tmp_path)
    assert (ended.status, "The input has changed since it was imported, or is another one." in ended.stderr) == (
        1,
        True,
    )


def test_a_mot_file_without_a_box_is_refused(folder_site, tmp_path):
    (tmp_path / "det.txt").write_text("\n")
    ended = run("import", "detections", "det.txt", "--format", "mot", "--fps", "25", env=folder_site, cwd=tmp_path)
    assert (ended.status, "det.txt has no box" in ended.stderr) == (1, True), ended.stderr


def test_the_help_of_detections_says_which_options_belong_to_which_format(tmp_path):
    said = " ".join(run("import", "detections", "--help", cwd=tmp_path).stdout.split())
    csv, mot = said.index("With --format csv"), said.index("With --format mot")
    assert csv < said.index("--delimiter") < mot < said.index("--fps")
    assert "2000-01-01" in said


@pytest.mark.data
@pytest.mark.slow
def test_the_commands_of_the_docs_import_track_and_compare_a_sequence(folder_site, tmp_path, shared_data):
    (tmp_path / "mot").symlink_to(shared_data / "mot")
    pages = [(REPOSITORY / "docs" / name).read_text() for name in ("imports.md", "tracking.md")]
    first, compare = re.findall(r"^\$ imgpipeline (.* mot/TUD-Campus/.*)$", pages[0], re.MULTILINE)
    said = run(*first.split(), env=folder_site, cwd=tmp_path).stderr
    assert said.splitlines()[0] in pages[0]
    found = run(*compare.split(), "--json", env=folder_site, cwd=tmp_path).json()
    assert [row["true_objects"] for row in found] == [5, 5]
    (other,) = re.findall(r"`imgpipeline (import detections mot/.*)`", pages[1])
    site = {"IMGPIPELINE_STORE_URL": (tmp_path / "other").as_uri()}
    assert run(*other.split(), env=site, cwd=tmp_path).status == 0
    tracked = run("summary", "objects", "--day", "2000-01-01", "--json", env=site, cwd=tmp_path).json()
    assert {row["source"] for row in tracked} == {"TUD-Campus"}


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
