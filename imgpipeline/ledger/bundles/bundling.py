"""One pass over the ledger: every range that can have a bundle gets one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from imgpipeline.contracts.keys import ChainId
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.making import Bundling, RangeToBundle, find_ranges, make_bundle
from imgpipeline.ledger.reading import list_chains
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_LOOKERS = 8


@dataclass(slots=True)
class BundlingReport:
    """What a pass has made, or would make."""

    bundles: int = 0
    """Bundles that were made."""
    segments: int = 0
    """Segments in them."""
    size_bytes: int = 0
    """Size of the bundles; in a dry run, of their segments."""
    requests_saved: int = 0
    """How many fewer requests one reading of all of them needs."""
    problems: list[str] = field(default_factory=list)
    """Why a chain or a range has none; damage is among them."""
    is_complete: bool = True
    """Whether every chain was looked at."""

    def add(self, done: Bundling) -> None:
        """Counts one range."""
        if done.problem is not None:
            self.problems.append(done.problem)
            return
        self.bundles += 1
        self.segments += len(done.range.starts)
        self.size_bytes += done.size_bytes
        self.requests_saved += done.range.requests_saved


def bundle_ledger(
    store: ObjectStore,
    *,
    dry_run: bool = False,
    is_over: Callable[[], bool] = lambda: False,
    progress: Callable[[BundlingReport], None] = lambda _: None,
) -> BundlingReport:
    """Makes all bundles that are missing, the newest of each chain first.

    Args:
        store: The object store.
        dry_run: Only say what would be made.
        is_over: Asked before each bundle; ends the pass. The next one continues.
        progress: Called after each bundle.

    Returns:
        What was made. A chain whose end cannot be read, or a range with damage, keeps no other from its bundle.

    Raises:
        TransientError: The store does not answer.
    """
    report = BundlingReport()
    looked = map_ahead(lambda c: _begin(store, c), list_chains(store), workers=_LOOKERS, ahead=_LOOKERS)
    for found in looked:
        if isinstance(found, str):
            report.problems.append(found)
            continue
        for wanted in found:
            if is_over():
                report.is_complete = False
                return report
            report.add(Bundling(wanted, wanted.size_bytes, None) if dry_run else make_bundle(store, wanted))
            progress(report)
    return report


def has_ranges(store: ObjectStore, *, is_over: Callable[[], bool] = lambda: False) -> bool:
    """Tells whether there is anything to bundle.

    Args:
        store: The object store.
        is_over: Asked after each chain; ends the search, as if something had been found.

    Raises:
        TransientError: The store does not answer.
    """
    for found in map_ahead(lambda c: _begin(store, c), list_chains(store), workers=_LOOKERS, ahead=_LOOKERS):
        if is_over() or (not isinstance(found, str) and next(found, None) is not None):
            return True
    return False


def _begin(store: ObjectStore, chain: ChainId) -> Iterator[RangeToBundle] | str:
    """Looks for the first range of a chain, so that chains with nothing to do are looked at several at a time."""
    ranges = find_ranges(store, chain)
    try:
        first = next(ranges, None)
    except LedgerError as error:
        return error.message
    return _all_of(first, ranges)


def _all_of(first: RangeToBundle | None, others: Iterator[RangeToBundle]) -> Iterator[RangeToBundle]:
    if first is not None:
        yield first
        yield from others
