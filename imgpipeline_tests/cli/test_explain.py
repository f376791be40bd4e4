"""A number is traced on one page or as one JSON document; unknown days and labels name the known ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import segment_key, summary_key
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.build.summaries import build_summary
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import CAR, DOG, NEXT_DAY, seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, write_chain

HOUR = ("--day", "2026-01-09", "--hour", "12")


@pytest.fixture
def filled(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
) -> dict[str, str]:
    """Three cars in the stored summary and a newer one; one of them is weaker than 0.8."""
    store = store_of(folder_site)
    weak = replace(CAR, confidence=0.75)
    made = write_chain(store, [seen(0, CAR, DOG, weak), seen(1, CAR, source="ya\x1brd")], [seen(2, day=NEXT_DAY)])
    rebuild_day(store, DAY, now=NOON)
    build_summary(store, "label_counts", DAY, settings=Settings(_env_file=None), now=NOON)
    append(made, [seen(3, CAR, replay_of="frames/0/7")], writer_id="the-writer")
    return {**folder_site, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.medium
def test_the_page_explains_the_number(filled: dict[str, str], tmp_path: Path):
    ended = run("explain", "label-counts", *HOUR, "--label", "car", env=filled, cwd=tmp_path)
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


@pytest.mark.medium
def test_the_number_of_one_source_is_explained(filled: dict[str, str], tmp_path: Path):
    """The same goes for its part of the stored number."""
    only = ("--label", "car", "--source", "cam-1")
    ended = run("explain", "label-counts", *HOUR, *only, env=filled, cwd=tmp_path)
    assert ended.stdout.startswith("3 car of cam-1 on 2026-01-09 from 12:00 to 13:00 UTC\n")
    assert "Sources:   cam-1 3\n" in ended.stdout
    assert f"Stored:    2 in {summary_key('label_counts', DAY)}" in ended.stdout


@pytest.mark.medium
def test_hidden_rows_are_counted_in_a_note(filled: dict[str, str], tmp_path: Path):
    ended = run("explain", "label-counts", *HOUR, "--label", "car", "--limit", "1", env=filled, cwd=tmp_path)
    assert ended.stdout.count("frames/0/") == 1
    assert ended.stderr.splitlines() == [
        "Showing the first 1 of 4 detections; --limit shows more, --json all.",
        "Showing the first 1 of 2 segments; --limit shows more, --json all.",
    ]


@pytest.mark.medium
def test_as_json_with_everything(filled: dict[str, str], tmp_path: Path):
    told = run(
        "explain", "label-counts", *HOUR, "--label", "car", "--limit", "1", "--json", env=filled, cwd=tmp_path
    ).json()
    assert (told["count"], told["frames"], told["not_counted"]) == (4, 3, 0)
    assert [found["offset"] for found in told["detections"]] == [0, 0, 1, 3]
    last, writing = told["detections"][-1], told["segments"][-1]
    assert (last["segment"], last["source_image_path"]) == (segment_key(CHAIN, 3), "images/cam-1/3.jpg")
    assert (writing["run_id"], writing["writer_id"], writing["detections"]) == ("run-1", "the-writer", 1)
    assert (told["stored"]["count"], told["stored"]["is_by_present_recipe"]) == (3, True)
    assert told["stored"]["ends"] == [{"topic": CHAIN.topic, "topic_id": CHAIN.topic_id, "partition": 0, "end": 3}]


@pytest.mark.medium
def test_the_threshold_of_summaries_is_taken_into_account(filled: dict[str, str], tmp_path: Path):
    env = {**filled, "IMGPIPELINE_SUMMARY_THRESHOLD": "0.8"}
    ended = run("explain", "label-totals", "--day", "2026-01-09", "--label", "car", env=env, cwd=tmp_path)
    assert ended.stdout.startswith("3 car on 2026-01-09\n")
    assert "Counted:   confidence 0.8 or more (IMGPIPELINE_SUMMARY_THRESHOLD); 1 below it not counted" in ended.stdout
    assert "Stored:    not yet" in ended.stdout
    asked = "SELECT count(*) AS n FROM explain_label_counts(DATE '2026-01-09', 12, 'car') WHERE segment IS NOT NULL"
    assert run("query", asked, "--json", env=env, cwd=tmp_path).json() == [{"n": 3}]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ([*HOUR, "--label", "car", "--source", "cam-9"], 1, "take one of the sources with it: cam-1 3, ya\\x1brd 1"),
        ([*HOUR, "--label", "cat"], 1, "Next: take one of the labels of that time: car 4, dög 1"),
        (
            ["--day", "2026-01-09", "--hour", "3", "--label", "car"],
            1,
            "Next: take one of the hours with detections: 12",
        ),
        (
            ["--day", "2026-01-10", "--hour", "3", "--label", "car"],
            1,
            "Nothing was found on 2026-01-10, in 1 frame.",
        ),
        (["--day", "2026-01-12", "--hour", "3", "--label", "car"], 1, "the ledger knows: 2026-01-09, 2026-01-10"),
        (["--day", "today", "--hour", "3", "--label", "car"], 2, "Error: --day is 'today'."),
        (["--day", "2026-01-09", "--hour", "24", "--label", "car"], 2, "Invalid value for '--hour'"),
        ([*HOUR], 2, "--label"),
    ],
)
def test_an_unknown_day_or_label_names_the_known_ones(
    filled: dict[str, str], tmp_path: Path, options: list[str], status: int, said: str
):
    ended = run("explain", "label-counts", *options, env=filled, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (status, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
