"""How fast a chain grows on S3, and how fast its end is found."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from uuid import uuid4

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.ledger import ChainWriter, DayIndex, Provenance, find_end
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.servers.s3_server import S3Bucket

_MADE_BY = Provenance("none", "", "", "benchmark")
_LOOK_UPS = 20


def measure_ledger(bucket: S3Bucket, segments: int) -> dict[str, float]:
    """Returns segments a second of one writer, and milliseconds to find the end of their chain."""
    store = open_store(
        load_settings(
            store_url=bucket.url,
            s3_endpoint=bucket.endpoint,
            s3_access_key_id=bucket.access_key_id,
            s3_secret_access_key=bucket.secret_access_key,
        )
    )
    chain = ChainId("frames", "benchmark", 0)
    writer = ChainWriter(store, find_end(store, chain), DayIndex(store))
    began_s = time.perf_counter()
    for number in range(segments):
        written = writer.append(
            [Gap(number, number + 1, GapReason.MARKER)],
            provenance=_MADE_BY,
            writer_id=uuid4().hex,
            fingerprint=None,
            created_at=datetime.now(UTC),
        )
        if not written:
            raise RuntimeError(f"another writer took segment {number}")
    seconds = time.perf_counter() - began_s
    return {
        "ledger: segments/s": segments / seconds,
        "ledger: find end without hint, ms": _find_end_ms(lambda: find_end(store, chain).offset == segments),
        "ledger: find end with hint, ms": _find_end_ms(
            lambda: find_end(store, chain, hint=segments - 1).offset == segments
        ),
    }


def _find_end_ms(found: Callable[[], bool]) -> float:
    times_s = []
    for _ in range(_LOOK_UPS):
        began_s = time.perf_counter()
        if not found():
            raise RuntimeError("the end that was found is not the end")
        times_s.append(time.perf_counter() - began_s)
    return 1000 * median(times_s)
