"""Keys of bundles and repair marks round-trip; a mark changes only the revisions of the ranges it overlaps."""

from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts import bundle_keys as keys
from imgpipeline.contracts.bundle_keys import BundleId, RepairMark
from imgpipeline.contracts.keys import ChainId
from imgpipeline_tests.contracts.strategies import chains, numbers

CHAIN = ChainId("frames", "tXy-_1", 3)
NAME = "0123456789abcdef0123456789abcdef"
revisions = st.from_regex(r"\A[0-9a-f]{16}\Z")
marks = st.builds(RepairMark, numbers, numbers, st.from_regex(r"\A[0-9a-f]{32}\Z"))


def test_keys_have_the_documented_layout():
    bundle = BundleId(CHAIN, 123, "00000000000000aa")
    assert keys.bundle_key(bundle) == "metadata_bundles/frames/tXy-_1/00003/000000000000123.00000000000000aa.bundle"
    assert (bundle.first, bundle.behind) == (1_230_000, 1_240_000)
    assert keys.repair_mark_key(CHAIN, RepairMark(5, 70, NAME)) == (
        f"metadata_repairs/frames/tXy-_1/00003/00000000000000000005-00000000000000000070.{NAME}"
    )


@given(chains, st.integers(0, 2**63 // 10_000), revisions)
def test_a_bundle_key_is_read_back(chain: ChainId, number: int, revision: str):
    bundle = BundleId(chain, number, revision)
    assert keys.parse_bundle_key(chain, keys.bundle_key(bundle)) == bundle
    assert keys.bundle_key(bundle).startswith(keys.bundle_prefix(chain) + "/")


@given(chains, marks)
def test_a_repair_mark_is_read_back(chain: ChainId, mark: RepairMark):
    key = keys.repair_mark_key(chain, mark)
    assert keys.parse_repair_mark_key(chain, key) == mark
    assert key.startswith(keys.repair_mark_prefix(chain) + "/")


@given(st.text() | st.from_regex(r"metadata_bundles/frames/tXy-_1/00003/\d{15}\.[0-9a-f]{16}\.bundle.?"))
def test_any_other_key_is_not_a_bundle_key(key: str):
    bundle = keys.parse_bundle_key(CHAIN, key)
    assert bundle is None or keys.bundle_key(bundle) == key


@given(st.integers(0, 10**12), st.integers(0, 10**12), revisions)
def test_a_listing_from_a_range_has_its_bundles_and_all_later_ones(one: int, other: int, revision: str):
    key = keys.bundle_key(BundleId(CHAIN, one, revision))
    assert (key > keys.bundle_range_key(CHAIN, other)) == (one >= other)


@given(st.lists(marks, max_size=4, unique=True), marks, st.integers(0, 2**63 // 10_000))
def test_a_mark_changes_the_revision_of_the_ranges_it_overlaps(known: list[RepairMark], mark: RepairMark, number: int):
    before, after = keys.revision_of(number, known), keys.revision_of(number, [*known, mark])
    overlaps = mark.first < (number + 1) * 10_000 and number * 10_000 < mark.behind and mark.first < mark.behind
    assert (before != after) == (overlaps and mark not in known) or mark.first >= mark.behind
    assert keys.revision_of(number, [mark, *known]) == after
