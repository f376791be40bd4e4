"""`imgpipeline accuracy`: a plan, its status, and what answers say, as users call them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.accuracy.answers import Answer, keep_answer
from imgpipeline.accuracy.plans import read_plan
from imgpipeline.contracts.outcomes import Frame, FrameStatus, make_frame_id
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import Ended, run
from imgpipeline_tests.cli.samples import CAR, DOG, OpenStore, seen
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.events.samples import STOP
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, write_chain, writer
from imgpipeline_tests.tracking.films import Car, film

pytestmark = pytest.mark.slow

NIGHT = datetime(2026, 1, 10, 1, tzinfo=UTC)


def made(offset: int, source: str = "cam-1") -> Frame:
    """Return a frame with one car, and each third one with a second car or a dog."""
    time = datetime(DAY.year, DAY.month, DAY.day, 9, tzinfo=UTC) + timedelta(seconds=offset)
    found = (CAR, *((CAR, DOG)[offset % 2 : offset % 2 + 1] if offset % 3 == 0 else ()))
    plain = seen(offset, *found, source=source, timestamp=time)
    return replace(plain, frame_id=make_frame_id(source, time, offset))


GATED = replace(made(100), status=FrameStatus.GATED, gate_reason="dark", detections=())


@pytest.fixture
def store(folder_site: dict[str, str], store_of: OpenStore) -> ObjectStore:
    """A store with a hundred frames of cam-1, one gated frame and one dead letter, and a frame of yard."""
    opened = store_of(folder_site)
    write_chain(opened, [*map(made, range(100)), GATED, dead_letter(101), made(102, "yard")])
    return opened


def accuracy(*arguments: str, site: dict[str, str], at: Path, status: int = 0) -> Ended:
    """Run a command of the group, and check its status."""
    ended = run("accuracy", *arguments, env=site, cwd=at)
    assert ended.status == status, ended.stderr
    return ended


def answer_all(store: ObjectStore, frames: Iterable[Frame], extra: int = 0) -> None:
    """Count one object more than the model on each third frame."""
    plan = read_plan(store, DAY, "cam-1")
    assert plan
    by_id = {frame.frame_id: frame for frame in frames}
    for frame_id in plan.samples:
        frame = by_id[frame_id]
        cars = sum(found.label == "car" for found in frame.detections) + (frame.offset % 3 == 1)
        counts = {"car": cars + extra, "dög": sum(found.label == "dög" for found in frame.detections)}
        keep_answer(store, Answer(DAY, "cam-1", frame_id, "ada", NOON, counts))


def test_a_plan_tells_its_frames_and_what_is_outside(store, folder_site, tmp_path):
    ended = accuracy(
        "plan", "--day", str(DAY), "--source", "cam-1", "--samples", "50", "--json", site=folder_site, at=tmp_path
    )
    (row,) = ended.json()
    assert row == {
        "day": str(DAY), "source": "cam-1", "labels": ["car", "dög"], "frames": 100, "samples": 50, "answered": 0,
        "left": 50, "not_covered": 0, "gone": 0, "came_back": 0, "gated": 1, "dead_letters": 1,
    }  # fmt: skip
    assert "car: an interval of ±10% needs about 100 samples." in ended.stderr
    assert f"on the page /count/{DAY}?source=cam-1 of `imgpipeline serve`" in ended.stderr


def test_the_address_of_the_page_is_that_of_the_viewer(store, folder_site, tmp_path):
    site = folder_site | {"IMGPIPELINE_VIEWER_URL": "https://viewer.example"}
    ended = accuracy("plan", "--day", str(DAY), "--source", "cam-1", site=site, at=tmp_path)
    assert f"https://viewer.example/count/{DAY}?source=cam-1" in ended.stderr


def test_without_a_source_each_source_gets_a_plan(store, folder_site, tmp_path):
    found = accuracy("plan", "--day", str(DAY), "--label", "car", "--json", site=folder_site, at=tmp_path).json()
    assert [(row["source"], row["labels"], row["samples"]) for row in found] == [
        ("cam-1", ["car"], 100),
        ("yard", ["car"], 1),
    ]


def test_a_second_plan_changes_nothing_until_it_is_extended(store, folder_site, tmp_path):
    asked = ("plan", "--day", str(DAY), "--source", "cam-1", "--samples", "40")
    accuracy(*asked, site=folder_site, at=tmp_path)
    again = accuracy(*asked, "--json", site=folder_site, at=tmp_path)
    assert again.json()[0]["samples"] == 40
    assert f"cam-1 has a plan of {DAY} already. --extend draws more frames." in again.stderr
    (extended,) = accuracy(*asked, "--extend", "--json", site=folder_site, at=tmp_path).json()
    assert extended["samples"] == 80


def test_a_status_shows_the_answers_and_the_frames_that_came_later(store, folder_site, tmp_path):
    accuracy("plan", "--day", str(DAY), "--source", "cam-1", "--samples", "50", site=folder_site, at=tmp_path)
    answer_all(store, map(made, range(100)))
    append(writer(store), [made(offset) for offset in range(103, 110)])
    (row,) = accuracy("status", "--json", site=folder_site, at=tmp_path).json()
    assert (row["frames"], row["samples"], row["answered"], row["left"], row["not_covered"]) == (107, 50, 50, 0, 7)
    assert accuracy("status", "--source", "yard", "--json", site=folder_site, at=tmp_path).json() == []


def test_show_prints_estimates_with_intervals(store, folder_site, tmp_path):
    accuracy("plan", "--day", str(DAY), "--source", "cam-1", "--samples", "50", site=folder_site, at=tmp_path)
    answer_all(store, map(made, range(100)))
    ended = accuracy("show", "--day", str(DAY), "--json", site=folder_site, at=tmp_path)
    car, dog = ended.json()
    assert (car["label"], car["part"], car["count"], car["verdict"]) == ("car", "day", 117, "measured")
    assert car["low"] < 117 + 33 < car["high"]
    assert (dog["verdict"], dog["low"], dog["count"]) == ("not_enough", None, 17)
    assert (
        f"{DAY} cam-1, dög: too few answers for an interval: 0 of 10 with an error, or 50 of 240 in all."
        in ended.stderr
    )
    table = accuracy("show", "--day", str(DAY), site=folder_site, at=tmp_path).stdout
    assert "errors seen" in table
    assert "not_enough" in table


def test_show_names_the_command_that_covers_newer_frames(store, folder_site, tmp_path):
    accuracy("plan", "--day", str(DAY), "--source", "cam-1", "--samples", "50", site=folder_site, at=tmp_path)
    append(writer(store), [made(offset) for offset in range(103, 110)])
    ended = accuracy("show", site=folder_site, at=tmp_path)
    assert f"imgpipeline accuracy plan --day {DAY} --source cam-1 --extend" in ended.stderr
    accuracy("plan", "--day", str(DAY), "--source", "cam-1", "--extend", site=folder_site, at=tmp_path)
    (row,) = accuracy("status", "--json", site=folder_site, at=tmp_path).json()
    assert (row["samples"], row["not_covered"]) == (57, 0)


def test_without_plans_the_commands_say_how_to_make_one(store, folder_site, tmp_path):
    for command in ("status", "show"):
        assert "Make one: imgpipeline accuracy plan" in accuracy(command, site=folder_site, at=tmp_path).stderr


def test_a_source_without_frames_gets_no_plan(store, folder_site, tmp_path):
    ended = accuracy("plan", "--day", str(DAY), "--source", "gate", site=folder_site, at=tmp_path, status=2)
    assert "gate has no processed frames on 2026-01-09." in ended.stderr


def test_more_samples_are_asked_for_by_the_errors_seen(store, folder_site, tmp_path):
    asked = ("plan", "--day", str(DAY), "--source", "cam-1", "--samples", "50")
    accuracy(*asked, site=folder_site, at=tmp_path)
    answer_all(store, map(made, range(100)))
    assert "±100% needs about" in accuracy(*asked, "--width", "100%", site=folder_site, at=tmp_path).stderr
    for width in ("0", "ten", "-5%", "101%"):
        ended = accuracy(*asked, f"--width={width}", site=folder_site, at=tmp_path, status=2)
        assert f"Got the share '{width}'" in ended.stderr


def counted_day(store: ObjectStore, site: dict[str, str], at: Path) -> None:
    """Count all but ten of the frames, on which people see 33 cars more than the model."""
    accuracy("plan", "--day", str(DAY), "--source", "cam-1", "--samples", "90", site=site, at=at)
    answer_all(store, map(made, range(100)))


def test_a_count_is_accepted_if_its_error_is_within_the_margin(store, folder_site, tmp_path):
    counted_day(store, folder_site, tmp_path)
    asked = ("accept", "--label", "car", "--margin", "60%")
    (row,) = accuracy(*asked, "--json", site=folder_site, at=tmp_path).json()
    assert (row["source"], row["days"], row["count"], row["margin"], row["accepted"]) == ("cam-1", 1, 117, 0.6, True)
    assert row["low"] < 117 / 150 - 1 < row["high"]
    assert row["sentence"].startswith(
        f"car, cam-1, {DAY}: The systematic error of the count is within ±60.0%: the detector counted 117,"
    )
    assert row["sentence"] in accuracy(*asked, site=folder_site, at=tmp_path).stderr


def test_a_count_beyond_the_margin_of_the_setting_fails_the_command(store, folder_site, tmp_path):
    counted_day(store, folder_site, tmp_path)
    ended = accuracy("accept", "--label", "car", "--day", str(DAY), "--json", site=folder_site, at=tmp_path, status=1)
    (row,) = ended.json()
    assert (row["margin"], row["accepted"]) == (0.05, False)
    assert "is not shown to be within ±5.0%" in row["sentence"]
    wide = folder_site | {"IMGPIPELINE_ACCURACY_MARGIN": "0.6"}
    accuracy("accept", "--label", "car", site=wide, at=tmp_path)


def test_too_few_answers_are_not_accepted_at_any_source_or_in_total(store, folder_site, tmp_path):
    accuracy("plan", "--day", str(DAY), "--label", "car", site=folder_site, at=tmp_path)
    ended = accuracy("accept", "--label", "car", "--json", site=folder_site, at=tmp_path, status=1)
    assert [(row["source"], row["count"], row["accepted"]) for row in ended.json()] == [
        ("cam-1", 117, False),
        ("yard", 2, False),
        (None, 119, False),
    ]
    assert "all sources with a plan" in ended.json()[2]["sentence"]
    assert "No statement about a margin of 5.0% is possible" in ended.json()[2]["sentence"]


def test_acceptance_names_the_command_that_covers_newer_frames(store, folder_site, tmp_path):
    counted_day(store, folder_site, tmp_path)
    append(writer(store), [made(offset) for offset in range(103, 110)])
    ended = accuracy("accept", "--label", "car", site=folder_site, at=tmp_path, status=1)
    assert f"imgpipeline accuracy plan --day {DAY} --source cam-1 --extend" in ended.stderr


def test_a_label_without_a_plan_is_not_judged(store, folder_site, tmp_path):
    for wanted in ("car", "tram"):
        ended = accuracy("accept", "--label", wanted, site=folder_site, at=tmp_path, status=1)
        assert f"No plan of these days and sources counts {wanted}." in ended.stderr


@pytest.fixture
def lined(folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path) -> dict[str, str]:
    """A site with 20 minutes in which two cars cross the line `stop` backwards."""
    rules = tmp_path / "rules.toml"
    rules.write_text(STOP)
    start = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)
    end, opened = start + timedelta(minutes=20), store_of(folder_site)
    write_chain(opened, film(start, end, [Car(start, end), Car(start + timedelta(minutes=2), end, y=200)]))
    rebuild_day(opened, DAY, now=NIGHT)
    build_tracks(opened, DAY, settings=Settings(_env_file=None), now=NIGHT)
    return folder_site | {"IMGPIPELINE_RULES_FILE": str(rules)}


PLAN_OF_LINE = ("plan", "--day", str(DAY), "--line", "stop")


def test_people_count_the_crossings_of_a_line_in_slices_of_two_minutes(lined, store_of, tmp_path):
    ended = accuracy(*PLAN_OF_LINE, "--json", site=lined, at=tmp_path)
    labels = ["stop: car forward", "stop: car out"]
    (row,) = ended.json()
    assert (row["labels"], row["frames"], row["samples"], row["left"]) == (labels, 10, 10, 10)
    assert f"/count/{DAY}?source=gate&line=stop" in ended.stderr
    assert "needs about" not in ended.stderr
    opened = store_of(lined)
    plan = read_plan(opened, DAY, "gate", "stop")
    assert plan
    assert min(plan.samples) == "20260109T120000Z"
    assert read_plan(opened, DAY, "gate") is None
    for sample in plan.samples:
        crossed = {"20260109T121600Z": 1, "20260109T121800Z": 2}.get(sample, 0)
        keep_answer(opened, Answer(DAY, "gate", sample, "ann", NOON, {labels[0]: 0, labels[1]: crossed}, line="stop"))
    found = {row["label"]: row for row in accuracy("show", "--json", site=lined, at=tmp_path).json()}
    assert [found[label]["estimate"] for label in labels] == [0, 3]
    assert [found[label]["count"] for label in labels] == [0, 2]
    assert (found[labels[1]]["low"], found[labels[1]]["high"], found[labels[1]]["verdict"]) == (3, 3, "measured")
    assert accuracy("status", "--json", site=lined, at=tmp_path).json()[0]["left"] == 0
    asked = ("accept", "--label", labels[1], "--margin", "40%", "--json")
    (judged,) = accuracy(*asked, site=lined, at=tmp_path).json()
    assert (judged["count"], judged["estimate"], judged["accepted"]) == (2, 3, True)
    assert "people's answers on 10 random slices give 3" in judged["sentence"]


def test_a_line_without_an_entry_in_the_rules_is_refused_with_those_that_have_one(lined, tmp_path):
    ended = accuracy("plan", "--day", str(DAY), "--line", "door", site=lined, at=tmp_path, status=2)
    assert "There is no line 'door'; the rules have: stop." in ended.stderr


def test_a_plan_of_a_line_that_was_changed_since_says_what_to_do(lined, tmp_path):
    accuracy(*PLAN_OF_LINE, site=lined, at=tmp_path)
    again = accuracy(*PLAN_OF_LINE, site=lined, at=tmp_path)
    assert f"stop has a plan of {DAY} already. --extend draws more slices." in again.stderr
    (tmp_path / "rules.toml").write_text(STOP.replace("95, 300", "95, 200"))
    ended = accuracy(*PLAN_OF_LINE, "--extend", site=lined, at=tmp_path, status=2)
    assert f"The line stop was changed after its plan of {DAY} was made." in ended.stderr
    assert "give the changed line another name" in ended.stderr
