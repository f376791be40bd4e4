"""The build of a bundled day needs the same number of requests for any number of segments."""

from collections import Counter

import pytest

from imgpipeline.contracts.keys import BUNDLE_OFFSETS, ChainId
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.ledger.bundles.making import bundle_ledger
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.ledger.samples import DAY, NOON, append, frame, gap, writer
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

READS = Counter({
    "footer of a stored table": 4,
    "listings that find the chains": 3,
    "end of the chain: folders, its last page, its last segment": 3,
    "day index": 1,
    "bundles of the chain": 1,
    "repair list, for the day and for its bundles": 2,
    "the bundle": 1,
})  # fmt: skip


def write_bundled_day(store: ObjectStore, segments: int) -> None:
    """Write a day of small segments that one bundle holds."""
    made = writer(store, ChainId("frames", "dGVzdA_topic-id", 0))
    for number in range(segments):
        assert append(made, [frame(number)])
    for length in (BUNDLE_OFFSETS, 1):
        assert append(made, [gap(made.end.offset, made.end.offset + length)])
    assert bundle_ledger(store).bundles == 1


@pytest.mark.medium
@pytest.mark.servers
@pytest.mark.parametrize("segments", [20, 80])
def test_the_first_build_of_a_bundled_day_reads_nothing_twice(s3: S3Server, bucket: S3Bucket, segments: int) -> None:
    write_bundled_day(open_store(s3_settings(bucket)), segments)
    with CountingRelay(s3.port) as relay:
        built = rebuild_day(open_store(s3_settings(bucket, s3_endpoint=relay.endpoint)), DAY, now=NOON)
    assert built.of("frames").rows == segments
    assert relay.requests == {"GET": READS.total(), "PUT": 4}
