"""Each machine and model is measured once, and `auto` uses the fastest result."""

from datetime import UTC, datetime

import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.settings import load_settings
from imgpipeline.vision.backends import installed_backends
from imgpipeline.vision.configured import (
    TunedRow,
    Tuning,
    choose_by_speed,
    describe_use,
    load_configured_detector,
    machine_id,
    read_tuning,
    tune_model,
    tuning_path,
    write_tuning,
)
from imgpipeline.vision.model_files import read_verified
from imgpipeline.vision.registry import find_model

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = (
    TunedRow("onnxruntime", "fp32", 2, 1, 40.0),
    TunedRow("opencv", "fp32", 2, 1, 30.0),
    TunedRow("onnxruntime", "fp32", 1, 2, 90.0),
)


def tuning_of_demo(*rows: TunedRow, machine: str | None = None) -> Tuning:
    sha256 = read_verified(find_model("demo"))[1]
    return Tuning("demo", sha256, machine or machine_id(), "2026-03-01T12:00:00Z", rows)


def test_the_fastest_row_with_as_many_workers_is_the_best():
    tuning = tuning_of_demo(*ROWS)
    assert tuning.best(2) == ROWS[0]
    assert tuning.best(1) == ROWS[2]
    assert tuning.best(2, "opencv") == ROWS[1]
    assert tuning.best(4) is None
    assert tuning.best(2, "openvino") is None


def test_a_result_is_kept_for_this_machine_and_model_only(tmp_path):
    tuning = tuning_of_demo(*ROWS)
    write_tuning(tmp_path, tuning)
    assert read_tuning(tmp_path, tuning.model_sha256) == tuning
    assert read_tuning(tmp_path, "0" * 64) is None
    other = tuning_of_demo(*ROWS, machine="another-one")
    (tmp_path / "other").mkdir()
    write_tuning(tmp_path / "other", other)
    assert read_tuning(tmp_path / "other", other.model_sha256) is None


@pytest.mark.parametrize("text", ["", "{}", '{"rows": [1]}'], ids=["empty", "no-fields", "no-rows"])
def test_a_damaged_result_counts_as_none(text, tmp_path):
    path = tuning_path(tmp_path, "a" * 64, machine_id())
    path.parent.mkdir()
    path.write_text(text)
    assert read_tuning(tmp_path, "a" * 64) is None


def test_auto_uses_the_fastest_kept_row_and_says_why(tmp_path):
    others = [name for name in installed_backends() if name != "opencv"]
    slow = [TunedRow(name, "fp32", 2, 1, 40.0 - place) for place, name in enumerate(others)]
    write_tuning(tmp_path, tuning_of_demo(*slow, TunedRow("opencv", "fp32", 2, 1, 50.0)))
    settings = load_settings(precision="auto", model_dir=tmp_path, detect_workers=2)
    detector = load_configured_detector(settings)
    assert (detector.backend_name, detector.precision) == ("opencv", "fp32")
    rates = ", ".join(["opencv fp32 50.0", *(f"{row.backend} fp32 {row.images_per_s:.1f}" for row in slow)])
    said = f"images/s with 2 workers, measured 2026-03-01T12:00:00Z: {rates}"
    assert detector.chosen_because == said
    assert f"chosen by IMGPIPELINE_PRECISION=auto ({said})" in describe_use(detector)


def test_a_backend_that_is_set_is_kept_by_auto(tmp_path):
    write_tuning(tmp_path, tuning_of_demo(*ROWS))
    settings = load_settings(precision="auto", model_dir=tmp_path, detect_workers=2, model_backend="opencv")
    assert choose_by_speed(settings, "demo", 2).backend == "opencv"


@pytest.mark.slow
@pytest.mark.medium
def test_a_start_measures_what_was_not_measured_before_and_the_next_ones_do_not(tmp_path):
    only_opencv = tuning_of_demo(TunedRow("opencv", "fp32", 2, 1, 1e6))
    write_tuning(tmp_path, only_opencv)
    settings = load_settings(precision="auto", model_dir=tmp_path, detect_workers=2)
    first = choose_by_speed(settings, "demo", 2)
    kept = read_tuning(tmp_path, only_opencv.model_sha256)
    assert kept is not None
    assert {row.backend for row in kept.rows} == set(installed_backends())
    [path] = (tmp_path / "tuning").glob("*.json")
    before = path.read_bytes()
    assert choose_by_speed(settings, "demo", 2) == first
    assert path.read_bytes() == before


@pytest.mark.medium
def test_every_installed_backend_is_measured_in_each_arrangement():
    spec = find_model("demo")
    told: list[TunedRow] = []
    content = read_verified(spec)[0]
    tuning = tune_model(spec, content, arrangements=((2, 1), (1, 2)), seconds=0.01, now=NOW, told=told.append)
    assert tuning.rows == tuple(told)
    exact = [(row.backend, row.workers, row.threads) for row in tuning.rows if row.precision == "fp32"]
    assert exact == [(name, *each) for each in ((2, 1), (1, 2)) for name in installed_backends()]
    assert {row.backend for row in tuning.rows if row.precision == "bf16"} <= {"openvino"}
    assert min(row.images_per_s for row in tuning.rows) > 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    settings = load_settings(precision="auto", model_dir=tmp_path / "file")
    with pytest.raises(PermanentError, match="cannot be written") as caught:
        choose_by_speed(settings, "demo", 2)
    assert "IMGPIPELINE_MODEL_DIR" in (caught.value.next_step or "")
