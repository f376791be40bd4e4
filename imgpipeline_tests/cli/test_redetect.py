"""`imgpipeline redetect`, `models compare` and `models quantize` as users call them."""

import csv
import hashlib
import io
import json
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import pytest
from typer.testing import CliRunner, Result

from imgpipeline.accuracy.answers import Answer, keep_answer
from imgpipeline.accuracy.plans import read_plan
from imgpipeline.cli.app import app
from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.pairs import compare_day
from imgpipeline.settings import load_settings
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import OpenStore
from imgpipeline_tests.redetect.days import NOON, build_live, live_rows, redetected_rows

pytestmark = pytest.mark.medium

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)


@pytest.fixture
def store(
    folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    """Two days that were detected live."""
    monkeypatch.chdir(tmp_path)
    opened = store_of(folder_site)
    for day in (FIRST, SECOND):
        build_live(load_settings(), opened, range(4), day=day)
    return opened


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, ImgpipelineError):
        raise result.exception
    return result


def document(*arguments: str) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_day_is_reprocessed_and_compared(folder_site, store, tmp_path):
    day = ("--day", str(FIRST))
    with pytest.raises(PermanentError, match="imgpipeline redetect --model demo"):
        call("models", "compare", "live", "demo", *day)
    done = run("redetect", "--model", "demo", "--threshold", "0.05", *day, env=folder_site, cwd=tmp_path)
    assert (done.status, done.stderr) == (0, "")
    assert "demo@0.05" in done.stdout
    assert len(redetected_rows(store, "detections", "demo@0.05", FIRST)) >= len(live_rows(store, "detections", FIRST))
    shown = run("models", "compare", "live", "demo@0.05", *day, env=folder_site, cwd=tmp_path)
    assert (shown.status, shown.stderr) == (0, "")
    assert f"{FIRST}: a is live, b is demo@0.05" in shown.stdout
    assert "agreement" in shown.stdout
    expected = compare_day(store, FIRST, "live", "demo@0.05", memory=None).labels
    answered = document("models", "compare", "live", "demo@0.050", *day)
    assert answered["model_b"] == "demo@0.05"
    assert [row["matched"] for row in answered["labels"]] == [label["matched"] for label in expected]
    rows = list(csv.DictReader(io.StringIO(call("models", "compare", "live", "demo@0.05", *day, "--csv").stdout)))
    assert [(row["label"], int(row["count_b"])) for row in rows] == [
        (label["label"], label["count_b"]) for label in expected
    ]


def test_days_are_reprocessed_once_and_then_skipped(store):
    arguments = ("redetect", "--model", "demo", "--from", "2026-01-01", "--to", "2026-12-31", "--shared")
    rows = document(*arguments)
    assert [(row["day"], row["frames"], row["looked_at"], row["skipped"]) for row in rows] == [
        (str(FIRST), 4, 4, False),
        (str(SECOND), 4, 4, False),
    ]
    assert all(row["skipped"] for row in document(*arguments))
    assert [row["looked_at"] for row in document(*arguments, "--force")] == [4, 4]


def test_a_day_without_frames_names_the_days_that_have_some(store):
    with pytest.raises(PermanentError) as error:
        call("redetect", "--model", "demo@0.3", "--day", "2026-03-05")
    assert "2026-03-05 has no frames to re-process" in error.value.message
    assert "2026-03-01, 2026-03-02" in error.value.message
    assert error.value.next_step == "imgpipeline redetect --model demo@0.3 --day 2026-03-02"
    with pytest.raises(ConfigurationError, match="have: 2026-03-01, 2026-03-02"):
        call("redetect", "--model", "demo", "--from", "2027-01-01")


def test_an_unreadable_day_does_not_stop_the_others(store):
    key = f"redetections/model=demo/day={FIRST}/frames.parquet"
    store.put(key, b"this is not a Parquet file of anybody")
    with pytest.raises(PermanentError, match=r"1 of 2 days .*2026-03-01"):
        call("redetect", "--model", "demo", "--from", str(FIRST), "--to", str(SECOND))
    assert len(redetected_rows(store, "frames", "demo", SECOND)) == 4


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streets")
    for number in range(16):
        assert cv2.imwrite(str(folder / f"{number:02d}.jpg"), Scene(3, frames=80).frame(5 * number)[0])
    return folder


