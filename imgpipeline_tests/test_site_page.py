"""docs/site.md names settings that exist, and its examples are accepted."""

import re
from pathlib import Path

from imgpipeline.settings import Settings
from imgpipeline.settings.variables import variables
from imgpipeline.sources.configuration import load_sources

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "site.md").read_text()


def test_the_page_has_twenty_settings_and_all_of_them_exist():
    known = {variable for name, field in Settings.model_fields.items() for variable in variables(name, field)}
    listed = re.findall(r"^\| `([A-Z_0-9]+)` \|", PAGE, re.MULTILINE)

    assert len(listed) == 20
    assert set(listed) <= known
    assert set(re.findall(r"IMGPIPELINE_[A-Z_0-9]+", PAGE)) <= known


def test_the_example_of_cameras_is_valid(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "sources.toml"
    file.write_text(example)

    assert [source.name for source in load_sources(file)] == ["gate", "yard"]


def test_every_variable_of_the_deployed_dagster_is_in_the_example():
    configuration = (REPOSITORY / "deploy" / "dagster.yaml").read_text()
    needed = set(re.findall(r"env: (DAGSTER_[A-Z_]+)", configuration))

    assert needed
    assert needed <= set(re.findall(r"^(DAGSTER_[A-Z_]+)=", PAGE, re.MULTILINE))
