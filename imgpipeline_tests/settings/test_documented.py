"""The docs list every setting, with its limits and its other names."""

import pytest

from imgpipeline.settings import Settings
from imgpipeline.settings.variables import variables
from imgpipeline_tests.settings.documented import BEGIN, END, PAGE, settings_table

NAMED_OTHERWISE = {"kafka_topics": "KAFKA_TOPIC"}
"""Settings whose variable has kept its name while the field became a list."""


def test_the_table_in_the_docs_is_the_one_made_from_the_code():
    found = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert found == settings_table(), "run `python -m imgpipeline_tests.settings.documented`"


def test_every_setting_is_described_with_its_own_name_first():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert variables(name, field)[0] == f"IMGPIPELINE_{NAMED_OTHERWISE.get(name, name.upper())}"
    assert settings_table().count("\n") == len(Settings.model_fields) + 2


@pytest.mark.parametrize(
    "part",
    ["also `AWS_SECRET_ACCESS_KEY`", "also `KAFKA_PASSWORD`", "| `0.5` |", "Allowed: > 0 and ≤ 1.", "`SASL_SSL`"],
)
def test_other_names_defaults_and_limits_are_in_the_table(part):
    assert part in settings_table()
