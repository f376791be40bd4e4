"""Groups of options become the options of a command, and the settings that they override."""

import inspect

import pytest
import typer
from typer.testing import CliRunner

from imgpipeline.cli.ingest import topic_settings
from imgpipeline.cli.options import JsonOption, Period, RowFormat, command


def test_a_group_of_options_takes_the_place_of_its_parameter():
    app = typer.Typer()

    @command(app, "list")
    def show(first_of_all: str, period: Period, as_text: bool = False, *, rows: RowFormat) -> None: ...

    [registered] = app.registered_commands
    assert registered.callback is not None
    options = list(inspect.signature(registered.callback).parameters)
    assert options == ["first_of_all", "day", "first", "last", "as_text", "as_json", "as_csv"]


def test_a_command_gets_the_values_of_a_group():
    app, seen = typer.Typer(), []

    @command(app, "list")
    def show(name: str, period: Period, as_json: JsonOption = False) -> None:
        seen.append((name, period, as_json))

    given = ["gate", "--from", "2026-01-09", "--json"]
    assert CliRunner().invoke(app, given).exit_code == 0
    assert seen == [("gate", Period(None, "2026-01-09", None), True)]


def test_a_topic_keeps_its_topic_of_notices(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMGPIPELINE_KAFKA_TOPIC", "frames,yard,yard-notices")
    assert topic_settings("yard") == {"kafka_topics": ("yard", "yard-notices")}
    assert topic_settings("frames") == {"kafka_topics": ("frames",)}
    assert topic_settings(None) == {}


def test_lists_and_examples_keep_their_lines():
    one = typer.Typer()

    def documented() -> None:
        """Does it.

        A paragraph
        of two lines.

        * first
        * second
        """

    command(one, "it")(documented)
    assert one.registered_commands[0].help == "Does it.\n\nA paragraph of two lines.\n\n* first\n* second"
