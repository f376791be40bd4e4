"""Chains that fill ranges quickly, and functions to bundle and read all of them."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.ledger.bundles.making import Bundling, find_ranges, make_bundle
from imgpipeline.ledger.days import read_day
from imgpipeline.ledger.reading import list_chains
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.samples import DAY, frame, gap

DAYS = [DAY + timedelta(days=n) for n in range(4)]

Read = list[tuple[date, str, int, bytes]]
"""Day, writer, start and lines of each segment, as they were read."""


def sparse(start: int, length: int, *days: date) -> list[Outcome]:
    """Return the outcomes of a long segment: a frame of each day, and a gap for the rest."""
    made: list[Outcome] = [frame(start + n, day) for n, day in enumerate(days[:length])]
    return [*made, *([gap(start + len(made), start + length)] if len(made) < length else [])]


def bundle_all(store: ObjectStore, *, fewest: int = 1) -> list[Bundling]:
    """Make every bundle that can be made."""
    return [
        make_bundle(store, found) for chain in list_chains(store) for found in find_ranges(store, chain, fewest=fewest)
    ]


def read_days(store: ObjectStore, ends: Mapping[ChainId, int], since: Mapping[ChainId, int] | None = None) -> Read:
    """Read every day that the samples use."""
    return list(_read(store, ends, since))


def _read(
    store: ObjectStore, ends: Mapping[ChainId, int], since: Mapping[ChainId, int] | None
) -> Iterator[tuple[date, str, int, bytes]]:
    for day in DAYS:
        for segment in read_day(store, day, ends, since=since):
            yield day, segment.header.writer_id, segment.header.start, segment.body


def bundle_keys(store: ObjectStore) -> list[str]:
    """Return the keys of all bundles."""
    return sorted(info.key for info in store.list_objects("metadata_bundles"))
