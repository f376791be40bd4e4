"""The error for an import whose earlier rows have changed.

It names the first row whose outcome would now be different; if only bytes differ, the range of rows to look at.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

from imgpipeline.compat.imports.rows import Limits, Meaning, RollingHash, Row, Rows, not_shown, outcome_of
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import DeadLetter, Frame
from imgpipeline.errors import LedgerError
from imgpipeline.ledger import Segment, read_chain
from imgpipeline.objectstore import ObjectStore

_ANY_DAY = Limits(date.min, datetime.max.replace(tzinfo=UTC), 2**40)
_OTHER_NAME = "import it under another --name, which leaves the ledger's rows unchanged"


class Disagreement(Exception):  # noqa: N818 - it is caught by its own package and becomes an error there
    """The rows of an import differ from those in the ledger."""

    def __init__(self, *, end: int = 0, rows: int | None = None, recipe: str | None = None) -> None:
        """Records how they differ.

        Args:
            end: The number of rows in the ledger.
            rows: The number of rows now, if there are fewer.
            recipe: The recipe of the rows in the ledger, if it differs.
        """
        super().__init__()
        self.end = end
        self.rows = rows
        self.recipe = recipe


def describe_disagreement(
    store: ObjectStore, chain: ChainId, rows: Rows, meaning: Meaning, found: Disagreement
) -> LedgerError:
    """Returns the error for changed rows.

    Args:
        store: The object store.
        chain: The import's chain.
        rows: The rows to import; read again up to the first difference.
        meaning: Turns rows into frames.
        found: How they differ.

    Raises:
        LedgerError: A segment cannot be read.
    """
    if found.recipe is not None:
        return LedgerError(
            f"{chain.topic} was imported with different columns, source, labels or time zone, or by another release.",
            next_step=f"give the options of the first import, or {_OTHER_NAME}",
        )
    if found.rows is not None:
        return LedgerError(
            f"{chain.topic} has {found.end} rows in the ledger, but the input has {found.rows}; an import only grows.",
            next_step=f"give all its rows again, or {_OTHER_NAME}",
        )
    difference = _first_difference(store, chain, rows, meaning, found.end)
    return LedgerError(
        f"{chain.topic} has different rows in the ledger than in the input: {difference}.",
        next_step=_OTHER_NAME,
    )


def _first_difference(store: ObjectStore, chain: ChainId, rows: Rows, meaning: Meaning, end: int) -> str:
    reading = rows.read(not_shown)
    digest = RollingHash()
    for segment in read_chain(store, chain, 0, end):
        header, mark = segment.header, segment.header.fingerprint
        some = _take(reading, digest, header.end)
        first = header.end - len(some)
        if mark and mark.offset + 1 == digest.rows and digest.value() != mark.sha256:
            return _compare(segment, some, first, meaning)
        if digest.rows < header.end:
            return f"they end at row {digest.rows}"
    return "the input matches again, so it changed in the meantime"


def _take(reading: Iterator[Row], digest: RollingHash, end: int) -> list[Row]:
    some: list[Row] = []
    while digest.rows < end and (row := next(reading, None)):
        digest.add(row.raw)
        some.append(row)
    return some


def _compare(segment: Segment, some: Sequence[Row], first: int, meaning: Meaning) -> str:
    stored = {outcome.offset: outcome for outcome in segment.outcomes() if isinstance(outcome, Frame | DeadLetter)}
    for offset, row in enumerate(some, first):
        before = stored.get(offset)
        now = outcome_of(row, offset, meaning, _ANY_DAY)
        if before is not None and not _is_same(before, now, row):
            return f"row {offset} ({row.place}) is the first that differs; the ledger has {_shown(before)}"
    header = segment.header
    return f"the first that differs is one of the rows {header.start} to {header.end - 1} ({some[0].place} and later)"


def _apart_from_its_place(frame: Frame) -> dict[str, Any]:
    """Returns a frame's document without the name of its file, because a file may be renamed."""
    document = frame.to_json()
    return document | {"attributes": document["attributes"] | {"imported_from": ""}}


def _is_same(before: Frame | DeadLetter, now: Frame | DeadLetter, row: Row) -> bool:
    if isinstance(before, DeadLetter):
        return before.raw_sha256 == row.sha256
    return isinstance(now, Frame) and _apart_from_its_place(before) == _apart_from_its_place(now)


def _shown(outcome: Frame | DeadLetter) -> str:
    if isinstance(outcome, DeadLetter):
        return f"a dead letter there ({outcome.message})"
    labels = ", ".join(f"{found.label} {found.confidence:g}" for found in outcome.detections[:3])
    return f"{labels or 'nothing'} at {outcome.timestamp:%Y-%m-%dT%H:%M:%SZ} there"
