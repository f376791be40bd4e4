"""`imgpipeline dead-letters`: lists what could not become a frame and why, and announces it again."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.answers import SourceOption
from imgpipeline.cli.day_options import OnlyDayOption
from imgpipeline.cli.output import JsonOption, LatestOption, note, progress_bar, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError, DeadLetterCode
from imgpipeline.lake.query.days import optional_day
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.ledger.dead_letters import BuriedRecord, Wanted
    from imgpipeline.objectstore import ObjectStore
    from imgpipeline.sources.replay import ReplayPlan, ReplayResult

app = typer.Typer(help="Offsets that could not become frames: list, show, announce again.")
_MOST_NAMED = 20

CodeOption = Annotated[
    DeadLetterCode | None,
    typer.Option(metavar="CODE", help="Only this code, such as DECODE_FAILED (a wrong code lists them all)."),
]


@app.callback()
def _group() -> None:
    """Offsets that could not become frames: list, show, announce again."""


@app.command("list")
def list_them(
    code: CodeOption = None,
    day: OnlyDayOption = None,
    source: SourceOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Include those that were announced again, with the result.")
    ] = False,
    limit: LatestOption = 100,
    as_json: JsonOption = False,
) -> None:
    """List the open dead letters, the latest first.

    A dead letter is no longer open once its record was announced again and became a frame, or another dead letter that
    stands for it. The first call reads the whole ledger, later calls only what is new.
    """
    from imgpipeline.ledger.dead_letter_list import find_dead_letters  # noqa: PLC0415 - loads obstore
    from imgpipeline.ledger.dead_letters import LetterState  # noqa: PLC0415 - as above
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - as above

    wanted = _wanted(code, day, source)
    store = open_store(load_settings())
    with progress_bar("Reading the ledger", unit="offsets") as progress:
        found, _ = find_dead_letters(store, wanted, progress=progress)
    shown = [buried for buried in found if every or buried.state is LetterState.OPEN]
    if as_json:
        show_json(_documents(store, shown[:limit]))
    elif shown:
        _show_list(shown[:limit], with_state=every)
    else:
        note("No dead letters match.")
    if len(shown) > limit:
        note(f"There are more than {limit}; --limit shows more.")
    if len(found) > len(shown) and not as_json:
        note(f"Not shown because they were announced again: {len(found) - len(shown)}; --all shows them.")


def _wanted(code: DeadLetterCode | None, day: str | None, source: str | None) -> "Wanted":
    from imgpipeline.ledger.dead_letters import Wanted  # noqa: PLC0415 - loads obstore

    return Wanted(code, optional_day(day), source)


def _documents(store: "ObjectStore", wanted: "list[BuriedRecord]") -> list[dict[str, Any]]:
    from imgpipeline.ledger.dead_letters import read_letters  # noqa: PLC0415 - loads obstore
    from imgpipeline.sources.letter_details import document  # noqa: PLC0415 - loads obstore and kafka-python

    in_order = sorted(wanted, key=lambda buried: buried.reference)  # neighbours share one reading of their segment
    read = {buried.reference: document(buried, letter) for buried, letter in read_letters(store, in_order)}
    return [read[buried.reference] for buried in wanted]


def _show_list(found: "list[BuriedRecord]", *, with_state: bool) -> None:
    columns = ["topic", "partition", "offset", "time", "code", "source", "image", "what was wrong"]
    rows = []
    for buried in found:
        at, letter = buried.reference, buried.letter
        row = [at.chain.topic, str(at.chain.partition), letter.offset, letter.timestamp, letter.code.value,
               letter.source, letter.image_path, letter.message]  # fmt: skip
        rows.append([*row, f"{buried.state.value} {buried.became or ''}"] if with_state else row)
    show_table([*columns, "what became of it"] if with_state else columns, rows)


@app.command("show")
def show(
    record: Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="The record, as `list` names it.")],
    raw: Annotated[Path | None, typer.Option(help="Write the record's value to this new file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything about one dead letter: the reason, the record, the run and model, and what to do next."""
    from imgpipeline.cli.dead_letter_page import show_page, write_value  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - as above
    from imgpipeline.sources.letter_details import read_details  # noqa: PLC0415 - as above

    settings = load_settings()
    with progress_bar("Reading the ledger", unit="offsets") as progress:
        page = read_details(settings, open_store(settings), record, progress=progress)
    if raw is not None:
        write_value(page, raw)
    if as_json:
        show_json(page.to_json())
    else:
        show_page(page)


