"""Variables that look like a setting but are not are reported, with the most similar setting."""

import os
import re
from pathlib import Path

import pytest

from imgpipeline.settings import Settings
from imgpipeline.settings.loading import unknown_settings
from imgpipeline.settings.variables import variables

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("IMGPIPELINE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("IMGPIPELINE_STOR_URL", "IMGPIPELINE_STORE_URL"),
        ("IMGPIPELINE_KAFKA_BOOTSTRAP_SERVER", "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS"),
        ("imgpipeline_lane", "IMGPIPELINE_LANES"),
        ("IMGPIPLINE_LANES", "IMGPIPELINE_LANES"),
        ("IMAGEPIPELINE_MODEL", "IMGPIPELINE_MODEL"),
        ("IMGPIPELINE_QQQ", None),
    ],
    ids=["STOR_URL", "BOOTSTRAP_SERVER", "lower case", "IMGPIPLINE", "IMAGEPIPELINE", "like none"],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_misspelt_name_is_found_with_the_nearest_setting(
    written: str, meant: str | None, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    if place == "environment":
        monkeypatch.setenv(written, "value")
    else:
        (tmp_path / ".env").write_text(f"{written}=value\n")
    assert [(one.name, one.place, one.nearest) for one in unknown_settings()] == [(written, place, meant)]


@pytest.mark.parametrize("name", ["PIPELINE_LANES", "MYPIPELINE_STORE_URL", "AWS_REGION", "IMGPIPLINE_X"])
def test_variables_of_other_programs_are_left_alone(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "value")
    assert unknown_settings() == []


def test_every_setting_is_known_in_upper_and_lower_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    names = [own for name, field in Settings.model_fields.items() for own in variables(name, field)]
    (tmp_path / ".env").write_text("".join(f"{name.lower()}=1\n" for name in names))
    for name in names:
        monkeypatch.setenv(name, "1")
    assert unknown_settings() == []


def test_every_variable_that_the_projects_code_reads_is_known(monkeypatch: pytest.MonkeyPatch):
    read = re.compile(r"""environ(?:\.get\(|\[)["'](IMGPIPELINE_\w+)["']""")
    folders = ("imgpipeline", "imgpipeline_tests", "benchmarks")
    texts = [file.read_text(encoding="utf-8") for folder in folders for file in (REPOSITORY / folder).rglob("*.py")]
    names = {name for text in texts for name in read.findall(text)}
    assert {"IMGPIPELINE_TRACEBACK", "IMGPIPELINE_REQUIRE_SERVERS", "IMGPIPELINE_TEST_DATA"} <= names
    for name in names | {"IMGPIPELINE_FAULT_AT", "IMGPIPELINE_FAULT_ONCE"}:
        monkeypatch.setenv(name, "")
    assert unknown_settings() == []


def test_a_value_is_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMGPIPELINE_KAFKA_PASSWRD", "canary-1")
    (unknown,) = unknown_settings()
    assert "canary" not in str(unknown) + repr(unknown)


def test_a_dotenv_file_that_cannot_be_read_is_left_to_load_settings(tmp_path: Path):
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    assert unknown_settings() == []
