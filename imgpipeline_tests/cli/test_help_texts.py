"""Help texts fill the terminal's width: a line ends where the next word would not fit, and nowhere else."""

from collections.abc import Iterator
from itertools import pairwise

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


def broken_early(text: str, width: int) -> list[str]:
    """Return the lines of paragraphs that end although the next line's first word fits."""
    prose = text.split("╭", maxsplit=1)[0].splitlines()
    return [
        line
        for line, following in pairwise(prose)
        if line.strip() and following.strip() and len(line.rstrip()) + 1 + len(following.split()[0]) < width
    ]


@pytest.mark.parametrize("width", [80, 110])
@pytest.mark.parametrize("command", [pytest.param(names, id="-".join(names)) for names in commands(app)])
def test_paragraphs_fill_the_width(command: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(width))
    answered = CliRunner().invoke(app, [*command, "--help"])
    assert answered.exit_code == 0
    assert max(map(len, answered.stdout.splitlines())) <= width
    assert broken_early(answered.stdout, width) == []


def test_lists_and_examples_keep_their_lines(monkeypatch: pytest.MonkeyPatch):
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
