"""Creates a ledger of very many segments within a minute, by writing files into the folder that the S3 server serves.

Readers of chain ends find what they depend on: the keys of real chains, and a last segment that the ledger's own code
has put. All segments before it are hard links to that one object, so they take no space and must not be read.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from imgpipeline.contracts.keys import FAN_OUT_OFFSETS, ChainId, fan_out_prefix, segment_key
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.ledger import ChainEnd, ChainWriter, DayIndex, Provenance
from imgpipeline.objectstore import ObjectStore

_MADE_BY = Provenance("none", "", "", "benchmark")
_LINKS_A_FILE = 50_000
"""ext4 takes no more than 65,000 names for one file."""


def make_chain(store: ObjectStore, bucket_dir: Path, chain: ChainId, segments: int) -> None:
    """Makes a chain of segments of one offset each.

    Args:
        store: The bucket, as the pipeline opens it.
        bucket_dir: The folder of the same bucket.
        chain: Which chain.
        segments: How many; the chain ends there.
    """
    for first in range(0, segments, _LINKS_A_FILE):
        behind = min(first + _LINKS_A_FILE, segments)
        _put_segment(store, chain, behind - 1)
        _link(bucket_dir / segment_key(chain, behind - 1), bucket_dir, chain, range(first, behind - 1))


def _put_segment(store: ObjectStore, chain: ChainId, start: int) -> None:
    """Puts one real segment by the ledger's own code, as if the chain had been followed up to there."""
    writer = ChainWriter(store, ChainEnd(chain, start, None), DayIndex(store))
    written = writer.append(
        [Gap(start, start + 1, GapReason.MARKER)],
        provenance=_MADE_BY,
        writer_id=uuid4().hex,
        fingerprint=None,
        created_at=datetime.now(UTC),
    )
    if not written:
        raise RuntimeError(f"{chain} has a segment at {start} already")


def _link(segment: Path, bucket_dir: Path, chain: ChainId, starts: Iterable[int]) -> None:
    folder = Path()
    for start in starts:
        if start % FAN_OUT_OFFSETS == 0 or folder == Path():
            folder = bucket_dir / fan_out_prefix(chain, start)
            folder.mkdir(parents=True, exist_ok=True)
        (folder / segment_key(chain, start).rpartition("/")[2]).hardlink_to(segment)
