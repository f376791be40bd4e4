"""Help texts that wrap at the terminal's width instead of at the docstring's line ends.

Typer joins the lines of the first paragraph only; in the others, each line end would stay as a line break.
"""

import inspect

import typer


def unwrap_help(app: typer.Typer) -> None:
    """Gives every command and group of an app its help text with whole paragraphs.

    Args:
        app: With all its commands and groups registered.
    """
    for command in app.registered_commands:
        command.help = _joined(command.help or inspect.getdoc(command.callback))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            unwrap_help(group.typer_instance)


def _joined(text: str | None) -> str | None:
    if text is None:
        return None
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(part if _has_lines_of_its_own(part) else " ".join(part.split("\n")) for part in paragraphs)


def _has_lines_of_its_own(paragraph: str) -> bool:
    """Whether a paragraph is a list or an example, whose line ends matter."""
    return any(line.startswith((" ", "* ", "- ", "\b")) for line in paragraph.split("\n"))
