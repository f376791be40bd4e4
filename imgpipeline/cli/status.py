"""`imgpipeline status`: how far the ledger lags behind the Kafka log, one row per topic partition."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.checks import STORE_PATIENCE_S
from imgpipeline.cli.options import JsonOption
from imgpipeline.cli.output import note, show_json, show_table
from imgpipeline.contracts.keys import FAN_OUT_OFFSETS
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.contracts.keys import ChainId
    from imgpipeline.contracts.records import LogRange
    from imgpipeline.ledger import ChainEnd, Segment
    from imgpipeline.objectstore import ObjectStore


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """Log and ledger of one topic partition."""

    topic: str
    """Kafka topic."""
    topic_id: str
    """Which incarnation of the topic."""
    partition: int
    """Kafka partition."""
    current: bool
    """Whether the broker still has this incarnation of the topic."""
    log_start: int | None
    """First offset that Kafka still has; None if not current."""
    log_end: int | None
    """Last stable offset of Kafka; None if not current."""
    ledger_end: int
    """First offset without an outcome."""
    lag: int | None
    """Offsets without an outcome, with transaction markers; 0 if no record is among them. None if not current."""
    oldest_unread: datetime | None
    """Kafka's time of the oldest record without an outcome, UTC; None if none waits."""
    problem: str | None
    """Why the partition stops; None if it does not."""
    last_commit: datetime | None
    """When the last segment was written, UTC; None without a segment."""
    dead_letters: int
    """Dead letters from `counted_from` to the ledger's end."""
    counted_from: int
    """First offset of the count of dead letters; 0: all are counted."""


def status(
    segments: Annotated[
        int,
        typer.Option("--segments", min=1, help="Count dead letters in this many latest segments of each partition."),
    ] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Show log end, ledger end, lag, last commit and dead letters of each topic partition."""
    from imgpipeline.detect.state import read_state  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - as above
    from imgpipeline.stream.log import read_logs  # noqa: PLC0415 - loads kafka-python

    settings = load_settings()
    store = open_store(settings, patience_s=STORE_PATIENCE_S)
    # Read the ledger's ends first, so that none is beyond the end of its log.
    ends = _ledger_ends(store, settings.kafka_topics)
    logs = read_logs(settings)
    rows = list(_rows(store, ends, logs.ranges, segments, settings))
    if as_json:
        unreadable = {topic: why.message for topic, why in logs.unreadable.items()}
        partitions = [asdict(row) for row in rows]
        show_json({"topic": ",".join(settings.kafka_topics), "partitions": partitions, "unreadable": unreadable})
        return
    columns = ("topic", "partition", "log end", "ledger end", "lag", "oldest unread", "last commit", "dead letters")
    show_table(
        columns,
        [
            (r.topic if r.current else f"{r.topic} ({r.topic_id}, gone)", str(r.partition), r.log_end, r.ledger_end,
             r.lag, r.oldest_unread, r.last_commit, r.dead_letters)
            for r in rows
        ],
    )  # fmt: skip
    problems = [*map(str, logs.unreadable.values()), *(row.problem for row in rows if row.problem)]
    problems += read_state(store).problems(utc_now()) if any(row.lag for row in rows) else []
    for why in dict.fromkeys(problems):
        note(why)
    if any(row.counted_from for row in rows):
        note(f"Dead letters are counted in the last {counted(segments, 'segment')} of a partition; see --segments.")


def _ledger_ends(store: "ObjectStore", topics: Sequence[str]) -> "dict[ChainId, ChainEnd]":
    from imgpipeline.ledger import find_ends, list_chains  # noqa: PLC0415 - loads obstore

    return find_ends(store, [chain for topic in topics for chain in list_chains(store, topic)])


def _rows(
    store: "ObjectStore",
    ends: "dict[ChainId, ChainEnd]",
    logs: "Sequence[LogRange]",
    segments: int,
    settings: Settings,
) -> Iterator[PartitionStatus]:
    from imgpipeline.detect.state import find_expired  # noqa: PLC0415 - loads obstore
    from imgpipeline.ledger import current_chain  # noqa: PLC0415 - as above
    from imgpipeline.stream.fetch import find_oldest  # noqa: PLC0415 - loads kafka-python

    closed = {chain for chain, end in ends.items() if end.is_closed}
    by_chain = {current_chain(log.chain, closed): log for log in logs}
    gone = sorted(chain for chain in ends if chain not in by_chain)
    reached = {log: ends[chain].offset if chain in ends else 0 for chain, log in by_chain.items()}
    oldest = find_oldest(settings, reached)
    for chain in [*by_chain, *gone]:
        log, end = by_chain.get(chain), ends.get(chain)
        offset = end.offset if end else 0
        headers = [segment.header for segment in islice(_latest_segments(store, chain, offset), segments)]
        yield PartitionStatus(
            topic=chain.topic,
            topic_id=chain.topic_id,
            partition=chain.partition,
            current=log is not None,
            log_start=log.log_start if log else None,
            log_end=log.log_end if log else None,
            ledger_end=offset,
            lag=(log.log_end - offset if log.at in oldest else 0) if log else None,
            oldest_unread=oldest.get(log.at) if log else None,
            problem=str(why) if log and end and (why := find_expired(log, end)) else None,
            last_commit=end.header.created_at if end and end.header else None,
            dead_letters=sum(header.dead_letters for header in headers),
            counted_from=headers[-1].start if headers else 0,
        )


def _latest_segments(store: "ObjectStore", chain: "ChainId", end: int) -> "Iterator[Segment]":
    """Yields the segments of a chain from its end backwards. Lists and reads only what the caller takes."""
    from imgpipeline.ledger import list_segments, read_segments  # noqa: PLC0415 - loads obstore

    while end > 0:
        first = (end - 1) // FAN_OUT_OFFSETS * FAN_OUT_OFFSETS
        yield from read_segments(store, chain, reversed(list_segments(store, chain, first, end)))
        end = first
