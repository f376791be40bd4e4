"""A bundle is read exactly as it was written, or not at all; every stored version stays readable.

An audit through bundles gives the counts of the segments; a full audit compares both.
"""

from pathlib import Path

import pytest

from imgpipeline.contracts.keys import BundleId, bundle_key, segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.audit import ChainAudit, audit_chain, fix_end
from imgpipeline.ledger.bundles.stored import (
    TRAILER_BYTES,
    DamagedBundleError,
    StoredBundle,
    decode_footer,
    encode_bundle,
    footer_size,
    open_bundle,
    open_bundled,
)
from imgpipeline.ledger.reading import read_segment
from imgpipeline.ledger.repair.damage import find_damage
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_all, bundle_keys, sparse
from imgpipeline_tests.ledger.samples import CHAIN, append, dead_letter, frames, gap, write_chain, writer

GOLDEN = Path(__file__).parent / "golden" / "version_1.bundle"
BUNDLE = BundleId(CHAIN, 0, "0" * 16)


def small_bundle() -> bytes:
    """Three segments whose bytes never change. The golden file was made from them."""
    store = open_memory_store()
    made = writer(store)
    segments = ([*frames(0, 3), dead_letter(3)], sparse(4, 5_000, DAYS[0], DAYS[1]), [gap(5_004, 10_001)])
    for number, outcomes in enumerate(segments):
        assert append(made, outcomes, f"writer-{number}")
    keys = sorted(info.key for info in store.list_objects("metadata"))
    return encode_bundle(BUNDLE, ((read_segment(store, key).header, store.get(key)) for key in keys))


def footer_of(data: bytes):
    return decode_footer(BUNDLE, data[-footer_size(BUNDLE, data) :])


def read_all(data: bytes):
    segments = footer_of(data)
    return [open_bundled(StoredBundle(BUNDLE, len(data)), segment, data, segments[0]) for segment in segments]


def test_the_footer_has_the_position_and_days_of_each_segment():
    segments = footer_of(small_bundle())
    assert [(s.start, s.end) for s in segments] == [(0, 4), (4, 5_004), (5_004, 10_001)]
    assert [s.days for s in segments] == [(DAYS[0],), (DAYS[0], DAYS[1]), ()]


def test_the_same_segments_make_the_same_bytes():
    assert small_bundle() == small_bundle()


def test_the_golden_bundle_can_be_read():
    read = read_all(GOLDEN.read_bytes())
    assert [(s.header.start, s.header.end, s.header.writer_id) for s in read] == [
        (0, 4, "writer-0"),
        (4, 5_004, "writer-1"),
        (5_004, 10_001, "writer-2"),
    ]
    assert [len(s.outcomes()) for s in read] == [4, 3, 1]


def test_a_bundle_cut_at_any_length_is_noticed():
    data, store = small_bundle(), open_memory_store()
    for length in range(len(data)):
        store.put(bundle_key(BUNDLE), data[:length])
        with pytest.raises(DamagedBundleError, match=bundle_key(BUNDLE)):
            open_bundle(store, StoredBundle(BUNDLE, length))


def test_a_flipped_byte_anywhere_is_noticed():
    data = small_bundle()
    assert len(read_all(data)) == 3
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(DamagedBundleError):
            read_all(flipped)


@pytest.mark.parametrize(
    "other",
    [BundleId(CHAIN, 1, "0" * 16), BundleId(CHAIN, 0, "1" * 16)],
    ids=["another range", "another revision"],
)
def test_a_bundle_with_another_key_is_damaged(other):
    data = small_bundle()
    with pytest.raises(DamagedBundleError, match="its footer identifies it as"):
        decode_footer(other, data[-footer_size(other, data) :])


def test_an_unknown_version_is_not_damage(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("imgpipeline.ledger.bundles.stored.FORMAT_VERSION", 99)
        data = small_bundle()
    with pytest.raises(LedgerError, match="format version 99") as refused:
        footer_of(data)
    assert not isinstance(refused.value, DamagedBundleError)


@pytest.mark.medium
def test_a_long_footer_is_read_by_a_second_request():
    store = open_memory_store()
    made = writer(store)
    for start in range(0, 10_000, 2):
        append(made, [gap(start, start + 2)], f"w{start}")
    keys = sorted(info.key for info in store.list_objects("metadata"))
    data = encode_bundle(BUNDLE, ((read_segment(store, key).header, store.get(key)) for key in keys))
    store.put(bundle_key(BUNDLE), data)
    opened = open_bundle(store, StoredBundle(BUNDLE, len(data)))
    assert len(opened.segments) == 5_000
    assert TRAILER_BYTES < footer_size(BUNDLE, data) == len(opened.tail)


@pytest.fixture
def ledger(memory: ObjectStore) -> ObjectStore:
    write_chain(memory, *(sparse(start, 400, *DAYS[:2]) for start in range(0, 30_000, 400)), frames(30_000, 30_004))
    bundle_all(memory)
    return memory


def walk(store: ObjectStore, *, full: bool, since: int = 0) -> ChainAudit:
    since_then = ChainAudit(CHAIN, since)
    return audit_chain(store, fix_end(store, CHAIN), since=since_then, through_bundles=not full, compare_bundles=full)


@pytest.mark.parametrize("since", [0, 12_000, 30_000], ids=["all", "from the middle", "behind the bundles"])
def test_both_audits_find_the_same(ledger, since):
    assert walk(ledger, full=False, since=since) == walk(ledger, full=True, since=since)
    assert walk(ledger, full=True).ok


@pytest.mark.parametrize("bad", [b"", None], ids=["damaged", "removed"])
def test_only_the_full_audit_finds_damage_of_bundled_segments(ledger, bad):
    key = segment_key(CHAIN, 12_000)
    if bad is None:
        ledger.delete(key)
    else:
        ledger.put(key, bad)
    assert walk(ledger, full=False).ok
    found = walk(ledger, full=True)
    assert (found.missing, len(found.problems)) == (400, 1 if bad is None else 2)


def test_where_bundle_and_segment_are_damaged_both_audits_name_the_segment(ledger):
    ledger.put(segment_key(CHAIN, 12_000), b"")
    ledger.put(bundle_keys(ledger)[1], b"")
    assert walk(ledger, full=False) == walk(ledger, full=True)
    assert segment_key(CHAIN, 12_000) in walk(ledger, full=False).problems[0]


def test_a_bundle_that_differs_from_its_segments_is_named_with_what_to_do(ledger):
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
