"""Builds and parses the keys of bundles.

A bundle's key contains its range and its *revision*: a hash of the repairs of the range. A repair announces itself
before it changes a segment, so after the repair, readers look for another key than that of any bundle with the previous
content, whenever that bundle is written.
"""

import re
from dataclasses import dataclass

from imgpipeline.contracts.keys import ChainId

BUNDLES = "metadata_bundles"
"""Prefix of the bundles. They may be deleted at any time: readers then use the segments."""
BUNDLE_OFFSETS = 10_000
"""Offsets per bundle."""

_BUNDLE = re.compile(r"(?P<number>\d{15,})\.(?P<revision>[0-9a-f]{16})\.bundle", re.ASCII)


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
