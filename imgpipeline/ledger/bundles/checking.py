"""Comparing bundles with the segments they stand for, while a chain is walked.

The headers are compared: each holds the id of the attempt that wrote it, so equal headers mean equal segments.
"""

from dataclasses import dataclass, field

from imgpipeline.contracts.bundle_keys import BUNDLE_OFFSETS
from imgpipeline.contracts.keys import OFFSET_LIMIT, ChainId
from imgpipeline.ledger.bundles.catalog import StoredBundle, find_bundles
from imgpipeline.ledger.bundles.format import DamagedBundleError
from imgpipeline.ledger.bundles.opening import discard, neighbours, open_bundled, try_open
from imgpipeline.ledger.segment import SegmentHeader
from imgpipeline.objectstore import ObjectMissingError, ObjectStore


@dataclass(frozen=True, slots=True)
class WrongBundle:
    """A bundle that holds something else than its segments do, although it is whole."""

    stored: StoredBundle
    """The bundle."""
    offset: int
    """Where it differs first."""

    @property
    def why(self) -> str:
        """What is wrong, for a person."""
        return f"The bundle {self.stored.key} does not hold what the segment at offset {self.offset} holds."


@dataclass(slots=True)
class BundleCheck:
    """Compares the segments of one chain, as they come, with those that its bundles hold.

    A damaged bundle is removed and left out.
    """

    store: ObjectStore
    """The object store."""
    chain: ChainId
    """Which chain."""
    wrong: list[WrongBundle] = field(default_factory=list)
    """What was found so far."""
    _bundles: dict[int, StoredBundle] = field(init=False)
    _number: int = -1
    _held: dict[int, SegmentHeader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lists the bundles that readers would use."""
        self._bundles = find_bundles(self.store, self.chain, 0, OFFSET_LIMIT, OFFSET_LIMIT)

    def take(self, header: SegmentHeader) -> WrongBundle | None:
        """Compares one segment; returns its bundle where that is the first to differ."""
        number = header.start // BUNDLE_OFFSETS
        if number != self._number:
            self._number = number
            self._held = self._read(self._bundles[number]) if number in self._bundles else {}
        if not self._held or self._held.get(header.start) == header:
            return None
        self._held = {}
        self.wrong.append(WrongBundle(self._bundles[number], header.start))
        return self.wrong[-1]

    def _read(self, stored: StoredBundle) -> dict[int, SegmentHeader]:
        """Returns the header of each segment in a bundle, by its start; none if the bundle cannot be read."""
        bundle = try_open(self.store, stored)
        if bundle is None:
            return {}
        held: dict[int, SegmentHeader] = {}
        try:
            for piece in neighbours(bundle.segments):
                data = bundle.cut(self.store, piece[0], piece[-1])
                held |= {s.start: open_bundled(stored, s, data, piece[0]).header for s in piece}
        except DamagedBundleError:
            discard(self.store, stored)
            return {}
        except ObjectMissingError:
            return {}
        return held
