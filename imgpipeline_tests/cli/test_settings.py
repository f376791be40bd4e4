"""Settings are shown without secrets, and the docs list every one of them."""

import re
from pathlib import Path

import pytest

from imgpipeline.cli.settings import settings_table
from imgpipeline.settings import Settings
from imgpipeline.settings.variables import variables
from imgpipeline_tests.cli.command import REPOSITORY, run

NAMED_OTHERWISE = {"kafka_topics": "KAFKA_TOPIC"}
"""Settings whose variable has kept its name while the field became a list."""
DOCS = REPOSITORY / "docs" / "operations.md"
STABLE = (
    "STORE_URL", "S3_ENDPOINT", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC", "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM", "KAFKA_USERNAME", "KAFKA_PASSWORD", "KAFKA_CA_FILE", "MODEL", "MODEL_BACKEND",
    "CONFIDENCE_THRESHOLD", "NMS_THRESHOLD", "LANES", "LINGER_S", "MAX_RUN_S",
)  # fmt: skip


def test_the_table_in_the_docs_is_the_one_made_from_the_code():
    text = DOCS.read_text(encoding="utf-8")
    found = text.partition("<!-- settings: begin -->\n")[2].partition("<!-- settings: end -->")[0]
    assert found == settings_table(), "run `imgpipeline settings table` and put it between the markers"


def test_every_setting_is_described_with_its_own_name_first():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert variables(name, field)[0] == f"IMGPIPELINE_{NAMED_OTHERWISE.get(name, name.upper())}"
    assert settings_table().count("\n") == len(Settings.model_fields) + 2


@pytest.mark.parametrize("name", STABLE)
def test_stable_names_are_kept(name: str):
    assert f"| `IMGPIPELINE_{name}`" in settings_table()


@pytest.mark.parametrize(
    "part",
    ["also `AWS_SECRET_ACCESS_KEY`", "also `KAFKA_PASSWORD`", "| `0.5` |", "Allowed: > 0 and ≤ 1.", "`SASL_SSL`"],
)
def test_other_names_defaults_and_limits_are_in_the_table(part: str):
    assert part in settings_table()


def test_current_values_are_shown_and_secrets_only_as_set(tmp_path: Path):
    (tmp_path / ".env").write_text("IMGPIPELINE_KAFKA_TOPIC=from-file\nKAFKA_PASSWORD=canary-1\n")
    env = {"AWS_SECRET_ACCESS_KEY": "canary-2", "IMGPIPELINE_LANES": "3"}
    ended = run("settings", "--json", env=env, cwd=tmp_path)
    values = ended.json()
    assert values["IMGPIPELINE_KAFKA_TOPIC"] == "from-file"
    assert values["IMGPIPELINE_LANES"] == 3
    assert {values[f"IMGPIPELINE_{name}"] for name in ("KAFKA_PASSWORD", "S3_SECRET_ACCESS_KEY")} == {"(set)"}
    assert values["IMGPIPELINE_S3_SESSION_TOKEN"] is None
    table = run("settings", env=env, cwd=tmp_path)
    assert "from-file" in table.stdout
    assert "canary" not in ended.stdout + ended.stderr + table.stdout + table.stderr


def test_a_misspelt_setting_is_listed_last_without_its_value(tmp_path: Path):
    ended = run("settings", env={"IMGPIPELINE_STOR_URL": "canary-3"}, cwd=tmp_path)
    assert ended.status == 0
    assert re.search(r"IMGPIPELINE_STOR_URL +│ +│ unknown; IMGPIPELINE_STORE_URL\?", ended.stdout)
    assert "canary" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("command", [["models", "list"], ["settings"], ["settings", "--json"]], ids=" ".join)
def test_every_command_warns_once_of_a_misspelt_setting(command: list[str], tmp_path: Path):
    (tmp_path / ".env").write_text("IMGPIPELINE_KAFKA_TOPC=canary-4\nIMGPIPELINE_STOR_URL=canary-5\n")
    ended = run(*command, env={"IMGPIPELINE_STOR_URL": "canary-3"}, cwd=tmp_path)
    assert ended.status == 0
    warnings = [
        "KAFKA_TOPC (.env) is not a setting and has no effect. Did you mean IMGPIPELINE_KAFKA_TOPIC?",
        "STOR_URL (environment) is not a setting and has no effect. Did you mean IMGPIPELINE_STORE_URL?",
    ]
    assert ended.stderr.splitlines() == [f"Warning: IMGPIPELINE_{warning}" for warning in warnings]
    assert "canary" not in ended.stdout


def test_without_a_misspelt_setting_there_is_no_warning(tmp_path: Path):
    ended = run("models", "list", env={"IMGPIPELINE_LANES": "2", "IMGPIPELINE_TRACEBACK": "0"}, cwd=tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
