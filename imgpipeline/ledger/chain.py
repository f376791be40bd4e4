"""Adds a segment to the end of a chain.

This is the rule that makes the ledger exactly-once: a writer writes only at an end that it has read from a header (or
at 0 if there is no segment), and only if nothing exists there. No locks, no fencing, nothing to clean up.
"""

from collections.abc import Sequence
from datetime import datetime

from imgpipeline.contracts.keys import segment_key
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.errors import LedgerError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import ChainEnd, read_segment
from imgpipeline.ledger.segment import Fingerprint, Provenance, SegmentHeader, describe, encode_segment
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_PUT_ATTEMPTS = 4
"""The store repeats a request that fails; these are for one that conflicts with another request."""


class ChainWriter:
    """Adds segments to the end of one chain.

    Guarantees:
        After `append` returned True, the segment is in the chain, once. After False, another writer has taken the
        chain on; this writer must look for the new end, and drops what it had.
    """

    def __init__(self, store: ObjectStore, end: ChainEnd, index: DayIndex) -> None:
        """Begins at an end that was found by `find_end`.

        Args:
            store: The object store.
            end: Where the chain ended when it was read.
            index: The day index of this run.
        """
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
        """Puts a segment at the end of the chain: day index first, then the segment, create-only.

        Args:
            outcomes: They begin at the chain's end and have neither hole nor overlap.
            provenance: By what they were made.
            writer_id: Globally unique; never reused for other outcomes.
            fingerprint: Of the last record among them; None if there is none.
            created_at: Now.

        Returns:
            True if the chain now ends with this segment, False if another writer was first.

        Raises:
            LedgerError: The outcomes do not continue the chain, or it is closed (`closing`).
            TransientError: The store did not answer in time; whether the segment is there is unknown, and does not
                matter to the next search for the end.
            PermanentError: The store is full, refuses, or holds a damaged segment there.
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
            raise LedgerError(f"{header.chain} ends at {self.end.offset}, a segment cannot start at {header.start}.")
        self._index.cover(header)
        key = segment_key(header.chain, header.start)
        reach("segment put", key)
        if not self._put(key, header, encode_segment(header, outcomes)):
            return False
        reach("segment put done", key)
        self.end = ChainEnd(header.chain, header.end, header)
        return True

    def _put(self, key: str, header: SegmentHeader, data: bytes) -> bool:
        for _ in range(_PUT_ATTEMPTS):
            failure: TransientError | None = None
            try:
                if self._store.create(key, data):
                    return True
            except TransientError as error:
                failure = error
            # Refused, or no answer: the client may have lost against its own first request. Only the object tells.
            # The whole header is compared, so that an end is never believed that was not read.
            try:
                return read_segment(self._store, key).header == header
            except ObjectMissingError:
                if failure is not None:
                    raise failure from None
        raise TransientError(f"{key} could not be put: the store says that it is there, and has no such object.")
