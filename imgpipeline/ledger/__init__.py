"""The ledger: for every topic partition a chain of immutable segments that holds the outcome of every offset.

An offset has exactly one outcome, whichever process writes or dies at any moment:

* A segment is created only if nothing exists under its key, at the end of the chain that its writer has read. Of two
  writers one wins; the other one drops its work.
* A chain begins at offset 0 and has no holes. If its log is gone, the chain is closed, and the log gets the next one.
* The day index names every segment of a day (it may name more).
* `follow` yields each outcome after a checkpoint once, and again where a repair has changed it.

This package knows neither Dagster nor Kafka.
"""

from imgpipeline.ledger.bundles.reading import read_chain
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.checkpoint import Checkpoint
from imgpipeline.ledger.days import (
    DayIndex,
    days_of_chain,
    days_since,
    has_segment,
    index_buckets,
    known_days,
    read_day,
    read_days,
)
from imgpipeline.ledger.follow import Batch, LostCheckpointError, follow
from imgpipeline.ledger.reading import (
    ChainEnd,
    find_end,
    find_ends,
    fix_ends,
    for_each_chain,
    list_chains,
    list_segments,
    read_segment,
    read_segments,
)
from imgpipeline.ledger.repair.closing import close_chain, current_chain, find_current_end
from imgpipeline.ledger.segment import (
    Fingerprint,
    Provenance,
    Segment,
    SegmentHeader,
    decode_segment,
    encode_segment,
)

__all__ = [
    "Batch",
    "ChainEnd",
    "ChainWriter",
    "Checkpoint",
    "DayIndex",
    "Fingerprint",
    "LostCheckpointError",
    "Provenance",
    "Segment",
    "SegmentHeader",
    "close_chain",
    "current_chain",
    "days_of_chain",
    "days_since",
    "decode_segment",
    "encode_segment",
    "find_current_end",
    "find_end",
    "find_ends",
    "fix_ends",
    "follow",
    "for_each_chain",
    "has_segment",
    "index_buckets",
    "known_days",
    "list_chains",
    "list_segments",
    "read_chain",
    "read_day",
    "read_days",
    "read_segment",
    "read_segments",
]
