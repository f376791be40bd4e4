"""A bundle is read exactly as it was written, or not at all; every stored version stays readable."""

from pathlib import Path

import pytest

from imgpipeline.contracts.bundle_keys import BundleId, bundle_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger import read_segment
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
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.ledger.bundles.samples import DAYS, sparse
from imgpipeline_tests.ledger.samples import CHAIN, append, dead_letter, frames, gap, writer

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
def test_a_bundle_with_another_key_is_damaged(other: BundleId):
    data = small_bundle()
    with pytest.raises(DamagedBundleError, match="its footer identifies it as"):
        decode_footer(other, data[-footer_size(other, data) :])


def test_an_unknown_version_is_not_damage(monkeypatch: pytest.MonkeyPatch):
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
