"""`imgpipeline ledger new-chain`: for logs that no longer match the ledger."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.announcing import one_of_the_topics
from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.contracts.keys import ChainId
    from imgpipeline.detect.resume import Contradiction


def new_chain(
    partition: Annotated[
        list[int] | None, typer.Option(min=0, help="Only this partition; repeat it for several. Default: all.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic of IMGPIPELINE_KAFKA_TOPIC. Default: all.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a new chain for a log that was truncated or re-created under its old name.

    Changes only partitions whose log contradicts the ledger. Their chain is closed and stays as it is, also in queries
    and audits. The log is read from its beginning; frames that were read before keep their frame_id, so they are not
    counted twice.
    """
    from imgpipeline.detect.resume import begin_new_chain, find_contradictions  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    if topic is not None:
        settings = settings.model_copy(update={"kafka_topic": one_of_the_topics(settings, topic)})
    store = open_store(settings)
    found = find_contradictions(settings, store, partition or ())
    for one in found:
        log = one.log
        note(f"{one.end.chain}: {one.why}; the log now holds [{log.log_start}, {log.log_end}).")
    if found and not yes:
        _confirm(len(found))
    done = [_as_json(one, begin_new_chain(settings, store, one, now=utc_now())) for one in found]
    if as_json:
        show_json({"topic": ",".join(settings.kafka_topics), "new_chains": done})
    for row in done:
        note(
            f"Partition {row['partition']} of {row['topic']} continues in the chain {row['new_topic_id']}; "
            "the next run starts it."
        )
    if not found:
        note(f"Nothing to do: no log of {', '.join(settings.kafka_topics)} contradicts its chain.")


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("Nothing was changed: confirmation needs a terminal.", next_step="give --yes")
    typer.confirm(f"Close {count} of the ledger's chains and start new ones?", abort=True, err=True)


def _as_json(found: "Contradiction", chain: "ChainId") -> dict[str, Any]:
    return {
        "topic": found.log.topic,
        "partition": found.log.partition,
        "why": found.why,
        "closed_topic_id": found.end.chain.topic_id,
        "closed_at": found.end.offset,
        "new_topic_id": chain.topic_id,
        "log_start": found.log.log_start,
        "log_end": found.log.log_end,
    }
