"""What the commands of finite sources have in common: `--start`, progress with rate and time left, and Ctrl-C."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from typing import Annotated

import typer

from imgpipeline.cli.output import note, progress_bar
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import parse_time
from imgpipeline.errors import UsageError

StartOption = Annotated[
    str | None, typer.Option("--start", help="Time of the first frame, such as 2026-01-09T12:00:00Z.")
]


def read_start(text: str | None, zone: tzinfo) -> datetime | None:
    """Returns the time of `--start`; without an offset it is local time of the zone.

    Raises:
        UsageError: It is not a time.
    """
    try:
        return None if text is None else parse_time(text, zone)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--start {text!r}: {error}.", next_step="give an RFC 3339 time such as 2026-01-09T12:00:00Z"
        ) from None


@contextlib.contextmanager
def finite_progress(what: str, topic: str, *, unit: str = "frames") -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of a finite source while the context lasts; Ctrl-C tells how far it came.

    Args:
        what: What is being done, such as `Ingesting`.
        topic: The Kafka topic, for the message.
        unit: Of the numbers.

    Yields:
        To be called with how many frames are announced and how many there are (0 if that is not known).
    """
    announced = total = 0

    def update(done: int, of: int) -> None:
        nonlocal announced, total
        announced, total = done, of
        show(done, of)

    try:
        with progress_bar(what, unit=unit) as show:
            yield update
    except KeyboardInterrupt:
        done = f"after {announced:,} of {counted(total, 'frame')}" if total else f"after {counted(announced, 'frame')}"
        note(f"Interrupted {done if announced else 'before any frame was announced'} (topic {topic}).")
        note("It is safe to run the same command again: frames that are announced twice are counted once.")
        raise typer.Exit(130) from None
