"""`imgpipeline ledger new-chain`: what to do once a run says that the log is not the one that its chain was made of."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings, utc_now

if TYPE_CHECKING:
    from imgpipeline.contracts.keys import ChainId
    from imgpipeline.detect.renewal import Contradiction


def new_chain(
    partition: Annotated[
        list[int] | None, typer.Option(min=0, help="Only this partition; may be given repeatedly. Default: all.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a log that was cut or made anew under its old name begin a chain of its own.

    Only partitions whose log contradicts the ledger are touched. Their chain is closed, stays as it is, and is shown
    and audited like before. What the log holds now is read from its beginning; frames that were read before keep their
    names, so that no number counts them twice.
    """
    from imgpipeline.detect.renewal import begin_new_chain, find_contradictions  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    store = open_store(settings)
    found = find_contradictions(settings, store, partition or ())
    for one in found:
        log = one.log
        note(f"{one.end.chain}: {one.why}; the log now holds [{log.log_start}, {log.log_end}).")
    if found and not yes:
        _confirm(len(found))
    done = [_as_json(one, begin_new_chain(settings, store, one, now=utc_now())) for one in found]
    if as_json:
        show_json({"topic": settings.kafka_topic, "new_chains": done})
    for row in done:
        note(f"Partition {row['partition']} goes on in the chain {row['new_topic_id']}; the next run begins it.")
    if not found:
        note(f"Nothing to do: no log of {settings.kafka_topic} contradicts its chain.")


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("Nothing was changed: nobody can be asked here.", next_step="give --yes")
    typer.confirm(f"Close {count} of the ledger's chains and begin new ones?", abort=True, err=True)


def _as_json(found: "Contradiction", chain: "ChainId") -> dict[str, Any]:
    return {
        "partition": found.log.partition,
        "why": found.why,
        "closed_topic_id": found.end.chain.topic_id,
        "closed_at": found.end.offset,
        "new_topic_id": chain.topic_id,
        "log_start": found.log.log_start,
        "log_end": found.log.log_end,
    }
