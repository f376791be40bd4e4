"""What the commands about tracks say of their build, and which ground truth they accept."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.cli.options import NO_TRACKS
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline_tests.cli.command import Ended, run
from imgpipeline_tests.cli.samples import NEXT_DAY, OpenStore, settings_of
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.ledger.samples import DAY, NOON, append, write_chain
from imgpipeline_tests.tracking.films import Car, film

pytestmark = pytest.mark.medium

AT = datetime(2026, 1, 9, 12, tzinfo=UTC)
END = AT + timedelta(seconds=6)
STORED = ("--source", "gate", "--day", str(DAY))
NEWER = f"The tracks of {DAY} lack newer frames: imgpipeline build --from {DAY} --to {DAY}"
Ask = Callable[..., Ended]


@pytest.fixture
def ask(folder_site: dict[str, str], tmp_path: Path) -> Ask:
    return lambda *words, **env: run(*words, env={**folder_site, **env}, cwd=tmp_path)


@pytest.fixture
def filmed(folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path) -> dict[str, str]:
    """A day with a car of 5 s and a person of 2 s, the truth of the car, and no tracks."""
    store = store_of(folder_site)
    write_chain(store, film(AT, END, [Car(AT, END), Car(AT, AT + timedelta(seconds=3), "person", y=300)], rate=1))
    rebuild_day(store, DAY, now=NOON)
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "gt.txt").write_text("".join(f"{n},7,10,100,80,60,1\n" for n in range(1, 6)))
    return folder_site


@pytest.fixture
def tracked(filmed: dict[str, str], store_of: OpenStore) -> dict[str, str]:
    """The same with tracks, which count objects of three seconds."""
    settings = settings_of(filmed).model_copy(update={"unique_min_s": 3.0})
    build_tracks(store_of(filmed), DAY, settings=settings, now=NOON)
    return filmed


@pytest.mark.usefixtures("filmed")
def test_a_day_without_tracks_has_no_numbers_and_says_how_to_build_them(ask):
    for ended in (ask("tracks", "stats", *STORED, "--csv"), ask("tracks", "list", "--day", str(DAY))):
        assert (ended.status, NO_TRACKS in ended.stderr, "0" in ended.stdout) == (0, True, False)
    ended = ask("tracks", "evaluate", "--truth", "gt/gt.txt", *STORED)
    assert (ended.status, f"gate has no tracks on {DAY}." in ended.stderr) == (1, True), ended.stderr
    assert f"imgpipeline build --day {DAY}" in ended.stderr


@pytest.mark.usefixtures("tracked")
def test_an_unknown_source_has_no_numbers_either(ask):
    ended = ask("tracks", "stats", "--source", "nowhere", "--day", str(DAY))
    assert (ended.status, NO_TRACKS in ended.stderr) == (0, True), ended.stderr


@pytest.mark.usefixtures("tracked")
def test_each_command_names_the_minimum_time_of_the_build(ask):
    for words in (
        ("summary", "objects"), ("tracks", "stats", *STORED), ("tracks", "evaluate", "--truth", "gt/gt.txt", *STORED),
    ):  # fmt: skip
        ended = ask(*words, IMGPIPELINE_UNIQUE_MIN_S="1")
        assert "at least 3 s (IMGPIPELINE_UNIQUE_MIN_S)" in ended.stderr, ended.stderr
        assert NEWER not in ended.stderr
    assert ask("tracks", "stats", *STORED, "--csv").stdout.splitlines()[-1].endswith(",1,0")


def test_each_command_says_that_frames_are_newer_than_the_tracks(ask, tracked, store_of):
    later = film(END, END + timedelta(seconds=3), [Car(END, END + timedelta(seconds=3))], offset=6, rate=1)
    write_chain(store_of(tracked), later)
    for words in (
        ("summary", "objects"), ("summary", "zones"), ("summary", "lines"), ("tracks", "list"),
        ("tracks", "stats", *STORED), ("tracks", "evaluate", "--truth", "gt/gt.txt", *STORED),
    ):  # fmt: skip
        ended = ask(*words)
        assert (ended.status, NEWER in ended.stderr) == (0, True), ended.stderr


def test_several_days_are_said_in_one_line(ask, tracked, store_of):
    store, after = store_of(tracked), timedelta(days=1)
    cars = [Car(AT + after, END + after)]
    chain = write_chain(store, film(AT + after, END + after, cars, offset=6, rate=1))
    rebuild_day(store, NEXT_DAY, now=NOON)
    build_tracks(store, NEXT_DAY, settings=settings_of(tracked), now=NOON)
    for day in (timedelta(), after):
        append(chain, film(END + day, END + day + timedelta(seconds=3), [], offset=12 + 3 * day.days, rate=1))
    said = ask("summary", "objects").stderr
    assert "at least 1 s or 3 s (IMGPIPELINE_UNIQUE_MIN_S)" in said
    assert (
        f"The tracks of {DAY} and 1 more day lack newer frames: imgpipeline build --from {DAY} --to {NEXT_DAY}" in said
    )


@pytest.mark.usefixtures("tracked")
def test_a_folder_is_the_truth_of_a_stored_source_and_the_tracker_is_named(ask):
    ended = ask("tracks", "evaluate", "--truth", ".", *STORED, "--json")
    assert "Tracker: bytetrack (IMGPIPELINE_TRACKER); frames per second: 1." in ended.stderr
    assert [row["true_objects"] for row in ended.json()] == [1, 1]


@pytest.mark.usefixtures("tracked")
def test_a_truth_of_no_frame_of_the_source_is_refused(ask, tmp_path):
    (tmp_path / "gt.txt").write_text("100,7,10,100,80,60,1\n")
    ended = ask("tracks", "evaluate", "--truth", "gt.txt", *STORED)
    said = f"gate has no frames on {DAY} with the numbers 100 to 100 of the ground truth."
    assert (ended.status, said in ended.stderr) == (1, True), ended.stderr


@pytest.mark.usefixtures("tracked")
def test_frames_that_only_the_truth_or_the_source_has_are_named(ask, tmp_path):
    for numbers, said in (
        (range(1, 10), "Not compared: 4 frames of the truth that gate lacks, from 6 on."),
        (range(1, 4), "The truth ends at frame 3: 2 later frames of gate count as without objects."),
    ):
        (tmp_path / "gt.txt").write_text("".join(f"{n},7,10,100,80,60,1\n" for n in numbers))
        ended = ask("tracks", "evaluate", "--truth", "gt.txt", *STORED)
        assert (ended.status, said in ended.stderr) == (0, True), ended.stderr


def test_frames_that_share_a_number_are_refused(ask, tracked, store_of):
    later = film(END, END + timedelta(seconds=1), [], offset=6, rate=1)
    write_chain(store_of(tracked), [replace(each, frame_number=1) for each in later])
    ended = ask("tracks", "evaluate", "--truth", "gt/gt.txt", *STORED)
    assert (ended.status, "several frames with one number" in ended.stderr) == (1, True), ended.stderr


def test_a_sequence_is_tracked_by_the_current_settings_which_are_named(ask, tmp_path):
    rows = "".join(f"{n},1,{10 + n},100,80,60,1\n" for n in range(1, 41))
    (tmp_path / "gt.txt").write_text(rows)
    (tmp_path / "det.txt").write_text(rows)
    ended = ask("tracks", "evaluate", "--truth", ".", IMGPIPELINE_TRACKER="ocsort", IMGPIPELINE_UNIQUE_MIN_S="5")
    assert "Tracker: ocsort (IMGPIPELINE_TRACKER); frames per second: 25." in ended.stderr
    assert "at least 5 s (IMGPIPELINE_UNIQUE_MIN_S)" in ended.stderr
    assert (
        ask("tracks", "evaluate", "--truth", ".", "--json", IMGPIPELINE_UNIQUE_MIN_S="5").json()[0]["unique_error"]
        is None
    )
