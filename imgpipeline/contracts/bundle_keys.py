"""Builds and parses the keys of bundles and repair marks.

A bundle's key contains its range and its *revision*: a hash of the repair marks that overlap the range. A repair writes
its mark before it changes a segment, so after the repair, readers look for another key than that of any bundle with the
previous content, whenever that bundle is written.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from imgpipeline.contracts.keys import ChainId

BUNDLES = "metadata_bundles"
"""Prefix of the bundles. They may be deleted at any time: readers then use the segments."""
REPAIR_MARKS = "metadata_repairs"
"""Prefix of the repair marks, empty objects that are never deleted."""
BUNDLE_OFFSETS = 10_000
"""Offsets per bundle."""

_NO_REPAIR = "0" * 16
_BUNDLE = re.compile(r"(?P<number>\d{15,})\.(?P<revision>[0-9a-f]{16})\.bundle", re.ASCII)
_MARK = re.compile(r"(?P<first>\d{20})-(?P<behind>\d{20})\.(?P<name>[0-9a-f]{32})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class BundleId:
    """Identifies a bundle: a range of a chain and its revision."""

    chain: ChainId
    number: int
    """Its segments start in `[number * 10000, (number + 1) * 10000)`."""
    revision: str
    """Hash of the repairs that it includes: 16 hexadecimal digits, all 0 for none."""

    @property
    def first(self) -> int:
        """First offset of the range."""
        return self.number * BUNDLE_OFFSETS

    @property
    def behind(self) -> int:
        """First offset after the range."""
        return (self.number + 1) * BUNDLE_OFFSETS


@dataclass(frozen=True, slots=True, order=True)
class RepairMark:
    """Records that segments starting in a range may have changed."""

    first: int
    """First offset of the range."""
    behind: int
    """First offset after it."""
    name: str
    """Unique: 32 hexadecimal digits."""


def bundle_prefix(chain: ChainId) -> str:
    """Returns the prefix of all bundles of a chain, without a final slash."""
    return f"{BUNDLES}/{chain.topic}/{chain.topic_id}/{chain.partition:05d}"


def bundle_key(bundle: BundleId) -> str:
    """Returns the key of a bundle: `metadata_bundles/{topic}/{id}/{partition}/{number}.{revision}.bundle`."""
    return f"{bundle_range_key(bundle.chain, bundle.number)}.{bundle.revision}.bundle"


def bundle_range_key(chain: ChainId, number: int) -> str:
    """Returns the prefix of the keys of a range's bundles. Prefixes sort in the order of their ranges."""
    return f"{bundle_prefix(chain)}/{number:015d}"


def parse_bundle_key(chain: ChainId, key: str) -> BundleId | None:
    """Returns the bundle of a chain for its key, or None for any other key."""
    match = _BUNDLE.fullmatch(key.rpartition("/")[2])
    bundle = BundleId(chain, int(match["number"]), match["revision"]) if match else None
    return bundle if bundle and bundle_key(bundle) == key else None


def repair_mark_prefix(chain: ChainId) -> str:
    """Returns the prefix of all repair marks of a chain, without a final slash."""
    return f"{REPAIR_MARKS}/{chain.topic}/{chain.topic_id}/{chain.partition:05d}"


def repair_mark_key(chain: ChainId, mark: RepairMark) -> str:
    """Returns the key of a repair mark: `metadata_repairs/{topic}/{id}/{partition}/{first}-{behind}.{name}`."""
    return f"{repair_mark_prefix(chain)}/{mark.first:020d}-{mark.behind:020d}.{mark.name}"


def parse_repair_mark_key(chain: ChainId, key: str) -> RepairMark | None:
    """Returns the repair mark for its key, or None for any other key."""
    match = _MARK.fullmatch(key.rpartition("/")[2])
    mark = RepairMark(int(match["first"]), int(match["behind"]), match["name"]) if match else None
    return mark if mark and repair_mark_key(chain, mark) == key else None


def revision_of(number: int, marks: Iterable[RepairMark]) -> str:
    """Returns the revision of a range, given the repair marks of its chain."""
    first, behind = number * BUNDLE_OFFSETS, (number + 1) * BUNDLE_OFFSETS
    names = sorted(mark.name for mark in marks if mark.first < behind and first < mark.behind)
    return sha256(" ".join(names).encode()).hexdigest()[:16] if names else _NO_REPAIR
