"""The last segment of a chain is found by listings, in few requests, however many segments there are."""

from collections.abc import Iterable
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from imgpipeline.contracts.keys import ChainId, chain_prefix, segment_key
from imgpipeline.ledger import search
from imgpipeline.ledger.search import find_last
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.ledger.samples import CHAIN
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

SEGMENTS = 2_500
LATER = ChainId(CHAIN.topic, CHAIN.topic_id, CHAIN.partition + 1)


class OrderedStore(ObjectStore):
    """A store in memory whose listings are in order, as they are: so that every size can be tried quickly."""

    lists_in_order = True


def store_of(starts: Iterable[int], strays: Iterable[str] = ()) -> ObjectStore:
    made = OrderedStore(MemoryStore(), "memory://")
    for start in starts:
        made.put(segment_key(CHAIN, start), b"")
    for stray in strays:
        made.put(f"{chain_prefix(CHAIN)}/{stray}", b"")
    made.put(segment_key(LATER, 7), b"")
    return made


_starts = st.one_of(
    st.sets(st.integers(0, 60)),
    st.sets(st.integers(99_980, 100_020)),
    st.sets(st.integers(0, 10**7)),
    st.builds(lambda first, count: set(range(first, first + count)), st.integers(0, 200_000), st.integers(0, 80)),
)
_hints = st.none() | st.integers(-5, 120) | st.integers(99_900, 100_100) | st.integers(0, 2**63 - 1)
_strays = st.sets(
    st.sampled_from(["notes/readme", "000000000000000/readme", "000000000000009/x", "000000000000001/zzz.txt"])
    | st.integers(0, 40).map(lambda n: f"000000000000000/{n:020d}.tmp")
)


@settings(max_examples=examples(300))
@given(_starts, _hints, _strays)
def test_whatever_is_there_and_whatever_is_hinted_the_greatest_start_is_found(
    starts: set[int], hint: int | None, strays: set[str]
) -> None:
    with patch.object(search, "_PAGE", 4):
        found = find_last(store_of(starts, strays), CHAIN, hint=hint)
        assert (found.start if found else None) == max(starts, default=None)


@pytest.fixture
def long_chain(s3: S3Server, bucket: S3Bucket) -> int:
    """A chain of many segments of one offset each, put as links into the server's folder; returns the last start."""
    store = open_store(s3_settings(bucket))
    store.put(segment_key(CHAIN, 0), b"any")
    first = s3.data_dir / bucket.name / "lake" / segment_key(CHAIN, 0)
    for start in range(1, SEGMENTS):
        (first.parent / segment_key(CHAIN, start).rpartition("/")[2]).hardlink_to(first)
    return SEGMENTS - 1


@pytest.mark.parametrize(
    ("hint", "most_requests"),
    [
        (SEGMENTS - 1, 1),
        (SEGMENTS - 40, 1),
        (SEGMENTS, 1),
        (SEGMENTS + 500, 3),
        (SEGMENTS + 100_000, 10),
        (10, 6),
        (None, 6),
    ],
    ids=["its start", "an older one", "the end", "close behind it", "far behind it", "far before it", "none"],
)
def test_few_requests_find_the_last_of_thousands(
    s3: S3Server, bucket: S3Bucket, long_chain: int, hint: int | None, most_requests: int
) -> None:
    with AnswerLosingProxy(s3.port) as proxy:
        store = open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint))
        found = find_last(store, CHAIN, hint=hint)
        assert found is not None
        assert found.start == long_chain
        assert len(proxy.seen) <= most_requests, proxy.seen