@app.command("replay")
def replay(
    code: CodeOption = None,
    day: OnlyDayOption = None,
    source: SourceOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Include those that became a frame or were already announced again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would be announced.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Announce the records of open dead letters again, on the (first) topic of IMGPIPELINE_KAFKA_TOPIC.

    A record keeps its value, key, headers and time, so its frame has the frame_id it would have had, and counts once.
    The dead letters stay in the ledger. Records that were announced again and wait for a detection run, or became a
    frame, are skipped.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.sources import replay as replays  # noqa: PLC0415 - loads kafka-python and obstore

    settings = load_settings()
    store = open_store(settings)
    with progress_bar("Reading the ledger", unit="offsets") as progress:
        plan = replays.plan_replay(settings, store, _wanted(code, day, source), again=again, progress=progress)
    result = replays.ReplayResult(0, ())
    if plan.chosen and not dry_run:
        if not yes:
            _confirm(len(plan.chosen), settings.kafka_topic)
        with progress_bar("Announcing", unit="records") as progress:
            result = replays.replay(settings, store, plan, progress=progress)
    if as_json:
        show_json(_outcome_of(plan, result) | {"topic": settings.kafka_topic, "dry_run": dry_run})
    else:
        _report(plan, result, settings.kafka_topic, dry_run=dry_run)
    asked_for_imports = plan.imported and not plan.chosen and (code or day or source)
    if result.refused or asked_for_imports:
        raise typer.Exit(1)


def _confirm(count: int, topic: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("Nothing was announced: confirmation needs a terminal.", next_step="give --yes")
    typer.confirm(f"Announce {counted(count, 'record')} again on the topic {topic}?", abort=True, err=True)


def _outcome_of(plan: "ReplayPlan", result: "ReplayResult") -> dict[str, Any]:
    return {
        "matching_open": len(plan.chosen),
        "announced": result.announced,
        "already_resolved": plan.resolved,
        "under_way": plan.under_way,
        "crashed": plan.crashed,
        "imported": plan.imported,
        "records": [str(buried.reference) for buried in plan.chosen],
        "refused": [asdict(refusal) | {"record": str(refusal.record)} for refusal in result.refused],
    }


def _report(plan: "ReplayPlan", result: "ReplayResult", topic: str, *, dry_run: bool) -> None:
    if dry_run:
        if plan.chosen:
            _show_list(list(plan.chosen), with_state=False)
        note(f"Nothing was done: this would announce {counted(len(plan.chosen), 'record')} again on the topic {topic}.")
    elif plan.chosen:
        note(f"{result.announced} of {counted(len(plan.chosen), 'record')} announced again on the topic {topic}.")
    else:
        note("Nothing to announce again.")
    if plan.resolved:
        note(f"Already frames: {plan.resolved}.")
    if plan.under_way:
        note(f"Announced again before, waiting for a detection run: {plan.under_way}; --again repeats that.")
    if plan.crashed:
        note(f"Skipped because they crashed a process: {plan.crashed}; --code PROCESS_CRASHED announces them too.")
    if plan.imported:
        note(
            f"Rows of imports, which have no record in Kafka: {plan.imported}. Correct them in a separate file and "
            "import it under another --name."
        )
    for refusal in result.refused[:_MOST_NAMED]:
        note(f"Not announced: {refusal.record}: {refusal.reason}.")
    if len(result.refused) > _MOST_NAMED:
        note(f"And {len(result.refused) - _MOST_NAMED} more; --json names all.")
