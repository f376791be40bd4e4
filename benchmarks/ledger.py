"""How fast a chain grows on S3, what a segment costs in requests, and how fast the chain's end is found."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from uuid import uuid4

from benchmarks.place import bucket_settings
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.ledger import ChainWriter, DayIndex, Provenance, find_end
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

_MADE_BY = Provenance("none", "", "", "benchmark")
_LOOK_UPS = 20
_COUNTED = 50
"""Segments whose requests are counted."""


def measure_ledger(s3: S3Server, segments: int) -> dict[str, float]:
    """Returns segments a second of one writer, requests a segment, and milliseconds to find the end of their chain.

    Args:
        s3: A running server without a bucket `ledger`.
        segments: How many are put in sequence; each holds one offset.
    """
    bucket = s3.create_bucket("ledger")
    store = _open(bucket, bucket.endpoint)
    chain = ChainId("frames", "benchmark", 0)
    began_s = time.perf_counter()
    append(store, chain, segments)
    seconds = time.perf_counter() - began_s
    return {
        "segments a second": segments / seconds,
        **_count_requests(s3, bucket),
        f"find the end of {segments} segments, without hint: ms": _find_end_ms(
            lambda: find_end(store, chain).offset == segments
        ),
        f"find the end of {segments} segments, with hint: ms": _find_end_ms(
            lambda: find_end(store, chain, hint=segments - 1).offset == segments
        ),
    }


def append(store: ObjectStore, chain: ChainId, segments: int) -> None:
    """Puts segments of one offset each at the end of a chain.

    Raises:
        RuntimeError: Another writer was there.
    """
    end = find_end(store, chain)
    writer = ChainWriter(store, end, DayIndex(store))
    for number in range(end.offset, end.offset + segments):
        written = writer.append(
            [Gap(number, number + 1, GapReason.MARKER)],
            provenance=_MADE_BY,
            writer_id=uuid4().hex,
            fingerprint=None,
            created_at=datetime.now(UTC),
        )
        if not written:
            raise RuntimeError(f"another writer took segment {number}")


def _count_requests(s3: S3Server, bucket: S3Bucket) -> dict[str, float]:
    """Counts through a proxy what goes to the store beside finding the end once."""
    chain = ChainId("counted", "benchmark", 0)
    with AnswerLosingProxy(s3.port) as proxy:
        store = _open(bucket, proxy.endpoint)
        find_end(store, chain)
        before = len(proxy.seen)
        append(store, chain, _COUNTED)
        # Appending has found the end once more.
        kinds = Counter(method for method, _, _ in proxy.seen[2 * before :])
    return {f"{kind} requests a segment": number / _COUNTED for kind, number in sorted(kinds.items())}


def _open(bucket: S3Bucket, endpoint: str) -> ObjectStore:
    return open_store(bucket_settings(bucket, endpoint))


def _find_end_ms(found: Callable[[], bool]) -> float:
    times_s = []
    for _ in range(_LOOK_UPS):
        began_s = time.perf_counter()
        if not found():
            raise RuntimeError("the end that was found is not the end")
        times_s.append(time.perf_counter() - began_s)
    return 1000 * median(times_s)
