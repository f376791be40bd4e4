"""The ledger: for every topic partition a chain of immutable segments that holds the outcome of every offset.

Owns the format of a segment, the rule by which chains grow, and reading them. It promises that an offset has exactly
one outcome, whoever writes when and dies where:

* A segment is put create-only, at the end of the chain that its writer has seen, and an end is only ever the `end`
  of a header that was read. Of two writers one wins; the other leaves the chain to it.
* A chain begins at offset 0 and has no holes. One whose log is gone is closed, and its log goes on in the next chain.
* The day index names every segment of a day (it may name more).
* `follow` yields each outcome after a checkpoint once, also those that a repair has changed before it.

Knows neither Dagster nor Kafka: what a record means belongs to `contracts` and `detect`, fetching it to `stream`.
"""

from imgpipeline.ledger.bundles.reading import read_chain
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.checkpoint import Checkpoint
from imgpipeline.ledger.days import DayIndex, days_since, index_buckets, known_days, read_day, read_days
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
    "days_since",
    "decode_segment",
    "encode_segment",
    "find_current_end",
    "find_end",
    "find_ends",
    "fix_ends",
    "follow",
    "for_each_chain",
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
