"""Wrong usage: arguments that every command refuses, and the wording of a refusal.

Wrong usage ends with exit status 2; `imgpipeline.cli.app` shows it like every other error.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence

from typer.exceptions import TyperException

from imgpipeline.errors import BadInputError, ConfigurationError, UsageError

_EMPTY_OPTION = re.compile(r"(--?[a-z][a-z-]*)=")


def refuse_empty(arguments: Sequence[str]) -> None:
    """Refuses empty arguments, which are mostly shell variables that are not set.

    No command accepts one, and some would take it for the working folder, or for no filter.

    Raises:
        UsageError: One of the arguments is empty.
    """
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option = _EMPTY_OPTION.fullmatch(argument)
        if option or not argument:
            name = option[1] if option else before if before.startswith("-") else "An argument"
            raise UsageError(f"{name} is empty.", next_step="give a value; is the shell variable behind it set?")


@contextlib.contextmanager
def from_arguments(next_step: str) -> Iterator[None]:
    """Turns the refusal of a value into a `UsageError`, where the value is an argument.

    Args:
        next_step: What to do, where the refusal does not say it.

    Raises:
        UsageError: A value was refused.
    """
    try:
        yield
    except (ConfigurationError, BadInputError) as error:
        raise UsageError(error.message, next_step=error.next_step or next_step) from error


def as_usage_error(error: TyperException) -> UsageError:
    """Returns Typer's refusal of a call as an error of this project, with the help of the command as next step."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "imgpipeline"
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    return UsageError(f"{message}.", next_step=f"`{command} --help` shows what it takes")
