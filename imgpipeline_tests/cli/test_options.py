"""Groups of options become the options of a command, and the settings that they override."""

import inspect

import pytest
import typer
from typer.testing import CliRunner

from imgpipeline.cli.ingest_options import topic_settings
from imgpipeline.cli.options import JsonOption, Period, RowFormat, expand_options


def test_a_group_of_options_takes_the_place_of_its_parameter():
    @expand_options
    def command(first_of_all: str, period: Period, as_text: bool = False, *, rows: RowFormat) -> None: ...

    options = list(inspect.signature(command).parameters)
    assert options == ["first_of_all", "day", "first", "last", "as_text", "as_json", "as_csv"]


def test_a_command_gets_the_values_of_a_group():
    app, seen = typer.Typer(), []

    @app.command()
    @expand_options
    def command(name: str, period: Period, as_json: JsonOption = False) -> None:
        seen.append((name, period, as_json))

    given = ["gate", "--from", "2026-01-09", "--json"]
    assert CliRunner().invoke(app, given).exit_code == 0
    assert seen == [("gate", Period(None, "2026-01-09", None), True)]


def test_a_topic_keeps_its_topic_of_notices(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMGPIPELINE_KAFKA_TOPIC", "frames,yard,yard-notices")
    assert topic_settings("yard") == {"kafka_topics": ("yard", "yard-notices")}
    assert topic_settings("frames") == {"kafka_topics": ("frames",)}
    assert topic_settings(None) == {}
