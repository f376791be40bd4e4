"""What commands print: one JSON document, a table, notes, progress, an error, a question.

Text from outside (camera names, messages, paths) is never interpreted as markup, terminal control or a spreadsheet
formula. JSON is strict: it contains no NaN, and times are RFC 3339.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import typer
from rich import progress as parts
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imgpipeline.contracts.text import plain
from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings.logs import NOTES, writes_json

MOST_ROWS = 1_000
"""Most rows of a query or summary that a terminal shows."""
_FILE_WIDTH = 200
_MOST_IN_CELL = 10
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


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, most: int | None = None
) -> None:
    """Writes a table to stdout, with numbers aligned to the right.

    Args:
        columns: The header.
        title: Shown above the table.
        most: Show at most this many rows, and note how many there are; None: all.
    """
    given = [list(row) for row in rows]
    filled = given[:most]
    table = Table(title=Text(title) if title else None, title_justify="left")
    for index, name in enumerate(columns):
        numeric = any(
            isinstance(row[index], int | float | Decimal) and not isinstance(row[index], bool) for row in filled
        )
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in filled:
        table.add_row(*(Text(shown(value)) for value in row))
    stdout_console().print(table)
    if len(filled) < len(given):
        note(f"Showing {len(filled):,} of {len(given):,} rows; --json and --csv show all.")


Columns = Sequence[str]
"""The fields of records that a table shows."""


def show_records(
    records: Sequence[Mapping[str, Any]], columns: Columns, *, title: str | None = None, most: int | None = None
) -> None:
    """Writes records to stdout as a table. A heading is the name of the field, with spaces for underscores."""
    headings = [name.removesuffix("_bytes").replace("_", " ") for name in columns]
    rows = [[_cell(record[name], name) for name in columns] for record in records]
    show_table(headings, rows, title=title, most=most)


def _cell(value: Any, name: str) -> Any:
    """Returns the value of a field as a cell: by its name an identifier or a size, by its type counts or a list."""
    if value is None:
        return "not observed" if name.startswith("observed") else None
    if name in ("partition", "offset"):
        return str(value)
    if name.endswith("_bytes"):
        return f"{shown(value / 1000)} kB"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {count:,}" for key, count in value.items()) or None
    return _listed(value) if isinstance(value, list | tuple) else value


def _listed(values: Sequence[Any]) -> Any:
    """Returns few values as text, many as their number with the first and the last, and records as their number."""
    if any(map(is_dataclass, values)):
        return len(values)
    if len(values) > _MOST_IN_CELL:
        return f"{len(values):,}, {values[0]} to {values[-1]}"
    return ", ".join(map(str, values)) or None


def show_result(figures: Mapping[str, Any], *, as_json: bool = False) -> None:
    """Shows the figures of a finished command: as JSON on stdout, otherwise in one line on stderr."""
    if as_json:
        show_json(figures)
    else:
        note("; ".join(f"{name.replace('_', ' ')}: {shown(_cell(value, name))}" for name, value in figures.items()))


def record_of(value: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass, without converting their values."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def shown(value: Any) -> str:
    """Returns a value as the text of a table cell, without characters that control a terminal."""
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
        return format_time(value)[:19] + "Z" if value.utcoffset() == timedelta(0) else value.isoformat(" ", "seconds")
    text = str(value) if not isinstance(value, dict | list) else json.dumps(plain(value), ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def size_bar(value: int, most: int) -> str:
    """Returns a bar of blocks; `most` has 30 cells, and any value above 0 has at least an eighth of a cell."""
    eighths = -(-value * _BAR_CELLS * 8 // most) if most else 0
    whole, part = divmod(eighths, 8)
    return "█" * whole + _EIGHTHS[part]


def show_error(message: str, next_step: str | None) -> None:
    """Writes one error to stderr."""
    if writes_json():
        NOTES.error(f"{message} Next: {next_step}" if next_step else message)
        return
    lines = [f"Error: {shown(message)}", *([f"Next: {shown(next_step)}"] if next_step else [])]
    sys.stderr.write("\n".join(lines) + "\n")


def note(text: str) -> None:
    """Writes one line to stderr, apart from the data on stdout."""
    if writes_json():
        NOTES.info(text)
    else:
        sys.stderr.write(shown(text) + "\n")


def note_some(lines: Sequence[str], most: int) -> None:
    """Notes the first lines, and how many are left out."""
    for line in lines[:most]:
        note(line)
    if len(lines) > most:
        note(f"And {len(lines) - most:,} more; --json lists all.")


def note_latest(listed: int, matching: int, what: str) -> None:
    """Notes how many records were left out by `--limit`, if any."""
    if matching > listed:
        note(f"Showing the latest {listed:,} of {matching:,} {what}; --limit shows more.")


def write_file(path: Path, data: bytes) -> None:
    """Writes the file of `--output`. It appears only when complete, so no other program reads half a file.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    from imgpipeline.objectstore.files import open_output, write

    with open_output(str(path), option="--output") as stream:
        write(stream, data)


def confirm(question: str) -> None:
    """Asks the user a yes-or-no question.

    Raises:
        ConfigurationError: stdin is not a terminal.
        typer.Abort: The answer is not yes.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError("Nothing was changed: confirmation needs a terminal.", next_step="give --yes")
    typer.confirm(question, abort=True, err=True)


def stdout_console() -> "Console":
    """Returns rich's console for stdout; a file or pipe counts as wide."""
    return Console(width=None if sys.stdout.isatty() else _FILE_WIDTH, highlight=False)


def stderr_console() -> "Console":
    """Returns rich's console for stderr."""
    return Console(stderr=True, highlight=False)


@contextlib.contextmanager
def progress_bar(what: str, *, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Shows progress, rate and time left on stderr while the context lasts; nothing if stderr is not a terminal.

    Args:
        what: What is being done, such as `Ingesting`.
        unit: What is counted, such as `images`.

    Yields:
        A function to call with the number done and the total (0 while it is not known).
    """

    class Rate(parts.ProgressColumn):
        def render(self, task: parts.Task) -> "Text":
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (
        parts.TextColumn("{task.description}", markup=False),
        parts.BarColumn(),
        parts.MofNCompleteColumn(),
        parts.TextColumn(unit),
        Rate(),
    )
    console = stderr_console()
    with parts.Progress(*columns, parts.TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(shown(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
