"""What building a day again costs, as every day of a store needs it once after an upgrade that raises `SCHEMA_VERSION`.

    python -m benchmarks.upgrade --segments 1000,4000

Prints seconds and requests of the day's tables and of all its summaries, on a real S3 server, from segments of five
frames, and from bundles of them.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.place import bucket_settings, say
from benchmarks.synthetic_days import DAY, SyntheticDay, make_day
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.build.summaries import SUMMARIES, build_summary
from imgpipeline.ledger.bundles.making import bundle_ledger
from imgpipeline.objectstore import open_store
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.servers.s3_server import S3Server

_FRAMES = 5
"""Frames of a segment: what a busy partition puts each second."""


def measure_upgrade(s3: S3Server, count: int) -> None:
    """Prints what building a day of so many segments again costs, without bundles and with them."""
    bucket = s3.create_bucket(f"upgrade-{count}")
    with CountingRelay(s3.port) as relay:
        settings = bucket_settings(bucket, relay.endpoint)
        store = open_store(settings)
        make_day(store, SyntheticDay(count * _FRAMES, partitions=1, segment_frames=_FRAMES))
        rebuild_day(store, DAY, now=utc_now())
        for way in ("segments", "bundles"):
            if way == "bundles":
                bundle_ledger(store)
            relay.requests.clear()
            began_s = time.perf_counter()
            rebuild_day(store, DAY, force=True, now=utc_now())
            tables_s, tables = time.perf_counter() - began_s, sum(relay.requests.values())
            for name in SUMMARIES:
                build_summary(store, name, DAY, settings=settings, force=True, now=utc_now())
            both_s, both = time.perf_counter() - began_s, sum(relay.requests.values())
            say(
                f"{count} segments, from {way}: tables {tables_s:.1f} s and {tables} requests; "
                f"summaries {both_s - tables_s:.1f} s and {both - tables} requests"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", default="1000,4000", help="how many segments each day has")
    with tempfile.TemporaryDirectory() as folder, S3Server(Path(folder)) as s3:
        for segments in parser.parse_args().segments.split(","):
            measure_upgrade(s3, int(segments))
