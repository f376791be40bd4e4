"""How commands show things: one JSON document, CSV, a table, progress, an error.

Text from outside (camera names, messages, paths) is never interpreted as markup, terminal control or a spreadsheet
formula. JSON is strict: no NaN, and times are RFC 3339.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.contracts.text import csv_text, plain
from imgpipeline.contracts.times import format_time
from imgpipeline.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of a table.")]
"""The option of every command that prints data."""
LatestOption = Annotated[int, typer.Option("--limit", min=1, help="Show at most this many, the latest ones.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="CSV on stdout instead of a table.")]
"""The option of commands whose data are rows."""

_WIDTH_OF_A_FILE = 200
_BAR_CELLS = 30
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def write_text(text: str) -> None:
    """Writes text to stdout as UTF-8, whatever the terminal's settings are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def show_json(document: Any) -> None:
    """Writes the one JSON document of a command to stdout."""
    write_text(json.dumps(plain(document), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def refuse_two_formats(*, as_json: bool, as_csv: bool) -> None:
    """Raises a UsageError if both were asked for: stdout holds one of them."""
    if as_json and as_csv:
        raise UsageError("--json and --csv are both given.", next_step="give one of them")


def show_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a header and rows to stdout as RFC 4180 has it: commas, CRLF, quotes where they are needed.

    NULL is an empty cell, times are RFC 3339, lists and maps are JSON. Text that a spreadsheet would take for a formula
    gets an apostrophe before it.
    """
    write_text(csv_text(columns, rows))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Writes a table to stdout; numbers are aligned to the right."""
    from rich.table import Table  # noqa: PLC0415 - `--version` does not wait for it
    from rich.text import Text  # noqa: PLC0415 - as above

    filled = [list(row) for row in rows]
    table = Table(title=Text(title) if title else None, title_justify="left")
    for index, name in enumerate(columns):
        numeric = any(
            isinstance(row[index], int | float | Decimal) and not isinstance(row[index], bool) for row in filled
        )
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in filled:
        table.add_row(*(Text(shown(value)) for value in row))
    stdout_console().print(table)


def shown(value: Any) -> str:
    """Returns a value as a cell of a table shows it, without anything that controls a terminal."""
    if value is None:
        return "-"
    if isinstance(value, float | Decimal):
        number = float(value)
        return f"{number:.4g}" if abs(number) < 1000 else f"{number:,.0f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S") if value.tzinfo is None else format_time(value)[:19] + "Z"
    text = str(value) if not isinstance(value, dict | list) else json.dumps(plain(value), ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def size_bar(value: int, most: int) -> str:
    """Returns a bar of blocks, the longest of `_BAR_CELLS`; what is there has at least an eighth of a cell."""
    eighths = -(-value * _BAR_CELLS * 8 // most) if most else 0
    whole, part = divmod(eighths, 8)
    return "█" * whole + _EIGHTHS[part]


def observed(seconds: float | None) -> str:
    """Returns observed time as a table shows it; a source that was not observed is not one that saw nothing."""
    if seconds is None:
        return "not observed"
    return f"{seconds:,.0f} s"


def show_error(message: str, next_step: str | None) -> None:
    """Writes one error to stderr."""
    lines = [f"Error: {shown(message)}", *([f"Next: {shown(next_step)}"] if next_step else [])]
    sys.stderr.write("\n".join(lines) + "\n")


def note(text: str) -> None:
    """Writes one line to stderr, beside the data."""
    sys.stderr.write(shown(text) + "\n")


def stdout_console() -> "Console":
    """Returns rich's console for stdout; a file or pipe is taken as wide."""
    from rich.console import Console  # noqa: PLC0415 - `--version` does not wait for it

    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, highlight=False)


def stderr_console() -> "Console":
    """Returns rich's console for stderr."""
    from rich.console import Console  # noqa: PLC0415 - `--version` does not wait for it

    return Console(stderr=True, highlight=False)


@contextlib.contextmanager
def progress_bar(what: str, *, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Shows progress, rate and time left on stderr while the context lasts; nothing if stderr is not a terminal.

    Args:
        what: What is being done.
        unit: Of the numbers, such as `pictures`.

    Yields:
        To be called with how much is done and how much there is in all (0 if that is not known yet).
    """
    from rich import progress as parts  # noqa: PLC0415 - `--version` does not wait for it
    from rich.text import Text  # noqa: PLC0415 - as above

    class Rate(parts.ProgressColumn):
        def render(self, task: parts.Task) -> "Text":
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.MofNCompleteColumn(),
        parts.TextColumn(unit),
        Rate(),
    )
    console = stderr_console()
    with parts.Progress(*columns, parts.TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
