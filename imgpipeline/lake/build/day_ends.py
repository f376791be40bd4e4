"""How far the tables of a day reach in each chain."""

from collections.abc import Collection, Mapping

from imgpipeline.contracts.keys import ChainId
from imgpipeline.lake.schema import SCHEMA_VERSION
from imgpipeline.lake.storage.manifest import Manifest


def join_ends(*several: Mapping[ChainId, int]) -> dict[ChainId, int]:
    """Returns the greatest end of each chain: each was read from a header, so the chain reaches that far."""
    joined: dict[ChainId, int] = {}
    for ends in several:
        for chain, end in ends.items():
            joined[chain] = max(end, joined.get(chain, 0))
    return joined


def covered_ends(*manifests: Manifest | None) -> dict[ChainId, int]:
    """Returns up to where all of some tables reach: what is behind that is news to one of them.

    A table that is missing, or whose columns are of another version, reaches nowhere.
    """
    found = [manifest for manifest in manifests if manifest and manifest.schema_version == SCHEMA_VERSION]
    return common_ends(found) if len(found) == len(manifests) else {}


def common_ends(manifests: Collection[Manifest]) -> dict[ChainId, int]:
    """Returns up to where all of some tables reach, whatever the version of their columns; without any, nowhere."""
    several = [manifest.ends for manifest in manifests]
    return {chain: min(ends.get(chain, 0) for ends in several) for chain in several[0]} if several else {}


def reach_differently(*manifests: Manifest | None) -> bool:
    """Tells whether the tables of a day were made up to different ends: one build was killed, or two were at it.

    Each is right, but what reads several of them waits for equal ends, also where the ledger has nothing of the day
    between these.
    """
    first, *others = [manifest.ends for manifest in manifests if manifest is not None] or [{}]
    return any(ends != first for ends in others)
