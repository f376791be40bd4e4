"""What the commands of finite sources have in common: progress with rate and time left, and what Ctrl-C says."""

import contextlib
from collections.abc import Callable, Iterator

import typer

from imgpipeline.cli.output import note, progress_bar
from imgpipeline.contracts.counts import counted


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
