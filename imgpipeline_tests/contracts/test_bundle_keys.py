"""Keys of bundles round-trip."""

from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts import bundle_keys as keys
from imgpipeline.contracts.bundle_keys import BundleId
from imgpipeline.contracts.keys import ChainId
from imgpipeline_tests.contracts.strategies import chains

CHAIN = ChainId("frames", "tXy-_1", 3)
revisions = st.from_regex(r"\A[0-9a-f]{16}\Z")


def test_keys_have_the_documented_layout():
    bundle = BundleId(CHAIN, 123, "00000000000000aa")
    assert keys.bundle_key(bundle) == "metadata_bundles/frames/tXy-_1/00003/000000000000123.00000000000000aa.bundle"
    assert (bundle.first, bundle.behind) == (1_230_000, 1_240_000)


@given(chains, st.integers(0, 2**63 // 10_000), revisions)
def test_a_bundle_key_is_read_back(chain: ChainId, number: int, revision: str):
    bundle = BundleId(chain, number, revision)
    assert keys.parse_bundle_key(chain, keys.bundle_key(bundle)) == bundle
    assert keys.bundle_key(bundle).startswith(keys.bundle_prefix(chain) + "/")


@given(st.text() | st.from_regex(r"metadata_bundles/frames/tXy-_1/00003/\d{15}\.[0-9a-f]{16}\.bundle.?"))
def test_any_other_key_is_not_a_bundle_key(key: str):
    bundle = keys.parse_bundle_key(CHAIN, key)
    assert bundle is None or keys.bundle_key(bundle) == key


@given(st.integers(0, 10**12), st.integers(0, 10**12), revisions)
def test_a_listing_from_a_range_has_its_bundles_and_all_later_ones(one: int, other: int, revision: str):
    key = keys.bundle_key(BundleId(CHAIN, one, revision))
    assert (key > keys.bundle_range_key(CHAIN, other)) == (one >= other)
