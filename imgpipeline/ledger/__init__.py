"""The ledger: for every topic partition, a chain of immutable segments with the outcome of every offset.

An offset has exactly one outcome, whichever processes write or die at any moment:

* A segment is created only at the end of the chain that its writer has read, and only if its key does not exist. Of two
  writers, one wins and the other one discards its work.
* A chain starts at offset 0 and has no holes. If its log is gone, the chain is closed and the log gets the next one.
* The day index covers every segment of a day (it may cover more).
* `follow` yields each outcome after a checkpoint once, and again if a repair changes it.
"""

from imgpipeline.ledger.bundles.reading import read_chain
from imgpipeline.ledger.chain import ChainWriter, append_gap, close_chain, current_chain, find_current_end
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
    "append_gap",
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
