"""`imgpipeline ledger`: the chains of segments themselves, and what may be done to them by hand.

Commands that change a chain have modules of their own; `app` is the group that they join.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.output import JsonOption, note, show_json, show_table
from imgpipeline.cli.usage import from_arguments
from imgpipeline.errors import LedgerError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.contracts.keys import ChainId
    from imgpipeline.objectstore import ObjectStore

app = typer.Typer(help="Chains of segments: list, bundle, repair.")


@app.callback()
def _group() -> None:
    """Chains of segments: list, bundle, repair."""


@dataclass(frozen=True, slots=True)
class EndShown:
    """The end of one chain, as far as it can be read."""

    topic: str
    """Kafka topic, or `import.<name>`."""
    topic_id: str
    """Which incarnation of the topic."""
    partition: int
    """Kafka partition."""
    end: int | None
    """First offset without an outcome; None if the last segment cannot be read."""
    last_start: int | None
    """Where the last segment starts; None for a chain without one, or where it cannot be read."""
    last_commit: datetime | None
    """When the last segment was made, UTC; None as above."""
    run_id: str | None
    """Which run made it; None as above."""
    closed: bool
    """Whether the chain is closed: its log continues in the next one (`ledger new-chain`)."""
    problem: str | None
    """Why the end cannot be read; None if it can."""


@app.command("ends")
def ends(
    topic: Annotated[str | None, typer.Option(help="Only the chains of this topic. Default: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List all chains and their ends, including those of earlier topics and of imports. Does not need Kafka."""
    from imgpipeline.contracts.keys import ChainId  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    if topic is not None:
        with from_arguments("give the name of a topic; `imgpipeline ledger ends` lists all chains"):
            ChainId(topic, "any", 0)
    rows = list(_read_ends(open_store(load_settings()), topic))
    if as_json:
        show_json([asdict(row) for row in rows])
    elif rows:
        columns = ("topic", "topic id", "partition", "end", "last segment", "last commit", "run", "closed")
        show_table(
            columns,
            [
                (r.topic, r.topic_id, str(r.partition), r.end, r.last_start, r.last_commit, r.run_id, r.closed)
                for r in rows
            ],
        )
    else:
        note(f"The ledger has no chain of the topic {topic}." if topic else "The ledger has no chain yet.")
    wrong = [row.problem for row in rows if row.problem]
    for problem in wrong:
        note(f"WRONG: {problem}")
    if wrong:
        raise typer.Exit(1)


def _read_ends(store: "ObjectStore", topic: str | None) -> Iterator[EndShown]:
    from imgpipeline.ledger import for_each_chain, list_chains  # noqa: PLC0415 - loads obstore

    return for_each_chain(list_chains(store, topic), lambda chain: _read_end(store, chain))


def _read_end(store: "ObjectStore", chain: "ChainId") -> EndShown:
    from imgpipeline.ledger import find_end  # noqa: PLC0415 - loads obstore

    try:
        end = find_end(store, chain)
    except LedgerError as error:
        return EndShown(chain.topic, chain.topic_id, chain.partition, None, None, None, None, False, error.message)
    last = end.header
    return EndShown(
        topic=chain.topic,
        topic_id=chain.topic_id,
        partition=chain.partition,
        end=end.offset,
        last_start=end.hint,
        last_commit=last.created_at if last else None,
        run_id=last.provenance.run_id if last else None,
        closed=end.is_closed,
        problem=None,
    )
