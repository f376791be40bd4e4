"""`imgpipeline sources`: the books of the sources, and how they are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from imgpipeline.cli.answers import SourceOption
from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption
from imgpipeline.cli.output import (
    CsvOption,
    JsonOption,
    note,
    observed,
    refuse_two_formats,
    show_csv,
    show_json,
    show_table,
)
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.query.days import days_of, read_span
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.lake.query.books import BookEntry
    from imgpipeline.lake.query.source_status import SourceStatus

app = typer.Typer(help="The sources: their accounting, and how they are.")

_BOOKS = ("day", "source", "session", "state", "received", "announced", "in ledger", "duplicates", "gated", "dropped",
          "failed", "open", "difference", "observed s")  # fmt: skip
_STATUS = ("source", "state", "last frame", "last notice", "frames/s", "frames today", "dead letters", "dropped",
           "observed today", "reason")  # fmt: skip


@app.callback()
def _group() -> None:
    """The sources: their accounting, and how they are."""


@app.command("books")
def books(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: SourceOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show what each session of each source received on each day (UTC), and what became of it.

    A session that has ended balances if received = announced + gated + dropped + failed, and if the ledger holds the
    frames that it announced. Records after the last account of a session that has not ended are `open`. Exits with
    status 1 if something does not balance.
    """
    from imgpipeline.lake.query.books import read_books  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    span, settings = read_span(day, first, last), load_settings()
    store = open_store(settings)
    entries = read_books(store, settings, None if span.is_all else days_of(store, span), source)
    documents = [{name: getattr(entry, name) for name in entry.__dataclass_fields__} for entry in entries]
    if as_json:
        show_json(documents)
    elif as_csv:
        columns = tuple(entries[0].__dataclass_fields__) if entries else ("day", "source", "session")
        show_csv(columns, [list(document.values()) for document in documents])
    elif entries:
        show_table(_BOOKS, [_book_cells(entry) for entry in entries])
    else:
        note(f"There is no data ({span}).")
    wrong = [entry for entry in entries if not entry.balances]
    for entry in wrong:
        note(f"WRONG: {_imbalance(entry)}")
    if wrong:
        raise typer.Exit(1)


def _book_cells(entry: "BookEntry") -> list[Any]:
    return [entry.day, entry.source, entry.session, entry.state, entry.received, entry.announced, entry.in_ledger,
            entry.duplicates, entry.gated, _dropped(entry.dropped),
            entry.failed, entry.open, entry.difference, entry.observed_s]  # fmt: skip


def _imbalance(entry: "BookEntry") -> str:
    named = f"{entry.source}, session {entry.session}, {entry.day}"
    if entry.unaccounted:
        return f"{named}: {counted(entry.unaccounted, 'received frame')} without an account of what became of them."
    said = counted(entry.announced or 0, "announced frame")
    return f"{named}: {said}, but {counted(entry.in_ledger, 'record')} in the ledger ({entry.topic}/{entry.partition})."


@app.command("status")
def status(as_json: JsonOption = False) -> None:
    """Show how the sources of the last 30 days are, by their notices and frames in the ledger.

    A source is `online`, `offline` or `ended` if its last notice says so, and `silent` if nothing came from it for
    longer than IMGPIPELINE_SOURCE_SILENT_S. Counts are those of the UTC day so far. Needs no Kafka.
    """
    from imgpipeline.lake.query.source_status import read_source_status  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    found = read_source_status(open_store(settings), settings, now=utc_now())
    if as_json:
        show_json([{name: getattr(each, name) for name in each.__dataclass_fields__} for each in found])
    elif found:
        show_table(_STATUS, [_status_cells(each) for each in found])
    else:
        note("No source has sent anything in the last 30 days.")


def _status_cells(each: "SourceStatus") -> list[Any]:
    return [each.source, each.state, each.last_frame, each.last_notice, each.frames_per_s, each.frames_today,
            each.dead_letters_today, _dropped(each.dropped_today), observed(each.observed_today_s),
            each.reason]  # fmt: skip


def _dropped(reasons: Mapping[str, int]) -> Any:
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons.items()) or 0
