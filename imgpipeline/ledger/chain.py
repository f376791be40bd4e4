"""Adds segments to the end of a chain, closes a chain whose log is gone, and finds the current chain of a log.

One rule makes the ledger exactly-once: a writer writes only at an end that it has read from a header (or at 0 if there
is no segment), and only if nothing exists there. No locks, no fencing, nothing to clean up.

A log may be truncated below the ledger's end under the same topic id (an unclean election, a restored disk), or a topic
may be re-created on a broker without topic ids. The name then belongs to another log. Its offsets must not enter the
old chain, which already has outcomes for them, so it gets a new chain: `{topic id}~2`, then `~3`, and so on.

The chains themselves say which chain a log has. A chain is *closed* by a segment at its end with a single gap of one
offset and the reason `closed`. A log's chain is the first of `id`, `id~2`, `id~3`, … that is not closed. This is stored
nowhere else, so nothing can contradict it, and the search for the end of a chain finds it without another request.

Closing is safe while other processes write, because the closing segment is put create-only at the chain's end like any
other segment:

* If a run and a closing write to the same end, one of them wins. If the run wins, the chain has grown, and the closing
  must be decided again. If the closing wins, the run discards its work, as after losing to another run.
* A run that has not seen the closing cannot write after it: it writes only at an end that it has read, and that end now
  has a segment. A run that has read the closing continues in the next chain. `ChainWriter` refuses to write to a closed
  chain.
* Of two closings, one wins. The next chain is empty for both, and an empty chain contradicts no log, so two closings
  never close two chains.
* A release that does not know closed chains finds the end after the gap. The fingerprint in the closing segment does
  not match the log, so it stops as before.

The old chain keeps every object, and is audited and shown like the chains of deleted topics.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from imgpipeline.contracts.keys import ChainId, next_chain, segment_key
from imgpipeline.contracts.outcomes import Gap, GapReason, Outcome
from imgpipeline.errors import LedgerError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.dead_letters import put_raw_records
from imgpipeline.ledger.reading import ChainEnd, find_end
from imgpipeline.ledger.segment import Fingerprint, Provenance, describe, encode_segment
from imgpipeline.objectstore import ObjectStore


class ChainWriter:
    """Adds segments to the end of one chain.

    Guarantees:
        If `append` returns True, the segment is in the chain exactly once. If it returns False, another writer was
        faster: discard the outcomes and find the new end.
    """

    def __init__(self, store: ObjectStore, end: ChainEnd, index: DayIndex) -> None:
        """Starts at an end from `find_end`."""
        self._store = store
        self._index = index
        self.end = end

    def append(
        self,
        outcomes: Sequence[Outcome],
        *,
        provenance: Provenance,
        writer_id: str,
        fingerprint: Fingerprint | None,
        created_at: datetime,
    ) -> bool:
        """Puts a segment at the end of the chain: day index, raw records, then the segment, create-only.

        `outcomes` start at the chain's end and have neither hole nor overlap. `writer_id` is globally unique, and never
        reused for other outcomes. `fingerprint` is that of the last record.

        Returns:
            True if the chain now ends with this segment, False if another writer was first.

        Raises:
            LedgerError: The outcomes do not continue the chain, or it is closed.
            TransientError: The store did not answer in time. It is unknown whether the segment was put; the next search
                for the end finds out.
            PermanentError: The store is full, or refuses.
        """
        header = describe(
            self.end.chain,
            outcomes,
            provenance=provenance,
            writer_id=writer_id,
            fingerprint=fingerprint or (self.end.header.fingerprint if self.end.header else None),
            created_at=created_at,
        )
        if self.end.is_closed:
            raise LedgerError(f"{header.chain} is closed at {self.end.offset}; its log continues in the next chain.")
        if header.start != self.end.offset:
            raise LedgerError(f"{header.chain} ends at {self.end.offset}; a segment cannot start at {header.start}.")
        self._index.cover(header)
        put_raw_records(self._store, header.chain, outcomes)
        key = segment_key(header.chain, header.start)
        reach("segment put", key)
        # Equal bytes have an equal header, which names this attempt, so the new end is one that was read.
        if not self._store.create_or_own(key, encode_segment(header, outcomes)):
            return False
        reach("segment put done", key)
        self.end = ChainEnd(header.chain, header.end, header)
        return True


def find_current_end(store: ObjectStore, chain: ChainId, *, hint: int | None = None) -> ChainEnd:
    """Finds the end of the current chain of a log.

    `chain` is the log's first chain (`LogRange.chain`). A wrong hint costs a request.

    Returns:
        The end. Its `chain` is the one to write to; it is empty right after the previous one was closed.

    Raises:
        LedgerError: A last segment cannot be read.
    """
    end = find_end(store, chain, hint=hint)
    while end.is_closed:
        end = find_end(store, next_chain(end.chain), hint=hint)
    return end


def current_chain(chain: ChainId, closed: Collection[ChainId]) -> ChainId:
    """Returns the current chain of a log, given the closed chains.

    `chain` is the log's first chain (`LogRange.chain`).
    """
    while chain in closed:
        chain = next_chain(chain)
    return chain


def close_chain(store: ObjectStore, end: ChainEnd, *, run_id: str, created_at: datetime) -> bool:
    """Closes a chain at the end that was read. The caller must know that the log is gone.

    `run_id` is shown as the run that wrote the closing segment.

    Returns:
        True if the chain is now closed; False if another writer was first, so its end must be read again.

    Raises:
        LedgerError: The chain is empty, so no log contradicts it, or it is already closed.
        TransientError: The store did not answer. Read the end to find out whether the chain is closed.
    """
    return append_gap(
        store, end, Gap(end.offset, end.offset + 1, GapReason.CLOSED), run_id=run_id, created_at=created_at
    )


def append_gap(store: ObjectStore, end: ChainEnd, gap: Gap, *, run_id: str, created_at: datetime) -> bool:
    """Adds a gap to a chain that has segments; arguments, result and errors as for `close_chain`."""
    if end.header is None:
        raise LedgerError(f"{end.chain} has no segment; an empty chain needs neither a gap nor a closing.")
    return ChainWriter(store, end, DayIndex(store)).append(
        [gap],
        provenance=replace(end.header.provenance, run_id=run_id),
        writer_id=uuid4().hex,
        fingerprint=None,
        created_at=created_at,
    )
