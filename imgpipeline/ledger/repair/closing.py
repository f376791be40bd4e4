"""Closes a chain whose log is gone, and finds the current chain of a log.

A log may be truncated below the ledger's end under the same topic id (an unclean election, a restored disk), or a topic
may be re-created on a broker without topic ids. The name then belongs to another log. Its offsets may not enter the old
chain, which already has outcomes for them, so it gets a new chain: `{topic id}~2`, then `~3`, and so on.

The chains themselves say which chain a log has. A chain is *closed* by a segment at its end that holds one gap of one
offset, with the reason `closed`. A log's chain is the first of `id`, `id~2`, `id~3`, … that is not closed. No second
place could contradict this, and finding the end of a chain answers it without a further request.

Why this is safe while other processes write: the closing segment is put create-only at the chain's end, by the same
rule as any other.

* If a run and a closing write to the same end, the store lets one win. If the run wins, the chain has grown, and the
  closing has to be decided again. If the closing wins, the run has lost its place as to any other run, and discards its
  work.
* A run that has not seen the closing cannot write after it: it writes only at an end that it has read, and there is a
  segment now. A run that has read it continues in the next chain, and `ChainWriter` refuses to write after a closing.
* Of two closings, one wins. The next chain is empty for both, and a chain without an outcome contradicts no log, so two
  closings never close two chains.
* A release that does not know closed chains finds the end after the gap. The fingerprint in the closing segment does
  not match the log, so it stops as before.

The old chain keeps every object, and is audited and shown like those of deleted topics.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from imgpipeline.contracts.keys import ChainId, next_chain
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import ChainEnd, find_end
from imgpipeline.objectstore import ObjectStore


def find_current_end(store: ObjectStore, chain: ChainId, *, hint: int | None = None) -> ChainEnd:
    """Finds the end of the chain that a log has now.

    Args:
        store: The object store.
        chain: The log's first chain (`LogRange.chain`).
        hint: Start of a segment of its present chain that is believed to exist. A wrong one costs a request.

    Returns:
        The end; its `chain` is the one to write to, which has no segment yet right after the one before was closed.

    Raises:
        LedgerError: A last segment cannot be read.
    """
    end = find_end(store, chain, hint=hint)
    while end.is_closed:
        end = find_end(store, next_chain(end.chain), hint=hint)
    return end


def current_chain(chain: ChainId, closed: Collection[ChainId]) -> ChainId:
    """Returns the chain that a log has now, where it is known which chains are closed.

    Args:
        chain: The log's first chain (`LogRange.chain`).
        closed: All chains that are closed.
    """
    while chain in closed:
        chain = next_chain(chain)
    return chain


def close_chain(store: ObjectStore, end: ChainEnd, *, run_id: str, created_at: datetime) -> bool:
    """Closes a chain at the end that was seen. That its log is gone has to be known.

    Args:
        store: The object store.
        end: Where the chain ended when it was read.
        run_id: Who closes it, as it is shown with the segment.
        created_at: Now.

    Returns:
        True if the chain is closed now, False if another writer was first: look at its end again.

    Raises:
        LedgerError: The chain has no segment, so there is nothing that a log could contradict, or it is closed already.
        TransientError: The store did not answer; whether it is closed is told by its end.
    """
    if end.header is None:
        raise LedgerError(f"{end.chain} has no segment; a chain without outcomes needs no closing.")
    return ChainWriter(store, end, DayIndex(store)).append(
        [Gap(end.offset, end.offset + 1, GapReason.CLOSED)],
        provenance=replace(end.header.provenance, run_id=run_id),
        writer_id=uuid4().hex,
        fingerprint=None,
        created_at=created_at,
    )
