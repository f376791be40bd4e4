"""`imgpipeline dead-letters`: list and show offsets that could not become frames, and announce them again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from imgpipeline.cli.options import (
    DryRunOption,
    JsonOption,
    LatestOption,
    OnlyDayOption,
    RowFormat,
    SourceOption,
    YesOption,
    command,
    open_site,
)
from imgpipeline.cli.output import (
    confirm,
    note,
    note_latest,
    note_some,
    progress_bar,
    record_of,
    show_json,
    show_records,
    shown,
    write_text,
)
from imgpipeline.contracts.keys import segment_key
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError, DeadLetterCode
from imgpipeline.lake.query.days import optional_day
from imgpipeline.ledger.dead_letters import LetterState, Wanted, find_dead_letters
from imgpipeline.sources import dead_letters as replays
from imgpipeline.sources.dead_letters import (
    LetterDetails,
    ReplayPlan,
    ReplayResult,
    as_text,
    document,
    read_details,
    readable,
)

app = typer.Typer()
_MOST_NAMED = 20
_SHOWN_BYTES = 4096

CodeOption = Annotated[
    DeadLetterCode | None,
    typer.Option(metavar="CODE", help="Only this code, such as DECODE_FAILED. An unknown code lists all codes."),
]


_LETTERS = ("topic", "partition", "offset", "timestamp", "code", "source", "image_path", "message")


@command(app, "list")
def list_letters(
    code: CodeOption = None,
    day: OnlyDayOption = None,
    source: SourceOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Include records that were announced again, with the result.")
    ] = False,
    limit: LatestOption = 100,
    *,
    rows: RowFormat,
) -> None:
    """List the open dead letters, latest first.

    A dead letter is closed once its record was announced again and became a frame, or another dead letter that
    replaces it. The first call reads the whole ledger, later calls read only what was added since.
    """
    wanted = _wanted(code, day, source)
    _, store = open_site()
    with progress_bar("Reading the ledger", unit="offsets") as progress:
        found, _ = find_dead_letters(store, wanted, progress=progress)
    listed = [buried for buried in found if every or buried.state is LetterState.OPEN]
    columns = (*_LETTERS, "state", "became") if every else _LETTERS
    rows.show([document(buried) for buried in listed[:limit]], columns, empty="No dead letters match.")
    note_latest(min(len(listed), limit), len(listed), "dead letters")
    if len(found) > len(listed) and not rows.as_json:
        note(f"Not shown because they were announced again: {len(found) - len(listed)}; --all shows them.")


def _wanted(code: DeadLetterCode | None, day: str | None, source: str | None) -> "Wanted":
    return Wanted(code, optional_day(day), source)


@command(app, "show")
def show(
    record: Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="The record, as shown by `list`.")],
    raw: Annotated[Path | None, typer.Option(help="Write the record's value to this new file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything about one dead letter: the reason, the record, the run and model, and what to do next."""
    settings, store = open_site()
    with progress_bar("Reading the ledger", unit="offsets") as progress:
        details = read_details(settings, store, record, progress=progress)
    if raw is not None:
        _write_value(details, raw)
    if as_json:
        show_json(details.to_json())
    else:
        write_text("".join(_page(details)))


def _write_value(details: "LetterDetails", path: Path) -> None:
    if details.original is None:
        raise ConfigurationError(f"The value of {details.buried.reference} cannot be written: {details.missing}.")
    try:
        with path.open("xb") as file:
            file.write(details.original.value)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.", next_step="name a new file in an existing folder"
        ) from error
    note(f"{counted(len(details.original.value), 'byte')} written to {path}.")


def _page(details: "LetterDetails") -> Iterator[str]:
    """Yields the lines about a dead letter, and the value of its record."""
    letter, segment = details.letter, details.segment
    became = f" ({details.buried.became})" if details.buried.became else ""
    lines = {
        "record": details.buried.reference.full_text,
        "code": letter.code.value,
        "problem": letter.message,
        "state": details.buried.state.value + became,
        "time": letter.timestamp,
        "day": letter.day,
        "source": letter.source,
        "image": letter.image_path,
        "replay of": letter.replay_of,
        "processed at": segment.created_at,
        "segment": segment_key(segment.chain, segment.start),
        "run": segment.provenance.run_id,
        "model": f"{segment.provenance.model_name} {segment.provenance.model_sha256[:16]}",
        "next": details.next_step,
    }
    if details.original:
        lines["key"] = None if details.original.key is None else _one_line(details.original.key)
        lines |= {f"header {name}": _one_line(value) for name, value in details.original.headers}
    lines["value"] = counted(letter.raw_size_bytes, "byte") + (f": {details.missing}" if details.missing else "")
    width = max(map(len, lines))
    for name, value in lines.items():
        yield f"{shown(name):{width}}  {shown(value)}\n"
    if details.original:
        yield from _dump(details.original.value)