def test_a_lower_threshold_finds_all_boxes_of_the_reference_and_more(streets, tmp_path):
    ended = run("models", "compare", "demo", "demo@0.01", "--images", streets, "--json", cwd=tmp_path)
    assert ended.status == 0
    found = ended.json()
    assert (found["a"]["name"], found["b"]["name"]) == ("demo", "demo@0.01")
    assert found["a"]["precision"] == found["b"]["precision"] == "fp32"
    assert found["a"]["sha256"] == found["b"]["sha256"]
    assert found["b"]["confidence_threshold"] == 0.01
    total = found["total"]
    assert (found["images"], total["recall"], total["matched"]) == (16, 1, total["reference"])
    assert total["found"] > total["reference"] > 0
    assert total["precision"] == pytest.approx(total["matched"] / total["found"])
    assert sum(label["found"] for label in found["labels"].values()) == total["found"]


def test_an_unreadable_image_is_named_and_the_others_are_compared(streets, tmp_path):
    torn = tmp_path / "torn.jpg"
    torn.write_bytes((streets / "00.jpg").read_bytes()[:2000])
    ended = run("models", "compare", "demo", "demo", "--images", streets / "01.jpg", "--images", torn, cwd=tmp_path)
    assert ended.status == 0
    assert "torn.jpg: " in ended.stderr
    assert "1 image" in ended.stdout
    (tmp_path / "empty").mkdir()
    empty = run("models", "compare", "demo", "demo", "--images", tmp_path / "empty", cwd=tmp_path)
    assert (empty.status, "There are no images in" in empty.stderr) == (1, True)
    assert "Confidences of matched boxes differ by 0.0000 on average" in ended.stderr


@pytest.mark.slow
def test_a_quantized_model_is_registered_listed_used_and_compared(streets, tmp_path):
    env = {"IMGPIPELINE_MODEL_DIR": str(tmp_path / "models")}
    made = run("models", "quantize", "demo", "--images", streets, "--goal", "0.95", "--json", env=env, cwd=tmp_path)
    assert made.status == 0, made.stderr
    found = made.json()
    assert (found["name"], found["model"], found["precision"]) == ("demo-int8", "demo", "int8")
    assert (found["images"], found["calibrated_on"], found["held_out"]["images"]) == (16, 8, 4)
    entry = tomllib.loads((tmp_path / "models" / "demo-int8.toml").read_text())
    sha256 = hashlib.sha256(Path(found["path"]).read_bytes()).hexdigest()
    assert (entry["files"][0]["sha256"], entry["made_of"]["model_sha256"]) == (sha256, found["model_sha256"])

    listed = {row["name"]: row for row in run("models", "list", "--json", env=env, cwd=tmp_path).json()}
    assert listed["demo-int8"]["present"] is True
    assert "quantized to int8 with 16 images" in listed["demo-int8"]["summary"]

    compared = run(
        "models", "compare", "demo", "demo-int8", "--images", streets, "--json", env=env, cwd=tmp_path
    ).json()
    assert (compared["b"]["precision"], compared["b"]["sha256"]) == ("int8", sha256)
    assert compared["total"]["f1"] >= 0.9

    for arguments, said in (
        (("demo-int8",), "is already quantized"),
        (("demo", "--name", "yolox-nano"), "The project itself has a model 'yolox-nano'"),
    ):
        refused = run("models", "quantize", *arguments, "--images", streets, env=env, cwd=tmp_path)
        assert (refused.status, said in refused.stderr) == (1, True), refused.stderr


def test_answers_of_people_judge_two_models(folder_site, store, tmp_path):
    asked = ("accuracy", "compare", "--b", "demo@0.05", "--day", str(FIRST))
    call("redetect", "--model", "demo", "--threshold", "0.05", "--day", str(FIRST))
    with pytest.raises(PermanentError, match=f"Nobody has counted on frames of {FIRST}"):
        call(*asked)
    call("accuracy", "plan", "--day", str(FIRST), "--label", "car")
    plan = read_plan(store, FIRST, "yard")
    for frame_id in plan.samples:
        keep_answer(store, Answer(FIRST, "yard", frame_id, "ada", NOON, {"car": 9}))
    (row,) = document(*asked)
    of_live = {label["label"]: label for label in compare_day(store, FIRST, "live", "demo@0.05", memory=None).labels}
    assert (row["source"], row["label"], row["samples"]) == ("yard", "car", 4)
    assert (row["count_a"], row["count_b"]) == (of_live["car"]["count_a"], of_live["car"]["count_b"])
    assert row["low_a"] == row["high_b"] == 36
    assert row["more_miscounted"] == row["count_a"] - row["count_b"]
    assert f"{FIRST}: a is live, b is demo@0.05" in call(*asked).stdout
    assert document(*asked, "--label", "tram") == []
