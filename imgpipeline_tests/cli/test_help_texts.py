"""Every command has a help text; its lists and examples keep their lines."""

from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from imgpipeline.cli.app import app
from imgpipeline.cli.help_texts import unwrap_help


def commands(of: typer.Typer, *above: str) -> Iterator[tuple[str, ...]]:
    for command in of.registered_commands:
        assert command.callback is not None
        yield (*above, command.name or command.callback.__name__.replace("_", "-"))
    for group in of.registered_groups:
        assert group.typer_instance is not None
        yield (*above, str(group.name))
        yield from commands(group.typer_instance, *above, str(group.name))


@pytest.mark.medium
def test_every_command_has_a_help_text():
    for command in commands(app):
        answered = CliRunner().invoke(app, [*command, "--help"])
        assert (answered.exit_code, "Usage:" in answered.stdout) == (0, True), command


def test_lists_and_examples_keep_their_lines():
    one = typer.Typer()

    def documented() -> None:
        """Does it.

        A paragraph
        of two lines.

        * first
        * second
        """

    one.command()(documented)
    unwrap_help(one)
    assert one.registered_commands[0].help == "Does it.\n\nA paragraph of two lines.\n\n* first\n* second"
