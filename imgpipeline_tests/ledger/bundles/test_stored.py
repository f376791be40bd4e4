"""An audit through bundles gives the counts of the segments; a full audit compares both."""

import pytest

from imgpipeline.contracts.keys import segment_key
from imgpipeline.ledger.audit import ChainAudit, audit_chain, fix_end
from imgpipeline.ledger.bundles.reading import list_reading
from imgpipeline.ledger.repair.damage import find_damage
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_all, bundle_keys, sparse
from imgpipeline_tests.ledger.samples import CHAIN, append, frames, write_chain, writer


@pytest.fixture
def ledger(memory: ObjectStore) -> ObjectStore:
    write_chain(memory, *(sparse(start, 400, *DAYS[:2]) for start in range(0, 30_000, 400)), frames(30_000, 30_004))
    bundle_all(memory)
    return memory


def walk(store: ObjectStore, *, full: bool, since: int = 0) -> ChainAudit:
    end = fix_end(store, CHAIN)
    listed = list_reading(store, CHAIN, since, end.offset, through_bundles=not full)
    return audit_chain(store, end, since=ChainAudit(CHAIN, since), listed=listed, compare_bundles=full)


@pytest.mark.parametrize("since", [0, 12_000, 30_000], ids=["all", "from the middle", "behind the bundles"])
def test_both_audits_find_the_same(ledger: ObjectStore, since: int):
    assert walk(ledger, full=False, since=since) == walk(ledger, full=True, since=since)
    assert walk(ledger, full=True).ok


def test_footers_give_the_number_of_segments(ledger: ObjectStore):
    def count(since: int, *, through_bundles: bool) -> int:
        return sum(part.count for part in list_reading(ledger, CHAIN, since, 30_004, through_bundles=through_bundles))

    for since in (0, 12_000, 30_000):
        assert count(since, through_bundles=True) == count(since, through_bundles=False)


@pytest.mark.parametrize("bad", [b"", None], ids=["damaged", "removed"])
def test_only_the_full_audit_finds_damage_of_bundled_segments(ledger: ObjectStore, bad: bytes | None):
    key = segment_key(CHAIN, 12_000)
    if bad is None:
        ledger.delete(key)
    else:
        ledger.put(key, bad)
    assert walk(ledger, full=False).ok
    found = walk(ledger, full=True)
    assert (found.missing, len(found.problems)) == (400, 1 if bad is None else 2)


def test_where_bundle_and_segment_are_damaged_both_audits_name_the_segment(ledger: ObjectStore):
    ledger.put(segment_key(CHAIN, 12_000), b"")
    ledger.put(bundle_keys(ledger)[1], b"")
    assert walk(ledger, full=False) == walk(ledger, full=True)
    assert segment_key(CHAIN, 12_000) in walk(ledger, full=False).problems[0]


def test_a_bundle_that_differs_from_its_segments_is_named_with_what_to_do(ledger: ObjectStore):
    """The end of the chain was removed and written again by another writer."""
    for start in range(19_600, 30_400, 400):
        ledger.delete(segment_key(CHAIN, min(30000, start)))
    made = writer(ledger)
    for start in range(19_600, 30_000, 400):
        append(made, sparse(start, 400, *DAYS[:2]))
    append(made, frames(30_000, 30_004))
    wrong = walk(ledger, full=True)
    assert [key in "".join(wrong.problems) for key in bundle_keys(ledger)] == [False, True, True]
    assert "imgpipeline ledger repair" in wrong.problems[0]
    assert [found.offset for found in find_damage(ledger, CHAIN).bundles] == [19_600, 20_000]
