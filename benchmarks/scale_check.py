"""Compares the model of `benchmarks.scale` with a site of 1,000 partitions: real Kafka, S3 server, sensor and builds.

The segments are synthetic (`synthetic_days`); everything that reads them is the product's code.
"""

import contextlib
import logging
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from kafka import KafkaProducer

from benchmarks import scale
from benchmarks.place import bucket_settings, say
from benchmarks.report import Table
from benchmarks.synthetic_days import DAY, SyntheticDay, make_day
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.assets.frame_metadata import materializations
from imgpipeline.defs.frames_sensor import FramesWatcher
from imgpipeline.detect.report import LaneReport
from imgpipeline.detect.sensor_memory import MOST_ASKED, OTHERS_ASKED
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.stream.log import read_log
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.ports import LOOPBACK
from imgpipeline_tests.servers.s3_server import S3Server

_PARTITIONS = 1_000
_FRAMES, _SEGMENT_FRAMES = 100_000, 10
_REPORTS = 100


def measure_scale() -> Table:
    """Measures the site, and returns measured and predicted values with their ratio."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name, _site(Path(name)) as (settings, relay):
        rows = [*_sensor(settings, relay), *_day(settings, relay), *_events(Path(name))]
    shown = [
        (what, f"{measured:,.4g}", f"{predicted:,.4g}", f"{measured / predicted:.2f}")
        for what, measured, predicted in rows
    ]
    return Table(("what", "measured", "predicted", "ratio"), shown)


@contextlib.contextmanager
def _site(folder: Path) -> Iterator[tuple[Settings, CountingRelay]]:
    """Makes a topic of 1,000 partitions whose chains are one record behind the log."""
    with KafkaBroker(folder / "kafka", heap_mb=512) as kafka, S3Server(folder / "s3") as s3:
        began_s = time.monotonic()
        kafka.create_topic("frames", partitions=_PARTITIONS)
        say(f"Kafka has a topic of {_PARTITIONS} partitions after {time.monotonic() - began_s:.0f} s")
        bucket = s3.create_bucket("scale")
        with CountingRelay(s3.port) as relay:
            reached = {"kafka_bootstrap_servers": kafka.bootstrap_servers, "kafka_topics": ("frames",)}
            settings = bucket_settings(bucket, relay.endpoint).model_copy(update=reached)
            producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
            for partition in range(_PARTITIONS):
                for _ in range(_FRAMES // _PARTITIONS + 1):
                    producer.send("frames", b"{}", partition=partition)
            producer.close()
            topic_id = read_log(settings)[0].topic_id
            wanted = SyntheticDay(_FRAMES, _PARTITIONS, segment_frames=_SEGMENT_FRAMES, topic_id=topic_id)
            make_day(open_store(bucket_settings(bucket)), wanted)
            say(f"the ledger has {_FRAMES // _SEGMENT_FRAMES} segments after {time.monotonic() - began_s:.0f} s")
            yield settings, relay


def _sensor(settings: Settings, relay: CountingRelay) -> Iterator[tuple[str, float, float]]:
    """Lets the sensor look until it knows all partitions, and measures one more look."""
    watcher, store, ticks = FramesWatcher(), open_store(settings), 1
    views, problems = watcher.look(settings, store, utc_now())
    while len(views) < _PARTITIONS:
        views, problems = watcher.look(settings, store, utc_now())
        ticks += 1
    if problems or any(view.lag != 1 for view in views):
        raise RuntimeError(f"expected a lag of 1 everywhere: {problems[:1]}, {[view.lag for view in views][:5]}")
    yield "ticks until the sensor knows all partitions", ticks, _PARTITIONS / MOST_ASKED
    relay.requests.clear()
    began_s = time.perf_counter()
    watcher.look(settings, store, utc_now())
    took_s, ends = time.perf_counter() - began_s, MOST_ASKED
    yield "requests of a tick", sum(relay.requests.values()), ends * scale.REQUESTS_A_CHAIN_END
    yield "seconds of a tick, Kafka included", took_s, (ends + OTHERS_ASKED) * scale.TICK_S_A_CHAIN


def _day(settings: Settings, relay: CountingRelay) -> Iterator[tuple[str, float, float]]:
    """Builds the day from all chains: through the relay to count requests, and without it for the time."""
    segments = _FRAMES // _SEGMENT_FRAMES
    relay.requests.clear()
    rebuild_day(open_store(settings), DAY, force=True, now=utc_now())
    requests = segments + _PARTITIONS * scale.REQUESTS_OF_BUILD_A_CHAIN
    yield "requests of the day's build", sum(relay.requests.values()), requests
    direct = open_store(settings.model_copy(update={"s3_endpoint": f"http://{LOOPBACK}:{relay.target_port}"}))
    began_s = time.perf_counter()
    rebuild_day(direct, DAY, force=True, now=utc_now())
    took_s = time.perf_counter() - began_s
    yield "seconds of the day's build", took_s, scale.build_s(_FRAMES, segments)


@dg.op
def report_often(context: dg.OpExecutionContext) -> None:
    """Reports as a lane does in 100 minutes."""
    for event in list(materializations(LaneReport((DAY,), (), 60_000, 0, 60, 12, 100.0, 0.8, 1.3))) * _REPORTS:
        context.log_event(event)


@dg.job(executor_def=dg.in_process_executor)
def detect() -> None:
    """A run that only reports."""
    report_often()


def _events(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Measures the events of a run in Dagster's storage, those of its reports apart."""
    logging.disable(logging.DEBUG)  # Dagster prints each event
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        run_id = detect.execute_in_process(instance=instance).run_id
    sums = "SELECT sum(length(event)) FROM event_logs GROUP BY dagster_event_type IS 'ASSET_MATERIALIZATION' ORDER BY 1"
    with contextlib.closing(sqlite3.connect(folder / "history" / "runs" / f"{run_id}.db")) as connection:
        (bare,), (reports,) = connection.execute(sums).fetchall()
    yield "bytes of a run's events", bare, scale.RUN_EVENT_BYTES
    yield "bytes of a report", reports / _REPORTS, scale.REPORT_EVENT_BYTES