def _one_line(raw: bytes) -> str:
    text = as_text(raw[:200])
    return repr(text) if text is not None else raw[:200].hex(" ")


def _dump(raw: bytes) -> Iterator[str]:
    if raw:
        for line in readable(raw, _SHOWN_BYTES):
            yield f"{shown(line)}\n"
    if len(raw) > _SHOWN_BYTES:
        yield f"... and {counted(len(raw) - _SHOWN_BYTES, 'more byte')}; --raw FILE writes all\n"


@command(app, "replay")
def replay(
    code: CodeOption = None,
    day: OnlyDayOption = None,
    source: SourceOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Include records that became a frame or were already announced again.")
    ] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Announce the records of open dead letters again, on the (first) topic of IMGPIPELINE_KAFKA_TOPIC.

    A record keeps its value, key, headers and time, so its frame has the frame_id that the original would have had, and
    counts once. The dead letters stay in the ledger. Records that became a frame, or that were announced again and wait
    for a detection run, are skipped.
    """
    settings, store = open_site()
    with progress_bar("Reading the ledger", unit="offsets") as progress:
        plan = replays.plan_replay(settings, store, _wanted(code, day, source), again=again, progress=progress)
    result = replays.ReplayResult(0, ())
    if plan.chosen and not dry_run:
        if not yes:
            confirm(f"Announce {counted(len(plan.chosen), 'record')} again on the topic {settings.kafka_topic}?")
        with progress_bar("Announcing", unit="records") as progress:
            result = replays.replay(settings, store, plan, progress=progress)
    if as_json:
        show_json(_replay_json(plan, result) | {"topic": settings.kafka_topic, "dry_run": dry_run})
    else:
        _report_replay(plan, result, settings.kafka_topic, dry_run=dry_run)
    asked_for_imports = plan.imported and not plan.chosen and (code or day or source)
    if result.refused or asked_for_imports:
        raise typer.Exit(1)


def _replay_json(plan: "ReplayPlan", result: "ReplayResult") -> dict[str, Any]:
    return {
        "matching_open": len(plan.chosen),
        "announced": result.announced,
        "already_resolved": plan.resolved,
        "under_way": plan.under_way,
        "crashed": plan.crashed,
        "imported": plan.imported,
        "records": [str(buried.reference) for buried in plan.chosen],
        "refused": [record_of(refusal) | {"record": str(refusal.record)} for refusal in result.refused],
    }


def _report_replay(plan: "ReplayPlan", result: "ReplayResult", topic: str, *, dry_run: bool) -> None:
    if dry_run:
        if plan.chosen:
            show_records([document(buried) for buried in plan.chosen], _LETTERS)
        note(f"Would announce {counted(len(plan.chosen), 'record')} again on the topic {topic}. Nothing was changed.")
    elif plan.chosen:
        note(f"{result.announced} of {counted(len(plan.chosen), 'record')} announced again on the topic {topic}.")
    else:
        note("Nothing to announce again.")
    if plan.resolved:
        note(f"Already frames: {plan.resolved}.")
    if plan.under_way:
        note(
            f"Already announced again, waiting for a detection run: {plan.under_way}; --again announces them once more."
        )
    if plan.crashed:
        note(f"Skipped because they crashed a process: {plan.crashed}; --code PROCESS_CRASHED announces them too.")
    if plan.imported:
        note(
            f"Rows of imports, which have no record in Kafka: {plan.imported}. Correct them in a separate file and "
            "import it under another --name."
        )
    note_some([f"Not announced: {refusal.record}: {refusal.reason}." for refusal in result.refused], _MOST_NAMED)
